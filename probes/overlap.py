"""Regions against regions: the measures that follow from n_ij = |A_i ∩ B_j| alone.

A is the truth, B what was found. A negative label in the truth is void: nobody said what is there, and it is left out
of every measure. Names of labels play no other part.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glom.errors import InputError
from probes.partition.maps import enlarge

Map = NDArray[np.integer]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Background = int | Collection[int] | None
DENSE = 1 << 22  # cells of a table that is counted whole


@dataclass(frozen=True)
class Overlap:
    """n_ij where it is not 0, by rows.

    Attributes:
        labels: (rows,) the truth's labels, ascending.
        row, column, count: (pairs,) i, j and n_ij.
    """

    labels: Ints
    row: Ints
    column: Ints
    count: Ints

    @cached_property
    def sizes(self) -> tuple[Ints, Ints]:
        """|A_i| (rows,) and |B_j| (columns,)."""
        first, second = (np.bincount(at, self.count).astype(np.int64) for at in (self.row, self.column))
        return first, second

    @cached_property
    def iou(self) -> Floats:
        """(pairs,) |A_i ∩ B_j| / |A_i ∪ B_j|."""
        first, second = self.sizes
        return self.count / (first[self.row] + second[self.column] - self.count)

    @cached_property
    def best(self) -> Floats:
        """(rows,) each true region's greatest IoU with a region found."""
        return np.maximum.reduceat(self.iou, np.searchsorted(self.row, np.arange(len(self.labels))))

    def objects(self, background: Background) -> NDArray[np.bool_]:
        """(rows,) which true regions are not background."""
        ground = () if background is None else (background,) if isinstance(background, int) else tuple(background)
        return ~np.isin(self.labels, np.asarray(ground, np.int64))

    def only(self, rows: NDArray[np.bool_]) -> Overlap:
        """These true regions alone."""
        kept = rows[self.row]
        row, column = (np.unique(at[kept], return_inverse=True)[1] for at in (self.row, self.column))
        return Overlap(self.labels[rows], row, column, self.count[kept])

    def joined(self, rows: NDArray[np.bool_]) -> Overlap:
        """With these true regions made one."""
        to = np.where(rows, int(np.argmax(rows)), np.arange(len(rows)))
        kept, new = np.unique(to, return_inverse=True)
        return _pairs(self.labels[kept], new[self.row], self.column, self.count)


@dataclass(frozen=True)
class Regions:
    """A truth's regions, told apart once for many partitions.

    Attributes:
        shape: (H, W). labels: (rows,) ascending. row: (places,) of all that is not void.
        known: (H * W,) what is not void, or None where nothing is.
    """

    shape: tuple[int, ...]
    labels: Ints
    row: Ints
    known: NDArray[np.bool_] | None

    def overlap(self, found: Map, ranked: Ints | None = None) -> Overlap:
        """With a partition of the same shape, for whose `ranks` nobody has to be asked twice."""
        if self.shape != found.shape:
            raise InputError(f"partitions to compare must have one shape, got {self.shape} and {found.shape}")
        if self.known is not None:
            return _pairs(self.labels, self.row, ranks(found.ravel()[self.known])[1])
        return _pairs(self.labels, self.row, ranks(found)[1] if ranked is None else ranked)


def regions(truth: Map) -> Regions:
    """Of a label map. Raises `InputError` where it is empty, or void everywhere."""
    if not truth.size:
        raise InputError(f"there is nothing to compare with in a mask of {truth.shape}")
    known = (truth >= 0).ravel()
    if not known.any():
        raise InputError("the mask is void everywhere: there is nothing to compare with")
    whole = bool(known.all())
    return Regions(truth.shape, *ranks(truth if whole else truth.ravel()[known]), None if whole else known)


def overlap(truth: Map, found: Map) -> Overlap:
    """Of two label maps.

    Raises:
        InputError: different shapes, nothing to compare, or a truth that is void everywhere.
    """
    return regions(truth).overlap(found)


