"""A level's agreement as its goodness, and the negative data it is to be low on.

Hinton 2022, "The forward-forward algorithm" (arXiv 2212.13345): a picture is a boring video and each layer is to agree
with what the layer above predicts from its wider context, on real data and not on negative data (sections 3.4, 3.5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glom.consensus.model import Contributions, Glom
from glom.errors import InputError


def hybrids(images: Tensor, generator: torch.Generator, seam: int = 0) -> Tensor:
    """Negative data: each picture with the top half of the next one of a random order.

    Args:
        images: (B, 3, H, W), at least two.
        generator: of the order.
        seam: pixels over which one half fades into the other; 0 for a hard edge, as in training. Wider seams leave the
            other picture in and take the edge away: a control of what tells hybrids from real pictures.

    Raises:
        InputError: one picture alone, of which no hybrid can be made.
    """
    if len(images) < 2:
        raise InputError("forward-forward needs at least two pictures a batch: negatives are halves of two")
    order = torch.randperm(len(images), generator=generator).to(images.device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    rows = torch.arange(images.shape[-2], device=images.device) + 0.5 - images.shape[-2] // 2
    own = (rows / max(seam, 1e-3) + 0.5).clamp(0, 1)[:, None]
    return own * images + (1 - own) * images[other]


def moved_tops(images: Tensor) -> Tensor:
    """Each picture with its own top half moved a quarter sideways, around the border: an edge, one picture."""
    half = images.shape[-2] // 2
    return torch.cat([images[..., :half, :].roll(images.shape[-1] // 4, -1), images[..., half:, :]], dim=-2)


def level_goodness(glom: Glom, images: Tensor) -> Tensor:
    """How well each level's predictions agree, in [-1, 1]: (B, 3, H, W) -> (L, B).

    The mean cosine between bottom-up prediction, top-down prediction and the neighbourhood's consensus, over columns,
    pairs, and the iterations after the picture has reached the top level. States are cut from the graph before each
    iteration, and a level's predictions come from nets of its own: no gradient leaves a level.
    """
    c = glom.config
    seen, places = glom.see(images), glom.places(glom.grid(images))
    state = glom.start(seen).detach()
    first = min(c.levels, c.iterations - 1)
    total = state.new_zeros(c.levels, len(images))
    for iteration in range(c.iterations):
        learn = torch.is_grad_enabled() and iteration >= first
        with torch.set_grad_enabled(learn):
            parts = glom.contributions(state, seen, places)
        if iteration >= first:
            total = total + agreement_of(parts)
        state = glom.combine(parts).detach()
    return total / (c.iterations - first)


def agreement_of(parts: Contributions) -> Tensor:
    """Mean cosine over columns and pairs of predictions, (L, B); the consensus gets no gradient."""
    u, v = F.normalize(parts.bottom_up.float(), dim=-1), F.normalize(parts.top_down.float(), dim=-1)
    c = F.normalize(parts.consensus.detach().float(), dim=-1)
    top = (u[-1:] * c[-1:]).sum(-1)
    lower = ((u[:-1] * v).sum(-1) + (u[:-1] * c[:-1]).sum(-1) + (v * c[:-1]).sum(-1)) / 3
    return torch.cat([lower, top]).mean(-1)
