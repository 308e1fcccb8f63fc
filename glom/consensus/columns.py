"""Columns of levels that settle by a weighted average of four contributions, whatever it is that they see.

For column i, level l = 1..L, time t (Hinton 2021, arXiv 2102.12627, section 1):

    u = BU_l(x_{l-1,i})                  bottom-up net, the same everywhere; x_0 is what the column sees
    v = TD_l([x_{l+1,i}, p(i)])          top-down net, told where it is by a coordinate code: a neural field (section 3)
    c = sum_j w_ij x_{l,j}               agreement with like columns near by (attention.py)
    x_{l,i} <- (a u + b v + g x_{l,i} + e c) / (a + b + g + e)

The top level has no v; its weights are divided by the sum of the other three. The nets read their inputs at unit scale
(layer normalisation without parameters), so that a level's length carries no message. Every level starts at zero: what
is seen climbs a level an iteration. Levels that it has not reached yet differ by place alone, and are worked out once
for all pictures of a batch (`climb`); the numbers are those of the plain update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.columns import LocationCode, grid_queries
from glom.consensus.attention import allowed_pairs, consensus, prefers_windows, windowed_consensus
from glom.consensus.config import GlomConfig
from glom.errors import InputError


class Weights(NamedTuple):
    """Two-layer nets side by side, G of them: (G, inputs, hidden), (G, 1, hidden), (G, hidden, outputs), and so on."""

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    def some(self, begin: int, end: int | None = None) -> Weights:
        """Nets `begin` to `end`, the last excluded."""
        return Weights(*(part[begin:end] for part in self))

    def after_first(self, h: Tensor) -> Tensor:
        """The second layer: (G, B, n, hidden) before the nonlinearity -> (G, B, n, outputs)."""
        b, n = h.shape[1:3]
        return torch.baddbmm(self.second_bias, F.gelu(h).flatten(1, 2), self.second).unflatten(1, (b, n))

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(G, B, n, inputs) -> (G, B, n, outputs); `bias` stands for the first layer's, (G, 1 or B, n, hidden)."""
        b, n = x.shape[1:3]
        h = torch.bmm(F.layer_norm(x, x.shape[-1:]).flatten(1, 2), self.first)
        own = self.first_bias[:, None] if bias is None else bias
        return self.after_first(h.unflatten(1, (b, n)) + own.to(h.dtype))


