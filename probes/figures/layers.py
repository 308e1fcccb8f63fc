"""What each layer of a network adds: errors and goodness by layer and by epoch; memory by depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save


def layers_figure(layers: Sequence[Mapping[str, Any]], curve: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Errors and AUROC of goodness by layer, and the linear read-out's error by epoch.

    A layer that rides free on those below it adds nothing: its error is theirs, and so is that of the goodness summed
    up to it.

    Args:
        layers: what `experiments.forward_forward.evaluate` gives of each on the test set, in %.
        curve: a line an epoch, with `epoch` and the same `layers` on held-out pictures; without any, no third panel.
    """
    drawn = [line for line in curve if line.get("layers")]
    figure, axes = new_figure(5.2 * (3 if drawn else 2), 3.8, 1, 3 if drawn else 2)
    at = [row["layer"] for row in layers]
    for name, label, colour, mark in (
        ("readout_error", "linear read-out", APM, "o-"),
        ("goodness_error", "its goodness alone", TEACHER, "s-"),
        ("summed_error", "goodness summed up to it", GREY, "^--"),
    ):
        errors = [row.get(name) for row in layers]
        if None not in errors:
            axes[0, 0].plot(at, errors, mark, color=colour, label=plain(label))
    axes[0, 0].set_ylabel("test error (%)")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].legend(frameon=False, fontsize=9)
    auroc = [np.nan if row["goodness_auroc"] is None else row["goodness_auroc"] for row in layers]
    axes[0, 1].plot(at, auroc, "o-", color=APM)
    axes[0, 1].axhline(0.5, color=GREY, lw=1, ls=":")
    axes[0, 1].set_ylim(0.45, 1.0)
    axes[0, 1].set_ylabel("AUROC of goodness, right against wrong")
    for axis in axes[0, :2]:
        axis.set_xticks(at, plain_all(at))
        axis.set_xlabel("layer")
    if drawn:
        for number, shade in zip(range(len(layers)), np.linspace(0.3, 1.0, len(layers)), strict=True):
            errors = [line["layers"][number]["readout_error"] for line in drawn]
            epochs = [line["epoch"] for line in drawn]
            axes[0, 2].plot(epochs, errors, ".-", color=APM, alpha=shade, label=plain(f"layer {number + 1}"))
        axes[0, 2].xaxis.get_major_locator().set_params(integer=True)
        axes[0, 2].set_xlabel("epoch")
        axes[0, 2].set_ylabel("held-out error of the read-out (%)")
        axes[0, 2].set_ylim(bottom=0)
        axes[0, 2].legend(frameon=False, fontsize=9)
    return save(figure, path)


def depth_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Memory that a step allocates at most, against the number of layers.

    Args:
        rows: `depth`, and MiB: `forward_forward_mib`, `twin_mib`.
    """
    figure, axes = new_figure(5.4, 3.8)
    depths = [row["depth"] for row in rows]
    for name, label, colour in (
        ("twin_mib", "backpropagation", TEACHER),
        ("forward_forward_mib", "forward-forward", APM),
    ):
        axes[0, 0].plot(depths, [row[name] for row in rows], "o-", color=colour, label=plain(label))
    axes[0, 0].set_xticks(depths, plain_all(depths))
    axes[0, 0].set_xlabel("layers")
    axes[0, 0].set_ylabel("allocated in a step, at most (MiB)")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].legend(frameon=False, fontsize=9)
    return save(figure, path)
