"""Parts within wholes: a tree of neighbouring locations, joined two by two, and cut at several heights.

Ward's criterion (1963) over the grid's 4-neighbours, by scikit-learn. Any two heights nest: what is one part at a finer
one lies within one whole at a coarser one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glom.colours import Array
from probes.partition.maps import Labels, in_order

HEIGHTS = (2, 3, 4, 6, 8, 12, 16, 24, 32)  # in pieces, at which a tree is scored


@dataclass(frozen=True)
class Tree:
    """n - 1 joins of n locations.

    Attributes:
        joins: (n - 1, 2): the i-th makes node n + i of two earlier ones.
        costs: (n - 1,), Ward's distance of each.
        shape: (h, w).
    """

    joins: NDArray[np.int64]
    costs: NDArray[np.float64]
    shape: tuple[int, int]

    def cut(self, count: int) -> Labels:
        """(h, w) labels from 0: the tree in `count` pieces, at most n."""
        n = len(self.joins) + 1
        parent = np.arange(2 * n - 1)
        made = np.arange(n, max(2 * n - count, n))
        parent[self.joins[: len(made)]] = made[:, None]
        while (up := parent[parent]).tobytes() != parent.tobytes():
            parent = up
        return in_order(parent[:n].reshape(self.shape))

    @cached_property
    def steps(self) -> int:
        """The number of pieces, 2 to the last of `HEIGHTS`, below which the next join costs most more than the last."""
        last = self.costs[::-1][: HEIGHTS[-1]]  # the i-th makes i + 1 pieces of i + 2
        return int((last[:-1] - last[1:]).argmax()) + 2 if len(last) > 1 else 2


def grow(x: Array) -> Tree:
    """The tree of a grid (h, w, F)."""
    from sklearn.cluster import ward_tree
    from sklearn.feature_extraction.image import grid_to_graph

    h, w = x.shape[:2]
    joins, _, _, _, costs = ward_tree(
        x.reshape(h * w, -1).astype(np.float64), connectivity=grid_to_graph(h, w), return_distance=True
    )
    return Tree(np.asarray(joins, np.int64), np.asarray(costs), (h, w))
