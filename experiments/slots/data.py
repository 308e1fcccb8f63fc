"""What slots learn from, by number: pictures of a made set, or grids of any pictures, which are kept on the disk."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.slots.settings import TrainSettings
from glom.backbones.base import Backbone
from glom.backbones.video import load_backbone, select_layers
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset
from glom.datasets.scenes import SCENES, open_scenes
from glom.errors import InputError, demand_some, lost
from glom.runs.events import Event
from glom.slots.trained import look
from glom.teachers.grid_cache import SKIPPED, WRITTEN, Field, GridCache, default_root

MADE = 60_000  # pictures of a made set where no number is given, as Tetrominoes and Multi-dSprites are learned from
SLOTS = 7  # for photographs


@dataclass(frozen=True)
class Source:
    """Pictures to learn from.

    Attributes:
        name, fingerprint: of the data. count: pictures. slots: that suit them. shape: of one, (3, S, S) or (h, w, F).
        fetch: numbers below `count`, (B,) -> (B, *shape) float32.
        backbone, layer, size: whose features they are, and of what side it sees; "" for pixels.
    """

    name: str
    fingerprint: str
    count: int
    slots: int
    shape: tuple[int, ...]
    fetch: Callable[[Tensor], Tensor]
    backbone: str = ""
    layer: int = 0
    size: int = 0


def source(settings: TrainSettings) -> Generator[Event, None, Source]:
    """What `data` and `backbone` name. Raises `InputError` for what cannot be learned from."""
    if not settings.backbone:
        return made(settings.data, settings.limit, settings.seed)
    backbone = load_backbone(settings.backbone, settings.device)
    [layer] = select_layers(backbone, str(settings.layer))
    sets = photographs(settings.data, settings.limit)
    return (yield from grids(sets, backbone, layer, settings.size or backbone.view, settings.cache))


def made(spec: str, limit: int, seed: int) -> Source:
    """The training part of a made set. Raises `InputError` for a set that is none."""
    if spec.partition(":")[0] not in SCENES:
        names = " or ".join(SCENES)
        raise InputError(
            f"slots see the pixels of made sets alone, {names}; give a `backbone` for the features of {spec}"
        )
    scenes, count = open_scenes(spec, "train", seed)
    number = min([n for n in (count, limit) if n] or [MADE])

    def fetch(rows: Tensor) -> Tensor:
        return scenes.batch(rows.tolist()).images

    return Source(scenes.settings, scenes.settings, number, scenes.most + 1, (3, scenes.size, scenes.size), fetch)


def photographs(specs: str, limit: int) -> list[ImageDataset]:
    """The training part of each data set, or all there is of one that has none.

    Raises:
        InputError: no such data, or a made set.
    """
    found = []
    for spec in (part.strip() for part in specs.split(",")):
        if spec.partition(":")[0] in SCENES:
            raise InputError(f"{spec} is learned from as pixels; leave `backbone` out")
        try:
            data = open_dataset(spec, split="train")
        except InputError:
            data = open_dataset(spec)
        found.append(data.limit(limit or None))
    return found


def grids(
    sets: list[ImageDataset], backbone: Backbone, layer: int, size: int, root: Path | None
) -> Generator[Event, None, Source]:
    """Compute the grids that are not on the disk yet, telling how far that is.

    Raises:
        InputError: not one picture can be read, grids that are not square, or another process is writing.
    """
    samples = [sample for data in sets for sample in data.samples]
    shape = tuple(look(backbone, Image.new("RGB", (size, size)), layer, size).shape)
    if shape[0] != shape[1]:
        raise InputError(f"slots need a square grid, and layer {layer} of {backbone.name} has {shape[0]} x {shape[1]}")
    name, prints = ", ".join(data.name for data in sets), [data.fingerprint() for data in sets]
    identity = {"backbone": backbone.name, "layer": layer, "size": size, "data": prints}
    store = GridCache(root or default_root(), identity, {"grid": Field(shape, "float16")}, len(samples))
    missing = store.missing()
    failed = []
    with store:
        for done, row in enumerate(missing.tolist(), 1):
            values, mark = np.zeros((1, *shape), np.float32), WRITTEN
            try:
                values[0] = look(backbone, samples[row].image(), layer, size).numpy()
            except InputError as error:
                mark = SKIPPED
                failed.append(lost(error))
            store.write(row, {"grid": values}, [mark])
            yield Event("features", done, len(missing), failed[-1]["reason"] if mark == SKIPPED else "")
    rows, held = store.written(), store.read("grid")
    if not len(rows):
        demand_some(failed, f"pictures of {name}")

    def fetch(numbers: Tensor) -> Tensor:
        return torch.from_numpy(held[rows[numbers.numpy()]].astype(np.float32))

    return Source(name, " ".join(prints), len(rows), SLOTS, shape, fetch, backbone.name, layer, size)