class Cells:
    """Truths counted once over the cells of a grid, so that every cut of the grid is measured at the grid's own cost.

    Args:
        truths: (H, W) each.
        shape: (h, w) of the grid, which is enlarged to the truths' size.
    """

    def __init__(self, truths: Sequence[Map], shape: tuple[int, int]) -> None:
        cells = enlarge(np.arange(shape[0] * shape[1]).reshape(shape), *truths[0].shape)
        self._tables = [(overlap(t, cells), np.unique(cells[t >= 0] if t.dtype.kind == "i" else cells)) for t in truths]

    def overlaps(self, labels: Map) -> list[Overlap]:
        """(h, w) -> what `overlap` gives of each truth and the enlarged labels."""
        flat = labels.astype(np.int64).ravel()
        return [
            _pairs(table.labels, table.row, ranks(flat[cells])[1][table.column], table.count)
            for table, cells in self._tables
        ]


def ranks(values: Map) -> tuple[Ints, Ints]:
    """`numpy.unique` with the inverse (n,), counted instead of sorted where the labels lie close together."""
    values = values.ravel().astype(np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low > 4 * len(values) + 65536:
        labels, places = np.unique(values, return_inverse=True)
        return labels.astype(np.int64), places.astype(np.int64)
    there = np.bincount(values - low) > 0
    return (np.flatnonzero(there) + low).astype(np.int64), (np.cumsum(there) - 1)[values - low]


def _pairs(labels: Ints, row: Ints, column: Ints, count: Ints | None = None) -> Overlap:
    columns = int(column.max()) + 1
    key = row * columns + column
    if len(labels) * columns <= DENSE:
        table = np.bincount(key, count).astype(np.int64)
        some = np.flatnonzero(table)
        sums = table[some]
    else:
        some, places = np.unique(key, return_inverse=True)
        sums = np.bincount(places, count).astype(np.int64)
    return Overlap(labels, some // columns, some % columns, sums)


def rand(table: Overlap) -> float:
    """Adjusted Rand index (Hubert & Arabie 1985), equal to scikit-learn's."""
    first, second = table.sizes
    n, squares = int(first.sum()), int((table.count**2).sum())
    rows, columns = int((first**2).sum()), int((second**2).sum())
    # Pairs together in both, in one alone, in neither; exact, as Python's integers do not overflow.
    both, only_a, only_b = squares - n, columns - squares, rows - squares
    neither = n * n - only_a - only_b - squares
    if only_a == 0 and only_b == 0:
        return 1.0
    bottom = (both + only_b) * (only_b + neither) + (both + only_a) * (only_a + neither)
    return 2.0 * (both * neither - only_b * only_a) / bottom


def rand_of_objects(table: Overlap, background: Background) -> float | None:
    """ARI on the places that are not background in the truth (Greff et al. 2019); None where there are none."""
    objects = table.objects(background)
    return rand(table.only(objects)) if objects.any() else None


def rand_on_one_ground(table: Overlap, background: Background) -> float:
    """ARI with all that is background as one region."""
    ground = ~table.objects(background)
    return rand(table.joined(ground) if ground.sum() > 1 else table)


def information(table: Overlap) -> float:
    """Mutual information over the mean of both entropies, equal to scikit-learn's `normalized_mutual_info_score`."""
    first, second = table.sizes
    if min(len(first), len(second)) == 1:
        return 1.0 if len(first) == len(second) else 0.0
    n = first.sum()
    p, a, b = table.count / n, first / n, second / n
    shared = float((p * np.log(p / (a[table.row] * b[table.column]))).sum())
    mean = -(float((a * np.log(a)).sum()) + float((b * np.log(b)).sum())) / 2
    return float(np.clip(shared / mean, 0, 1))


def cover(table: Overlap) -> float:
    """(1/N) Σ_R |R| max_R' |R ∩ R'| / |R ∪ R'|, R over the truth's regions and R' over those found."""
    size = table.sizes[0]
    return float((size * table.best).sum() / size.sum())


def mean_best_overlap(table: Overlap, background: Background) -> float | None:
    """Mean over the true objects of `Overlap.best`; None where there are no objects."""
    objects = table.objects(background)
    return float(table.best[objects].mean()) if objects.any() else None


def matched_iou(table: Overlap, background: Background) -> float | None:
    """Mean IoU of the true objects under the one-to-one matching that makes it greatest (Kuhn 1955); an object that is
    left without a region counts 0. None where there are no objects."""
    from scipy.optimize import linear_sum_assignment

    objects = table.objects(background)
    if not objects.any():
        return None
    iou = np.zeros((len(objects), len(table.sizes[1])))
    iou[table.row, table.column] = table.iou
    iou = iou[objects]
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / len(iou))
