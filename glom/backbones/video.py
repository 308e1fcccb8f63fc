"""A still picture as a boring video, and the feature grids of every layer that watches it.

    clip = boring_video(image, frames=16, size=224, mean, std)          (3, T, H, W): one picture, T times
    grids = feature_grids(backbone, clip, "all")                        {layer: (T', h, w, D)}, one forward pass

The static video is Hinton's (2021, "How to represent part-whole hierarchies in a neural network", section 1: an image
is a sequence of identical frames); reading a video transformer's layers on it is the poster's first panel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from glom.backbones.base import Backbone
from glom.backbones.clips import boring_video
from glom.backbones.registry import default_backbone, load_backbone
from glom.errors import InputError, RunError
from glom.hubs import first_line
from glom.teachers.base import Teacher

__all__ = [
    "Backbone",
    "boring_video",
    "capture",
    "clip_for",
    "default_backbone",
    "feature_grids",
    "load_backbone",
    "select_layers",
    "untrained",
]


def squeezed(teacher: Teacher | Backbone, image: Image.Image, size: int = 0) -> Tensor:
    """(3, S, S): the whole picture squeezed onto the square the teacher reads, so that [0, 1]^2 covers all of it.

    A teacher's own preprocessing may crop; its grid would then lie over a part of the picture only.
    """
    side = size or (teacher.size if isinstance(teacher, Backbone) else teacher.image_size)
    view = boring_video(image, 1, side, teacher.mean, teacher.std)[:, 0].contiguous()
    return view.to(teacher.device)


def clip_for(backbone: Backbone, image: Image.Image, frames: int | None = None, size: int | None = None) -> Tensor:
    """`boring_video` with the backbone's own length, size and normalisation where nothing else is said.

    Raises:
        InputError: the picture, or the size asked for, is smaller than one patch.
    """
    if min(image.size) < backbone.patch_side:
        w, h = image.size
        raise InputError(f"{w}x{h} pixels is smaller than one patch of {backbone.name} ({backbone.patch_side} px)")
    frames, size = frames or backbone.frames, size or backbone.view
    backbone.check(frames, size)
    return boring_video(image, frames, size, backbone.mean, backbone.std)


def untrained(backbone: Backbone, seed: int = 0) -> Backbone:
    """The same network with random weights: the baseline every islands claim stands beside."""
    return backbone.untrained(seed)


def select_layers(backbone: Backbone, layers: str | Sequence[int] = "all") -> list[int]:
    """`all`, `first,last`, or numbers `0,3,7` (negative ones count from the end) -> indices, ascending, each once.

    Raises:
        InputError: anything else, or a layer that does not exist; the valid range is named.
    """
    count = len(backbone.layers)
    valid = f"{backbone.name} has layers 0 to {count - 1}"
    if isinstance(layers, str) and layers.strip().lower() == "all":
        return list(range(count))
    parts = [p.strip().lower() for p in layers.split(",")] if isinstance(layers, str) else [str(p) for p in layers]
    found = set()
    for part in parts:
        number = {"first": 0, "last": count - 1}.get(part)
        if number is None:
            if not re.fullmatch(r"-?\d{1,6}", part):
                raise InputError(f"`layers` takes all, first,last or numbers such as 0,3,7, got '{part}'; {valid}")
            number = int(part)
        if not -count <= number < count:
            raise InputError(f"there is no layer {number}: {valid}")
        found.add(number % count)
    return sorted(found)


@contextmanager
def capture(backbone: Backbone, layers: Sequence[int]) -> Iterator[dict[int, Any]]:
    """Collect the outputs of some layers while inside; the hooks come off however it is left.

    Nothing is copied: an entry is the very object the layer returned.
    """
    outputs: dict[int, Any] = {}
    places = backbone.layers
    handles = []

    def keep(index: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[index] = output

        return hook

    try:
        for index in layers:
            handles.append(places[index][1].register_forward_hook(keep(index)))
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def feature_grids(
    backbone: Backbone, clip: Tensor, layers: str | Sequence[int] = "all", time: str = "keep", finite: bool = True
) -> dict[int, Tensor]:
    """The feature grids of the layers asked for, all from one forward pass.

    Args:
        backbone: from `load_backbone`.
        clip: (3, T, H, W), square, normalised for this backbone (`clip_for`). Other lengths and sizes than the
            backbone was built for work where its architecture allows; `backbone.fit` says what is interpolated.
        layers: see `select_layers`.
        time: "keep", or "mean" to average over T'.
        finite: whether features that are not finite are refused.

    Returns:
        {layer: (T', h, w, D)} float32 on the CPU, class token dropped; T' = 1 where time is averaged.

    Raises:
        InputError: a clip of another shape, a layer that does not exist, a size the architecture cannot read.
        RunError: a layer whose features are not finite, if `finite`.
    """
    if time not in ("keep", "mean"):
        raise InputError(f"time must be 'keep' or 'mean', got '{time}'")
    if clip.ndim != 4 or clip.shape[0] != 3 or clip.shape[2] != clip.shape[3]:
        raise InputError(f"a clip is (3, T, H, W) with H = W, got {tuple(clip.shape)}")
    chosen = select_layers(backbone, layers)
    frames, size = clip.shape[1], clip.shape[2]
    backbone.fit(frames, size)
    grids = {}
    with torch.inference_mode(), capture(backbone, chosen) as outputs:
        try:
            backbone.run(clip[None].to(backbone.device))
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            if len(outputs) < len(chosen):  # a head that cannot read this size comes after every layer, and is not used
                raise InputError(f"{backbone.name} cannot read {frames} x {size} px ({first_line(error)})") from error
        for index in chosen:
            grid = backbone.grid(outputs[index]).float()
            grids[index] = grid.mean(0, keepdim=True) if time == "mean" else grid
    for index, grid in grids.items():
        if finite and not bool(torch.isfinite(grid).all()):
            raise RunError(f"layer {index} of {backbone.name} has features that are not finite")
    return {index: grid.cpu().clone() for index, grid in grids.items()}
