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
from probes.figures.base import new_figure, plain, png_data, save

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
    aspect = small.height / small.width
    figure, axes = new_figure(2.3 * across, min(2.3 * aspect, 6.0) * rows + 0.35 * rows + 0.4, rows, across)
    cells = axes.ravel()
    cells[0].imshow(np.asarray(small))
    cells[0].set_title("picture", fontsize=8)
    for cell, (name, colours) in zip(cells[1:], panels, strict=False):
        cell.imshow(colours, interpolation="nearest", extent=(0, small.width, small.height, 0))
        cell.set_title(plain(f"{name}, {colours.shape[0]}x{colours.shape[1]}"), fontsize=8)
    for cell in cells:
        cell.set_axis_off()
    if title:
        figure.suptitle(plain(title), fontsize=10)
    return save(figure, path)


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
