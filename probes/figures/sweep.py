"""A measure against a setting, a line for each value of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probes.figures.base import new_figure, plain, plain_all, save

Point = tuple[float | str, Sequence[float]]  # a setting's value, and what each seed gave


def sweep_figure(lines: dict[str, Sequence[Point]], x: str, y: str, path: Path, by: str = "") -> Path:
    """Means over seeds, each seed as a dot; numbers on an axis of numbers (logarithmic over two decades), else names.

    Args:
        lines: by the value of the setting that tells them apart; {"": ...} for one line. x, y, by: names.
    """
    figure, axes = new_figure(6.4, 4.0)
    axis = axes[0][0]
    values = [value for points in lines.values() for value, _ in points]
    scale = [value for value in values if isinstance(value, int | float)]
    numbers = len(scale) == len(values)
    ticks = list(dict.fromkeys(map(str, values)))
    for name, points in lines.items():
        places = [(value if numbers else ticks.index(str(value)), seeds) for value, seeds in points]
        places.sort(key=lambda place: place[0])
        at = [place for place, _ in places]
        means = [np.mean(seeds) for _, seeds in places]
        (line,) = axis.plot(at, means, marker="o", ms=5, label=plain(f"{by} {name}" if name else "_"))
        for place, seeds in places:
            if len(seeds) > 1:
                axis.plot([place] * len(seeds), seeds, ".", ms=4, alpha=0.5, color=line.get_color())
    if not numbers:
        slant = {"rotation": 30, "ha": "right"} if max(map(len, ticks)) > 12 else {}
        axis.set_xticks(range(len(ticks)), plain_all(ticks), **slant)
    elif min(scale) > 0 and max(scale) / min(scale) >= 100:
        axis.set_xscale("log")
    axis.set_xlabel(plain(x))
    axis.set_ylabel(plain(y))
    if by:
        axis.legend(fontsize=8, frameon=False)
    return save(figure, path)
