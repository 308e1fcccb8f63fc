"""Overfitting an APM on one picture, or on a few together: token, feature grid and colours.

    L = |token - token*|^2 + |f_xy - grid*(x, y)|^2 + |rgb_xy - I(x, y)|^2

asked at fresh random locations every step, so that what is learned is a field and not a grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from glom import execution
from glom.adaptation.settings import OverfitSettings
from glom.apm import APMConfig, AsynchronousPerceptionMachine
from glom.columns import IMAGENET_MEAN, IMAGENET_STD, grid_queries, sample_at
from glom.devices import tf32
from glom.errors import InputError, RunError
from glom.runs.events import Event

READ_EVERY = 16  # steps whose losses are read from a device together


def jittered_queries(side: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """(side^2, 2): one uniformly random point in every cell of a side x side grid."""
    centres = grid_queries(side, side)
    shift = (torch.rand(centres.shape, generator=generator) - 0.5) / side
    return (centres + shift).clamp(0, 1).to(device)


def field_config(config: APMConfig) -> APMConfig:
    """The configuration with a location code sharp enough for pixels, and a colour head."""
    return replace(config, location_code="fourier", cells=max(config.cells, 64), rgb=config.rgb or (128, 128))


def overfit(
    apm: AsynchronousPerceptionMachine,
    picture: Tensor,
    token: Tensor | None,
    grid: Tensor | None,
    settings: OverfitSettings,
    generator: torch.Generator,
    colours: Tensor | None = None,
    rgb: bool = True,
) -> Iterator[Event]:
    """Overfit `apm` in place, yielding an event with `values["loss"]` for every step; on a device, of some together.

    Each term is relative to the mean square of its target, the colours excepted, which are of unit size already.

    Args:
        picture: (3, S, S), the folded picture, or (B, 3, S, S) for several on which one machine is overfit together.
        token: (F,) or (B, F), or None to leave the token out.
        grid: (h, w, F) or (B, h, w, F), or None to leave the grid out.
        colours: (h, w, 3) or (B, h, w, 3), the target of the colours, normalised as the picture is; the folded picture
            itself if None.
        rgb: whether colours are a target at all.

    Raises:
        InputError: nothing to overfit on. RunError: the loss turned NaN or infinite.
    """
    images = picture if picture.ndim == 4 else picture[None]
    device = images.device
    tokens = None if token is None else token.reshape(len(images), -1)
    grids = None if grid is None else (grid if grid.ndim == 4 else grid[None])
    if colours is None:
        colours = rearrange(images, "b c h w -> b h w c")
    colours = colours if colours.ndim == 4 else colours[None]
    wanted_outputs = (("token", tokens is not None), ("features", grids is not None), ("rgb", rgb))
    outputs = tuple(name for name, asked in wanted_outputs if asked)
    if not outputs:
        raise InputError("nothing to overfit on: give a token, a grid or colours")
    optimiser = torch.optim.Adam(apm.parameters(), lr=settings.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
    unread: list[Tensor] = []
    every = 1 if device.type == "cpu" else READ_EVERY

    def descend() -> Tensor:
        queries = jittered_queries(settings.points, generator)
        if 0 < settings.subset < len(queries):
            queries = queries[torch.randperm(len(queries), generator=generator)[: settings.subset]]
        where = execution.locate(queries, device)
        queries = where.points()
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            percept = execution.run(apm, images, where, outputs, settings.execution)
        loss = torch.zeros((), device=device)
        if tokens is not None:
            assert percept.token is not None
            loss = loss + _relative(percept.token.float(), tokens)
        if grids is not None:
            assert percept.features is not None
            loss = loss + _relative(percept.features.float(), sample_at(grids, queries))
        if rgb:
            assert percept.rgb is not None
            loss = loss + F.mse_loss(percept.rgb.float(), sample_at(colours, queries))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        return loss.detach()

    for iteration in range(1, settings.iterations + 1):
        with tf32(settings.precision == "tf32", device):
            unread.append(descend())
        if len(unread) < every and iteration < settings.iterations:
            continue
        first, values = iteration - len(unread) + 1, torch.stack(unread).tolist()
        unread = []
        for number, value in enumerate(values, first):
            if value != value or value == float("inf"):
                raise RunError(f"the loss turned {value} at iteration {number}; try a smaller learning rate")
            yield Event("overfitting", number, settings.iterations, values={"loss": value})


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over the target's mean square: tokens of any size then weigh like colours."""
    return F.mse_loss(found, wanted) / wanted.square().mean().clamp_min(1e-12)


def to_pixels(rgb: Tensor) -> Tensor:
    """Normalised colours (..., 3) -> [0, 1]."""
    mean, std = rgb.new_tensor(IMAGENET_MEAN), rgb.new_tensor(IMAGENET_STD)
    return (rgb * std + mean).clamp(0, 1)


def from_pixels(pixels: Tensor) -> Tensor:
    """Colours in [0, 1], (..., 3) -> normalised, as the picture is folded."""
    mean, std = pixels.new_tensor(IMAGENET_MEAN), pixels.new_tensor(IMAGENET_STD)
    return (pixels - mean) / std
