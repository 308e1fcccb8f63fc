"""Where a percept is asked for, sorted so that each distinct coordinate is coded once.

The location code is split by axis, p(x, y) = [p_x(x), p_y(y)], so a linear map of it is a sum of a row for x and a
row for y. N queries rarely have N distinct x's and N distinct y's:

    grid    an h x w grid, row by row: w rows for x, h rows for y, and location (i, j) is x_j with y_i
    axes    ragged queries with few distinct coordinates: n_x + n_y rows, gathered by index
    points  ragged queries whose coordinates hardly repeat: one row a query
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from glom.columns import LocationCode, check_queries
from glom.devices import moved
from glom.errors import InputError

Index = slice | tuple[slice, slice]


@dataclass(frozen=True)
class Locations:
    """N location queries, sorted by what they share. Made by `locate`; not by hand.

    Attributes:
        kind: "grid", "axes" or "points".
        count: N.
        x, y: the distinct coordinates, (w,) and (h,) for a grid, (n_x,) and (n_y,) for axes, (N,) or (S, N) for points.
        ix, iy: which of them each query has, (N,), or (S, N) where S samples have their own queries; axes only.
    """

    kind: str
    count: int
    x: Tensor
    y: Tensor
    ix: Tensor | None = None
    iy: Tensor | None = None

    def to(self, device: torch.device) -> Locations:
        """The same on another device."""
        if self.x.device == device:
            return self
        return self._changed(lambda t: moved(t, device))

    def clone(self) -> Locations:
        """The same in memory of its own, for `take`."""
        return self._changed(Tensor.clone)

    def take(self, other: Locations) -> bool:
        """Become `other` without new memory; False, and unchanged, where it is of another kind or size."""
        pairs = list(zip(self._tensors(), other._tensors(), strict=False))
        alike = all(a.shape == b.shape for a, b in pairs) and len(self._tensors()) == len(other._tensors())
        if (self.kind, self.count) != (other.kind, other.count) or not alike:
            return False
        for mine, new in pairs:
            mine.copy_(new, non_blocking=True)
        return True

    def _tensors(self) -> list[Tensor]:
        return [t for t in (self.x, self.y, self.ix, self.iy) if t is not None]

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Locations:
        tensors = [change(t) for t in self._tensors()]
        return Locations(self.kind, self.count, *tensors)

    def points(self) -> Tensor:
        """The queries themselves, in the order asked: (N, 2), or (S, N, 2)."""
        x, y = self.x, self.y
        if self.kind == "grid":
            x, y = x.repeat(len(self.y)), y.repeat_interleave(len(self.x))
        elif self.kind == "axes":
            x, y = x[self.ix], y[self.iy]
        return torch.stack([x, y], dim=-1)

    def codes(self, code: LocationCode, dtype: torch.dtype) -> list[Tensor]:
        """The rows a linear map has to meet: [p_x (n_x, D/2), p_y (n_y, D/2)], or [p (N, D)] for points."""
        rows = [code.axis(self.x).to(dtype), code.axis(self.y).to(dtype)]
        return [torch.cat(rows, dim=-1)] if self.kind == "points" else rows

    def spread(self, rows: list[Tensor]) -> Tensor:
        """Add every query's rows: [(..., n_x, K), (..., n_y, K)] -> (..., N, K); points are spread already."""
        if self.kind == "points":
            return rows[0]
        u, v = rows
        if self.kind == "grid":
            return (v[..., :, None, :] + u[..., None, :, :]).flatten(-3, -2)
        assert self.ix is not None
        assert self.iy is not None
        return _pick(u, self.ix) + _pick(v, self.iy)

    def pool(self, weights: Tensor, rows: list[Tensor]) -> Tensor:
        """sum_n weight_n p_n from the rows, by the weights' marginals: (B, H, N) -> (B, H, D)."""
        if self.kind == "points":
            return weights @ rows[0]
        if self.kind == "grid":
            table = weights.unflatten(-1, (len(self.y), len(self.x)))
            marginals = [table.sum(-2), table.sum(-1)]
        else:
            assert self.ix is not None
            assert self.iy is not None
            marginals = [_marginal(weights, self.ix, len(self.x)), _marginal(weights, self.iy, len(self.y))]
        return torch.cat([m @ p for m, p in zip(marginals, rows, strict=True)], dim=-1)

    def chunks(self, size: int) -> Iterator[tuple[Index, Locations]]:
        """At most `size` locations at a time, with where they belong. A grid is cut into tiles, which stay grids."""
        if self.kind == "grid":
            h, w = len(self.y), len(self.x)
            tall = min(h, max(math.isqrt(size), size // w, 1))
            wide = min(w, max(size // tall, 1))
            for i in range(0, h, tall):
                for j in range(0, w, wide):
                    where = (slice(i, min(i + tall, h)), slice(j, min(j + wide, w)))
                    y, x = self.y[where[0]], self.x[where[1]]
                    yield where, Locations("grid", len(x) * len(y), x, y)
            return
        for i in range(0, self.count, size):
            part = slice(i, min(i + size, self.count))
            if self.ix is None or self.iy is None:
                yield part, Locations("points", part.stop - i, self.x[part], self.y[part])
            else:
                # A chunk of a list sees only some of the coordinates: sort it again.
                yield part, _sort_here(torch.stack([self.x[self.ix[part]], self.y[self.iy[part]]], dim=-1))

    def part(self, values: Tensor, where: Index) -> Tensor:
        """The view of `values` (B, N, F) that a chunk is written to or read from: (B, n, F) or (B, rows, cols, F)."""
        if isinstance(where, slice):
            return values[:, where]
        table = values.view(len(values), len(self.y), len(self.x), values.shape[-1])
        return table[:, where[0], where[1]]

    def shard(self, rank: int, ranks: int) -> Locations | None:
        """Every `ranks`-th location from `rank` on, sorted again; None where nothing is left for this rank."""
        mine = self.points()[rank::ranks]
        return _sort_here(mine) if len(mine) else None


def locate(queries: Tensor | Locations, device: torch.device | None = None) -> Locations:
    """Check and sort location queries; do it once where the same queries are asked many times.

    It is the host that looks at them: those on another device are read back, once, which waits for that device.

    Args:
        queries: (N, 2) points (x, y) in [0, 1]^2, or (S, N, 2) where S samples have queries of their own.
        device: where the locations are wanted; where the queries are if None.

    Raises:
        InputError: no queries, queries outside the picture, another shape.

    Example:
        >>> from glom.columns import grid_queries
        >>> where = locate(grid_queries(5, 7))
        >>> where.kind, where.count, len(where.x), len(where.y)
        ('grid', 35, 7, 5)
    """
    if isinstance(queries, Locations):
        return queries if device is None else queries.to(device)
    device = queries.device if device is None else device
    seen = queries.detach().cpu()
    _check(seen)
    if queries.requires_grad:
        # Distinct values have no gradient to the queries they stand for; the queries themselves have.
        return Locations("points", queries.shape[-2], queries[..., 0], queries[..., 1]).to(device)
    return _sort(seen).to(device)


def _check(queries: Tensor) -> None:
    if queries.ndim == 3:
        if len(queries) == 0:
            raise InputError("queries a sample were asked for, but there are no samples")
        check_queries(queries.flatten(0, 1))
    else:
        check_queries(queries)


def _sort_here(queries: Tensor) -> Locations:
    """Sort a part of what was sorted, where it costs less than it saves: never where a device would be waited for."""
    if queries.requires_grad or queries.device.type != "cpu":
        return Locations("points", len(queries), queries[:, 0], queries[:, 1])
    return _sort(queries)


def _sort(queries: Tensor) -> Locations:
    count, x, y = queries.shape[-2], queries[..., 0], queries[..., 1]
    if queries.ndim == 2:
        width = int((y == y[0]).to(torch.uint8).cumprod(0).sum())
        if count % width == 0:
            xs, ys = x.view(-1, width), y.view(-1, width)
            if torch.equal(xs, xs[:1].expand_as(xs)) and torch.equal(ys, ys[:, :1].expand_as(ys)):
                return Locations("grid", count, xs[0].clone(), ys[:, 0].clone())
    ux, ix = torch.unique(x, return_inverse=True)
    uy, iy = torch.unique(y, return_inverse=True)
    # Gathering has a cost too: worth it from half the rows on.
    if len(ux) + len(uy) <= count:
        return Locations("axes", count, ux, uy, ix, iy)
    return Locations("points", count, x, y)


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """(n, K) by (N,) -> (N, K); (S, n, K) by (N,) or (S, N) -> (S, N, K)."""
    if index.ndim == 1:
        return rows.index_select(-2, index)
    first = torch.arange(len(rows), device=index.device)[:, None] * rows.shape[1]
    return rows.flatten(0, 1).index_select(0, (index + first).flatten()).view(*index.shape, -1)


def _marginal(weights: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum (B, H, N) weights by index (N,) or (B, N) -> (B, H, count)."""
    where = index if index.ndim == 1 else index[:, None]
    return weights.new_zeros(*weights.shape[:-1], count).scatter_add(-1, where.expand_as(weights), weights)
