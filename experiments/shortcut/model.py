"""The model a student stands in for: its remaining layers run on the student's grid, and what skipping saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glom.backbones.base import Backbone
from glom.backbones.images import ImageBackbone
from glom.backbones.mvit_shipped import CONFIG, SHIPPED, TinyConfig
from glom.backbones.registry import MVIT_TINY
from glom.backbones.shortcuts import Student
from glom.counting import countable
from glom.datasets.base import ImageDataset
from glom.devices import now
from glom.errors import InputError

ROUNDS = 15  # timings; the median is reported


@dataclass(frozen=True)
class Cost:
    """Multiplications and additions, attention's products included, and seconds, for one picture."""

    flops: int
    seconds: float


def first_tensor(output: Any) -> Tensor:
    """The features among what a layer returned."""
    return output[0] if isinstance(output, tuple | list) else output


def put(backbone: Backbone, output: Any, grid: Tensor, neutral: Tensor | None = None) -> Any:
    """A layer's output with its grid replaced.

    Args:
        output: what the layer returned for one picture.
        grid: (h, w, D); every time step gets it.
        neutral: what everything that is no grid becomes (class tokens), of the output's shape; its own values if None.

    Raises:
        InputError: a grid of another shape, or a layer whose grid cannot be written back.
    """
    own = first_tensor(output)
    fresh = (own if neutral is None else neutral.to(own)).clone(memory_format=torch.contiguous_format)
    changed = type(output)([fresh, *output[1:]]) if isinstance(output, tuple | list) else fresh
    # The grid is a view of the output, whatever the architecture: what is written there is written into the output.
    place = backbone.grid(changed)
    if place.shape[1:] != grid.shape:
        raise InputError(
            f"{backbone.name}: a grid of {tuple(grid.shape)} cannot stand for one of {tuple(place.shape[1:])}"
        )
    place.copy_(grid.to(place))
    if not torch.equal(backbone.grid(changed), place) or first_tensor(changed).data_ptr() != fresh.data_ptr():
        raise InputError(f"{backbone.name}: this layer's grid cannot be written back into its output")
    return changed


@contextmanager
def substitute(backbone: Backbone, layer: int, grid: Tensor, neutral: Tensor | None = None) -> Iterator[None]:
    """Inside, the layer returns `grid` (h, w, D) whatever it computed; see `put`."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        return put(backbone, output, grid, neutral)

    handle = backbone.layers[layer][1].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def mean_output(backbone: Backbone, layer: int, clips: list[Tensor]) -> Tensor:
    """The layer's mean output over some pictures: what stands for class tokens while a student's grid is read."""
    found: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(first_tensor(output).clone())

    handle = backbone.layers[layer][1].register_forward_hook(hook)
    try:
        with torch.inference_mode():
            for clip in clips:
                backbone.run(clip[None].to(backbone.device))
    finally:
        handle.remove()
    return torch.stack(found).mean(0)


Head = Callable[[Tensor], Tensor]


def class_head(backbone: Backbone, data: ImageDataset, size: int) -> tuple[Head | None, bool, str]:
    """How the model's own head names classes.

    Returns:
        (scores, labelled, why): `scores` maps a clip (3, T, S, S) to (C,), or None, with the reason in `why`;
        `labelled`: whether its classes are the data set's, so that there is a right answer.
    """
    if isinstance(backbone, ImageBackbone):
        teacher = backbone.teacher
        if size != teacher.image_size:
            return None, False, f"the head of {backbone.name} reads {teacher.image_size} px only"
        for classes, labelled in ((data.classes, data.labelled), (teacher.classes, False)):
            try:
                head = teacher.zero_shot_head(classes) if classes is not None else None
            except InputError:
                continue
            if head is not None:
                return (lambda clip, head=head: head(teacher.token(clip[None, :, 0]))[0]), labelled, ""
        return None, False, f"{backbone.name} has no head for the classes of {data.name}"

    def scores(clip: Tensor) -> Tensor:
        with torch.inference_mode():
            return backbone.run(clip[None].to(backbone.device))[0].float()

    with torch.inference_mode():
        trial = backbone.run(torch.zeros(1, 3, backbone.frames, size, size, device=backbone.device))
    if not isinstance(trial, Tensor) or trial.ndim != 2:
        return None, False, f"{backbone.name} has no classifier"
    known = TinyConfig.from_json(SHIPPED / CONFIG).classes if backbone.name == MVIT_TINY else None
    same = data.labelled and known is not None and known == data.classes
    return scores, same, ""


def skipped_cost(backbone: Backbone, clip: Tensor, early: int, late: int) -> Cost:
    """What the model spends on one picture after layer `early` up to layer `late`, the latter included."""
    places = backbone.layers
    counter = FlopCounterMode(display=False)
    flops: dict[str, int] = {}
    times: list[tuple[str, float]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            flops[name] = counter.get_total_flops()
            times.append((name, now(backbone.device)))

        return hook

    handles = [
        places[early][1].register_forward_hook(note("early")),
        places[late][1].register_forward_hook(note("late")),
    ]
    x = clip[None].to(backbone.device)
    try:
        with torch.no_grad():
            with countable(), counter:
                backbone.run(x)
            total = flops["late"] - flops["early"]
            times.clear()
            for _ in range(ROUNDS):
                backbone.run(x)
    finally:
        for handle in handles:
            handle.remove()
    begun = [t for name, t in times if name == "early"]
    ended = [t for name, t in times if name == "late"]
    return Cost(total, float(np.median(np.subtract(ended, begun))))


def student_cost(student: Student, early: Tensor) -> Cost:
    """What a student spends on one picture, (1, h, w, D)."""
    counter = FlopCounterMode(display=False)
    device = student.late_mean.device
    early = early.to(device)
    with torch.no_grad():
        with countable(), counter:
            student(early)
        seconds = []
        for _ in range(ROUNDS):
            begun = now(device)
            student(early)
            seconds.append(now(device) - begun)
    return Cost(counter.get_total_flops(), float(np.median(seconds)))
