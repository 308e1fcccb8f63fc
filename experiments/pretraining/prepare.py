"""What a pre-training needs before its first step: the processes, the pictures, the teacher, the grids."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.pretraining.data import FEWEST, Cached, OnTheFly, Source, Split, fill, open_cache, split_data
from experiments.pretraining.settings import GridTrainSettings
from glom.checkpoints import find_checkpoint
from glom.datasets.loading import readers
from glom.devices import chosen_precision
from glom.errors import InputError
from glom.execution import Ranks
from glom.runs.events import Event
from glom.teachers.base import Teacher
from glom.teachers.grids import Encoder, grid_shape, grid_teacher


@dataclass(frozen=True)
class Prepared:
    """What a training needs: pictures, the teacher, rows to learn from and rows held out."""

    split: Split
    teacher: Teacher
    train: Source
    held_out: Source
    settings: GridTrainSettings


def prepare(settings: GridTrainSettings, group: Ranks, device: str) -> Generator[Event, None, Prepared]:
    """Open data and teacher and fill the caches.

    Raises:
        InputError: no such data or teacher, a cache of something else, too few pictures that can be read.
        RunError: the disk is full; the rows so far stay.
    """
    split = split_data(settings.data, settings.limit, settings.held_out, settings.seed)
    teacher = grid_teacher(settings.teacher, settings.size, device)
    precision = chosen_precision(settings.precision, teacher.device)
    config = replace(settings.apm, features=grid_shape(teacher)[2])
    settings = replace(settings, apm=config, size=teacher.image_size, precision=precision)
    encoder = Encoder(teacher, config.image_size)
    workers = readers(settings.workers, teacher.device)
    sources: list[Source] = []
    for stage, data, views in (("train grids", split.train, settings.views), ("held-out grids", split.held_out, 1)):
        if settings.no_cache:
            sources.append(OnTheFly(data, encoder, views, settings.seed, workers))
            continue
        if group.rank == 0:
            kept = open_cache(
                settings.cache, teacher, data, config.image_size, views, settings.seed, settings.cache_precision
            )
            for done, total in fill(kept, data, encoder, settings.seed, workers):
                yield Event(stage, done, total)
        group.wait()
        kept = open_cache(
            settings.cache, teacher, data, config.image_size, views, settings.seed, settings.cache_precision
        )
        sources.append(Cached(kept, len(data)))
    readable = len(sources[1].usable())
    if readable < FEWEST:
        raise InputError(
            f"{readable} of {len(split.held_out)} held-out pictures could be read; at least {FEWEST} are needed"
        )
    return Prepared(split, teacher, sources[0], sources[1], settings)


def identity(ready: Prepared) -> dict[str, Any]:
    """Everything that decides the weights: what a resumed run must match."""
    held = ready.settings.deciding(data=ready.split.train.name, cached=not ready.settings.no_cache)
    held["data_fingerprint"] = ready.split.train.fingerprint()
    held["held_out_fingerprint"] = ready.split.held_out.fingerprint()
    held["teacher_fingerprint"] = ready.teacher.fingerprint
    init = held.pop("init")
    if init:
        file = find_checkpoint(init)
        held["init"] = {"name": Path(init).name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return held
