"""Islands as outlines over the photograph: numbered, counted, fit for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probes.figures.base import Canvas, keep, kept, plain, save
from probes.partition import Labels, components

PANEL = 3.0  # inches a panel is wide
SHOWN = 480  # longest side of the photograph, pixels: a panel's dots, so that nothing is resampled twice
ROOM = 0.014  # of the picture's longer side, and as much a digit: an island narrower than twice this gets no number


@dataclass(frozen=True)
class Outlined:
    """One panel: its lines of title, and the islands (h, w) whose outlines lie over the picture."""

    title: tuple[str, ...]
    labels: Labels


def keep_outlines(
    path: Path, image: Image.Image, panels: Sequence[Outlined], caption: str = "", most_across: int = 4
) -> list[Path]:
    """Write what the figure is drawn from, NAME.npz, and the figure beside it; arguments as of `outline_figure`."""
    labels = {f"labels_{number}": panel.labels.astype(np.int16) for number, panel in enumerate(panels)}
    titles = np.array(["\n".join(panel.title) for panel in panels])
    keep(path, image, titles=titles, caption=np.array(caption), across=np.array(most_across), **labels)
    return redraw_outlines(path)


def redraw_outlines(path: Path) -> list[Path]:
    """The figure of a NAME.npz, as NAME.png and NAME.svg. Raises `InputError` as `kept` does."""
    image, found = kept(path)
    panels = [
        Outlined(tuple(str(title).split("\n")), found[f"labels_{number}"].astype(np.int64))
        for number, title in enumerate(found["titles"])
    ]
    files = [path.with_name(f"{path.name.removesuffix('.npz')}{ending}") for ending in (".png", ".svg")]
    return outline_figure(image, panels, files, str(found["caption"]), int(found["across"]))


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
    small.thumbnail((SHOWN, SHOWN))
    count = len(panels) + 1
    across = min(count, most_across)
    canvas = Canvas(
        (PANEL, PANEL * small.height / small.width),
        rows=-(-count // across),
        across=across,
        lines=max((len(panel.title) for panel in panels), default=1),
    )
    canvas.draw(0, small, "picture")
    for number, panel in enumerate(panels, 1):
        place = canvas.draw(number, small, "\n".join(panel.title))
        draw_outlines(canvas.axis, panel.labels, *canvas.panel, place)
    canvas.caption(caption)
    return [save(canvas.figure, path) for path in paths]


def draw_outlines(
    axis: Any, labels: Labels, width: float, height: float, place: tuple[float, float], numbered: bool = True
) -> None:
    """Outlines and (if `numbered`) numbers of islands (h, w), on an axis whose picture covers width x height from
    `place` on."""
    from matplotlib.patheffects import withStroke

    # One line with gaps a colour: a collection of as many lines takes longer to write.
    segments = outline_segments(labels, width, height) + np.array(place)
    x, y = np.concatenate([segments, np.full((len(segments), 1, 2), np.nan)], 1).reshape(-1, 2).T
    for colour, thick in (("black", 2.2), ("white", 1.0)):
        axis.plot(x, y, color=colour, linewidth=thick, solid_capstyle="round")
    stroke = [withStroke(linewidth=2, foreground="black")]
    text = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold", "color": "white"}
    for number, (across, down) in enumerate_islands(labels, width, height) if numbered else ():
        axis.text(place[0] + across, place[1] + down, plain(number), path_effects=stroke, **text)


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
