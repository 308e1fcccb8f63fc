"""The objective study's tables and figure, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from experiments.objective.candidates import TEACHER, TOKEN, Candidate
from glom.errors import demand_some
from glom.runs.artifacts import read_result, result_file
from glom.runs.statistics import bootstrap_ci, holm, mcnemar_exact

LEVEL = 0.05
SEEN = 1.959964 + 0.841621  # quantiles of the normal distribution at 97.5 and 80 %


class Judged(TypedDict):
    """What one half of the pictures, or one data set, says: a row a candidate; see `summarise`."""

    tried: int
    cases: int
    pictures: int
    skipped: int
    teacher_top1: float
    teacher_conditions: dict[str, float]
    apm: dict[str, Any]
    rows: list[dict[str, Any]]


def summarise(
    records: Sequence[Mapping[str, Any]],
    candidates: Sequence[Candidate],
    judged: Sequence[str] | None = None,
    tried: int = 0,
) -> Judged:
    """A row a candidate: top-1, the difference from the teacher and from its controls, by picture, and by condition.

    A picture counts once however many conditions it was met under: intervals resample pictures, and p is McNemar's
    exact test on which of the two was right under more of a picture's conditions (under one condition, the usual one).

    Args:
        judged: candidates whose p-values count as comparisons; None for all of them.
        tried: how many were tried for these to be found, if more than are judged: those that were not carried on count
            as comparisons with p = 1 in Holm's correction.

    Raises:
        InputError: no readable picture.
    """
    good = [r for r in records if r["status"] == "ok"]
    demand_some(records, "pictures")
    right = {name: np.array([r["classes"][name] == r["label"] for r in good]) for name in good[0]["classes"]}
    pictures = np.unique([r["picture"] for r in good], return_inverse=True)[1]
    conditions = np.array([r["condition"] for r in good])
    order = sorted({r["condition"] for r in good})
    names = [c.name for c in candidates] if judged is None else list(judged)
    rows = []
    for candidate in candidates:
        own, teacher = right[candidate.name], right[TEACHER]
        row: dict[str, Any] = {"candidate": candidate.name, "what": candidate.what, "kind": candidate.kind}
        row |= {"top1": _percent(own), **compare(own, teacher, pictures)}
        row["minus_controls"] = {c: compare(own, right[c], pictures) for c in candidate.controls if c != TEACHER}
        row["judged"] = candidate.name in names
        row["conditions"] = {c: _percent(own[conditions == c]) - _percent(teacher[conditions == c]) for c in order}
        row["same_as_teacher"] = _same(good, candidate.name)
        rows.append(row)
    count = max(tried, len(names))
    compared = [r for r in rows if r["judged"]]
    _correct(compared, count)
    _correct([c for r in compared for c in r["minus_controls"].values()], count)
    for row in compared:
        row["holds"] = holds(row)
        if row["kind"] == "apm":
            row["apm_adds"] = row["holds"] and all(holds(c) for c in row["minus_controls"].values())
    base = {"candidate": TOKEN, "top1": _percent(right[TOKEN]), "same_as_teacher": _same(good, TOKEN)}
    return {
        "tried": count,
        "cases": len(good),
        "pictures": int(pictures.max()) + 1,
        "skipped": len(records) - len(good),
        "teacher_top1": _percent(right[TEACHER]),
        "teacher_conditions": {c: _percent(right[TEACHER][conditions == c]) for c in order},
        "apm": base | compare(right[TOKEN], right[TEACHER], pictures),
        "rows": rows,
    }


def compare(first: NDArray[np.bool_], second: NDArray[np.bool_], pictures: NDArray[np.integer]) -> dict[str, Any]:
    """`difference` in points, its `ci95`, and `p`, of two answers to the same cases.

    Args:
        first, second: (n,) whether each was right.
        pictures: (n,) which picture a case is of, from 0.
    """
    count = np.bincount(pictures)
    net = np.bincount(pictures, weights=first.astype(float) - second.astype(float))
    low, high = bootstrap_ci(100 * net / count)
    return {
        "difference": round(100 * float((net / count).mean()), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "p": mcnemar_exact(net > 0, net < 0),
        **power(net / count),
    }


def power(net: NDArray[np.floating]) -> dict[str, Any]:
    """What a test of a paired difference can see, by the normal approximation, two-sided at 5 %, with 80 % power.

    Args:
        net: (n,) differences in [-1, 1], one a picture.

    Returns:
        `detectable`: the smallest difference in points, at these pictures' spread; None where there is no spread.
        `needed`: pictures at which the difference that was found would be seen; None where it is not above zero.
    """
    spread, mean = float(net.std()), float(net.mean())
    needed = math.ceil((SEEN * spread / mean) ** 2) if mean > 0 else None
    return {"detectable": round(100 * SEEN * spread / math.sqrt(len(net)), 4) if spread else None, "needed": needed}


def by_set(
    records: Sequence[Mapping[str, Any]],
    candidates: Sequence[Candidate],
    judged: Sequence[str] | None = None,
    tried: int = 0,
) -> dict[str, Judged]:
    """{data set: its `summarise`}, in the order of the records."""
    names = dict.fromkeys(r["dataset"] for r in records if "dataset" in r)
    return {
        name: summarise([r for r in records if r.get("dataset") == name], candidates, judged, tried) for name in names
    }


def unseen(
    records: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    candidates: Sequence[Candidate],
    judged: Sequence[str],
    tried: int,
    sets: Mapping[str, Judged],
) -> Judged:
    """All further data sets as one, and in which of them each candidate is above its teacher and its controls."""
    whole = summarise([r for r in records if r["dataset"] in names], candidates, judged, tried)
    for row in whole["rows"]:
        own = {name: r for name in names for r in sets[name]["rows"] if r["candidate"] == row["candidate"]}
        row["beats_in"] = [name for name, r in own.items() if beats(r)]
    return whole


def beats(row: Mapping[str, Any]) -> bool:
    """Whether an answer is above its teacher and each of its controls: every 95 % interval above zero."""
    return all(one["ci95"][0] > 0 for one in (row, *row["minus_controls"].values()))


def holds(row: Mapping[str, Any]) -> bool:
    """Whether a difference is above zero, corrected for how many were tried."""
    return bool(row["ci95"][0] > 0 and row["p_holm"] < LEVEL)


def choose(selection: Mapping[str, Any], top: int) -> list[str]:
    """The rule fixed in advance: the `top` candidates of each kind with the largest difference from the teacher."""
    chosen = []
    for kind in ("plain", "apm"):
        rows = [r for r in selection["rows"] if r["kind"] == kind]
        chosen += [r["candidate"] for r in sorted(rows, key=lambda r: -r["difference"])[:top]]
    return chosen


def _correct(rows: Sequence[dict[str, Any]], count: int) -> None:
    adjusted = holm([r["p"] for r in rows] + [1.0] * max(0, count - len(rows)))
    for row, p in zip(rows, adjusted, strict=False):
        row["p_holm"] = p


def _percent(right: NDArray[np.bool_]) -> float:
    return round(100 * float(right.mean()), 4)


def _same(records: Sequence[Mapping[str, Any]], name: str) -> float:
    return round(float(np.mean([r["classes"][name] == r["classes"][TEACHER] for r in records])), 4)


def figures(folder: Path) -> list[Path]:
    """Draw a selection's figure again, and that with its confirmation where there is one, PNG and SVG.

    Raises:
        InputError: nothing was selected yet.
    """
    selection, drawn = read_result(folder), []
    found = {"select": None} | ({"confirm": read_result(folder / "confirm")} if confirmed_in(folder) else {})
    for name, confirmation in found.items():
        drawn += [draw(selection, confirmation, folder / f"{name}{ending}") for ending in (".png", ".svg")]
    return drawn


def confirmed_in(folder: Path) -> bool:
    """Whether the selection has been confirmed."""
    return result_file(folder / "confirm").is_file()


def draw(selection: Mapping[str, Any], confirmation: Mapping[str, Any] | None, path: Path) -> Path:
    """Differences from the teacher by candidate, with 95 % intervals; the confirmed ones beside their selection."""
    from probes.figures import base as figures
    from probes.figures.base import APM, GREY, new_figure, plain_all, save

    rows = [r for kind in ("plain", "apm") for r in selection["rows"] if r["kind"] == kind]
    confirmed = {r["candidate"]: r for r in confirmation["rows"]} if confirmation else {}
    figure, axes = new_figure(8.6, 1.5 + 0.27 * len(rows))
    axis = axes[0, 0]
    y = np.arange(len(rows))[::-1]
    axis.axvline(0, color=GREY, lw=1, zorder=0)
    styles = (("plain", figures.TEACHER, "nothing overfit"), ("apm", APM, "an APM, overfit"))
    for kind, colour, label in styles:
        mine = [i for i, r in enumerate(rows) if r["kind"] == kind]
        _points(axis, [rows[i] for i in mine], y[mine] + (0.13 if confirmed else 0), colour, "o", label)
    again = [i for i, r in enumerate(rows) if r["candidate"] in confirmed]
    if again:
        found = [confirmed[rows[i]["candidate"]] for i in again]
        _points(axis, found, y[again] - 0.2, "black", "D", "on the other half, once")
    axis.set_yticks(y, plain_all([f"{r['candidate']}: {r['what']}" for r in rows]), fontsize=8)
    axis.set_ylim(-0.8, len(rows) - 0.2)
    axis.set_xlabel(f"points over the teacher ({selection['teacher_top1']:.1f} %), 95 % over pictures")
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    count = f"{selection['pictures']} pictures of the half that chooses"
    more = f", {confirmation['pictures']} of the other, once" if confirmation else ""
    return save(figure, path, f"Paired differences in top-1 from the teacher on the same pictures: {count}{more}.")


def _points(axis: Any, rows: Sequence[Mapping[str, Any]], y: Any, colour: str, marker: str, label: str) -> None:
    from probes.figures.base import plain

    mean = np.array([r["difference"] for r in rows])
    errors = np.abs(np.array([r["ci95"] for r in rows]).T - mean)
    axis.errorbar(mean, y, xerr=errors, fmt=marker, color=colour, ms=4, capsize=2, elinewidth=1, label=plain(label))