class LevelNets(nn.Module):
    """G two-layer nets side by side, one batched product a layer: y_g = W2_g gelu(W1_g norm(x_g) + b1_g + m_g) + b2_g.

    Args:
        groups: G.
        inputs, hidden, outputs: widths.
        code: width of a coordinate code added at the hidden layer as m = C p, which is what concatenating p to the
            input comes to; 0 for nets that know no location.
    """

    def __init__(self, groups: int, inputs: int, hidden: int, outputs: int, code: int = 0) -> None:
        super().__init__()

        def weights(rows: int, columns: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(groups, rows, columns) / math.sqrt(rows))

        self.first, self.second = weights(inputs, hidden), weights(hidden, outputs)
        self.first_bias = nn.Parameter(torch.zeros(groups, 1, hidden))
        self.second_bias = nn.Parameter(torch.zeros(groups, 1, outputs))
        self.place = weights(code, hidden) if code else None

    def bias(self, codes: Tensor) -> Tensor:
        """b1 + C p for every net and place: (n, code) -> (G, 1, n, hidden), or (B, n, code) -> (G, B, n, hidden).

        It stays the same over iterations.
        """
        assert self.place is not None
        return self.first_bias[:, None] + (codes if codes.ndim == 3 else codes[None]) @ self.place[:, None]

    def weights(self) -> Weights:
        """The nets in the products' own precision: under autocast cast once, not in every iteration."""
        own = Weights(self.first, self.first_bias, self.second, self.second_bias)
        device = self.first.device.type
        if not torch.is_autocast_enabled(device):
            return own
        return Weights(*(part.to(torch.get_autocast_dtype(device)) for part in own))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(G, B, n, inputs) -> (G, B, n, outputs); `bias` from `bias(codes)` where the nets know their location."""
        return self.weights()(x, bias)

    def one(self, group: int, x: Tensor, bias: Tensor) -> Tensor:
        """Net `group` alone: (B, n, inputs) -> (B, n, outputs); `bias` (1, n, hidden) is its own."""
        h = F.layer_norm(x, x.shape[-1:]) @ self.first[group]
        y = F.gelu(h + bias.to(h.dtype)) @ self.second[group]
        return y + self.second_bias[group].to(y.dtype)


class Contributions(NamedTuple):
    """What one update averages, each (L, B, n, d), level first; `top_down` has L - 1 levels."""

    bottom_up: Tensor
    top_down: Tensor
    previous: Tensor
    consensus: Tensor


class Places(NamedTuple):
    """Where the columns are: everything that stays the same over iterations.

    Attributes:
        queries: (n, 2), or (B, n, 2) where every picture has places of its own.
        cells: rows and columns of the grid.
        regular: whether the columns are that grid, row by row.
        bias: (L - 1, 1 or B, n, hidden), the top-down nets' view of the places.
        allowed: for every level, (L, 1 or B, n, n), or None where all may attend to all.
    """

    queries: Tensor
    cells: tuple[int, int]
    regular: bool
    bias: Tensor
    allowed: Tensor | None


class Columns(nn.Module):
    """Columns of levels; see the module's text. Shapes: B pictures, n columns, L levels, width d.

    Args:
        config: its settings.
        eye: what makes x_0, (B, n, d), of whatever is seen; its subclasses say how it is called.
    """

    def __init__(self, config: GlomConfig, eye: nn.Module) -> None:
        super().__init__()
        self.config = c = config
        self.eye = eye
        self.code = LocationCode(c.code, c.cells, c.location_code)
        self.up = LevelNets(c.levels, c.dim, c.hidden, c.dim)
        self.down = LevelNets(c.levels - 1, c.dim, c.hidden, c.dim, c.code)

    def places(self, cells: tuple[int, int], queries: Tensor | None = None) -> Places:
        """Prepare the columns' places.

        Args:
            cells: rows and columns of the grid whose spacing radii count in.
            queries: (n, 2) places in [0, 1]^2 in any order, any subset, on the grid or off it, or (B, n, 2) where every
                picture has its own; None for the grid.

        Raises:
            InputError: no columns.
        """
        c, device = self.config, self.up.first.device
        regular = queries is None
        if queries is None:
            queries = grid_queries(*cells, device=device)
        elif queries.ndim not in (2, 3) or queries.shape[-1] != 2 or not queries.numel():
            raise InputError(f"a GLOM needs at least one column, places (n, 2); got {tuple(queries.shape)}")
        n = queries.shape[-2]
        allowed = None
        if not (regular and all(prefers_windows(n, r) for r in c.radii)):
            pairs = [allowed_pairs(queries, cells, r, c.attend_self) for r in c.radii]
            known = next((p for p in pairs if p is not None), None)
            if known is not None:
                every = torch.stack([torch.ones_like(known) if p is None else p for p in pairs])
                allowed = every if queries.ndim == 3 else every[:, None]
        return Places(queries, cells, regular, self.down.bias(self.code(queries)), allowed)

    def start(self, seen: Tensor) -> Tensor:
        """The state before anything was seen: zeros, (L, B, n, d)."""
        return seen.new_zeros(self.config.levels, *seen.shape)

    def agreement(self, state: Tensor, places: Places, first: int = 0) -> Tensor:
        """c of some levels at `places`, `first` the number of the lowest: `state` (l, B, n, d) -> (l, B, n, d)."""
        c, levels = self.config, slice(first, first + len(state))
        if places.regular and all(prefers_windows(state.shape[2], r) for r in c.radii):
            grids = zip(state.unflatten(2, places.cells), c.radii[levels], strict=True)
            found = [windowed_consensus(x, c.beta, r or 0, c.attend_self) for x, r in grids]
            return torch.stack(found).flatten(2, 3)
        return consensus(state, c.beta, None if places.allowed is None else places.allowed[levels])

    def contributions(
        self, state: Tensor, seen: Tensor, places: Places, nets: tuple[Weights, Weights] | None = None
    ) -> Contributions:
        """The four contributions to the next state. `state` (L, B, n, d); `seen` (B, n, d); `places`; `nets`."""
        up, down = nets or (self.up, self.down)
        below = torch.cat([seen[None].to(state.dtype), state[:-1]])
        return Contributions(up(below), down(state[1:], places.bias), state, self.agreement(state, places))

    def combine(self, parts: Contributions) -> Tensor:
        """The weighted average of the four `parts`, (L, B, n, d), in float32 whatever the products' precision."""
        a, b, g, e = self.config.weights
        total = a * parts.bottom_up.float() + g * parts.previous.float() + e * parts.consensus.float()
        return self._mean(torch.cat([total[:-1] + b * parts.top_down.float(), total[-1:]]), 0)

    def iterate(self, seen: Tensor, places: Places, state: Tensor | None = None) -> Iterator[Tensor]:
        """The state after one update, after two, and so on without end: (L, B, n, d) each, level first.

        Args:
            seen: (B, n, d).
            places: of the n columns.
            state: (L, B, n, d) to go on from; None for zeros, the state before anything was seen.
        """
        nets = self.up.weights(), self.down.weights()
        if state is None:
            for climbed in self.climb(seen, places, nets):
                yield climbed
            state = climbed
        while True:
            state = self.combine(self.contributions(state, seen, places, nets))
            yield state

    def climb(self, seen: Tensor, places: Places, nets: tuple[Weights, Weights]) -> Iterator[Tensor]:
        """The updates from zeros until all levels have seen, (L, B, n, d) each, without what all pictures share.

        After k updates the k lowest levels hold something of what is seen, `reached` (k, B, n, d). The others,
        `waiting` (L - k, 1, n, d), follow from the places; so does what the level above tells the highest one reached.
        `nets` are those up and down.
        """
        (a, b, g, e), (up, down), levels = self.config.weights, nets, self.config.levels
        reached, waiting = self._first(seen, places, nets)
        yield self._whole(reached, waiting)
        if waiting.shape[1] == len(seen):  # one picture, or places of its own for each: nothing is shared
            return
        for k in range(1, levels):
            told = down.some(k - 1)(waiting, places.bias[k - 1 :])  # of levels k to L
            still = g * waiting.float() + e * self.agreement(waiting, places, k).float()
            still = torch.cat([still[:-1] + b * told[1:].float(), still[-1:]])
            rest = g * reached.float() + e * self.agreement(reached, places).float()
            heard = told[:1].float().expand(1, *seen.shape)
            if k > 1:
                heard = torch.cat([down.some(0, k - 1)(reached[1:], places.bias[: k - 1]).float(), heard])
            below = torch.cat([seen[None].to(reached.dtype), reached])
            rest = torch.cat([rest + b * heard, still[:1].expand(1, *seen.shape)])
            reached = self._mean(a * up.some(0, k + 1)(below).float() + rest, 0)
            if k < levels - 1:
                waiting = self._mean(a * up.some(k + 1)(waiting[:-1]).float() + still[1:], k + 1)
            else:
                waiting = waiting[:0]
            yield self._whole(reached, waiting)

    def _first(self, seen: Tensor, places: Places, nets: tuple[Weights, Weights]) -> tuple[Tensor, Tensor]:
        """The first update from zeros: level 1, (1, B, n, d), and the others, (L - 1, 1 or B, n, d).

        Of a zero the nets say what their biases say; zeros agree on zero.
        """
        (a, b, _, _), (up, down), n = self.config.weights, nets, seen.shape[1]
        told = b * down.after_first(places.bias.to(down.first.dtype)).float()
        others = a * up.some(1).after_first(up.first_bias[1:, None]).float().expand(-1, told.shape[1], n, -1)
        others = torch.cat([others[:-1] + told[1:], others[-1:]])
        return self._mean(a * up.some(0, 1)(seen[None]).float() + told[:1], 0), self._mean(others, 1)

    def _mean(self, total: Tensor, first: int) -> Tensor:
        """Sums (l, B, n, d) of levels from number `first` on, divided by their weights' sums."""
        a, b, g, e = self.config.weights
        if first + len(total) < self.config.levels:
            return total / (a + b + g + e)
        return torch.cat([total[:-1] / (a + b + g + e), total[-1:] / (a + g + e)])

    @staticmethod
    def _whole(reached: Tensor, waiting: Tensor) -> Tensor:
        return torch.cat([reached, waiting.expand(-1, reached.shape[1], -1, -1)])
