"""A grid of features cut into islands: k-means or agglomerative clustering on the cosine, connected components."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from glom.errors import InputError
from probes.agreement import unit

Labels = NDArray[np.int64]
FORMS = "kmeans:K, agglomerative:K, agglomerative:0.3 (cosine distance), agglomerative-grid:K or :0.3, each with +parts"


@dataclass(frozen=True)
class Partition:
    """How a grid is cut.

    Attributes:
        method: "kmeans", "agglomerative", or "agglomerative-grid" (only neighbours on the grid may join).
        count: number of clusters, or None for a threshold.
        threshold: average cosine distance at which joining stops, in (0, 2), or None.
        parts: whether clusters are split into their connected components.
    """

    method: str = "kmeans"
    count: int | None = 6
    threshold: float | None = None
    parts: bool = False


def parse_partition(text: str) -> Partition:
    """`kmeans:6`, `agglomerative:0.3+parts`, ... -> `Partition`. Raises `InputError` for anything else.

    Example:
        >>> parse_partition("agglomerative:0.3").threshold
        0.3
    """
    found = re.fullmatch(r"(kmeans|agglomerative|agglomerative-grid):(\d+|\d*\.\d+)(\+parts)?", text.strip())
    if not found:
        raise InputError(f"`partition` '{text}' is none of: {FORMS}")
    method, number, parts = found[1], found[2], bool(found[3])
    if "." in number:
        threshold = float(number)
        if method == "kmeans" or not 0 < threshold < 2:
            raise InputError(f"`partition` '{text}': a cosine distance lies between 0 and 2, and is for agglomerative")
        return Partition(method, None, threshold, parts)
    if not 1 <= int(number) <= 1000:
        raise InputError(f"`partition` '{text}': the number of islands must be 1 to 1000")
    return Partition(method, int(number), None, parts)


def partition(grid: Array, how: Partition, seed: int = 0, cosine: bool = True) -> Labels:
    """Cut a grid into clusters.

    Args:
        grid: (h, w, F).
        how: see `Partition`.
        seed: of k-means.
        cosine: compare directions (features scaled to length 1); False compares the features as they are.

    Returns:
        (h, w) labels from 0. One label where nothing varies; fewer than asked for where there are fewer distinct
        features.
    """
    h, w = grid.shape[:2]
    x = (unit(grid) if cosine else grid).reshape(h * w, -1).astype(np.float32)
    spread = float(np.abs(x - x.mean(0)).max(initial=0.0))
    if spread <= 1e-6 * max(1.0, float(np.abs(x).max(initial=0.0))) or how.count == 1:
        labels = np.zeros((h, w), np.int64)
    else:
        count = how.count
        if count is not None and count * 4 > len(x):
            count = min(count, len(np.unique(x, axis=0)))
        flat = kmeans(x, count or 1, seed) if how.method == "kmeans" else _agglomerate(x, (h, w), how, count)
        labels = np.unique(flat, return_inverse=True)[1].reshape(h, w).astype(np.int64)
    return components(labels) if how.parts else labels


def kmeans(x: NDArray[np.float32], count: int, seed: int, starts: int = 2, iterations: int = 40) -> Labels:
    """k-means by scikit-learn's Lloyd iterations, k-means++ starts (Arthur & Vassilvitskii 2007): (n, F) -> (n,)."""
    import warnings

    from sklearn.cluster import KMeans

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct points than clusters: the result says so itself
        model = KMeans(count, n_init=starts, max_iter=iterations, tol=1e-3, random_state=seed)
        return model.fit_predict(x).astype(np.int64)


def _agglomerate(x: NDArray[np.float32], shape: tuple[int, int], how: Partition, count: int | None) -> Labels:
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.feature_extraction.image import grid_to_graph

    near = grid_to_graph(*shape) if how.method == "agglomerative-grid" else None
    model = AgglomerativeClustering(
        n_clusters=count, distance_threshold=how.threshold, metric="cosine", linkage="average", connectivity=near
    )
    # The cosine of a zero vector is undefined: a constant direction of its own stands for it.
    zero = ~x.any(1, keepdims=True)
    return model.fit_predict(np.concatenate([x, zero.astype(np.float32)], axis=1)).astype(np.int64)


def components(labels: NDArray[np.integer]) -> Labels:
    """Every connected set of equal labels (4 neighbours) under a label of its own, from 0: (h, w) -> (h, w)."""
    from skimage.measure import label

    return label(labels, background=-1, connectivity=1).astype(np.int64) - 1


def count_islands(labels: NDArray[np.integer], least: int = 1) -> int:
    """Number of connected sets of equal labels with at least `least` locations."""
    sizes = np.bincount(components(labels).ravel())
    return int((sizes >= least).sum())


def enlarge(labels: NDArray[np.integer], height: int, width: int) -> Labels:
    """(h, w) -> (height, width), each pixel under the label of the cell it lies in."""
    h, w = labels.shape
    rows = (np.arange(height) + 0.5) * h / height
    columns = (np.arange(width) + 0.5) * w / width
    return labels[rows.astype(int)][:, columns.astype(int)].astype(np.int64)


def colour_position(pixels: Array) -> Array:
    """The baseline without a network: Lab colour and position, each standardised, (h, w, 3) in [0, 1] -> (h, w, 5)."""
    from skimage.color import rgb2lab

    h, w = pixels.shape[:2]
    y, x = np.mgrid[0:h, 0:w]
    features = np.concatenate([rgb2lab(pixels), np.stack([x / w, y / h], -1)], axis=-1)
    centred = features - features.mean((0, 1))
    spread = centred.std((0, 1))
    return np.where(spread > 1e-6, centred / np.where(spread > 1e-6, spread, 1), 0).astype(np.float32)
