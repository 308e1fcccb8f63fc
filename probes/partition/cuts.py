"""A grid of features cut into islands, in any of the ways `parse_partition` reads."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from probes.agreement import at_most, unit
from probes.partition.forms import Partition, Settling
from probes.partition.graph import MOST_AUTO, Spectrum, affinity, agreeing, maskcut, spectrum, tokencut
from probes.partition.maps import Labels, components, enlarge, in_order
from probes.partition.settling import settle
from probes.partition.tree import HEIGHTS, Tree, grow

SIDE = 28  # graphs of all pairs, and trees, are made of at most so many locations a side


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
    return Cutting(grid, seed, cosine).labels(how)


class Cutting:
    """One grid, cut in any number of ways; what several of them share is computed once.

    Args:
        grid, seed, cosine: as of `partition`. Graphs, trees and settling compare directions in any case; features that
            are to be compared as they are become directions by one constant coordinate as long as they are on average.
    """

    def __init__(self, grid: Array, seed: int = 0, cosine: bool = True) -> None:
        self.shape: tuple[int, int] = grid.shape[:2]
        self.grid, self.seed, self.cosine = grid, seed, cosine
        self.x = (unit(grid) if cosine else grid).reshape(len(grid) * grid.shape[1], -1).astype(np.float32)
        self._settled: dict[Settling, Cutting] = {}

    def labels(self, how: Partition) -> Labels:
        """(h, w) labels from 0."""
        if self.constant or (how.count == 1 and how.method != "maskcut"):
            labels = np.zeros(self.shape, np.int64)
        elif how.settled is not None:
            labels = enlarge(self.settled(how.settled).whole(how), *self.shape)
        else:
            labels = self.whole(how)
        return components(labels) if how.parts else labels

    @cached_property
    def constant(self) -> bool:
        """Whether nothing varies."""
        spread = float(np.abs(self.x - self.x.mean(0)).max(initial=0.0))
        return spread <= 1e-6 * max(1.0, float(np.abs(self.x).max(initial=0.0)))

    def whole(self, how: Partition) -> Labels:
        """As `labels`, of the features as they are here, clusters not split."""
        count = how.count
        if self.constant:
            return np.zeros(self.shape, np.int64)
        if how.method in ("kmeans", "agglomerative", "agglomerative-grid"):
            if how.method == "kmeans" and count is None:
                count = self.spectrum.gap()
            if count is not None and count * 4 > len(self.x):
                count = min(count, len(np.unique(self.x, axis=0)))
            flat = (
                kmeans(self.x, count or 1, self.seed)
                if how.method == "kmeans"
                else _agglomerate(self.x, self.shape, how, count)
            )
            return in_order(flat).reshape(self.shape)
        if how.method == "threshold":
            assert how.threshold is not None
            return agreeing(self.directions[None], how.threshold)[0]
        return enlarge(self._coarse_cut(how), *self.shape)

    def _coarse_cut(self, how: Partition) -> Labels:
        h, w, _ = self.coarse.shape
        x, most = self.coarse.reshape(h * w, -1), h * w
        if how.method == "tree":
            return self.tree.cut(min(how.count or self.tree.steps, most))
        if how.method == "tokencut":
            assert how.threshold is not None
            return tokencut(x, (h, w), how.threshold).astype(np.int64)
        if how.method == "maskcut":
            return maskcut(x, (h, w), how.count or 1)
        count = min(how.count or self.spectrum.gap(), most)
        found = self.spectrum if count <= MOST_AUTO else spectrum(affinity(x), count)
        vectors = found.vectors[:, :count].astype(np.float32)
        return in_order(kmeans(vectors / np.abs(vectors).max(0), count, self.seed)).reshape(h, w)

    def heights(self, settled: Settling | None = None) -> dict[int, Labels]:
        """The tree cut at each of `HEIGHTS`, (h, w) labels by the number of pieces; fewer where it has fewer leaves."""
        if self.constant:
            return {HEIGHTS[0]: np.zeros(self.shape, np.int64)}
        tree = (self.settled(settled) if settled else self).tree
        return {n: enlarge(tree.cut(n), *self.shape) for n in HEIGHTS if n <= len(tree.joins) + 1}

    def settled(self, how: Settling) -> Cutting:
        """The coarse grid's directions, settled."""
        if how not in self._settled:
            self._settled[how] = Cutting(settle(self.coarse, how), self.seed)
        return self._settled[how]

    @cached_property
    def directions(self) -> Array:
        """(h, w, F') vectors of length 1."""
        x = self.x
        if not self.cosine:
            mean = float(np.sqrt((x**2).sum(1).mean()))
            x = unit(np.concatenate([x, np.full((len(x), 1), mean, np.float32)], axis=1))
        return x.reshape(*self.shape, -1)

    @cached_property
    def coarse(self) -> Array:
        """`directions` of at most `SIDE` locations a side."""
        return unit(at_most(self.directions, SIDE))

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the coarse grid."""
        return spectrum(affinity(self.coarse.reshape(-1, self.coarse.shape[-1])), MOST_AUTO + 1)

    @cached_property
    def tree(self) -> Tree:
        """Of the coarse grid."""
        return grow(self.coarse)


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
