"""Islands level by level: how many there are, and how well they match the parts and the wholes of a picture.

An island is a connected set of columns whose neighbours agree: the cosine of adjacent columns is at least a threshold
(Hinton 2021, section 1: "islands of nearly identical vectors"). Cosines are taken after the mean embedding of a level
over many pictures is removed: what every column of every picture shares says nothing about which of them agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from glom.errors import InputError
from probes.agreement import unit
from probes.metrics import Map, adjusted_rand
from probes.partition import Partition, enlarge, partition
from probes.partition.graph import agreeing


def check_threshold(threshold: float) -> float:
    """The threshold itself, if it is a cosine in (-1, 1). Raises `InputError` for another."""
    if not -1 < threshold < 1:
        raise InputError(f"`threshold` is a cosine between -1 and 1, got {threshold:g}")
    return threshold


def level_islands(grids: Array, threshold: float = 0.9) -> NDArray[np.int64]:
    """Islands of many grids at once.

    Args:
        grids: (M, h, w, F).
        threshold: cosine from which adjacent columns (4 neighbours) belong together.

    Returns:
        (M, h, w) labels, from 0 in each grid.

    Example:
        >>> level_islands(np.array([[[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]]], np.float32)).tolist()
        [[[0, 0, 1]]]
    """
    return agreeing(unit(grids), check_threshold(threshold))


def island_counts(grids: Array, threshold: float = 0.9) -> NDArray[np.int64]:
    """Number of islands of each grid: (M, h, w, F) -> (M,)."""
    labels = level_islands(grids, threshold)
    return labels.reshape(len(labels), -1).max(1) + 1


def cut_score(grid: Array, truth: Map, seed: int = 0, cosine: bool = True) -> float:
    """ARI of a grid cut by k-means into as many pieces as the truth has, against it.

    Every contestant is told the same number, and none anything else.

    Args:
        grid: (h, w, F).
        truth: (H, W) labels; the grid's pieces are enlarged to it.
        seed: of k-means.
        cosine: compare directions, or the features as they are.
    """
    count = len(np.unique(truth))
    labels = partition(grid, Partition("kmeans", count), seed, cosine)
    return adjusted_rand(truth, enlarge(labels, *truth.shape))


def both_ari(grid: Array, wholes: Map, parts: Map, seed: int, cosine: bool = True) -> dict[str, float]:
    """`cut_score` of one grid (h, w, F) against the masks (H, W) of wholes and of parts."""
    return {
        "ari_wholes": cut_score(grid, wholes, seed, cosine),
        "ari_parts": cut_score(grid, parts, seed, cosine),
    }


def centred(states: Array) -> Array:
    """Embeddings without each level's mean: (N, h, w, L, F) -> the same."""
    return (states - states.mean((0, 1, 2), keepdims=True)).astype(np.float32)
