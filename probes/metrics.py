"""Islands against people's outlines, in the field's own measures.

All take label maps of one shape, (H, W) integers; names of labels play no part. Everything but the boundary measure
follows from the contingency table n_ij = |A_i ∩ B_j|.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glom.errors import InputError

Map = NDArray[np.integer]
Table = NDArray[np.int64]
TOLERANCE = 0.0075  # of the diagonal: the benchmark's (Martin et al. 2004; Arbelaez et al. 2011)


def contingency(a: Map, b: Map) -> Table:
    """n_ij, the number of places labelled i-th in `a` and j-th in `b`; (labels of a, labels of b).

    Raises:
        InputError: different shapes, or nothing to compare.
    """
    if a.shape != b.shape or not a.size:
        raise InputError(f"partitions to compare must have one shape and not be empty, got {a.shape} and {b.shape}")
    x, y = (np.unique(m.ravel(), return_inverse=True)[1] for m in (a, b))
    rows, columns = int(x.max()) + 1, int(y.max()) + 1
    return np.bincount(x * columns + y, minlength=rows * columns).reshape(rows, columns)


def adjusted_rand(truth: Map, found: Map) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985), equal to scikit-learn's: 1 for equal partitions, 0 by chance."""
    return _ari(contingency(truth, found))


def _ari(table: Table) -> float:
    n = int(table.sum())
    squares = int((table.astype(object) ** 2).sum()) if n > 2**31 else int((table**2).sum())
    rows, columns = int((table.sum(1) ** 2).sum()), int((table.sum(0) ** 2).sum())
    # Pairs together in both, in one alone, in neither; exact, as Python's integers do not overflow.
    both, only_a, only_b = squares - n, columns - squares, rows - squares
    neither = n * n - only_a - only_b - squares
    if only_a == 0 and only_b == 0:
        return 1.0
    bottom = (both + only_b) * (only_b + neither) + (both + only_a) * (only_a + neither)
    return 2.0 * (both * neither - only_b * only_a) / bottom


def fg_ari(truth: Map, found: Map, background: int = 0) -> float | None:
    """ARI on the places that are not `background` in the truth (Greff et al. 2019); None where there are none."""
    front = truth != background
    return adjusted_rand(truth[front], found[front]) if front.any() else None


def nmi(truth: Map, found: Map) -> float:
    """Mutual information over the mean of both entropies, equal to scikit-learn's `normalized_mutual_info_score`."""
    return _nmi(contingency(truth, found))


def _nmi(table: Table) -> float:
    if min(table.shape) == 1:
        return 1.0 if table.shape == (1, 1) else 0.0
    p = table / table.sum()
    a, b = p.sum(1), p.sum(0)
    some = p > 0
    information = float((p[some] * np.log(p[some] / np.outer(a, b)[some])).sum())
    mean = -(float((a * np.log(a)).sum()) + float((b * np.log(b)).sum())) / 2
    return float(np.clip(information / mean, 0, 1))


def covering(truth: Map, found: Map) -> float:
    """Segmentation covering of the truth by what was found (Arbelaez et al. 2011, section 2.3.3), in (0, 1].

    (1/N) Σ_R |R| max_R' |R ∩ R'| / |R ∪ R'|, R over the truth's regions and R' over those found.
    """
    return _covering(contingency(truth, found))


def _covering(table: Table) -> float:
    size_a, size_b = table.sum(1), table.sum(0)
    overlap = table / (size_a[:, None] + size_b[None] - table)
    return float((size_a * overlap.max(1)).sum() / table.sum())


def boundaries(labels: Map) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another label, (H, W): lines one pixel thick."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


class Outlines:
    """People's boundaries of one picture with the distances to them, so that many partitions are scored cheaply.

    Args:
        truths: (H, W) label maps of one shape.
        tolerance: how far apart two boundary pixels may be, as a share of the diagonal.
    """

    def __init__(self, truths: Sequence[Map], tolerance: float = TOLERANCE) -> None:
        self.reach = tolerance * float(np.hypot(*truths[0].shape))
        self.edges = [boundaries(t) for t in truths]
        self.near = [distance(edge) <= self.reach for edge in self.edges]

    def f_measure(self, found: Map, against: Sequence[int] | None = None) -> float:
        """Boundary F in [0, 1] of a partition against some annotators (default: all).

        Precision: the share of found boundary pixels near any annotator's. Recall: the share of all annotators'
        boundary pixels near a found one (Martin, Fowlkes & Malik 2004, section 3). Matched by distance transform, not
        one to one as in the benchmark's own code, which is a little stricter. No boundary in either: 1.
        """
        chosen = range(len(self.edges)) if against is None else against
        edge = boundaries(found)
        near_found = distance(edge) <= self.reach
        total = sum(int(self.edges[i].sum()) for i in chosen)
        hits = sum(int((self.edges[i] & near_found).sum()) for i in chosen)
        near_any = np.any([self.near[i] for i in chosen], axis=0)
        drawn = int(edge.sum())
        if not total or not drawn:
            return float(total == drawn)
        precision, recall = int((edge & near_any).sum()) / drawn, hits / total
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def distance(edge: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every pixel to the nearest boundary pixel; infinite where there is none."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~edge) if edge.any() else np.full(edge.shape, np.inf)


def boundary_f(truth: Map | Sequence[Map], found: Map, tolerance: float = TOLERANCE) -> float:
    """`Outlines.f_measure` for one partition against one or several annotators."""
    truths = [truth] if isinstance(truth, np.ndarray) else list(truth)
    return Outlines(truths, tolerance).f_measure(found)


def score(
    truths: Sequence[Map],
    found: Map,
    outlines: Outlines,
    background: int | None = None,
    against: Sequence[int] | None = None,
) -> dict[str, float | None]:
    """One partition against all annotators of a picture.

    Args:
        truths: (H, W) each.
        found: (H, W).
        outlines: of `truths`.
        background: the label of what is no object, or None where the annotation has none.
        against: indices of the annotators asked (default: all).

    Returns:
        `ari`, `fg_ari` (None without a background), `nmi`, `covering`: means over annotators, for covering as
        Arbelaez et al. 2011 (section 2.3.3) average over people; `covering_best`: the annotator that fits best, which
        is higher and no published measure; `boundary_f`.
    """
    chosen = list(range(len(truths))) if against is None else list(against)
    tables = [contingency(truths[i], found) for i in chosen]
    covers = [_covering(t) for t in tables]
    front = [fg_ari(truths[i], found, background) for i in chosen] if background is not None else []
    known = [f for f in front if f is not None]
    return {
        "ari": float(np.mean([_ari(t) for t in tables])),
        "fg_ari": float(np.mean(known)) if known else None,
        "nmi": float(np.mean([_nmi(t) for t in tables])),
        "covering": float(np.mean(covers)),
        "covering_best": max(covers),
        "boundary_f": outlines.f_measure(found, chosen),
    }


def human_score(
    truths: Sequence[Map], outlines: Outlines, background: int | None = None
) -> dict[str, float | None] | None:
    """Each annotator as if a machine, against all the others, averaged; None for fewer than two annotators."""
    if len(truths) < 2:
        return None
    rows = []
    for i in range(len(truths)):
        others = [j for j in range(len(truths)) if j != i]
        rows.append(score(truths, truths[i], outlines, background, others))
    return {key: _mean([row[key] for row in rows]) for key in rows[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
