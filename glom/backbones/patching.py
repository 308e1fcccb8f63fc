"""A layer's features replaced while a network runs: what follows shows what they were for.

    with backbone.patch(3, (0.4, 0.6), "zero"):                          one location
        grids = feature_grids(backbone, clip)
    with backbone.patch("blocks.3", (0.2, 0.2, 0.7, 0.9), "dog.jpg"):    a box, by another picture's features there
        islands = probes.islands("cat.jpg", backbone)

"Activation patching" (Vig et al. 2020, "Investigating gender bias in language models using causal mediation analysis",
section 3; Meng et al. 2022, "Locating and editing factual associations in GPT", section 2), on grids of locations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from glom.backbones.clips import boring_video
from glom.errors import InputError, RunError, unknown
from glom.pictures import Picture, as_image

ALL = "all"
VALUES = ("zero", "mean")
Region: TypeAlias = "str | Sequence[float] | NDArray[np.bool_] | Tensor"


class Watcher(Protocol):
    """What is asked of a backbone here; see `glom.backbones.base.Backbone`."""

    name: str
    frames: int
    view: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device

    @property
    def layers(self) -> list[tuple[str, nn.Module]]: ...

    def check(self, frames: int, size: int) -> None: ...

    def fit(self, frames: int, size: int) -> list[str]: ...

    def run(self, clip: Tensor) -> Any: ...

    def grid(self, output: Any) -> Tensor: ...


@contextmanager
def patch(
    backbone: Watcher,
    layer: int | str,
    region: Region,
    value: Picture,
    frames: int | None = None,
    size: int | None = None,
) -> Iterator[None]:
    """Inside, the layer's features at a region are replaced before the next layer reads them, in every run.

    A class token is left as it is. Several may be nested. The hook comes off however this is left.

    Args:
        backbone: any.
        layer: its number, negative ones from the last, or its name.
        region: `ALL`, or see `region_cells`.
        value: "zero"; "mean", the mean of the layer's own locations; features as a tensor or array, (D,), or
            (h, w, D), or (T', h, w, D), of which the region is taken; or another picture (a path, bytes, a PIL
            picture), whose features at the same places of the same layer are taken.
        frames: of the boring video that another picture is watched as; None for the backbone's own.
        size: its side in pixels; None likewise.

    Raises:
        InputError: no such layer; a region outside of the picture or without a location, features of another shape, a
            picture that cannot be read; what only a run can tell is raised by the run.
    """
    place = backbone.layers[layer_number(backbone, layer)]
    check_region(region)
    replacement = _replacement(backbone, place[1], value, frames, size)

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        changed, grid = _writable(backbone, output, place[0])
        cells = torch.from_numpy(region_cells(region, *grid.shape[1:3])).to(grid.device)
        grid[:, cells] = _fitted(replacement, grid)[:, cells].to(grid)
        return changed

    handle = place[1].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def layer_number(backbone: Watcher, layer: int | str) -> int:
    """A layer by number or name, from 0. Raises `InputError` with the nearest names, or the range."""
    names = [name for name, _ in backbone.layers]
    text = str(layer).strip()
    if text in names:
        return names.index(text)
    if not text.lstrip("-").isdigit():
        raise unknown(f"layer of {backbone.name}", text, names)
    if not -len(names) <= int(text) < len(names):
        raise InputError(f"there is no layer {text}: {backbone.name} has layers 0 to {len(names) - 1}")
    return int(text) % len(names)


def check_region(region: Region) -> None:
    """Raises `InputError` for a region that is none, whatever the grid."""
    if isinstance(region, str):
        if region != ALL:
            raise unknown("region", region, [ALL], "or (x, y), (x0, y0, x1, y1), a boolean mask (H, W)")
        return
    if isinstance(region, Tensor | np.ndarray) and len(region.shape) == 2:
        mask = np.asarray(region)
        if mask.dtype != bool:
            raise InputError(f"a mask is (H, W) of booleans, got {mask.dtype}")
        if not mask.any():
            raise InputError("the mask marks no location")
        return
    numbers = np.asarray(region, dtype=float)
    if numbers.shape not in ((2,), (4,)):
        raise InputError(f"a region is (x, y), (x0, y0, x1, y1), a boolean mask (H, W) or '{ALL}', got {region}")
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise InputError(f"the region {tuple(numbers.tolist())} lies outside of the picture's [0, 1] x [0, 1]")
    if len(numbers) == 4 and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise InputError(f"the box {tuple(numbers.tolist())} is empty; give (x0, y0, x1, y1), x0 < x1 and y0 < y1")


def region_cells(region: Region, height: int, width: int) -> NDArray[np.bool_]:
    """The locations of a grid that a region holds, (height, width).

    Args:
        region: `ALL`; (x, y) in [0, 1]^2, the cell it lies in; (x0, y0, x1, y1), the cells whose centres it holds, or
            that of its middle; or a boolean mask (H, W) over the picture, the cells of which it covers half or more.

    Raises:
        InputError: see `check_region`; a mask that covers no cell by half.

    Example:
        >>> region_cells((0.5, 0, 1, 0.5), 2, 2).tolist()
        [[False, True], [False, False]]
    """
    check_region(region)
    if isinstance(region, str):
        return np.ones((height, width), bool)
    if len(np.shape(region)) == 2:
        mask = torch.as_tensor(np.asarray(region)).float()[None, None]
        cells = F.adaptive_avg_pool2d(mask, (height, width))[0, 0].numpy() >= 0.5
        if not cells.any():
            raise InputError(f"the mask covers no location of a {height} x {width} grid by half")
        return cells
    numbers = [float(number) for number in region]
    cells = np.zeros((height, width), bool)
    if len(numbers) == 4:
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        rows, columns = (y >= numbers[1]) & (y <= numbers[3]), (x >= numbers[0]) & (x <= numbers[2])
        cells = rows[:, None] & columns
        numbers = [(numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2]
    if not cells.any():
        cells[min(int(numbers[1] * height), height - 1), min(int(numbers[0] * width), width - 1)] = True
    return cells


def _replacement(backbone: Watcher, layer: nn.Module, value: Picture, frames: int | None, size: int | None) -> Any:
    """A word of `VALUES`, or features."""
    if isinstance(value, Tensor | np.ndarray):
        return torch.as_tensor(value)
    if isinstance(value, str) and not Path(value).exists():
        if value not in VALUES:
            raise unknown("value", value, VALUES, "or a picture's file")
        return value
    view = (frames or backbone.frames, size or backbone.view)
    backbone.check(*view)
    backbone.fit(*view)
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.inference_mode():
            backbone.run(boring_video(as_image(value), *view, backbone.mean, backbone.std)[None].to(backbone.device))
            return backbone.grid(seen[0]).float().clone()
    finally:
        handle.remove()


def _fitted(replacement: Any, grid: Tensor) -> Tensor:
    """A grid's features as they are to be, (T', h, w, D)."""
    if isinstance(replacement, str):
        kept = torch.zeros_like(grid) if replacement == "zero" else grid.mean((1, 2), keepdim=True).expand_as(grid)
        return kept
    shape = tuple(grid.shape)
    if tuple(replacement.shape) not in (shape[-1:], shape[1:], shape):
        raise InputError(
            f"features to put in are (D,), (h, w, D) or (T', h, w, D) of {shape}, got {tuple(replacement.shape)}"
        )
    return replacement.to(grid.device).expand(shape)


def _writable(backbone: Watcher, output: Any, name: str) -> tuple[Any, Tensor]:
    """A copy of a layer's output, and its grid: a view of that copy, so that what is written there is put out."""
    whole = isinstance(output, Tensor)
    first = (output if whole else output[0]).clone()
    changed = first if whole else type(output)((first, *output[1:]))
    grid = backbone.grid(changed)
    if grid.untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        raise RunError(f"'{name}' of {backbone.name} cannot be patched: its grid is not its output, seen otherwise")
    return changed, grid
