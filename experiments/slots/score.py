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
from glom.settings import defaults_of, write_settings
from glom.slots.trained import TrainedSlots, load
from probes.metrics import Outlines, score
from probes.partition import Partition, colour_position, enlarge, partition

ROWS = ("slots", "untrained", "pixels")
GRID = 56  # side above which colour + position is cut on a grid of this side, as islands are


class Scores(TypedDict):
    """Masks over `n` pictures by every measure, a row for the slots and for either baseline."""

    data: str
    trained: dict[str, Any]
    n: int
    skipped: int
    rows: list[dict[str, Any]]


def run(settings: ScoreSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Scores]]:
    """Score every picture; the result holds a row for the slots, for random weights, and for colour + position.

    Raises:
        InputError: the request is wrong, or no picture at all could be scored.
    """
    trained = load(settings.trained, settings.device)
    twin = trained.untrained(settings.seed)
    data = open_segmentation(settings.data, settings.split, settings.limit or None, settings.seed)
    held = settings.manifest(data=data.name, limit=len(data.pictures), data_fingerprint=data.fingerprint())
    held |= {"config": asdict(trained.model.config), "facts": trained.facts}
    with RunFolder(out, "slots-score", held, resume, defaults=defaults_of(settings)) as folder:
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
        result = {"data": data.name, "trained": trained.facts, **summarise(folder.records())}
        folder.conclude(result)
    yield Event(result=cast(Scores, result))


def score_picture(
    item: SegmentedPicture | CompositePicture, trained: TrainedSlots, twin: TrainedSlots, seed: int
) -> dict[str, Any]:
    """One picture, each row of `ROWS` by every measure. Raises `InputError` for a faulty pair."""
    image, maps = item.read()
    truths, outlines = list(maps), Outlines(list(maps))
    classes = item.classes(image.width, image.height)
    side = min(GRID, image.width, image.height)
    small = (np.asarray(image.resize((side, side)), np.float32) / 255).astype(np.float32)
    count = trained.model.config.slots
    plain = partition(colour_position(small), Partition("kmeans", count), seed, cosine=False)
    seen, size = trained.look(image), (image.height, image.width)
    found = {
        "slots": trained.share(seen, *size, seed),
        "untrained": twin.share(seen, *size, seed),
        "pixels": enlarge(plain, *size),
    }
    return {name: score(truths, m, outlines, item.background, classes=classes) for name, m in found.items()}


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`{"rows": [{"name", MEASURE: {"mean", "ci95"}, ...}]}`, 95 % bootstrap over pictures; in the baselines' rows
    `slots_minus` is what the slots gain on them, paired. None where a measure does not apply."""
    kept = [r for r in records if r["status"] == "ok"]
    rows: list[dict[str, Any]] = []
    for name in ROWS:
        row: dict[str, Any] = {"name": name}
        gains = {}
        for measure in kept[0][name]:
            pairs = [(r["slots"][measure], r[name][measure]) for r in kept]
            known = [(own, other) for own, other in pairs if own is not None and other is not None]
            row[measure] = spread([other for _, other in known])
            gains[measure] = spread([own - other for own, other in known])
        rows.append(row if name == "slots" else row | {"slots_minus": gains})
    return {"n": len(kept), "skipped": len(records) - len(kept), "rows": rows}


def spread(values: Sequence[float]) -> dict[str, Any] | None:
    """The mean and its 95 % interval; None for no values."""
    return {"mean": float(np.mean(values)), "ci95": list(bootstrap_ci(values))} if values else None
