"""Linear maps between layers: dense, and local receptive fields without weight sharing.

Both take rows (R, inputs) to rows (R, outputs), and add a^T d to their own smoothed gradient; neither knows of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from glom.errors import InputError
from glom.forward_forward.weights import Weights, Workspace

GROUP = 4 << 20  # numbers gathered at a time


class LinearMap(Protocol):
    """What layers need of a map."""

    inputs: int
    outputs: int
    weights: Weights

    def __call__(self, x: Tensor) -> Tensor:
        """(R, inputs) -> (R, outputs); differentiable by `weights.working` where that asks for it."""
        ...

    def accumulate(self, x: Tensor, d: Tensor, keep: float, scale: float) -> None:
        """G <- keep G + scale (gradient of sum(d * map(x)) by W)."""
        ...


class Dense:
    """y = x W with W (inputs, outputs), normal(0, 1/inputs) at first.

    A unit's weights lie side by side (W.T is contiguous): products of a hundred rows are up to a twelfth quicker so.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        decay: float = 0.0,
        working: torch.dtype | None = None,
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        draw = torch.randn(inputs, outputs, generator=generator, device=generator.device)
        self.weights = Weights((draw / inputs**0.5).T.contiguous().T, decay, working)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weights.working

    def accumulate(self, x: Tensor, d: Tensor, keep: float, scale: float) -> None:
        self.weights.accumulate(x, d, keep, scale)


@dataclass(frozen=True)
class Grid:
    """A topographic layer: so many units at each location; units are ordered (channel, row, column)."""

    channels: int
    height: int
    width: int

    @property
    def units(self) -> int:
        return self.channels * self.height * self.width


class Local:
    """Each unit of a topographic map sees a square field of the map below, with weights of its own (section 4).

    Fields at the border are truncated. The map is cut into square tiles; a tile's units share one gathered
    patch and are one dense product, masked to each unit's field: for 11 x 11 fields on 32 x 32 a fifth of the
    work of the masked dense matrix, and no loop over locations. Rows are quickest where a unit's values over all rows
    lie side by side (x.T contiguous), which is how results are laid out.

    Args:
        below, above: the maps connected, of one height and width.
        field: side of the receptive fields, odd.
        tile: side of the tiles.
    """

    def __init__(
        self,
        below: Grid,
        above: Grid,
        field: int,
        generator: torch.Generator,
        decay: float = 0.0,
        working: torch.dtype | None = None,
        tile: int = 4,
    ) -> None:
        if (below.height, below.width) != (above.height, above.width):
            raise InputError(f"local fields connect maps of one size, got {below} and {above}")
        if field < 1 or field % 2 == 0:
            raise InputError(f"the side of a receptive field must be odd and positive, got {field}")
        self.below, self.above, self.inputs, self.outputs = below, above, below.units, above.units
        gather, units, mask = _tiles(below, above, field, tile)
        device = generator.device
        # What lies outside is masked, so that any index will do for it.
        self._gather = gather.masked_fill(gather == below.units, 0).to(device)
        self._units = units.masked_fill(units == above.units, 0).view(len(gather), -1).to(device)
        self._order = torch.argsort(units)[: above.units].to(device)
        self._mask = mask.to(device)
        self._work = Workspace(device)
        draw = torch.randn(mask.shape, generator=generator, device=device)
        fan_in = self._mask.sum(1, keepdim=True).clamp(min=1)
        self.weights = Weights(draw * self._mask / fan_in.sqrt(), decay, working)

    def __call__(self, x: Tensor) -> Tensor:
        W = self.weights.working
        tiles, patch, _ = W.shape
        if W.requires_grad:  # autograd knows nothing of fields; `accumulate` keeps to them by itself
            W = W * self._mask
        x = x.T.contiguous()
        if torch.is_grad_enabled() and (W.requires_grad or x.requires_grad):
            patches = x.index_select(0, self._gather.flatten())
        else:  # what is allocated anew for every product is paid for page by page
            patches = self._work("patches", (tiles * patch, x.shape[1]), x.dtype)
            torch.index_select(x, 0, self._gather.flatten(), out=patches)
        y = torch.bmm(W.mT, patches.view(tiles, patch, -1))  # (tiles, units, R)
        return y.flatten(0, 1).index_select(0, self._order).T

    def accumulate(self, x: Tensor, d: Tensor, keep: float, scale: float) -> None:
        tiles, patch, units = self._mask.shape
        rows, x, d = len(x), x.T.contiguous(), d.T.contiguous()
        # A few tiles at a time, in memory that is there already: patches repeat each input several times.
        group = max(1, GROUP // (patch * rows))
        for first in range(0, tiles, group):
            part = slice(first, min(first + group, tiles))
            n = part.stop - first
            seen, wanted = self._work("x", (n * patch, rows), x.dtype), self._work("d", (n * units, rows), d.dtype)
            torch.index_select(x, 0, self._gather[part].flatten(), out=seen)
            torch.index_select(d, 0, self._units[part].flatten(), out=wanted)
            a, b = seen.view(n, patch, rows), wanted.view(n, units, rows)
            self.weights.accumulate(a.mT, b.mT, keep, scale, part)
            self.weights.smooth[part].mul_(self._mask[part])

    def dense(self) -> Tensor:
        """The same map as one matrix (inputs, outputs), mostly zeros."""
        value, (tiles, patch, units) = self.weights.value, self._mask.shape
        full = value.new_zeros(self.inputs, tiles * units)
        columns = torch.arange(tiles * units, device=value.device).view(tiles, 1, units)
        rows = self._gather[:, :, None].expand(tiles, patch, units)
        full.index_put_((rows, columns.expand(tiles, patch, units)), value, accumulate=True)
        return full[:, self._order]


def _tiles(below: Grid, above: Grid, field: int, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where each tile looks and which of it each unit may see.

    Returns:
        gather (tiles, patch): indices into the units below, `below.units` for outside.
        units (tiles * units,): which unit of the map above each of the tiles' is, `above.units` for none.
        mask (tiles, patch, units): 1 inside the unit's field and inside the map.
    """
    half, h, w = field // 2, below.height, below.width
    span = tile + 2 * half
    inside_patch = torch.arange(span)
    inside_tile = torch.arange(tile)
    gathers, masks, slots = [], [], []
    near = (inside_patch[:, None] - half - inside_tile[None]).abs() <= half  # (span, tile) by one axis
    for top in range(0, h, tile):
        for left in range(0, w, tile):
            y, x = top - half + inside_patch, left - half + inside_patch
            ok = ((y >= 0) & (y < h))[:, None] & ((x >= 0) & (x < w))[None]
            index = y[:, None] * w + x[None]
            planes = torch.arange(below.channels)[:, None, None] * (h * w) + index
            gathers.append(torch.where(ok, planes, below.units).flatten())
            ty, tx = top + inside_tile, left + inside_tile
            real = (ty < h)[:, None] & (tx < w)[None]
            field_mask = near[:, None, :, None] & near[None, :, None, :] & ok[:, :, None, None] & real
            masks.append(field_mask.expand(below.channels, *field_mask.shape))
            unit = torch.arange(above.channels)[:, None, None] * (h * w) + ty[:, None] * w + tx[None]
            slots.append(torch.where(real, unit, above.units).flatten())
    tiles, patch = len(masks), below.channels * span * span
    spatial = torch.stack(masks).reshape(tiles, patch, 1, tile * tile)
    mask = spatial.expand(tiles, patch, above.channels, tile * tile).reshape(tiles, patch, -1)
    return torch.stack(gathers), torch.stack(slots).flatten(), mask.to(torch.get_default_dtype())
