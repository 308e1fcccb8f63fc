"""Features made small enough for a page, so that cosines stay what they were.

A location keeps its coordinates along the leading singular directions of the grid's unit-length features, which is the
best approximation of all their products by so many numbers (Eckart & Young 1936). Each coordinate is a byte on a scale
of its own, since the first directions span far more than the last. As many are kept as the worst pair of locations asks
for.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from probes.agreement import unit

WORST = 0.02  # error of a cosine, of the worst pair of locations
LADDER = (2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
NOTHING = 0.1  # a direction shorter than this is a zero vector's, rounded
ROWS = 512  # locations compared with all others at once
FEW = 96  # that choose how many coordinates are tried first


class Codes(TypedDict):
    """n unit vectors as d bytes each: coordinate k of location i is `mean[k] + scale[k] * codes[k, i]`.

    `mean`, `scale`: (d,) float32. `codes`: (d, n) int8. `error`: of the worst cosine of all pairs.
    """

    mean: Array
    scale: Array
    codes: NDArray[np.int8]
    error: float


def encode(grid: Array, worst: float = WORST) -> Codes:
    """(h, w, F) -> its codes: the fewest coordinates of `LADDER` whose worst cosine is off by at most `worst`.

    Where even all of them are off by more, which only rounding can be, the error says so.

    Example:
        >>> encode(np.eye(4, dtype=np.float32).reshape(2, 2, 4))["error"] < WORST
        True
    """
    x = unit(grid).reshape(grid.shape[0] * grid.shape[1], -1)
    y = (x @ _directions(x)).astype(np.float32)
    some = np.unique(np.linspace(0, len(x) - 1, FEW).astype(int))
    rungs = [d for d in LADDER if d < y.shape[1]] + [y.shape[1]]
    exact = x[some] @ x.T
    for d in rungs:
        codes = _quantise(y[:, :d])
        back = decode(codes)
        if d < rungs[-1] and np.abs(back[some] @ back.T - exact).max() > worst:
            continue
        codes["error"] = worst_error(x, back)
        if codes["error"] <= worst:
            break
    return codes


def decode(codes: Codes) -> Array:
    """The unit vectors that a page makes of codes, (n, d)."""
    x = codes["mean"] + codes["scale"] * codes["codes"].T
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > NOTHING)


def worst_error(x: Array, y: Array) -> float:
    """The greatest difference of a cosine among all pairs: (n, F) and (n, d), both of length 1 or 0."""
    worst = 0.0
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        worst = max(worst, float(np.abs(x[rows] @ x[start:].T - y[rows] @ y[start:].T).max()))
    return worst


def _directions(x: Array) -> Array:
    """Right singular vectors of (n, F), the leading ones first, (F, min(n, F)); through the smaller Gram matrix."""
    n, width = x.shape
    if width <= n:
        return np.linalg.eigh((x.T @ x).astype(np.float64))[1][:, ::-1].astype(np.float32)
    values, left = np.linalg.eigh((x @ x.T).astype(np.float64))
    kept = values > 1e-9 * max(values[-1], 1e-12)
    return (x.T @ (left[:, kept] / np.sqrt(values[kept])))[:, ::-1].astype(np.float32)


def _quantise(y: Array) -> Codes:
    low, high = y.min(0), y.max(0)
    mean, scale = (low + high) / 2, (high - low) / 254
    codes = np.rint(np.divide(y - mean, scale, out=np.zeros_like(y), where=scale > 0)).astype(np.int8)
    return {"mean": mean, "scale": scale, "codes": np.ascontiguousarray(codes.T), "error": 0.0}
