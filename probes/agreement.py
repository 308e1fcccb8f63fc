"""Islands of agreement: how strongly the locations of a grid of features agree.

A grid is (h, w, F): one feature vector a location. Two locations agree as far as the cosine of their features says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array


def unit(grid: Array) -> Array:
    """(..., F) features -> the same of length 1; a zero vector stays zero."""
    length = np.linalg.norm(grid, axis=-1, keepdims=True)
    return np.divide(grid, length, out=np.zeros_like(grid), where=length > 0)


def cosine_to(grid: Array, columns: Array) -> Array:
    """Cosine of each location with each given vector: `grid` (h, w, F), `columns` (m, F) -> (h, w, m) in [-1, 1]."""
    return (unit(grid) @ unit(columns).T).clip(-1, 1)


def neighbour_agreement(grid: Array) -> float:
    """Mean cosine of adjacent locations of a `grid` (h, w, F), across and down, in [-1, 1]; 1.0 for a single one."""
    u = unit(grid)
    pairs = [(u[:, 1:] * u[:, :-1]).sum(-1).ravel(), (u[1:] * u[:-1]).sum(-1).ravel()]
    both = np.concatenate(pairs)
    return float(both.mean()) if both.size else 1.0


def border_agreement(grid: Array, labels: NDArray[np.integer]) -> tuple[float | None, float | None]:
    """Mean cosine of adjacent locations of one island, and of two; None where there are none.

    Args:
        grid: (h, w, F), labels: (h, w).
    """
    u = unit(grid)
    cosines = np.concatenate([(u[:, 1:] * u[:, :-1]).sum(-1).ravel(), (u[1:] * u[:-1]).sum(-1).ravel()])
    apart = np.concatenate([(labels[:, 1:] != labels[:, :-1]).ravel(), (labels[1:] != labels[:-1]).ravel()])
    inside, across = (float(x.mean()) if x.size else None for x in (cosines[~apart], cosines[apart]))
    return inside, across


def resize_grid(grid: Array, height: int, width: int) -> Array:
    """(h, w, F) -> (height, width, F): area means where a side shrinks, linear interpolation where it grows."""
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(np.require(grid, requirements=("C", "W"))).permute(2, 0, 1)[None]
    h, w = grid.shape[:2]
    x = F.adaptive_avg_pool2d(x, (min(h, height), min(w, width)))
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    return x[0].permute(1, 2, 0).contiguous().numpy()


def joined(grids: Sequence[Array], height: int, width: int) -> Array:
    """Features of several layers as one grid: each of length 1, one behind another, (h, w, F) each -> (height, width,
    sum of F). The cosine of two locations is then the mean of the layers' cosines."""
    return np.concatenate([unit(resize_grid(grid, height, width)) for grid in grids], axis=-1)


def at_most(grid: Array, side: int) -> Array:
    """A grid with neither side above `side`: larger ones by area means, others as they are."""
    h, w = grid.shape[:2]
    return grid if max(h, w) <= side else resize_grid(grid, min(h, side), min(w, side))
