"""Figures kept as what they are drawn from, so that `apm figures` draws them again and nothing is computed anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glom.errors import InputError
from glom.runs.files import write_whole

FOLDER = "drawn"  # of a run folder: a file a figure
LARGEST = 640  # longest side of a picture in it, pixels
# What a kept figure may be drawn by: functions of this package that take `path` and what was kept.
WAYS = (
    "base:accuracy_figure",
    "base:strip",
    "base:trace_figure",
    "emergence:film",
    "film:colours_film",
    "grids:grid_sheet",
    "layers:layers_figure",
    "levels:level_film",
    "levels:level_sheet",
    "overfit:film",
    "overfit:sheet",
    "way:path_figure",
    "way:way_strip",
)


def draw(path: Path, way: Callable[..., Path], run: Path | None = None, **values: Any) -> Path:
    """Draw a figure, and keep what it is drawn from: pictures as 8-bit pixels, so that it is the same again.

    Args:
        path: of the figure. way: one of `WAYS`, called with `path` and `values`.
        run: the folder it is kept in; None for the figure's own.
        values: texts, numbers, lists, arrays and pictures; floats (..., 3) are colours in [0, 1].

    Raises:
        RunError: the disk is full.
    """
    from probes.explorer.pack import pack, unpack  # loads torch, which `apm figures` may do without

    folder = path.parent if run is None else run
    how = f"{way.__module__.rpartition('.')[2]}:{way.__name__}"
    if how not in WAYS:
        raise ValueError(f"{how} is not among the ways that a kept figure is drawn again")
    data = pack({"path": path.relative_to(folder).as_posix(), "way": how, "values": _small(values)})
    write_whole(folder / FOLDER / f"{path.name}.bin", data)
    return _drawn(path, unpack(data))


def redraw(folder: Path) -> list[Path]:
    """Every figure that a run folder keeps, PNG and SVG, films as they were.

    Raises:
        InputError: what is kept is cut or damaged.
    """
    drawn: list[Path] = []
    files = sorted((folder / FOLDER).glob("*.bin"))
    if files:
        from probes.explorer.pack import unpack
    for file in files:
        try:
            kept = unpack(file.read_bytes())
            path = folder / str(kept["path"])
            if kept["way"] not in WAYS or folder.resolve() not in path.resolve().parents:
                raise InputError(f"it is of another version ({kept['way']}, {kept['path']})")
            endings = (".png", ".svg") if path.suffix == ".png" else (path.suffix,)
            drawn += [_drawn(path.with_suffix(ending), kept) for ending in endings]
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{file}: {error}") from error
    return drawn


def _drawn(path: Path, kept: Mapping[str, Any]) -> Path:
    module, _, name = str(kept["way"]).partition(":")
    way: Callable[..., Path] = getattr(import_module(f"probes.figures.{module}"), name)
    return way(path=path, **kept["values"])


def _small(value: Any) -> Any:
    """As `pack` takes it."""
    if isinstance(value, Mapping):
        return {key: _small(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_small(part) for part in value]
    if isinstance(value, Image.Image):
        shown = value.convert("RGB")
        shown.thumbnail((LARGEST, LARGEST))
        return np.asarray(shown)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and value.shape[-1] == 3:
            return (value.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return value.astype({"f": np.float32, "i": np.int32, "u": value.dtype, "b": np.uint8}[value.dtype.kind])
    return value
