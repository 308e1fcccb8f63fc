"""Emergence drawn from saved results: the curve over training, and the film of one picture's islands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glom.colours import Array
from glom.runs.statistics import bootstrap_ci
from probes.agreement import resize_grid
from probes.figures.base import GREY, TEACHER, new_figure, plain, save
from probes.figures.film import write_film
from probes.partition import Labels

Pixels: TypeAlias = NDArray[np.uint8]
CELL, GAP, HEAD = 144, 8, 22  # pixels of a film's panel, between panels, and above them


def curve_figure(
    records: Sequence[Mapping[str, Any]],
    way: str,
    measure: str,
    label: str,
    bands: Sequence[tuple[str, str, Sequence[float]]],
    path: Path,
    title: str = "",
) -> Path:
    """A measure of every layer's islands (left) and held-out accuracy (right) against the training step.

    Args:
        records: `{"step", "accuracy", "layers": {name: {way: {measure: [a value a picture]}}}}` in order of step.
        way: which of the cuts. measure: which of its values. label: what the axis calls it.
        bands: (name, colour, [mean, low, high]) each: a baseline as a horizontal band.
        path: PNG to write.
        title: above it.
    """
    import matplotlib as mpl

    figure, axes = new_figure(9.2, 3.9, 1, 2, gridspec_kw={"width_ratios": [3, 2]})
    left, right = axes[0]
    steps = [r["step"] for r in records]
    layers = list(records[0]["layers"])
    shades = mpl.colormaps["viridis"](np.linspace(0.05, 0.85, len(layers)))
    for name, colour, (mean, low, high) in bands:
        left.axhspan(low, high, color=colour, alpha=0.18, lw=0)
        left.axhline(mean, color=colour, lw=1.2, ls=(0, (5, 3)), label=plain(name))
    for name, shade in zip(layers, shades, strict=True):
        values = [r["layers"][name][way][measure] for r in records]
        ends = np.array([bootstrap_ci(v, resamples=1000) for v in values])
        left.plot(steps, [np.mean(v) for v in values], "o-", ms=3, lw=1.4, color=shade, label=plain(name))
        left.fill_between(steps, ends[:, 0], ends[:, 1], color=shade, alpha=0.1, lw=0)
    left.set_ylabel(plain(label))
    right.plot(steps, [100 * r["accuracy"] for r in records], "o-", ms=3, lw=1.4, color=TEACHER)
    right.set_ylabel("held-out accuracy (%)")
    right.set_ylim(0, 101)
    right.axhline(90, color=GREY, lw=0.8, ls=(0, (4, 4)))
    for axis in (left, right):
        axis.set_xlabel("training step")
        axis.set_xlim(left=0)
        axis.grid(axis="y", color="#e6e6e6", lw=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    if title:
        figure.suptitle(plain(title), fontsize=10.5, x=0.01, ha="left")
    return save(figure, path)


def film(
    image: Pixels,
    rows: Sequence[tuple[str, Pixels]],
    still: Sequence[tuple[str, Pixels]],
    words: Sequence[str],
    fps: float,
    path: Path,
) -> Path:
    """A frame a step: the picture, every row's colours at that step, and what stays still.

    Args:
        image: (S, S, 3). rows: (name, (T, h, w, 3)) each. still: (name, (h, w, 3)) each. words: T, over the picture.

    Raises:
        InputError, RunError: as `probes.figures.film.write_film`.
    """
    frames = [
        film_frame(image, [*((name, shown[t]) for name, shown in rows), *still], word) for t, word in enumerate(words)
    ]
    return write_film(frames, path, fps)


def film_frame(image: Pixels, panels: Sequence[tuple[str, Pixels]], caption: str) -> Pixels:
    """One frame: the picture and panels of colours in a row, names above, a caption over the picture.

    Args:
        image: (S, S, 3). panels: (name, (h, w, 3)) each. caption: e.g. the step.

    Returns:
        (H, W, 3) uint8.
    """
    cells = [(caption, image), *panels]
    sheet = Image.new("RGB", (GAP + len(cells) * (CELL + GAP), HEAD + CELL + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (name, colours) in enumerate(cells):
        x = GAP + number * (CELL + GAP)
        sheet.paste(Image.fromarray(colours).resize((CELL, CELL), Image.Resampling.NEAREST), (x, HEAD))
        draw.text((x, 4), name, fill="black", font=font)
    return np.asarray(sheet)


def flat_colours(labels: Labels, colours: Array) -> Array:
    """Every island in the mean colour of its places: labels (h, w) over colours (any size) -> (h, w, 3)."""
    colours = colours if colours.shape[:2] == labels.shape else resize_grid(colours, *labels.shape)
    result = np.zeros_like(colours)
    for island in np.unique(labels):
        here = labels == island
        result[here] = colours[here].mean(0)
    return result
