"""A GLOM in the world of ellipses, drawn from its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, save


def ellipses_figure(result: Mapping[str, Any], path: Path) -> Path:
    """Part and whole right and islands by update, and what noise and unseen turns leave of them.

    Args:
        result: of `apm glom score` on a GLOM trained in the world of ellipses.
    """
    figure, axes = new_figure(10.6, 6.4, 2, 2)
    updates = result["iterations"]
    at = [row["iteration"] for row in updates]
    right = (("whole", "kind of whole", APM), ("part", "part", TEACHER))
    for measure, name, colour in right:
        _curve(axes[0, 0], at, updates, measure, name, colour)
        axes[0, 0].axhline(result["chance"][measure], color=colour, ls=":", lw=1)
    for measure, name, colour in (("cos_within", "within a whole", APM), ("cos_between", "between wholes", GREY)):
        _curve(axes[0, 1], at, updates, measure, name, colour)
    _curve(axes[0, 1], at, updates, "ari", "ARI", TEACHER)
    axes[0, 1].axhline(result["places"]["ari"], color=TEACHER, ls=":", lw=1, label="ARI of places")
    for axis, rows, x in (
        (axes[1, 0], result["noise"], [row["jitter"] for row in result["noise"]]),
        (axes[1, 1], result["turned"], [np.mean(row["degrees"]) for row in result["turned"]]),
    ):
        for measure, name, colour in (*right, ("ari", "ARI", GREY)):
            _curve(axis, x, rows, measure, name, colour)
    for axis, below, beside in (
        (axes[0, 0], "update", "share right"),
        (axes[0, 1], "update", "cosine, top level"),
        (axes[1, 0], "noise on what is seen, deviations", "after the last update"),
        (axes[1, 1], f"degrees turned (trained to {result['ellipses']['turn']:g})", "after the last update"),
    ):
        axis.set_xlabel(plain(below))
        axis.set_ylabel(plain(beside))
        axis.legend(frameon=False, fontsize=9)
    figure.suptitle(plain(f"{result['n']} held-out pictures of ellipses, 95 % intervals"), fontsize=11)
    return save(figure, path)


def _curve(
    axis: Any, x: Sequence[float], rows: Sequence[Mapping[str, Any]], measure: str, name: str, colour: str
) -> None:
    low, high = np.array([row["ci95"][measure] for row in rows]).T
    axis.plot(x, [row[measure] for row in rows], "o-", color=colour, label=plain(name))
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
