"""Masks of trained slots against masks that people drew or that the set was made with, beside both baselines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from experiments.slots.settings import ScoreSettings
from glom.datasets.segmentation import CompositePicture, SegmentedPicture, open_segmentation
from glom.errors import GlomError, demand_some, lost
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from glom.settings import write_settings
from glom.slots.trained import TrainedSlots, load
from probes.metrics import Outlines, score
from probes.partition import Partition, colour_position, enlarge, partition

ROWS = ("slots", "untrained", "pixels")
GRID = 56  # side above which colour + position is cut on a grid of this side, as islands are


Measures = dict[str, list[float] | None]  # by name: mean, low, high; None where no picture has it


class Scores(TypedDict):
    """The slots' masks over `n` pictures by every measure, beside both baselines, and their paired gains."""

    data: str
    seen: dict[str, Any]
    n: int
    skipped: int
    slots: Measures
    untrained: Measures
    pixels: Measures
    minus_untrained: Measures
    minus_pixels: Measures


def run(settings: ScoreSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Scores]]:
    """Score every picture; the result holds a row for the slots, for random weights, and for colour + position.

    Raises:
        InputError: the request is wrong, or no picture at all could be scored.
    """
    trained = load(settings.trained, settings.device)
    twin = trained.untrained(settings.seed)
    data = open_segmentation(settings.data, settings.split, settings.limit or None, settings.seed)
    held = settings.manifest(data=data.name, limit=len(data.pictures), data_fingerprint=data.fingerprint())
    held |= {"config": asdict(trained.model.config), "seen": trained.facts}
    with RunFolder(out, "slots-score", held, resume) as folder:
        write_settings(out, settings)
        done = {r["id"] for r in folder.records()}
        for message in folder.warnings:
            yield Event("scoring", len(done), len(data.pictures), message)
        for index, item in enumerate(data.pictures):
            if item.id in done:
                continue
            begun, message, record = time.perf_counter(), "", {"id": item.id, "index": index}
            try:
                record |= {"status": "ok", **score_picture(item, trained, twin, settings.seed)}
            except GlomError as error:
                message = f"{item.id}: {error}"
                record |= lost(error)
            folder.append(record, time.perf_counter() - begun)
            done.add(item.id)
            yield Event("scoring", len(done), len(data.pictures), message)
        demand_some(folder.records(), f"pictures of {data.name}")
        result = {"data": data.name, "seen": trained.facts, **summarise(folder.records())}
        folder.conclude(result)
    yield Event(result=cast(Scores, result))


def score_picture(
    item: SegmentedPicture | CompositePicture, trained: TrainedSlots, twin: TrainedSlots, seed: int
) -> dict[str, Any]:
    """One picture, each row of `ROWS` by every measure. Raises `InputError` for a faulty pair."""
    image, maps = item.read()
    truths, outlines = list(maps), Outlines(list(maps))
    side = min(GRID, image.width, image.height)
    small = (np.asarray(image.resize((side, side)), np.float32) / 255).astype(np.float32)
    count = trained.model.config.slots
    plain = partition(colour_position(small), Partition("kmeans", count), seed, cosine=False)
    found = {
        "slots": trained.masks(image, seed),
        "untrained": twin.masks(image, seed),
        "pixels": enlarge(plain, image.height, image.width),
    }
    return {name: score(truths, labels, outlines, item.background) for name, labels in found.items()}


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`{row: {measure: [mean, low, high]}}`, 95 % bootstrap over pictures; the slots' paired gains too."""
    rows = [r for r in records if r["status"] == "ok"]
    result: dict[str, Any] = {"n": len(rows), "skipped": len(records) - len(rows)}
    values = {name: {measure: [r[name][measure] for r in rows] for measure in rows[0]["slots"]} for name in ROWS}
    result |= {name: {m: _mean(v) for m, v in measures.items()} for name, measures in values.items()}
    for other in ROWS[1:]:
        result[f"minus_{other}"] = {
            m: _mean([None if a is None or b is None else a - b for a, b in zip(v, values[other][m], strict=True)])
            for m, v in values["slots"].items()
        }
    return result


def _mean(values: Sequence[float | None]) -> list[float] | None:
    known = [v for v in values if v is not None]
    return [float(np.mean(known)), *bootstrap_ci(known)] if known else None
