"""A level's agreement as its goodness, and the negative data it is to be low on.

Hinton 2022, "The forward-forward algorithm" (arXiv 2212.13345): a picture is a boring video and each layer is to agree
with what the layer above predicts from its wider context, on real data and not on negative data (sections 3.4, 3.5).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glom.consensus.columns import Contributions
from glom.consensus.model import Glom
from glom.errors import InputError
from glom.forward_forward.samples import blur_matrix


def negatives(images: Tensor, generator: torch.Generator, kind: str) -> Tensor:
    """Negative data of a kind: (B, 3, H, W), at least two -> the same shape.

    `half`: the top half is another picture's. `faded`: the same, one half fading into the other over a third of the
    height. `blobs`: another picture shows through large soft blobs (`blended`), so that no edge gives it away.
    """
    if kind == "blobs":
        return blended(images, generator)
    return hybrids(images, generator, images.shape[-2] // 3 if kind == "faded" else 0)


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
    other = partners(images, generator)
    rows = torch.arange(images.shape[-2], device=images.device) + 0.5 - images.shape[-2] // 2
    own = (rows / max(seam, 1e-3) + 0.5).clamp(0, 1)[:, None]
    return own * images + (1 - own) * images[other]


def partners(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B,): for each picture another one's number, round a random circle. Raises `InputError` for a batch of one."""
    if len(images) < 2:
        raise InputError("forward-forward needs at least two pictures a batch: negatives are made of two")
    order = torch.randperm(len(images), generator=generator).to(images.device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other


def blended(images: Tensor, generator: torch.Generator) -> Tensor:
    """Negative data without an edge: each picture mixed with another through blobs a sixth of the picture wide.

    The mask of Hinton 2022, section 3.2 (random bits, blurred), faded around 1/2 over three of its own standard
    deviations instead of cut there.

    Args:
        images: (B, 3, H, W), at least two.
        generator: of the partners and the masks.
    """
    b, _, h, w = images.shape
    other = partners(images, generator)
    # n passes of [1/4, 1/2, 1/4] are a Gaussian of variance n / 2.
    rows, columns = (blur_matrix(n, max(1, round(2 * (n / 12) ** 2))) for n in (h, w))
    mask = rows @ torch.randint(0, 2, (b, 1, h, w), generator=generator).float() @ columns.mT - 0.5
    own = (mask / mask.std((2, 3), keepdim=True).clamp_min(1e-6) / 3 + 0.5).clamp(0, 1).to(images.device)
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
