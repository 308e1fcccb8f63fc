"""Augmentation of small pictures in training: one recipe for every network that is trained here."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, generator: torch.Generator, translate: int, cutout: int) -> Tensor:
    """Flip, shift (reflected border) and cut out a square, independently per image. (B, 3, H, W) -> same shape."""
    b, _, h, w = images.shape
    rand = lambda n: torch.randint(n, (b,), generator=generator)  # noqa: E731
    padded = F.pad(images, (translate,) * 4, mode="reflect")
    ys = rand(2 * translate + 1)[:, None] + torch.arange(h)
    xs = rand(2 * translate + 1)[:, None] + torch.arange(w)
    flip = rand(2).bool()[:, None]
    xs = torch.where(flip, xs.flip(1), xs)
    out = padded[torch.arange(b)[:, None, None], :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)
    if cutout:
        cy, cx = rand(h)[:, None], rand(w)[:, None]
        inside_y = (torch.arange(h) - cy).abs() < cutout // 2
        inside_x = (torch.arange(w) - cx).abs() < cutout // 2
        out = out.masked_fill((inside_y[:, :, None] & inside_x[:, None, :])[:, None], 0.0)
    return out


def crops(count: int, generator: torch.Generator, least: float) -> tuple[Tensor, Tensor]:
    """Boxes of random area (`least` to 1 of the picture), shape (3 : 4 to 4 : 3) and place, half of them mirrored.

    Returns:
        their centres (count, 2) and half their widths and heights (count, 2), both in [-1, 1] x [-1, 1], x first; the
        half width is negative where a box is mirrored.
    """
    area, shape, x, y, flip = torch.rand(5, count, generator=generator)
    area, shape = least + (1 - least) * area, torch.exp((2 * shape - 1) * math.log(4 / 3) / 2)
    half = torch.stack([area.sqrt() * shape, area.sqrt() / shape], dim=1).clamp(max=1)
    centre = (2 * torch.stack([x, y], dim=1) - 1) * (1 - half)
    mirror = torch.stack([torch.where(flip < 0.5, -1.0, 1.0), torch.ones(count)], dim=1)
    return centre, half * mirror


def places_in(boxes: tuple[Tensor, Tensor], side: int) -> Tensor:
    """Centres of the cells of a `side` x `side` grid laid over each box: (B, side, side, 2), x first, in [-1, 1]."""
    centre, half = boxes
    steps = (torch.arange(side) + 0.5) * (2 / side) - 1
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    return centre[:, None, None] + half[:, None, None] * grid


def look(images: Tensor, boxes: tuple[Tensor, Tensor], side: int) -> Tensor:
    """Each picture's box as a picture of its own, two samples a pixel each way: (B, 3, H, W) -> (B, 3, side, side)."""
    fine = F.grid_sample(images, places_in(boxes, 2 * side), padding_mode="border", align_corners=False)
    return F.avg_pool2d(fine, 2)


def jitter(images: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Brightness, contrast and saturation, each by a factor of up to 1 - and 1 + `strength`; pixels in [0, 1]."""
    light, contrast, colour = 1 + strength * (2 * torch.rand(3, len(images), 1, 1, 1, generator=generator) - 1)
    x = images * light
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + contrast * (x - mean)
    grey = x.mean(1, keepdim=True)
    return (grey + colour * (x - grey)).clamp(0, 1)
