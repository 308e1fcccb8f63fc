"""Arithmetic of the objective study's read-outs: probabilities averaged, locations that agree, islands."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glom.methods.aims import island_means
from probes.partition import components, parse_partition, partition

ISLANDS = "kmeans:4"


def mean_p(*log_p: Tensor, weights: Tensor | None = None) -> Tensor:
    """The log of the (weighted) mean probability: k times (n, C), weights (k, n) of any sum -> (n, C)."""
    stacked = torch.stack(log_p)
    if weights is None:
        weights = torch.ones(stacked.shape[:2])
    weights = weights / weights.sum(0)
    return (stacked + weights.log()[..., None]).logsumexp(0)


def neighbours_agree(grid: Tensor) -> Tensor:
    """Mean cosine of every location with those beside, above and below it: (n, h, w, F) -> (n, h, w)."""
    u = F.normalize(grid, dim=-1)
    total, count = torch.zeros(u.shape[:3]), torch.zeros(u.shape[:3])
    across, down = (u[:, :, 1:] * u[:, :, :-1]).sum(-1), (u[:, 1:] * u[:, :-1]).sum(-1)
    for part, cosine in (
        ((slice(None), slice(None), slice(1, None)), across),
        ((slice(None), slice(None), slice(None, -1)), across),
        ((slice(None), slice(1, None)), down),
        ((slice(None), slice(None, -1)), down),
    ):
        total[part] += cosine
        count[part] += 1
    return total / count.clamp_min(1)


def agreeing(grid: Tensor) -> Tensor:
    """The mean feature, each location counting as much as it agrees with its neighbours: (n, h, w, F) -> (n, F)."""
    weights = neighbours_agree(grid).clamp_min(0)
    weights = weights / weights.sum((1, 2), keepdim=True).clamp_min(1e-6)
    return (weights[..., None] * grid).sum((1, 2))


def islands_of(grid: Tensor) -> Tensor:
    """Connected islands, labelled from 0 in every picture: (n, h, w, F) -> (n, h, w)."""
    how = parse_partition(ISLANDS)
    return torch.stack([torch.from_numpy(components(partition(g.numpy().astype(np.float32), how))) for g in grid])


def largest_island(grid: Tensor) -> Tensor:
    """The mean feature of the largest connected island: (n, h, w, F) -> (n, F)."""
    labels = islands_of(grid)
    return torch.stack(
        [g[own == own.flatten().bincount().argmax()].mean(0) for g, own in zip(grid, labels, strict=True)]
    )


def pulled(grid: Tensor, labels: Tensor) -> Tensor:
    """Every location at its island's mean: (n, h, w, F) and labels (n, h, w) -> (n, h, w, F); differentiable."""
    return island_means(grid.flatten(1, 2), labels.flatten(1)).view_as(grid)
