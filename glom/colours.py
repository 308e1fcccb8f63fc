"""Features as colours: three directions of many on the RGB cube, so that locations that agree share a colour."""

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
