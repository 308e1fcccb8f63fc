"""The folding ablation's table and figure, from its records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from experiments.folding.settings import BASE, FoldingSettings, settings_of
from glom.runs.artifacts import read_results, read_timing
from glom.runs.statistics import bootstrap_ci

MEASURES = ("error", "cosine", "agrees", "correct", "grid_r2", "psnr", "islands_teacher", "islands_truth", "covering")


class Cost(TypedDict):
    """Of one machine: parameters, and bytes a step keeps."""

    parameters: int
    bytes: int


class Measure(TypedDict):
    """Mean, its interval, its deviation over seeds, and the paired difference from the base: mean, low, high."""

    mean: float
    ci95: list[float]
    seed_sd: float | None
    minus_base: list[float] | None


class Row(Cost):
    """One setting of an axis: `n` overfits, what the machine costs, and every measure that applies."""

    axis: str
    setting: str
    n: int
    seconds: float | None
    measures: dict[str, Measure | None]


class Ablation(TypedDict):
    """A row a setting."""

    pictures: int
    seeds: int
    iterations: int
    rows: list[Row]


def summarise(folder: Path, settings: FoldingSettings, costs: Mapping[str, Cost]) -> Ablation:
    """A row a setting: means, 95 % intervals, and differences from the base, paired by picture and seed.

    Intervals are bootstrapped over pictures, each with the mean of its seeds: pictures are what generalises. `seed_sd`
    is the deviation, over seeds, of the mean over pictures.
    """
    records, seconds = read_results(folder), read_timing(folder)
    rows: list[Row] = []
    base = [r for r in records if r["axis"] == BASE]
    for setting in settings_of(settings):
        mine = [r for r in records if (r["axis"], r["setting"]) == (setting.axis, setting.name)]
        took = float(np.median([seconds[r["id"]] for r in mine])) if mine else None
        found = {m: _interval(mine, base, m) for m in MEASURES}
        row: Row = {"axis": setting.axis, "setting": setting.name, "n": len(mine), **costs[setting.key],
                    "seconds": took, "measures": found}  # fmt: skip
        rows.append(row)
    pictures = len({r["picture"] for r in records})
    return {"pictures": pictures, "seeds": settings.seeds, "iterations": settings.iterations, "rows": rows}


def _interval(mine: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], measure: str) -> Measure | None:
    values = _by_picture(mine, measure)
    if not values:
        return None
    low, high = bootstrap_ci(list(values.values()), resamples=2000)
    by_seed: dict[int, list[float]] = {}
    for r in mine:
        by_seed.setdefault(r["seed"], []).append(r[measure])
    means = [float(np.mean(v)) for v in by_seed.values()]
    standard = _by_picture(base, measure)
    gains = [values[p] - standard[p] for p in values if p in standard]
    return {
        "mean": float(np.mean(list(values.values()))),
        "ci95": [low, high],
        "seed_sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "minus_base": [float(np.mean(gains)), *bootstrap_ci(gains, resamples=2000)] if gains else None,
    }


def _by_picture(records: Sequence[Mapping[str, Any]], measure: str) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for r in records:
        if r[measure] is not None:
            groups.setdefault(r["picture"], []).append(r[measure])
    return {p: float(np.mean(v)) for p, v in groups.items()}


PANELS = (
    ("error", "distillation error\n(thousandths)", 1000),
    ("agrees", "agreement", 1),
    ("grid_r2", "R² of the grid", 1),
    ("psnr", "PSNR (dB)", 1),
    ("islands_teacher", "islands: ARI with\nthe teacher's grid's", 1),
    ("islands_truth", "islands: ARI with\npeople's outlines", 1),
)


def draw(result: Ablation, path: Path) -> Path:
    """A row a setting, a panel a measure: mean and 95 % interval, the base as a line."""
    from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save

    rows = result["rows"]
    shown = [p for p in PANELS if rows[0]["measures"][p[0]] is not None]
    figure, axes = new_figure(2.6 + 2.1 * len(shown), 1.2 + 0.27 * len(rows), 1, len(shown), sharey=True)
    y = np.arange(len(rows))[::-1]
    names = [BASE if r["axis"] == BASE else f"{r['axis']}: {r['setting']}" for r in rows]
    for axis, (measure, title, unit) in zip(axes[0], shown, strict=True):
        found = [r["measures"][measure] for r in rows]
        known = [i for i, f in enumerate(found) if f is not None]
        mean = unit * np.array([f["mean"] for f in found if f is not None])
        interval = unit * np.array([f["ci95"] for f in found if f is not None])
        errors = np.abs(interval.T - mean)
        colours = [APM if i == 0 else TEACHER for i in known]
        axis.axvline(mean[0], color=APM, lw=1, alpha=0.7, zorder=0)
        axis.errorbar(mean, y[known], xerr=errors, fmt="none", ecolor=GREY, elinewidth=1, capsize=2, zorder=1)
        axis.scatter(mean, y[known], c=colours, s=16, zorder=2)
        if measure == "agrees":
            axis.set_xlim(min(0.9, float(interval.min()) - 0.02), 1.01)
        axis.set_title(plain(title), fontsize=9)
        axis.tick_params(labelsize=8)
        for i in range(1, len(rows)):
            if rows[i]["axis"] != rows[i - 1]["axis"]:
                axis.axhline(y[i] + 0.5, color="#e6e6e6", lw=0.7, zorder=0)
    axes[0][0].set_yticks(y, plain_all(names), fontsize=8)
    seen = f"{result['pictures']} pictures, {result['seeds']} seeds each"
    return save(figure, path, f"{seen}: mean and 95 % over pictures; orange: the base.")
