"""Figures of feature grids: grids as colours side by side, a training's curve, a matrix of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save

PALETTE = (TEACHER, APM, "#009e73", "#cc79a7")


def grid_sheet(rows: Sequence[Sequence[tuple[str, Any]]], path: Path) -> Path:
    """A row a picture: titled panels, (h, w, 3) in [0, 1] or uint8, hard pixel edges."""
    figure, axes = new_figure(1.9 * len(rows[0]), 1.9 * len(rows) + 0.3, len(rows), len(rows[0]))
    for row, panels in enumerate(rows):
        for axis, (name, picture) in zip(axes[row], panels, strict=True):
            axis.imshow(np.asarray(picture), interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(plain(name), fontsize=10)
    return save(figure, path)


def loss_curve(records: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Feature and colour losses against the step.

    Args:
        records: `{"index", "feature_loss", "rgb_loss"}` each.
    """
    figure, axes = new_figure(6.4, 3.6)
    axis = axes[0, 0]
    steps = [r["index"] for r in records]
    axis.plot(steps, [r["feature_loss"] for r in records], color=APM, lw=1, label="features (1: the mean feature)")
    colours = [r["rgb_loss"] for r in records]
    if any(colours):
        axis.plot(steps, colours, color=TEACHER, lw=1, label="colours")
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("mean squared error")
    axis.legend(frameon=False, fontsize=9)
    return save(
        figure, path, f"Training losses at {len(records)} steps, each the mean of a step's pictures: no interval."
    )


def shortcut_figure(result: Mapping[str, Any], path: Path) -> Path:
    """Students of one layer pair: R², cosine, accuracy kept and islands, and R² against what a student costs.

    Args:
        result: `summary.json` of `apm grid shortcut`.
    """
    rows = result["students"]
    names = [r["name"] for r in rows]
    figure, axes = new_figure(9.4, 3.6, 1, 2, gridspec_kw={"width_ratios": [3, 2]})
    left, right = axes[0]
    measures = [("r2", "R²"), ("cosine", "cosine"), ("accuracy_kept", "accuracy kept"), ("islands_ari", "islands, ARI")]
    shown = [(key, label) for key, label in measures if rows[0].get(key) is not None]
    width = 0.8 / len(shown)
    baseline = result["baselines"]["mean_grid"]
    for i, (key, label) in enumerate(shown):
        x = np.arange(len(rows)) + (i - (len(shown) - 1) / 2) * width
        left.bar(x, [r[key] for r in rows], width * 0.92, color=PALETTE[i], label=plain(label))
        if key != "r2":  # which is nothing for the mean grid, by its definition
            left.hlines([baseline[key]] * len(rows), x - width / 2, x + width / 2, color=GREY, lw=1.2)
    left.axhline(0, color=GREY, lw=0.8)
    left.set_xticks(range(len(rows)), plain_all(names))
    left.set_ylim(min(0.0, *(r["r2"] for r in rows)), 1.18)
    left.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", columnspacing=1.0, handlelength=1.2)
    left.set_title(plain(f"layer {result['from']} to {result['to']}; lines: the mean grid"), fontsize=10)
    ratios = [r["flops_ratio"] for r in rows]
    if all(ratio for ratio in ratios):
        right.plot(ratios, [r["r2"] for r in rows], "o", color=APM)
        for row in rows:
            right.annotate(
                plain(row["name"]), (row["flops_ratio"], row["r2"]), (0, 6), textcoords="offset points", ha="center"
            )
        right.set_xscale("log")
        right.margins(0.2)
        right.set_xlabel("operations / the skipped layers' own")
        right.set_ylabel("R²")
    else:
        right.set_axis_off()
    caption = f"{result['n']} held-out pictures, {result['n_train']} to learn from."
    return save(figure, path, caption)


def matrix_figure(result: Mapping[str, Any], path: Path) -> Path:
    """R² from every layer (rows) to every later one (columns), a panel a student, at most two a row.

    Args:
        result: what `matrix.json` of a shortcut run holds.
    """
    layers, students = result["layers"], result["students"]
    columns = min(2, len(students))
    rows = -(-len(students) // columns)
    side = max(2.6, 0.52 * len(layers))
    figure, axes = new_figure(columns * (side + 1.0), rows * (side + 1.0), rows, columns)
    place = {layer: i for i, layer in enumerate(layers)}
    for axis, name in zip(axes.ravel(), students, strict=False):
        table = np.full((len(layers) - 1, len(layers) - 1), np.nan)
        for pair in result["pairs"]:
            table[place[pair["from"]], place[pair["to"]] - 1] = pair[name]["r2"]
        image = axis.imshow(table, cmap="viridis", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(table):
            if np.isfinite(value):
                colour = "white" if value < 0.6 else "black"
                axis.text(
                    j, i, plain(f"{value:.2f}".replace("0.", ".")), ha="center", va="center", fontsize=8, color=colour
                )
        axis.set_xticks(range(len(layers) - 1), plain_all(layers[1:]))
        axis.set_yticks(range(len(layers) - 1), plain_all(layers[:-1]))
        axis.set_xlabel("to layer")
        axis.set_ylabel("from layer")
        axis.set_title(plain(f"{name}: R² on held-out pictures"), fontsize=10)
        figure.colorbar(image, ax=axis, shrink=0.8)
    for axis in axes.ravel()[len(students) :]:
        axis.set_axis_off()
    caption = f"R² over {result['n']} held-out pictures, {result['n_train']} to learn from; intervals in result.json."
    return save(figure, path, caption)
