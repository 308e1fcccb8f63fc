"""Overfitting an APM on one picture: its token, its feature grid and its colours together.

    L = |token - token*|^2 + |f_xy - grid*(x, y)|^2 + |rgb_xy - I(x, y)|^2

asked at fresh random locations every step, so that what is learned is a field and not a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from glom import execution
from glom.apm import APMConfig, AsynchronousPerceptionMachine
from glom.columns import IMAGENET_MEAN, IMAGENET_STD, grid_queries
from glom.objectives import sample_at


@dataclass(frozen=True)
class OverfitSettings:
    """How one picture is overfit.

    Attributes:
        iterations: optimiser steps.
        points: locations a step, points x points, each drawn at random within its cell.
        lr: Adam's rate at the start; it falls to zero as a cosine.
        precision: "fp32" or "bf16" products.
    """

    iterations: int = 300
    points: int = 24
    lr: float = 2e-3
    precision: str = "fp32"


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
    token: Tensor,
    grid: Tensor | None,
    settings: OverfitSettings,
    generator: torch.Generator,
    progress: Callable[[int, float], None] | None = None,
) -> Iterator[dict[str, float]]:
    """Overfit `apm` in place, yielding `{"iteration", "loss"}` after every step.

    Args:
        picture: (3, S, S), the folded picture, also the target of the colours.
        token: (F,).
        grid: (h, w, F), or None to leave the grid out.
    """
    device = picture.device
    images, target = picture[None], token[None]
    colours = rearrange(images, "b c h w -> b h w c")
    optimiser = torch.optim.Adam(apm.parameters(), lr=settings.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
    scale = target.square().mean().clamp_min(1e-12)  # so that tokens of any size weigh like colours
    for iteration in range(settings.iterations):
        queries = jittered_queries(settings.points, generator, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            percept = execution.run(apm, images, queries, ("features", "rgb", "token"))
        assert percept.features is not None and percept.rgb is not None and percept.token is not None
        loss = F.mse_loss(percept.token.float(), target) / scale
        if grid is not None:
            wanted = sample_at(grid[None], queries)
            loss = loss + F.mse_loss(percept.features.float(), wanted) / wanted.square().mean()
        loss = loss + F.mse_loss(percept.rgb.float(), sample_at(colours, queries))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        yield {"iteration": iteration + 1, "loss": float(loss.detach())}


def to_pixels(rgb: Tensor) -> Tensor:
    """Normalised colours (..., 3) -> [0, 1]."""
    mean, std = rgb.new_tensor(IMAGENET_MEAN), rgb.new_tensor(IMAGENET_STD)
    return (rgb * std + mean).clamp(0, 1)
