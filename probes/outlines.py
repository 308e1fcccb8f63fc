"""People's boundaries against those of a partition: boundary F."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probes.overlap import Map

TOLERANCE = 0.0075  # of the diagonal: the benchmark's (Martin et al. 2004; Arbelaez et al. 2011)


def boundaries(labels: Map) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label, (H, W): lines one pixel thick."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


class Outlines:
    """People's boundaries of one picture with the distances to them, so that many partitions are scored cheaply.

    Void takes the nearest region's label, since a boundary often lies under a line of it; what is farther than the
    tolerance from anything labelled is not asked about.

    Args:
        truths: (H, W) label maps of one shape.
        tolerance: how far apart two boundary pixels may be, as a share of the diagonal.
    """

    def __init__(self, truths: Sequence[Map], tolerance: float = TOLERANCE) -> None:
        self.reach = tolerance * float(np.hypot(*truths[0].shape))
        self.asked = [distance(t >= 0) <= self.reach for t in truths]
        self.edges = [boundaries(_filled(t)) & asked for t, asked in zip(truths, self.asked, strict=True)]
        self.near = [distance(edge) <= self.reach for edge in self.edges]

    def f_measure(self, found: Map, against: Sequence[int] | None = None) -> float:
        """Boundary F in [0, 1] of a partition against some annotators (default: all).

        Precision: the share of found boundary pixels near any annotator's. Recall: the share of all annotators'
        boundary pixels near a found one (Martin, Fowlkes & Malik 2004, section 3). Matched by distance transform, not
        one to one as in the benchmark's own code, which is a little stricter. No boundary in either: 1.
        """
        chosen = range(len(self.edges)) if against is None else against
        edge = boundaries(found) & np.any([self.asked[i] for i in chosen], axis=0)
        near_found = distance(edge) <= self.reach
        total = sum(int(self.edges[i].sum()) for i in chosen)
        hits = sum(int((self.edges[i] & near_found).sum()) for i in chosen)
        near_any = np.any([self.near[i] for i in chosen], axis=0)
        drawn = int(edge.sum())
        if not total or not drawn:
            return float(total == drawn)
        precision, recall = int((edge & near_any).sum()) / drawn, hits / total
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


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
    """`Outlines.f_measure` for one partition against one or several annotators."""
    truths = [truth] if isinstance(truth, np.ndarray) else list(truth)
    return Outlines(truths, tolerance).f_measure(found)
