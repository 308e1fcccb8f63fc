"""Levels drawn: the curves of a score, the sheet of levels by iterations, the frames of a film."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save
from probes.figures.film import write_film

FRAME = 144  # side of a film's panels, pixels


def levels_figure(result: Mapping[str, Any], path: Path, word: str = "level") -> Path:
    """Islands and ARI by level beside the baselines, and, where there are several, islands by iteration.

    Args:
        result: `summary.json` of `apm glom score` or `apm ff score`.
        word: what a level is called.
    """
    repeated = len(result["iterations"]) > 1
    figure, axes = new_figure(10.6, 6.4, 2, 2) if repeated else new_figure(13.0, 3.6, 1, 3)
    first, *_, wholes, parts = axes.flat
    levels = [row["level"] for row in result["levels"]]
    panels = [
        (first, "islands", "islands a picture"),
        (wholes, "ari_wholes", "ARI against wholes"),
        (parts, "ari_parts", "ARI against parts"),
    ]
    for axis, measure, label in panels:
        for name, rows, colour, mark in (
            ("trained", result["levels"], APM, "o-"),
            ("untrained", result["untrained"], GREY, "s--"),
        ):
            mean = np.array([row[measure] for row in rows])
            low, high = np.array([row["ci95"][measure] for row in rows]).T
            axis.errorbar(levels, mean, [mean - low, high - mean], fmt=mark, color=colour, capsize=3, label=plain(name))
        if measure != "islands":
            low, high = result["pixels"]["ci95"][measure]
            axis.axhspan(low, high, color=TEACHER, alpha=0.25, lw=0, label="colour + position")
            axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
        else:
            _counting(axis)
        axis.set_xticks(levels)
        axis.set_xlabel(plain(word))
        axis.set_ylabel(plain(label))
    first.legend(frameon=False, fontsize=9)
    wholes.legend(frameon=False, fontsize=9)
    if repeated:
        _by_iteration(result, axes[0, 1], levels, word)
    figure.suptitle(plain(f"{result['objective']}: {result['n']} held-out composites, 95 % intervals"), fontsize=11)
    return save(figure, path)


def _by_iteration(result: Mapping[str, Any], axis: Any, levels: list[int], word: str) -> None:
    shades = np.linspace(0.3, 1.0, len(levels))
    for position, level in enumerate(levels):
        rows = [step[position] for step in result["iterations"]]
        x = range(1, len(rows) + 1)
        counts = [r["islands"] for r in rows]
        low, high = np.array([r["ci95"] for r in rows]).T
        axis.plot(x, counts, color=APM, alpha=shades[position], lw=1 + position / 2, label=plain(f"{word} {level}"))
        axis.fill_between(x, low, high, color=APM, alpha=0.15, lw=0)
    _counting(axis)
    axis.set_xlabel("iteration")
    axis.set_ylabel("islands a picture")
    axis.legend(frameon=False, fontsize=9)


def layers_figure(result: Mapping[str, Any], path: Path) -> Path:
    """`levels_figure` of the layers of a forward-forward network."""
    return levels_figure(result, path, "layer")


def _counting(axis: Any) -> None:
    """Counts from one to hundreds on one axis, in plain numbers."""
    axis.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    axis.set_yticks(ticks, plain_all([str(t) for t in ticks]))
    axis.minorticks_off()
    low, high = axis.dataLim.y0, axis.dataLim.y1
    axis.set_ylim(max(0.8, 0.7 * low), 1.4 * high)


def level_sheet(
    image: NDArray[np.uint8],
    colours: NDArray[np.uint8],
    counts: NDArray[np.integer],
    decoded: NDArray[np.uint8] | None,
    path: Path,
    title: str = "",
    word: str = "level",
) -> Path:
    """A row a level, the top first, a column an iteration, the number of islands under each panel.

    The picture is at the left, at the right what a level says.

    Args:
        image: the picture, (H, W, 3).
        colours: (T, h, w, L, 3).
        counts: (T, L) islands.
        decoded: (L, H, W, 3), or None for a network with no way back to pixels, or none that was trained.
        word: what a level is called.
    """
    steps, _, _, levels = colours.shape[:4]
    across = 1 + steps + (decoded is not None)
    small = Image.fromarray(image)
    small.thumbnail((320, 320))
    height = 1.55 * min(small.height / small.width, 2.0)
    figure, axes = new_figure(1.55 * across, (height + 0.3) * levels + 0.5, levels, across)
    extent = (0, small.width, small.height, 0)
    below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8}
    for row, level in enumerate(reversed(range(levels))):
        for t in range(steps):
            axis = axes[row, 1 + t]
            axis.imshow(colours[t, :, :, level], interpolation="nearest", extent=extent)
            if row == 0:
                axis.set_title(f"iteration {t + 1}", fontsize=8)
            many = "island" if counts[t, level] == 1 else "islands"
            axis.text(0.5, -0.03, plain(f"{counts[t, level]} {many}"), **below, transform=axis.transAxes)
        if decoded is not None:
            axes[row, -1].imshow(decoded[level], interpolation="nearest", extent=extent)
            axes[row, -1].set_title("it says", fontsize=8)
        left = axes[row, 0]
        if row == 0:
            left.imshow(np.asarray(small))
            left.set_title("picture", fontsize=8)
            left.text(0.5, -0.03, plain(f"{word} {level + 1} \u2192"), **below, transform=left.transAxes)
        else:
            name = f"{word} {level + 1} \u2192"
            left.text(1.0, 0.5, plain(name), ha="right", va="center", fontsize=8, transform=left.transAxes)
    for axis in axes.ravel():
        axis.set_axis_off()
    if title:
        figure.suptitle(plain(title), fontsize=10)
    return save(figure, path)


def level_film(image: NDArray[np.uint8], colours: NDArray[np.uint8], counts: NDArray[np.integer], path: Path) -> Path:
    """A frame an iteration: colours (T, h, w, L, 3), counts (T, L). Raises `RunError` where it cannot be written."""
    square = Image.fromarray(image).resize((FRAME, FRAME))
    return write_film([film_frame(square, colours[t], counts[t], t + 1) for t in range(len(colours))], path, fps=2)


def film_frame(
    image: Image.Image, colours: NDArray[np.uint8], counts: NDArray[np.integer], iteration: int
) -> NDArray[np.uint8]:
    """One iteration side by side: the picture, then every level's islands, named and counted, hard cell edges.

    Args:
        image: the picture.
        colours: (h, w, L, 3).
        counts: (L,) islands.
        iteration: its number, written under the picture.

    Returns:
        (height, width, 3).
    """
    levels, gap, line = colours.shape[2], 8, 20
    side, size = FRAME + gap, (FRAME, FRAME)
    frame = Image.new("RGB", (side * (levels + 1) + gap, FRAME + line + 2 * gap), "white")
    draw = ImageDraw.Draw(frame)
    panels = [(image.convert("RGB").resize(size), f"iteration {iteration}")]
    for level in range(levels):
        islands = Image.fromarray(np.ascontiguousarray(colours[:, :, level])).resize(size, Image.Resampling.NEAREST)
        panels.append((islands, f"level {level + 1}: {counts[level]}"))
    for number, (panel, text) in enumerate(panels):
        frame.paste(panel, (gap + number * side, gap))
        draw.text((gap + number * side, FRAME + gap + 4), text, fill=(28, 39, 51), font_size=13)
    return np.asarray(frame)
