"""The grids of a backbone's layers it learns from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from experiments.pretraining.data import PRECISIONS, runs
from experiments.shortcut.settings import ShortcutSettings
from glom.backbones.video import Backbone, clip_for, feature_grids, select_layers
from glom.datasets.base import ImageDataset
from glom.datasets.loading import read_ahead, readers
from glom.errors import GlomError, InputError, demand_some
from glom.runs.seeds import fixed_seed, sample_seed
from glom.teachers.grid_cache import SKIPPED, WRITTEN, Field, GridCache, default_root
from glom.weights import state_sha256

WRITE = 32  # pictures cached between two flushes
LEAST = 0.35  # share of a picture's area that a view keeps


@dataclass(frozen=True)
class Grids:
    """One part's grids by layer, (V n, h, w, D), view after view, and its n pictures, in the same order.

    Read from a cache they have its numbers' precision and are mapped from the disk: whoever computes with them takes
    some at a time as float32.
    """

    layers: dict[int, Tensor]
    samples: ImageDataset


def layer_pair(backbone: Backbone, early: int, late: int) -> tuple[int, int]:
    """Both layers as indices. Raises `InputError` for a layer that does not exist, or a pair that goes backwards."""
    a, z = (select_layers(backbone, [layer])[0] for layer in (early, late))
    if a >= z:
        raise InputError(f"--from {early} --to {late} goes from layer {a} to {z}: a shortcut leads to a later layer")
    return a, z


def crop_of(image: Image.Image, view: int, seed: int, sample_id: str) -> Image.Image:
    """View 0 is the picture; any other a crop of 0.35 to 1 of its area, flipped or not: seed, sample and view decide.

    Crops are torchvision's random resized crops, not yet resized.
    """
    if view == 0:
        return image
    with fixed_seed(sample_seed(seed, sample_id, f"view {view}")):
        box = RandomResizedCrop.get_params(image, [LEAST, 1.0], [3 / 4, 4 / 3])
        cut = TF.crop(image, *box)
        return TF.hflip(cut) if float(torch.rand(())) < 0.5 else cut


def layer_grids(
    backbone: Backbone,
    data: ImageDataset,
    layers: Sequence[int],
    size: int,
    settings: ShortcutSettings,
    cache: Path | None,
    use_cache: bool,
    views: int = 1,
) -> Iterator[tuple[int, int] | Grids]:
    """Every picture's grids at some layers, time averaged: yields (done, total) and, last, `Grids`.

    Unreadable pictures are left out, in all views.
    """

    def look(row: int) -> Tensor:
        view, index = divmod(row, len(data))
        sample = data.samples[index]
        return clip_for(backbone, crop_of(sample.image(), view, settings.seed, sample.id), size=size)

    def grids_of(clip: Tensor | GlomError) -> dict[int, NDArray[Any]] | None:
        if isinstance(clip, GlomError):
            return None
        return {layer: g[0].numpy() for layer, g in feature_grids(backbone, clip, layers, time="mean").items()}

    workers = readers(settings.workers, backbone.device)
    total = views * len(data)
    first = next((g for clip in read_ahead(look, range(len(data))) if (g := grids_of(clip)) is not None), None)
    if first is None:
        demand_some([{"status": "skipped"}] * len(data), f"pictures of {data.name}")
    assert first is not None
    if not use_cache:
        made = []
        for index, clip in enumerate(read_ahead(look, range(total), workers)):
            made.append(grids_of(clip))
            yield index + 1, total
        good = [i for i, grids in enumerate(made) if grids is not None]
        found = {layer: np.stack([grids[layer] for grids in made if grids is not None]) for layer in layers}
    else:
        identity = {
            "backbone": backbone.name,
            "fingerprint": state_sha256(backbone.model.state_dict(), backbone.what),
            "frames": backbone.frames,
            "size": size,
            "layers": list(layers),
            "data": data.fingerprint(),
            **({"views": views, "seed": settings.seed} if views > 1 else {}),
        }
        fields = {f"layer-{i}": Field(g.shape, PRECISIONS[settings.cache_precision]) for i, g in first.items()}
        store = GridCache(cache or default_root(), identity, fields, total)
        missing = store.missing()
        if len(missing):
            clips = read_ahead(look, missing.tolist(), workers)
            with store:
                for start in range(0, len(missing), WRITE):
                    for block in runs(missing[start : start + WRITE]):
                        rows = [grids_of(clip) for clip in islice(clips, len(block))]
                        values = {f"layer-{i}": np.stack([(row or first)[i] for row in rows]) for i in layers}
                        store.write(int(block[0]), values, [SKIPPED if row is None else WRITTEN for row in rows])
                    yield total - len(missing) + min(start + WRITE, len(missing)), total
        written = store.written()
        good = written.tolist()
        found = {layer: store.read(f"layer-{layer}") for layer in layers}
        if len(good) < total:
            # Rows that could not be read lie between the others: what is left is copied, in the cache's precision.
            found = {layer: values[written] for layer, values in found.items()}
    kept = data.select([data.samples[i].id for i in good if i < len(data)])
    with warnings.catch_warnings():
        # Mapped grids cannot be written, which torch warns of; nobody writes them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensors = {layer: torch.from_numpy(values) for layer, values in found.items()}
    yield Grids(tensors, kept)
