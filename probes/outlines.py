"""People's outlines of one picture, and boundary F."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from probes.overlap import Map, regions

TOLERANCE = 0.0075  # of the diagonal: the benchmark's (Martin et al. 2004; Arbelaez et al. 2011)
LEFT_OVER = 100  # what an unassigned pixel costs, in tolerances: the benchmark's
Places = NDArray[np.int64]


def boundaries(labels: Map) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label, (H, W): lines one pixel thick."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


class Outlines:
    """People's regions and boundaries of one picture, with the distances to these: many partitions are scored cheaply.

    Void takes the nearest region's label, since a boundary often lies under a line of it; what is farther than the
    tolerance from anything labelled is not asked about.

    Args:
        truths: (H, W) label maps of one shape.
        tolerance: how far apart two boundary pixels may be, as a share of the diagonal.

    Raises:
        InputError: a map that is empty, or void everywhere.
    """

    def __init__(self, truths: Sequence[Map], tolerance: float = TOLERANCE) -> None:
        self.reach = tolerance * float(np.hypot(*truths[0].shape))
        self.regions = [regions(t) for t in truths]
        self.asked = [distance(t >= 0) <= self.reach for t in truths]
        self.edges = [boundaries(_filled(t)) & asked for t, asked in zip(truths, self.asked, strict=True)]
        self.near = [distance(edge) <= self.reach for edge in self.edges]

    def f_measure(self, found: Map, against: Sequence[int] | None = None) -> float:
        """Boundary F in [0, 1] of a partition against some annotators (default: all).

        Precision: the share of found boundary pixels near any annotator's. Recall: the share of all annotators'
        boundary pixels near a found one (Martin, Fowlkes & Malik 2004, section 3). Matched by distance transform, not
        one to one as in the benchmark's own code, which is a little stricter (`matched_f`). No boundary in either: 1.
        """
        chosen = range(len(self.edges)) if against is None else against
        edge = boundaries(found) & np.any([self.asked[i] for i in chosen], axis=0)
        near_found = distance(edge) <= self.reach
        total = sum(int(self.edges[i].sum()) for i in chosen)
        hits = sum(int((self.edges[i] & near_found).sum()) for i in chosen)
        near_any = np.any([self.near[i] for i in chosen], axis=0)
        return _f(int((edge & near_any).sum()), int(edge.sum()), hits, total)

    @cached_property
    def thinned(self) -> list[Places]:
        """(n, 2) row and column of each annotator's boundary pixels, thinned."""
        return [_thinned(edge) for edge in self.edges]

    def matched_f(self, found: Map, against: Sequence[int] | None = None) -> float:
        """Boundary F in [0, 1] matched one to one, as in the BSDS benchmark's own code (Arbelaez et al. 2011).

        Boundaries are thinned to one pixel. For each annotator found pixels are assigned to theirs, as many as can be
        and then at the least distance in all (Martin, Fowlkes & Malik 2004, appendix B). Precision: the share of found
        pixels assigned for any annotator. Recall: the share of all annotators' pixels assigned.
        """
        chosen = range(len(self.edges)) if against is None else against
        places = _thinned(boundaries(found) & np.any([self.asked[i] for i in chosen], axis=0))
        right, hits, total = np.zeros(len(places), bool), 0, 0
        for theirs in (self.thinned[i] for i in chosen):
            assigned = assign(theirs, places, self.reach)
            right[assigned] = True
            hits, total = hits + len(assigned), total + len(theirs)
        return _f(int(right.sum()), len(places), hits, total)


def _f(right: int, drawn: int, hits: int, total: int) -> float:
    """F of `right` of the pixels `drawn`, and `hits` of a `total` to be found; without any in either 1."""
    if not total or not drawn:
        return float(total == drawn)
    precision, recall = right / drawn, hits / total
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _thinned(edge: NDArray[np.bool_]) -> Places:
    from skimage.morphology import thin

    return np.argwhere(thin(edge)).astype(np.int64)


def assign(first: Places, second: Places, reach: float) -> NDArray[np.int64]:
    """The places of `second` (m, 2) that are assigned to one of `first` (n, 2) each, at most `reach` apart: (k,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching
    from scipy.spatial import KDTree

    if not len(first) or not len(second):
        return np.zeros(0, np.int64)
    near = KDTree(first).sparse_distance_matrix(KDTree(second), reach, output_type="coo_matrix")
    able, column = np.unique(near.col, return_inverse=True)
    rows = np.unique(near.row, return_inverse=True)[1]
    if not len(able):
        return np.zeros(0, np.int64)
    n, m = int(rows.max()) + 1, len(able)
    # Whoever is left over is assigned to nobody, at the cost of many others; a cost of 0 would be no edge.
    costs = np.concatenate([near.data + 1, np.full(n, LEFT_OVER * (reach + 1))])
    ends = np.concatenate([rows, np.arange(n)]), np.concatenate([column, m + np.arange(n)])
    chosen = min_weight_full_bipartite_matching(coo_matrix((costs, ends), shape=(n, m + n)).tocsr())[1]
    return able[chosen[chosen < m]]


def _filled(labels: Map) -> Map:
    """Void under the label of the nearest place that has one."""
    from scipy.ndimage import distance_transform_edt

    void = labels < 0
    if not void.any() or void.all():
        return labels
    nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


def distance(edge: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel to the nearest marked one; infinite where there is none."""
    from scipy.ndimage import distance_transform_edt

    if edge.all():
        return np.zeros(edge.shape)
    return distance_transform_edt(~edge) if edge.any() else np.full(edge.shape, np.inf)


def boundary_f(truth: Map | Sequence[Map], found: Map, tolerance: float = TOLERANCE) -> float:
    """`Outlines.f_measure` of `found` (H, W) against the `truth` of one or several; `tolerance` in diagonals."""
    truths = [truth] if isinstance(truth, np.ndarray) else list(truth)
    return Outlines(truths, tolerance).f_measure(found)
