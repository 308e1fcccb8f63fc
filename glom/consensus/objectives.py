"""What a GLOM is trained on: four objectives, one signature.

    denoise          a noisy picture in, the clean one out of every level (Hinton 2021, section 8: reconstruction)
    mask             regions taken away, filled in from every level (section 8)
    contrast         the same places in two crops agree, others do not (Chen et al. 2020, SimCLR), plus agreement:
                     predictions with their consensus, and columns with those they attend to (sections 8 and 9)
    forward-forward  each level alone: its predictions agree with one another on a real boring video and disagree where
                     the top half comes from another picture (Hinton 2022, arXiv 2212.13345, sections 3.4 and 3.5), or
                     another picture shows through blobs (section 3.2)

All random numbers come from the generator handed in, so that a step is a function of the weights, the pictures and it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from glom.columns import sample_at
from glom.consensus.attention import agreement_weights
from glom.consensus.columns import Contributions, Places
from glom.consensus.config import ObjectiveSettings
from glom.consensus.goodness import level_goodness, negatives
from glom.consensus.model import Glom
from glom.registry import Registry


@dataclass(frozen=True)
class Loss:
    """A loss to minimise and, for the log, what each level contributes.

    Attributes:
        total: a scalar with gradients.
        levels: (L,), detached; what it is, `measure` says.
        measure: "error" (share of the pixels' variance left over), "contrast" (nats), or "goodness" (nats).
    """

    total: Tensor
    levels: Tensor
    measure: str


Objective = Callable[[Glom, Tensor, torch.Generator, ObjectiveSettings], Loss]
OBJECTIVES: Registry[Objective] = Registry("objective")
objective_of = OBJECTIVES.__getitem__


def objective(name: str) -> Callable[[Objective], Objective]:
    """Register `loss(glom, images (B, 3, H, W) in [0, 1], generator, settings) -> Loss` under its name."""
    return OBJECTIVES.register(name)


def settle(glom: Glom, seen: Tensor, places: Places) -> Tensor:
    """The state after all iterations, (L, B, n, d)."""
    steps = glom.iterate(seen, places)
    state = next(steps)
    for _ in range(glom.config.iterations - 1):
        state = next(steps)
    return state


@objective("denoise")
def denoise(glom: Glom, images: Tensor, generator: torch.Generator, settings: ObjectiveSettings) -> Loss:
    """Mean over levels of |decoded - clean|^2, over the clean pixels' variance."""
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    places = glom.places(glom.grid(images))
    state = settle(glom, glom.see(images + settings.noise * noise), places)
    error = (glom.decode(state, places) - images).square().mean((1, 2, 3, 4)) / images.var().clamp_min(1e-6)
    return Loss(_with_agreement(glom, error.mean(), state, places, settings), error.detach(), "error")


@objective("mask")
def mask(glom: Glom, images: Tensor, generator: torch.Generator, settings: ObjectiveSettings) -> Loss:
    """Mean over levels of |decoded - picture|^2, over the pixels' variance: what was taken away is filled in, what was
    not is kept. `levels` tells of the part that was taken away.
    """
    gone = masked_columns(len(images), glom.grid(images), generator, settings).to(images.device)
    pixels = gone.repeat_interleave(glom.config.patch, -1).repeat_interleave(glom.config.patch, -2)[:, None]
    places = glom.places(glom.grid(images))
    state = settle(glom, glom.see(images, pixels), places)
    squared = (glom.decode(state, places) - images).square().mean(2) / images.var().clamp_min(1e-6)
    filled = (squared * pixels[:, 0]).sum((1, 2, 3)) / pixels.sum()
    return Loss(_with_agreement(glom, squared.mean(), state, places, settings), filled.detach(), "error")


def masked_columns(
    count: int, grid: tuple[int, int], generator: torch.Generator, settings: ObjectiveSettings
) -> Tensor:
    """(count, h, w) booleans: squares of `block` columns a side, about the share `masked`, at least one column."""
    h, w = grid
    side = settings.block
    draw = torch.rand(count, -(-h // side) + 1, -(-w // side) + 1, generator=generator)
    blocks = draw.repeat_interleave(side, 1).repeat_interleave(side, 2)
    down, across = (int(torch.randint(side, (), generator=generator)) for _ in range(2))
    scores = blocks[:, down : down + h, across : across + w].flatten(1)
    wanted = max(1, round(settings.masked * h * w))
    cut = scores.kthvalue(wanted, dim=1).values[:, None]
    return (scores <= cut).unflatten(1, grid)


@objective("contrast")
def contrast(glom: Glom, images: Tensor, generator: torch.Generator, settings: ObjectiveSettings) -> Loss:
    """Mean over levels of the two-way cross-entropy of telling a place in the other crop from all others."""
    size = (images.shape[-2], images.shape[-1])
    boxes = [crop_boxes(len(images), settings.crop, generator) for _ in range(2)]
    points = shared_points(boxes[0], boxes[1], settings.points, generator)
    cells = glom.grid(images)
    places = glom.places(cells)
    total = images.new_zeros(())
    found = []
    for box in boxes:
        view = recolour(crop(images, box.to(images.device), size), generator)
        seen = glom.see(view)
        state = settle(glom, seen, places)
        inside = ((points - box[:, None, :2]) / (box[:, None, 2:] - box[:, None, :2])).to(images.device)
        grids = state.unflatten(2, cells)
        found.append(torch.stack([sample_at(level, inside) for level in grids]).flatten(1, 2))
        if settings.agreement:
            predictions = prediction_agreement(glom.contributions(state, seen, places))
            total = total + settings.agreement * (predictions + attended_agreement(glom, state, places)) / 2
    a, b = (F.normalize(x.float(), dim=-1) for x in found)
    logits = a @ b.mT / settings.contrast_temperature
    same = torch.arange(logits.shape[-1], device=logits.device)
    each = torch.stack([F.cross_entropy(x, same) + F.cross_entropy(x.mT, same) for x in logits]) / 2
    return Loss(total + each.mean(), each.detach(), "contrast")


def crop_boxes(count: int, least: float, generator: torch.Generator) -> Tensor:
    """(count, 4) boxes (x0, y0, x1, y1) within [0, 1]^2, each side uniform in [least, 1]."""
    side = least + (1 - least) * torch.rand(count, 2, generator=generator)
    corner = (1 - side) * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + side], 1)


def shared_points(a: Tensor, b: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(B, count, 2) places of the pictures, uniform in what both boxes (B, 4) show."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    draw = torch.rand(len(a), count, 2, generator=generator)
    return low[:, None] + draw * (high - low)[:, None]


def crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Each picture's box, (B, 4), resampled bilinearly to `size`: (B, 3, H, W) -> (B, 3, *size)."""
    scale, shift = boxes[:, 2:] - boxes[:, :2], boxes[:, 2:] + boxes[:, :2] - 1
    theta = torch.diag_embed(scale)
    grid = F.affine_grid(torch.cat([theta, shift[:, :, None]], 2), [len(images), 3, *size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def recolour(images: Tensor, generator: torch.Generator, strength: float = 0.2, noise: float = 0.05) -> Tensor:
    """Each picture with a contrast, a brightness and colour cast of its own, and a little noise."""
    count = len(images)
    gain = 1 + strength * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    cast = strength / 2 * (2 * torch.rand(count, 3, 1, 1, generator=generator) - 1)
    grain = noise * torch.randn(images.shape, generator=generator)
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * gain.to(images.device) + mean + (cast + grain).to(images.device)


def attended_agreement(glom: Glom, state: Tensor, places: Places) -> Tensor:
    """mean_i sum_j w_ij (1 - cos(x_i, x_j)): columns that attend to each other should be alike.

    w is given, not learned: it says which island a column is in, so only what agrees already is drawn together
    (section 8). A level's mean is removed before cosines are taken: one long vector that all columns share would
    satisfy it otherwise.
    """
    weights = agreement_weights(state.detach().float(), glom.config.beta, places.allowed)
    state = state.float()
    unit = F.normalize(state - state.mean((1, 2), keepdim=True), dim=-1)
    return 1 - (weights * (unit @ unit.mT)).sum(-1).mean()


def prediction_agreement(parts: Contributions) -> Tensor:
    """1 - cos of the bottom-up and the top-down predictions with the consensus, the consensus given (section 8)."""
    target = parts.consensus.detach().float()
    up = F.cosine_similarity(parts.bottom_up.float(), target, dim=-1).mean()
    down = F.cosine_similarity(parts.top_down.float(), target[:-1], dim=-1).mean()
    return 1 - (up + down) / 2


def _with_agreement(glom: Glom, loss: Tensor, state: Tensor, places: Places, settings: ObjectiveSettings) -> Tensor:
    if not settings.agreement:
        return loss
    return loss + settings.agreement * attended_agreement(glom, state, places)


@objective("forward-forward")
def forward_forward(glom: Glom, images: Tensor, generator: torch.Generator, settings: ObjectiveSettings) -> Loss:
    """Sum over levels of -log p(real is real) - log p(hybrid is hybrid), from each level's goodness alone."""
    real_and_hybrid = torch.cat([images, negatives(images, generator, settings.negatives)])
    goodness = level_goodness(glom, real_and_hybrid)
    real, hybrid = goodness.chunk(2, dim=-1)
    wrong = F.softplus(-settings.sharpness * (real - settings.threshold))
    wrong = wrong + F.softplus(settings.sharpness * (hybrid - settings.threshold))
    each = wrong.mean(-1) / 2
    return Loss(each.sum(), each.detach(), "goodness")
