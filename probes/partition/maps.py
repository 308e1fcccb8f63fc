"""Maps of labels: connected parts, counts, sizes; and the baseline that has no network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array

Labels = NDArray[np.int64]


def components(labels: NDArray[np.integer]) -> Labels:
    """Every connected set of equal labels (4 neighbours) under a label of its own, from 0: (h, w) -> (h, w)."""
    from skimage.measure import label

    return label(labels, background=-1, connectivity=1).astype(np.int64) - 1


def count_islands(labels: NDArray[np.integer], least: int = 1) -> int:
    """Number of connected sets of equal `labels` (h, w) with at least `least` locations."""
    sizes = np.bincount(components(labels).ravel())
    return int((sizes >= least).sum())


def enlarge(labels: NDArray[np.integer], height: int, width: int) -> Labels:
    """(h, w) -> (height, width), each pixel under the label of the cell it lies in."""
    h, w = labels.shape
    rows = (np.arange(height) + 0.5) * h / height
    columns = (np.arange(width) + 0.5) * w / width
    return labels[rows.astype(int)][:, columns.astype(int)].astype(np.int64)


def in_order(labels: NDArray[np.integer]) -> Labels:
    """The same partition with labels 0, 1, ... without a gap."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def colour_position(pixels: Array) -> Array:
    """The baseline without a network: Lab colour and position, standardised: `pixels` (h, w, 3) -> (h, w, 5)."""
    from skimage.color import rgb2lab

    h, w = pixels.shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    features = np.concatenate([rgb2lab(pixels), np.stack([x / w, y / h], -1)], axis=-1)
    centred = features - features.mean((0, 1))
    spread = centred.std((0, 1))
    return np.where(spread > 1e-6, centred / np.where(spread > 1e-6, spread, 1), 0).astype(np.float32)
