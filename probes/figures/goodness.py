"""Figures of goodness: by label and layer, by iteration, and by place. Everything is drawn from saved numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save


def figure_endings() -> list[str]:
    """What the name of a figure may end with: `.png` first, then what else matplotlib writes without a TeX system."""
    from matplotlib.backend_bases import FigureCanvasBase

    others = sorted(set(FigureCanvasBase.get_supported_filetypes()) - {"png", "pgf"})
    return [f".{name}" for name in ("png", *others)]


def goodness_figure(found: Mapping[str, Any], path: Path) -> Path:
    """The sheet of one picture.

    Args:
        found: of `experiments.forward_forward.goodness.run_goodness`: `picture` (H, W) or (H, W, 3) in [0, 1],
            `classes`, `guess`,
            `readouts`, the guesses by read-out, `softmax`, the probability of that read-out's own,
            `goodness` (labels, layers), `even` (layers), the goodness where p = 1/2, `by_iteration` (labels,
            iterations, layers) or None, `read` (first, last), `maps` (rows, layers, h, w), `map_rows` their titles,
            `map_name`, `map_signed`, `title`.
    """
    layers = len(found["goodness"][0])
    if found["by_iteration"] is None:
        return _feedforward(found, layers, path)
    return _recurrent(found, layers, path)


def _picture(axis: Any, found: Mapping[str, Any]) -> None:
    picture = np.asarray(found["picture"])
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    names = found["classes"]
    lines = [f"read as {names[found['guess']]}"] if "goodness" in found["readouts"] else []
    lines += [f"softmax: {names[found['readouts']['softmax']]}, {100 * found['softmax']:.0f} %"]
    axis.set_title(plain("\n".join([*lines, f"among {len(names):,} classes"])), fontsize=9)
    axis.set_axis_off()


def _place(axis: Any, values: np.ndarray, limit: float, signed: bool) -> Any:
    low, name = (-limit, "RdBu_r") if signed else (0.0, "viridis")
    axis.set_xticks([])
    axis.set_yticks([])
    return axis.imshow(values, cmap=name, vmin=low, vmax=limit, interpolation="nearest")


def _table(axis: Any, found: Mapping[str, Any], layers: int) -> None:
    """Goodness of every label in every layer, each layer's on its own scale of colours."""
    values = np.asarray(found["goodness"])
    spread = np.ptp(values, axis=0)
    shade = (values - values.min(0)) / np.where(spread > 0, spread, 1)
    axis.imshow(shade, cmap="Blues", aspect="auto", vmin=0, vmax=1.4)
    for row, column in np.ndindex(*values.shape):
        bold = "bold" if row == found["guess"] else "normal"
        axis.text(column, row, f"{values[row, column]:.4g}", ha="center", va="center", fontsize=7.5, fontweight=bold)
    axis.set_yticks(range(len(values)), plain_all([name.split(" - ")[0] for name in found["classes"]]), fontsize=8)
    axis.set_xticks(range(layers), plain_all([f"layer {k + 1}" for k in range(layers)]), fontsize=8)
    axis.set_title("goodness with each label", fontsize=10)
    axis.tick_params(length=0)


def _bars(axis: Any, found: Mapping[str, Any], layers: int) -> None:
    """One goodness a layer, beside the one at which real and negative data are equally likely."""
    axis.bar(range(layers), found["goodness"][0], 0.5, color=APM)
    for k, even in enumerate(found["even"]):
        axis.hlines(even, k - 0.35, k + 0.35, color=TEACHER, lw=2, label="threshold" if k == 0 else None)
    axis.set_xticks(range(layers), plain_all([f"layer {k + 1}" for k in range(layers)]), fontsize=8)
    axis.set_title("goodness", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.margins(y=0.25)
    axis.legend(fontsize=8, frameon=False, loc="upper right")


def _feedforward(found: Mapping[str, Any], layers: int, path: Path) -> Path:
    figure, axes = new_figure(2.1 * layers + 1.2, 5.6, 2, layers, gridspec_kw={"height_ratios": [1.35, 1]})
    grid = axes[0, 0].get_gridspec()
    for axis in axes[0]:
        axis.remove()
    wide = layers > 1  # with one layer there is no room for the picture
    if wide:
        _picture(figure.add_subplot(grid[0, 0]), found)
    draw = _table if len(found["goodness"]) > 1 else _bars
    draw(figure.add_subplot(grid[0, 1:] if wide else grid[0, 0]), found, layers)
    maps = np.asarray(found["maps"])[0]
    for k, axis in enumerate(axes[1]):
        limit = float(np.abs(maps[k]).max()) or 1.0
        image = _place(axis, maps[k], limit, True)
        axis.set_title(f"layer {k + 1}", fontsize=10)
        bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.85, pad=0.04)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(plain(f"{found['title']}\n{found['map_name']}"), fontsize=10, x=0.02, ha="left")
    return save(figure, path)


def _recurrent(found: Mapping[str, Any], layers: int, path: Path) -> Path:
    steps = np.asarray(found["by_iteration"])
    maps = np.asarray(found["maps"])
    rows, count = maps.shape[0], steps.shape[1]
    side = 1.35 if rows > 1 else 1.9
    figure, axes = new_figure(
        side * (rows + 1) + 4.0, side * layers + 1.1, layers, rows + 2,
        gridspec_kw={"width_ratios": [side, 3.6] + [side] * rows},
    )  # fmt: skip
    _picture(axes[0, 0], found)
    first, last = found["read"]
    for k in range(layers):
        if k:
            axes[k, 0].set_axis_off()
        curve = axes[k, 1]
        curve.axvspan(first - 0.4, last + 0.4, color=GREY, alpha=0.15, lw=0)
        for label in range(len(steps)):
            chosen = label == found["guess"]
            style = {"color": APM, "lw": 2.2, "zorder": 3} if chosen else {"color": TEACHER, "lw": 0.8, "alpha": 0.5}
            curve.plot(range(1, count + 1), steps[label, :, k], **style)
        curve.set_ylabel(f"layer {k + 1}", fontsize=9)
        curve.tick_params(labelsize=7)
        if k == 0:
            curve.set_title(
                plain(f"goodness, a line a label; orange: {found['classes'][found['guess']]}"), fontsize=8.5
            )
        # A few strong units would leave all others dark.
        limit = float(np.quantile(np.abs(maps[:, k]), 0.995 if rows > 1 else 1.0)) or 1.0
        for row in range(rows):
            axis = axes[k, row + 2]
            _place(axis, maps[row, k], limit, found["map_signed"])
            if k == 0:
                axis.set_title(plain(found["map_rows"][row]), fontsize=8.5)
    axes[-1, 1].set_xlabel("iteration (shaded: read)", fontsize=8.5)
    figure.suptitle(plain(f"{found['title']}\n{found['map_name']}"), fontsize=10, x=0.02, ha="left")
    return save(figure, path)
