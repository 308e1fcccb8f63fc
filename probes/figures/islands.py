"""Islands drawn: the sheet of all layers, and what a page needs to show agreement under the pointer."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glom.colours import Array
from probes.agreement import unit
from probes.figures.base import Canvas, keep, kept, png_data, save

ACROSS = 6


def island_sheet(image: Image.Image, panels: Sequence[tuple[str, Array]], path: Path, title: str = "") -> Path:
    """The picture, then every layer's islands at the picture's shape, hard cell edges.

    Args:
        image: the picture.
        panels: (name, (h, w, 3) colours in [0, 1]) each.
        path: of the PNG.
        title: above all of it.
    """
    small = image.copy()
    small.thumbnail((480, 480))
    count = len(panels) + 1
    across = math.ceil(count / math.ceil(count / ACROSS))  # rows of even length: 4 + 3 rather than 6 + 1
    rows = math.ceil(count / across)
    wide, tall = 2.2, min(2.2 * small.height / small.width, 6.0)
    canvas = Canvas((wide, tall), rows, across, above=2 if title else 0)
    canvas.draw(0, small, "picture")
    for number, (name, colours) in enumerate(panels, 1):
        canvas.draw(number, colours, f"{name}, {colours.shape[0]}x{colours.shape[1]}", hard=True)
    if title:
        canvas.title(title)
    return save(canvas.figure, path)


def keep_sheet(
    path: Path, image: Image.Image, panels: Sequence[tuple[str, Array]], sheet: Path, title: str = ""
) -> Path:
    """Write what a sheet is drawn from (`path`, npz), and the sheet; arguments as of `island_sheet`."""
    colours = {f"colours_{n}": (c * 255).round().astype(np.uint8) for n, (_, c) in enumerate(panels)}
    keep(path, image, names=np.array([name for name, _ in panels]), title=np.array(title), **colours)
    return redraw_sheet(path, sheet)


def redraw_sheet(path: Path, sheet: Path) -> Path:
    """The sheet of what was kept. Raises `InputError` as `kept` does."""
    image, found = kept(path)
    panels = [(str(name), found[f"colours_{number}"] / 255) for number, name in enumerate(found["names"])]
    return island_sheet(image, panels, sheet, str(found["title"]))


def page_layer(name: str, grid: Array, colours: Array, width: int = 64) -> dict[str, Any]:
    """One layer as the page reads it.

    Cosines are kept by the leading singular directions of the unit-length features (the best rank-`width` approximation
    of their products, Eckart & Young 1936), each location rescaled to length 127 and rounded to a byte.

    Args:
        name: of the layer.
        grid: (h, w, F).
        colours: (h, w, 3) in [0, 1].
        width: directions kept.

    Returns:
        `name`, `h`, `w`, `d`, `codes` (base64 of int8, h x w x d), `colours` (a PNG's `data:` address), and `error`,
        the mean absolute error of the page's cosines.
    """
    h, w = grid.shape[:2]
    x = unit(grid).reshape(h * w, -1).astype(np.float64)
    _, vectors = np.linalg.eigh(x.T @ x)
    kept = min(width, x.shape[1])
    codes = np.rint(127 * unit((x @ vectors[:, ::-1][:, :kept]).astype(np.float32))).astype(np.int8)
    some = np.random.default_rng(0).choice(h * w, min(h * w, 256), replace=False)
    back = unit(codes[some].astype(np.float32))
    error = float(np.abs(back @ back.T - x[some] @ x[some].T).mean())
    packed = base64.b64encode(codes.tobytes()).decode()
    return {"name": name, "h": h, "w": w, "d": kept, "codes": packed, "colours": png_data(colours), "error": error}
