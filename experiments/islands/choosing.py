"""Layer and cut chosen on training pictures: for the network, for its untrained twin and for colour + position alike.

Twice over the pictures: first every layer (and join) under one cut; then the best few of them under every cut. What is
best is the sum of covering and mBO, each a mean over the pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.islands.measure import CONTESTANTS, PIXELS, Choice, weigh_picture
from experiments.islands.readings import Reading, called, layers_of, with_joins
from experiments.islands.settings import ScoreSettings
from experiments.islands.study import Study, check_cut
from glom.datasets.segmentation import SegmentedSet, open_segmentation
from glom.errors import GlomError, InputError, RunError, demand_some
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.settings import defaults_of

BY = "covering + mbo, each a mean over the pictures of `on`"
Weight = tuple[float, float | None]  # covering and mBO; None where nothing is an object


@dataclass(frozen=True)
class Chosen:
    """What each contestant was given on the training pictures.

    Attributes:
        choices: by contestant.
        weights: covering and mBO of each on the training pictures.
        report: what was tried, and on what.
    """

    choices: dict[str, Choice]
    weights: dict[str, Weight]
    report: dict[str, Any]


def open_training(settings: ScoreSettings, data: SegmentedSet) -> SegmentedSet:
    """The pictures that choose. Raises `InputError` where one of them, by its pixels, is among those to be scored."""
    for text in cuts_of(settings):
        check_cut(text, settings.grid)
    train = open_segmentation(settings.choose_on, settings.choose_split, settings.choose_limit or None, settings.seed)
    scored = dict(_pixels(data))
    shared = [(scored[key], name) for key, name in _pixels(train) if key in scored]
    if shared:
        raise InputError(
            f"`choose_on`: {len(shared)} of the pictures of {train.name} are among those of {data.name} that are to be "
            f"scored ({shared[0][1]} is {shared[0][0]}); choose on others"
        )
    return train


def _pixels(data: SegmentedSet) -> list[tuple[str, str]]:
    """(digest of the pixels, name) of every picture that can be read."""
    found = []
    for item in data.pictures:
        try:
            image = item.read()[0]
        except GlomError:
            continue  # it is said when it is its turn
        found.append((hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest(), item.id))
    return found


def cuts_of(settings: ScoreSettings) -> list[str]:
    """The candidates, each once."""
    return list(dict.fromkeys(text.strip() for text in settings.candidates.split(",")))


def choose(study: Study, train: SegmentedSet, out: Path, resume: bool) -> Generator[Event, None, Chosen]:
    """Choose on `train`, keeping what was found in a run folder of its own."""
    settings, cuts = study.settings, cuts_of(study.settings)
    readings = with_joins(study.readings) if settings.layers.strip().lower() == "all" else list(study.readings)
    held = study.held(train, "choose_on", "choose_split", "choose_limit", "split")
    with RunFolder(out, "islands-choose", held, resume, defaults=defaults_of(settings)) as folder:
        every: list[Choice] = [(reading, settings.partition) for reading in readings]
        first = yield from _weigh(study, train, folder, "layers", {"own": every, "untrained": every})
        few = settings.finalists or len(readings)
        finalists = {name: [at for at, _ in _ranked(first[name])[:few] if at] for name in ("own", "untrained")}
        meet: dict[str, Sequence[Reading | None]] = {**finalists, PIXELS: [None]}
        tried = {name: [(reading, cut) for reading in meet[name] for cut in cuts] for name in CONTESTANTS}
        last = yield from _weigh(study, train, folder, "cuts", tried)
        choices = {name: _ranked(last[name])[0] for name in CONTESTANTS}
        records = folder.records()
        report = {
            "by": BY,
            "on": {"data": train.name, "n": len({r["picture"] for r in records if r["status"] == "ok"})},
            "candidates": {
                "layers": [called(reading) for reading in readings],
                "layers_cut": settings.partition,
                "finalists": {name: [called(r) for r in found] for name, found in finalists.items()},
                "partitions": cuts,
            },
        }
        folder.conclude(report)
    return Chosen(choices, {name: last[name][choices[name]] for name in CONTESTANTS}, report)


def _weigh(
    study: Study, train: SegmentedSet, folder: RunFolder, stage: str, tried: Mapping[str, Sequence[Choice]]
) -> Generator[Event, None, dict[str, dict[Choice, Weight]]]:
    """Both measures of every candidate; one whose layer is not finite on some picture is left out."""
    done = {r["id"] for r in folder.records()}
    left = [item for item in train.pictures if f"{stage}/{item.id}" not in done]
    needed = [reading for choices in tried.values() for reading, _ in choices if reading is not None]
    places = {item.id: index for index, item in enumerate(train.pictures)}
    seen = [(layer,) for layer in layers_of(needed)]
    for count, (item, record, seconds) in enumerate(study.watch(left, seen, weigh_picture, tried), 1):
        own = {"id": f"{stage}/{item.id}", "stage": stage, "picture": item.id, "index": places[item.id]}
        folder.append({**own, **record}, seconds)
        message = "" if record["status"] == "ok" else f"{item.id}: {record['reason']}"
        yield Event(f"choosing {stage}", len(train.pictures) - len(left) + count, len(train.pictures), message)
    records = [r for r in folder.records() if r["stage"] == stage]
    demand_some(records, f"pictures of {train.name}")
    rows = [r["weights"] for r in records if r["status"] == "ok"]
    found = {}
    for name, choices in tried.items():
        columns = dict(zip(choices, zip(*(row[name] for row in rows), strict=True), strict=True))
        found[name] = {choice: _mean(values) for choice, values in columns.items() if None not in values}
        lost = sorted({str(called(r)) for r, _ in columns.keys() - found[name].keys() if r is not None})
        if lost:
            yield Event(message=f"{name}: not finite on every picture, and left out: layer {', '.join(lost)}")
        if not found[name]:
            raise RunError(f"no layer is finite on every picture of {train.name}")
    return found


def _mean(values: Sequence[Sequence[float | None]]) -> Weight:
    objects = [value[1] for value in values if value[1] is not None]
    covering = [value[0] for value in values if value[0] is not None]
    return float(np.mean(covering)), float(np.mean(objects)) if objects else None


def _ranked(weights: Mapping[Choice, Weight]) -> list[Choice]:
    """Best first; of equals the one that was named first."""
    return sorted(weights, key=lambda choice: -(weights[choice][0] + (weights[choice][1] or 0.0)))
