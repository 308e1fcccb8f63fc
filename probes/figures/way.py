"""The way between two pictures drawn: what is seen at every step, and how far it lies from both ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, save

PANELS = 9


def way_strip(
    features: Any, colours: Any, classes: Sequence[str], probabilities: Sequence[float], words: str, path: Path
) -> Path:
    """Features and colours at up to nine steps, with the class below.

    Args:
        features, colours: (S, h, w, 3) uint8. classes, probabilities: the likeliest class at each of S steps.
        words: what the colours are.
    """
    steps = len(features)
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, PANELS)).round().astype(int))
    figure, axes = new_figure(1.5 * len(chosen), 3.7, 2, len(chosen))
    for column, i in enumerate(chosen):
        for row, panel in enumerate((features[i], colours[i])):
            axes[row, column].imshow(panel, interpolation="nearest")
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
        axes[0, column].set_title(f"t = {i / (steps - 1):.2f}", fontsize=9)
        axes[1, column].set_xlabel(plain(f"{classes[i]}\n{100 * probabilities[i]:.0f} %"), fontsize=8)
    axes[0, 0].set_ylabel("features (PCA)", fontsize=9)
    axes[1, 0].set_ylabel(plain(words), fontsize=9)
    return save(figure, path)


def path_figure(
    ends: Sequence[tuple[str, Sequence[float]]],
    chances: Sequence[tuple[str, Sequence[float]]],
    among: int,
    path: Path,
) -> Path:
    """Distances of the features to both pictures, and the probabilities of the likeliest classes, against t.

    Args:
        ends: both pictures' names, with S distances each. chances: classes, with S probabilities each.
        among: of how many classes.
    """
    figure, axes = new_figure(8.4, 3.2, 1, 2)
    left, right = axes[0]
    t = np.linspace(0, 1, len(ends[0][1]))
    for (name, distances), mark, colour in zip(ends, ("o-", "s-"), (TEACHER, APM), strict=True):
        left.plot(t, distances, mark, ms=3, color=colour, label=plain(f"to {name}"))
    left.plot(t, t, ":", color=GREY, lw=1)
    left.plot(t, 1 - t, ":", color=GREY, lw=1)
    left.set_ylabel("distance of the features\n(1: between both ends)")
    left.legend(fontsize=8, frameon=False)
    for number, (name, probabilities) in enumerate(chances):
        right.plot(t, probabilities, "-", color=f"C{number}", label=plain(name))
    right.set_ylabel(f"probability among {among:,} classes")
    right.set_ylim(-0.02, 1.02)
    right.legend(fontsize=8, frameon=False)
    for axis in (left, right):
        axis.set_xlabel("t")
    return save(figure, path)
