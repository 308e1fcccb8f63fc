"""Islands as outlines over the photograph: numbered, counted, fit for a paper."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probes.figures.base import WIDEST, new_figure, plain, save
from probes.partition import Labels, components

PANEL = 3.0  # inches a panel is wide
ROOM = 0.014  # of the picture's longer side, and as much a digit: an island narrower than twice this gets no number


@dataclass(frozen=True)
class Outlined:
    """One panel: its lines of title, and the islands (h, w) whose outlines lie over the picture."""

    title: tuple[str, ...]
    labels: Labels


def outline_figure(
    image: Image.Image, panels: Sequence[Outlined], paths: Sequence[Path], caption: str = "", most_across: int = 4
) -> list[Path]:
    """The photograph, then the same under the outlines of each panel's islands, with a caption below.

    Lines are white between black ones, and so are numbers: seen on any photograph and with any eyes.

    Args:
        image: the picture.
        panels: in their order.
        paths: a file each, its ending says what: .png, .svg, .pdf.
        caption: what is seen.
        most_across: panels in a row, the photograph's among them.
    """
    small = image.copy()
    small.thumbnail((640, 640))
    count = len(panels) + 1
    across = min(count, most_across)
    rows = -(-count // across)
    pieces = [plain(piece) for piece in textwrap.wrap(caption, WIDEST - 5)]
    apiece = max(1, across // 2)  # as many on a line as there is width for
    lines = [" ".join(pieces[i : i + apiece]) for i in range(0, len(pieces), apiece)]
    titles = 1 + max((len(panel.title) for panel in panels), default=0)
    width, height = small.size
    tall = rows * (PANEL * height / width + 0.16 * titles) + 0.17 * len(lines) + 0.1
    figure, axes = new_figure(across * PANEL, tall, rows, across)
    cells = axes.ravel()
    for cell in cells:
        cell.set_axis_off()
    for cell, panel in zip(cells, [Outlined(("picture",), np.zeros((1, 1), np.int64)), *panels], strict=False):
        cell.imshow(np.asarray(small), extent=(0, width, height, 0))
        cell.set_title(plain("\n".join(panel.title)), fontsize=8, linespacing=1.15)
        draw_outlines(cell, panel.labels, width, height)
    figure.supxlabel("\n".join(lines), fontsize=8, x=0.01, ha="left", linespacing=1.25)
    return [save(figure, path) for path in paths]


def draw_outlines(axis: Any, labels: Labels, width: int, height: int) -> None:
    """Outlines and numbers of islands (h, w) on an axis whose picture covers width x height."""
    from matplotlib.patheffects import withStroke

    # One line with gaps a colour: a collection of as many lines takes longer to write.
    segments = outline_segments(labels, width, height)
    x, y = np.concatenate([segments, np.full((len(segments), 1, 2), np.nan)], 1).reshape(-1, 2).T
    for colour, thick in (("black", 2.2), ("white", 1.0)):
        axis.plot(x, y, color=colour, linewidth=thick, solid_capstyle="round")
    stroke = [withStroke(linewidth=2, foreground="black")]
    for number, (across, down) in enumerate_islands(labels, width, height):
        text = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold", "color": "white"}
        axis.text(across, down, plain(number), path_effects=stroke, **text)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)


def outline_segments(labels: Labels, width: float, height: float) -> NDArray[np.float64]:
    """Edges between neighbouring cells of different labels, (n, 2 ends, xy), in a picture of width x height.

    Example:
        >>> outline_segments(np.array([[0, 1]]), 4, 2).tolist()
        [[[2.0, 0.0], [2.0, 2.0]]]
    """
    h, w = labels.shape
    rows, columns = np.nonzero(labels[:, 1:] != labels[:, :-1])
    upright = np.stack([np.stack([columns + 1, rows], 1), np.stack([columns + 1, rows + 1], 1)], 1)
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    level = np.stack([np.stack([columns, rows + 1], 1), np.stack([columns + 1, rows + 1], 1)], 1)
    return np.concatenate([upright, level]) * np.array([width / w, height / h])


def enumerate_islands(labels: Labels, width: float, height: float) -> list[tuple[int, tuple[float, float]]]:
    """(number, (x, y)) of the islands that have room for a number, counted from the largest of all of them.

    The place is the island's point farthest from its outline.
    """
    from scipy.ndimage import distance_transform_edt

    if labels.min() == labels.max():
        return []
    h, w = labels.shape
    parts = components(labels)
    order = np.argsort(-np.bincount(parts.ravel()), kind="stable")
    found = []
    for number, island in enumerate(order, 1):
        room = ROOM * (1 + len(str(number))) * max(width, height)
        if np.count_nonzero(parts == island) * width * height / (h * w) < (2 * room) ** 2:
            break  # and all after it are smaller
        depth = distance_transform_edt(np.pad(parts == island, 1), sampling=(height / h, width / w))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        if depth[row, column] >= room:
            found.append((number, (float((column + 0.5) * width / w), float((row + 0.5) * height / h))))
    return found
