"""Islands drawn: the sheet of all layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from glom.colours import Array
from probes.figures.base import Canvas, keep, kept, save

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
