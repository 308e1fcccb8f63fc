"""Cuts of the graph of agreements: locations are nodes, and two are joined as far as their features agree.

Normalised cut: Shi & Malik 2000, with the local scale of Zelnik-Manor & Perona 2004. TokenCut: Wang et al. 2022
(arXiv 2202.11539). MaskCut: Wang et al. 2023 (CutLER, arXiv 2301.11320). All take x (n, F), vectors of length 1 (or 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from probes.partition.maps import Labels

Floats = NDArray[np.float64]
MOST_AUTO = 12  # clusters that an eigengap may choose
NEIGHBOUR = 7  # whose distance is a node's own scale, as published
WEAK = 1e-5  # the weight of an edge below the threshold, in both papers' code
MASKCUT_COSINE = 0.15
ALIKE, SMALL = 0.5, 0.01  # a later mask of more IoU with the last, or of less than this share of the grid, is none
CORNERS = 3  # so many corners are background


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of the normalised affinity D^-1/2 W D^-1/2, descending, and the random walk's vectors.

    Attributes:
        values: (m,), the first 1.
        vectors: (n, m), D^-1/2 v.
    """

    values: Floats
    vectors: Floats

    def gap(self) -> int:
        """The number of clusters, 2 or more, behind which the eigenvalues fall furthest (Ng, Jordan & Weiss 2001)."""
        falls = -np.diff(self.values[: MOST_AUTO + 1])[1:]
        return int(falls.argmax()) + 2 if len(falls) else 1


def affinity(x: Array) -> Floats:
    """(n, n) exp(-d_ij^2 / (s_i s_j)), d the distance and s that to a node's own 7th neighbour."""
    squares = np.maximum(2 - 2 * (x @ x.T).astype(np.float64), 0)
    scale = np.sqrt(np.partition(squares, min(NEIGHBOUR, len(x) - 1), axis=1)[:, min(NEIGHBOUR, len(x) - 1)])
    return np.exp(-squares / np.maximum(scale[:, None] * scale[None], 1e-6))


def spectrum(weights: Floats, count: int) -> Spectrum:
    """The first `count` eigenvectors of an affinity (n, n), at most n."""
    from scipy.linalg import eigh

    n, root = len(weights), 1 / np.sqrt(weights.sum(1))
    values, vectors = eigh(root[:, None] * weights * root[None], subset_by_index=[max(n - count, 0), n - 1])
    return Spectrum(values[::-1], root[:, None] * vectors[:, ::-1])


def joined_neighbours(across: NDArray[np.bool_], down: NDArray[np.bool_]) -> Labels:
    """Connected locations of many grids: whether neighbours agree, (M, h, w - 1) and (M, h - 1, w) -> (M, h, w)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    m, h, w = across.shape[0], across.shape[1], down.shape[2]
    number = np.arange(m * h * w).reshape(m, h, w)
    first = np.concatenate([number[:, :, :-1][across], number[:, :-1][down]])
    second = np.concatenate([number[:, :, 1:][across], number[:, 1:][down]])
    joined = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(m * h * w, m * h * w))
    labels = connected_components(joined, directed=False)[1].reshape(m, h * w)
    return np.stack([np.unique(row, return_inverse=True)[1] for row in labels]).reshape(m, h, w).astype(np.int64)


def agreeing(x: Array, threshold: float) -> Labels:
    """Islands of many grids at once: (M, h, w, F) vectors of length 1 -> (M, h, w), see `probes.levels`."""
    # A cosine of exactly 1 may come out a rounding below it.
    across = (x[:, :, 1:] * x[:, :, :-1]).sum(-1) >= threshold - 1e-6
    down = (x[:, 1:] * x[:, :-1]).sum(-1) >= threshold - 1e-6
    return joined_neighbours(across, down)


def tokencut(x: Array, shape: tuple[int, int], threshold: float) -> NDArray[np.bool_]:
    """The one foreground (h, w): of the cut's two sides that of the second eigenvector's peak, connected with it."""
    y = _second(x, threshold)
    return _around(y > y.mean(), shape, int(y.argmax()))


def maskcut(x: Array, shape: tuple[int, int], most: int, threshold: float = MASKCUT_COSINE) -> Labels:
    """Up to `most` foregrounds one after another, each cut with the last ones' features gone: (h, w), 0 the rest.

    As published, with one thing settled that a solver leaves open there: the eigenvector's sign, by which a side that
    holds three corners is taken for the ground or is not.
    """
    labels = np.zeros(shape, np.int64)
    last = np.zeros(shape, bool)
    left = x.copy()
    for number in range(1, most + 1):
        y = _second(left, threshold)
        side = y > y.mean()
        if side.reshape(shape)[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= CORNERS:
            y, side = -y, ~side
        mask = _around(side, shape, int(y.argmax()))
        if number > 1 and mask.mean() <= SMALL:
            break  # without a new mask the graph stays as it is, and so does its cut
        if number > 1 and (mask & last).sum() > ALIKE * (mask | last).sum():
            mask = np.zeros(shape, bool)
        labels[mask & (labels == 0)] = number
        last, left = mask, np.where(mask.reshape(-1, 1), 0, left)
    return labels


def _second(x: Array, threshold: float) -> Floats:
    """The second eigenvector of (D - A) y = l D y, its peak positive; A is 1 from the cosine on, else `WEAK`."""
    y = spectrum(np.where((x @ x.T) > threshold, 1.0, WEAK), 2).vectors[:, -1]
    return y * np.sign(y[np.abs(y).argmax()])


def _around(side: NDArray[np.bool_], shape: tuple[int, int], seed: int) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    objects, _ = label(side.reshape(shape))
    return objects == objects.flat[seed]
