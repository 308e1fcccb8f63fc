"""Islands of agreement: a grid of features as colour, and how strongly its locations agree.

A grid is (h, w, F): one feature vector a location. Two locations agree as far as the cosine of their features says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def pca_rgb(*grids: Array, quantile: float = 0.02) -> list[Array]:
    """The first three principal components of all the grids together, scaled robustly onto the RGB cube.

    One basis for all the grids given: the same colour then means the same thing in each of them.

    Args:
        grids: (h, w, F) each; sizes may differ, widths may not.
        quantile: share clipped at either end of each component, so that one odd location does not grey the rest.

    Returns:
        One (h, w, 3) float32 in [0, 1] for each grid; mid-grey where nothing varies.

    Example:
        >>> [rgb] = pca_rgb(np.zeros((2, 2, 8), np.float32))
        >>> float(rgb.min()), float(rgb.max())
        (0.5, 0.5)
    """
    flat = np.concatenate([g.reshape(-1, g.shape[-1]) for g in grids]).astype(np.float64)
    centred = flat - flat.mean(0)
    # Through the smaller of the two Gram matrices: exact, and quick for a few locations of many features.
    covariance = centred.T @ centred
    values, vectors = np.linalg.eigh(covariance)
    count = min(3, flat.shape[1])
    basis = vectors[:, ::-1][:, :count]
    # A component's sign is arbitrary; fix it so that equal inputs give equal pictures everywhere.
    basis = basis * np.where(basis[np.abs(basis).argmax(0), range(count)] < 0, -1, 1)
    projected = np.zeros((len(flat), 3))
    projected[:, :count] = centred @ basis
    colours = rgb_cube(projected, quantile, 1e-9 * max(float(np.sqrt(max(values[-1], 0.0))), 1e-12))
    result, start = [], 0
    for grid in grids:
        h, w = grid.shape[:2]
        result.append(colours[start : start + h * w].reshape(h, w, 3))
        start += h * w
    return result


def rgb_cube(points: NDArray[np.floating], quantile: float = 0.02, least: float = 1e-12) -> Array:
    """Three coordinates a point, each scaled robustly onto [0, 1].

    Args:
        points: (n, 3).
        quantile: share clipped at either end.
        least: a coordinate that spans no more than this is taken to be constant, and becomes 0.5.

    Returns:
        (n, 3) float32.
    """
    x = np.asarray(points, dtype=np.float64)
    low, high = np.quantile(x, [quantile, 1 - quantile], axis=0)
    span = high - low
    meaningful = span > least
    return np.where(meaningful, (x - low) / np.where(meaningful, span, 1), 0.5).clip(0, 1).astype(np.float32)


def unit(grid: Array) -> Array:
    """(..., F) features -> the same of length 1; a zero vector stays zero."""
    length = np.linalg.norm(grid, axis=-1, keepdims=True)
    return np.divide(grid, length, out=np.zeros_like(grid), where=length > 0)


def cosine_to(grid: Array, columns: Array) -> Array:
    """Cosine of every location with every given feature vector: (h, w, F), (m, F) -> (h, w, m) in [-1, 1]."""
    return (unit(grid) @ unit(columns).T).clip(-1, 1)


def neighbour_agreement(grid: Array) -> float:
    """Mean cosine of horizontally and vertically adjacent locations, in [-1, 1]; 1.0 for a single location."""
    u = unit(grid)
    pairs = [(u[:, 1:] * u[:, :-1]).sum(-1).ravel(), (u[1:] * u[:-1]).sum(-1).ravel()]
    both = np.concatenate(pairs)
    return float(both.mean()) if both.size else 1.0


def resize_grid(grid: Array, height: int, width: int) -> Array:
    """(h, w, F) -> (height, width, F): area means where a side shrinks, linear interpolation where it grows."""
    import torch
    from torch.nn import functional as F

    x = torch.from_numpy(np.ascontiguousarray(grid)).permute(2, 0, 1)[None]
    h, w = grid.shape[:2]
    x = F.adaptive_avg_pool2d(x, (min(h, height), min(w, width)))
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
    return x[0].permute(1, 2, 0).contiguous().numpy()


def at_most(grid: Array, side: int) -> Array:
    """A grid with neither side above `side`: larger ones by area means, others as they are."""
    h, w = grid.shape[:2]
    return grid if max(h, w) <= side else resize_grid(grid, min(h, side), min(w, side))
