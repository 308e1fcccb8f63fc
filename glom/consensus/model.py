"""GLOM: a grid of columns, each a stack of levels, settling by a weighted average of four contributions.

For column i, level l = 1..L, time t (Hinton 2021, arXiv 2102.12627, section 1):

    u = BU_l(x_{l-1,i})                  bottom-up net, the same everywhere; x_0 is what the column sees
    v = TD_l([x_{l+1,i}, p(i)])          top-down net, told where it is by a coordinate code: a neural field (section 3)
    c = sum_j w_ij x_{l,j}               agreement with like columns near by (attention.py)
    x_{l,i} <- (a u + b v + g x_{l,i} + e c) / (a + b + g + e)

The top level has no v; its weights are divided by the sum of the other three. The nets read their inputs at unit scale
(layer normalisation without parameters), so that a level's length carries no message. Every level starts at zero: what
the picture holds climbs a level an iteration. A still picture is a boring video: the same frame seen T times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from glom.columns import LocationCode, grid_queries
from glom.consensus.attention import allowed_pairs, consensus, prefers_windows, windowed_consensus
from glom.consensus.config import GlomConfig
from glom.errors import InputError


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
        """b1 + C p for every net and place: (n, code) -> (G, 1, n, hidden). It stays the same over iterations."""
        assert self.place is not None
        return (self.first_bias + codes @ self.place)[:, None]

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(G, B, n, inputs) -> (G, B, n, outputs); `bias` from `bias(codes)` where the nets know their location."""
        b, n = x.shape[1:3]
        h = torch.bmm(F.layer_norm(x, x.shape[-1:]).flatten(1, 2), self.first)
        own = self.first_bias[:, None] if bias is None else bias
        h = F.gelu(h.unflatten(1, (b, n)) + own.to(h.dtype))
        return torch.baddbmm(self.second_bias, h.flatten(1, 2), self.second).unflatten(1, (b, n))

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
        queries: (n, 2).
        cells: rows and columns of the grid.
        regular: whether the columns are that grid, row by row.
        bias: (L - 1, 1, n, hidden), the top-down nets' view of the places.
        paint: (1, n, hidden), the pixel decoder's.
        allowed: for every level, (L, 1, n, n), or None where all may attend to all.
    """

    queries: Tensor
    cells: tuple[int, int]
    regular: bool
    bias: Tensor
    paint: Tensor
    allowed: Tensor | None


class Glom(nn.Module):
    """The network; see the module's text. Shapes: B pictures, n columns, L levels, width d.

    Args:
        config: its settings.

    Example:
        >>> glom = Glom(GlomConfig(levels=3, dim=16, hidden=32))
        >>> glom(torch.rand(1, 3, 16, 24)).shape
        torch.Size([1, 24, 3, 16])
    """

    def __init__(self, config: GlomConfig) -> None:
        super().__init__()
        self.config = c = config
        self.eye = nn.Conv2d(4, c.dim, c.patch + 2 * c.margin, stride=c.patch, padding=c.margin)
        self.code = LocationCode(c.code, c.cells, c.location_code)
        self.up = LevelNets(c.levels, c.dim, c.hidden, c.dim)
        self.down = LevelNets(c.levels - 1, c.dim, c.hidden, c.dim, c.code)
        self.paint = LevelNets(1, c.dim, c.hidden, 3 * c.patch**2, c.code)

    # -- what the columns see and where they are -----------------------------------------------------------------

    def see(self, images: Tensor, missing: Tensor | None = None) -> Tensor:
        """x_0 of every column, row by row.

        Args:
            images: (B, 3, H, W) in [0, 1], both sides multiples of the patch.
            missing: (B, 1, H, W) booleans, pixels that are not to be seen; None for none.

        Returns:
            (B, n, d), n = (H / patch) (W / patch).

        Raises:
            InputError: another shape, or a picture smaller than a patch.
        """
        h, w = self.grid(images)
        x = (images - 0.5) * 4  # pixels of ordinary pictures then have a deviation of about one
        if missing is None:
            blank = torch.zeros_like(x[:, :1])
        else:
            blank = missing.to(x.dtype)
            x = x.masked_fill(missing, 0.0)
        seen = rearrange(self.eye(torch.cat([x, blank], 1)), "b d h w -> b (h w) d")
        assert seen.shape[1] == h * w
        return seen

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the grid that covers pictures (B, 3, H, W). Raises `InputError` where none can."""
        patch = self.config.patch
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"pictures must be (B, 3, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if min(height, width) < patch:
            raise InputError(f"{width}x{height} pixels is smaller than one patch of this GLOM ({patch} px)")
        if height % patch or width % patch:
            raise InputError(f"{width}x{height} pixels: both sides must be multiples of the patch ({patch} px)")
        return height // patch, width // patch

    def places(self, cells: tuple[int, int], queries: Tensor | None = None) -> Places:
        """Prepare the columns' places.

        Args:
            cells: rows and columns of the grid whose spacing radii count in.
            queries: (n, 2) places in [0, 1]^2 in any order, any subset, on the grid or off it; None for the grid.

        Raises:
            InputError: no columns.
        """
        c, device = self.config, self.eye.weight.device
        regular = queries is None
        if queries is None:
            queries = grid_queries(*cells, device=device)
        elif queries.ndim != 2 or queries.shape[-1] != 2 or not len(queries):
            raise InputError(f"a GLOM needs at least one column, places (n, 2); got {tuple(queries.shape)}")
        codes = self.code(queries)
        windows = regular and all(prefers_windows(len(queries), r) for r in c.radii)
        allowed = None
        if not windows:
            pairs = [allowed_pairs(queries, cells, r, c.attend_self) for r in c.radii]
            if any(p is not None for p in pairs):
                full = torch.ones(len(queries), len(queries), dtype=torch.bool, device=device)
                allowed = torch.stack([full if p is None else p for p in pairs])[:, None]
        return Places(queries, cells, regular, self.down.bias(codes), self.paint.bias(codes)[0], allowed)

    # -- iterations ---------------------------------------------------------------------------------------------

    def start(self, seen: Tensor) -> Tensor:
        """The state before anything was seen: zeros, (L, B, n, d)."""
        return seen.new_zeros(self.config.levels, *seen.shape)

    def agreement(self, state: Tensor, places: Places) -> Tensor:
        """c of every level: (L, B, n, d) -> (L, B, n, d)."""
        c = self.config
        if places.regular and all(prefers_windows(state.shape[2], r) for r in c.radii):
            grids = state.unflatten(2, places.cells)
            found = [windowed_consensus(x, c.beta, r or 0, c.attend_self) for x, r in zip(grids, c.radii, strict=True)]
            return torch.stack(found).flatten(2, 3)
        return consensus(state, c.beta, places.allowed)

    def contributions(self, state: Tensor, seen: Tensor, places: Places) -> Contributions:
        """The four contributions to the next state. `state` (L, B, n, d), `seen` (B, n, d)."""
        below = torch.cat([seen[None].to(state.dtype), state[:-1]])
        return Contributions(self.up(below), self.down(state[1:], places.bias), state, self.agreement(state, places))

    def combine(self, parts: Contributions) -> Tensor:
        """Their weighted average, (L, B, n, d), in float32 whatever the products' precision."""
        a, b, g, e = self.config.weights
        total = a * parts.bottom_up.float() + g * parts.previous.float() + e * parts.consensus.float()
        lower = (total[:-1] + b * parts.top_down.float()) / (a + b + g + e)
        return torch.cat([lower, total[-1:] / (a + g + e)])

    def iterate(self, seen: Tensor, places: Places, state: Tensor | None = None) -> Iterator[Tensor]:
        """The state after one update, after two, and so on without end: (L, B, n, d) each, level first."""
        state = self.start(seen) if state is None else state
        while True:
            state = self.combine(self.contributions(state, seen, places))
            yield state

    def all_states(
        self,
        images: Tensor,
        iterations: int | None = None,
        state: Tensor | None = None,
        missing: Tensor | None = None,
    ) -> Iterator[Tensor]:
        """Look at still pictures, one iteration at a time.

        Args:
            images: (B, 3, H, W) in [0, 1], any H and W that are multiples of the patch.
            iterations: T; None for the settings'.
            state: (B, n, L, d) to go on from; None to start from nothing.
            missing: see `see`.

        Yields:
            (B, n, L, d), T times.

        Raises:
            InputError: pictures of a wrong shape, a state of another, no iterations.
        """
        count = self.config.iterations if iterations is None else iterations
        if count < 1:
            raise InputError(f"at least one iteration is needed, got {count}")
        seen, places = self.see(images, missing), self.places(self.grid(images))
        steps = self.iterate(seen, places, self._level_first(state, seen))
        for _ in range(count):
            yield next(steps).permute(1, 2, 0, 3)

    def forward(
        self,
        images: Tensor,
        iterations: int | None = None,
        state: Tensor | None = None,
        missing: Tensor | None = None,
    ) -> Tensor:
        """The last of `all_states`: (B, 3, H, W) -> (B, n, L, d)."""
        *_, last = self.all_states(images, iterations, state, missing)
        return last

    def watch(self, frames: Tensor, state: Tensor | None = None) -> Iterator[Tensor]:
        """Look at a video, one update a frame, the state carried over time.

        Args:
            frames: (B, T, 3, H, W) in [0, 1].
            state: (B, n, L, d) from earlier frames.

        Yields:
            (B, n, L, d) after every frame. A still picture repeated T times gives what `all_states` gives.
        """
        if frames.ndim != 5 or not frames.shape[1]:
            raise InputError(f"a video must be (B, T, 3, H, W) with T >= 1, got {tuple(frames.shape)}")
        places = self.places(self.grid(frames[:, 0]))
        now: Tensor | None = None
        for frame in frames.unbind(1):
            seen = self.see(frame)
            now = self._level_first(state, seen) if now is None else now
            now = next(self.iterate(seen, places, now))
            yield now.permute(1, 2, 0, 3)

    def _level_first(self, state: Tensor | None, seen: Tensor) -> Tensor | None:
        if state is None:
            return None
        b, n, d = seen.shape
        if state.shape != (b, n, self.config.levels, d):
            raise InputError(f"a state must be {(b, n, self.config.levels, d)}, got {tuple(state.shape)}")
        return state.permute(2, 0, 1, 3)

    # -- back to pixels -----------------------------------------------------------------------------------------

    def decode(self, state: Tensor, places: Places) -> Tensor:
        """What each level says the picture is, by the top-down nets alone: level l -> l-1 -> ... -> 1 -> pixels.

        Args:
            state: (L, B, n, d), level first.
            places: of a regular grid.

        Returns:
            (L, B, 3, H, W) around [0, 1].
        """
        levels, patch = self.config.levels, self.config.patch
        chains = state[-1:]
        for group in reversed(range(levels - 1)):
            x = self.down.one(group, chains.flatten(0, 1), places.bias[group])
            chains = torch.cat([state[group : group + 1], x.unflatten(0, chains.shape[:2]).to(state.dtype)])
        pixels = self.paint.one(0, chains.flatten(0, 1), places.paint)
        h, w = places.cells
        pictures = rearrange(pixels, "b (h w) (c p q) -> b c (h p) (w q)", h=h, w=w, p=patch, q=patch)
        # chains holds level 1 first and the top level last.
        return (pictures.float() / 4 + 0.5).unflatten(0, chains.shape[:2])
