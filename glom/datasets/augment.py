"""Augmentation of small pictures in training: one recipe for every network that is trained here."""

from __future__ import annotations

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
