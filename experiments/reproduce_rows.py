"""A plan's rows: published beside measured, with differences only where both are of the same data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.benchmark import TABLE, open_conditions
from experiments.benchmark_table import answers, right, shared_samples
from experiments.reproduce_plan import Block, Line, Mean, Plan, Request
from glom.artifacts import read_json
from glom.statistics import bootstrap_ci

OTHER = "other data"
RESAMPLES = 10_000


def make_rows(plan: Plan, request: Request, out: Path) -> list[dict[str, Any]]:
    """Every cell and average of the plan, in its order; those that were not measured say why in `note`.

    Each row: method, teacher, dataset, kind ("cell" or "average"), published, published_method, published_dataset,
    published_recomputed (averages), measured, ci95, n, skipped, difference (measured minus published, on the same data
    alone), gain (over the first method, published and measured), note; averages also versus: the paired difference from
    every other method of the block, with its interval.
    """
    return [row for block in plan.blocks for row in _block_rows(plan, block, request, out / "runs" / block.name)]


def _block_rows(plan: Plan, block: Block, request: Request, runs: Path) -> list[dict[str, Any]]:
    table = read_json(runs / TABLE) if block.runnable and (runs / TABLE).is_file() else None
    places = _places(block, request, plan.limit) if table else {}
    given = Answers(block, places, runs) if table else None
    rows = []
    for line in block.lines:
        base = block.lines[0] if line is not block.lines[0] else None
        for column in block.columns:
            row = _published(plan, block, line, column.title, column.published, column.same, base)
            found = _cell(table, line, places.get(column.title, ""))
            rows.append(_filled(row, found, block.why or line.why or column.why))
        for mean in block.means:
            same = all(c.same for c in block.columns if c.title in mean.columns)
            row = _published(plan, block, line, mean.title, mean.published, same, base)
            row |= {"kind": "average", "published_recomputed": _recomputed(plan, line, block, mean)}
            if row["gain"] is not None and base is not None:
                own, teacher = row["published_recomputed"], _recomputed(plan, base, block, mean)
                gain = None if own is None or teacher is None else round(own - teacher, 4)
                row["gain"]["published_recomputed"] = gain
            conditions = [places[t] for t in mean.columns if t in places]
            complete = len(conditions) == len(mean.columns)
            found = given.average(line, conditions) if given and complete and not line.why else None
            rows.append(_filled(row, found, block.why or line.why or ("" if complete else "some columns are missing")))
            rows[-1]["versus"] = _versus(block, found)
    return rows


def _versus(block: Block, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """An average's paired differences, each with the other method's name and its published row's."""
    published = {line.method: line.published for line in block.lines}
    differences = found["versus"] if found else {}
    return [
        {"method": other, "published_method": published[other], "difference": value, "ci95": interval}
        for other, (value, interval) in differences.items()
    ]


def _places(block: Block, request: Request, limit: int) -> dict[str, str]:
    """Column title -> the benchmark's condition."""
    names = {(c.spec, str(c.corruption or "")): c.name for c in open_conditions(block.settings(request, limit))}
    return {c.title: names[c.spec, c.corruption] for c in block.open_columns}


def _published(
    plan: Plan, block: Block, line: Line, title: str, published: str, same: bool, base: Line | None
) -> dict[str, Any]:
    value = _printed(plan, line, published)
    gain = None
    if base is not None:
        teacher = _printed(plan, base, published)
        gain = {"over": base.method, "published": None if None in (value, teacher) else round(value - teacher, 4)}  # type: ignore[operator]
        gain |= {"published_recomputed": None, "measured": None, "ci95": None, "p_holm": None}
    return {
        "method": line.method,
        "teacher": block.teacher,
        "dataset": title,
        "kind": "cell",
        "published": value,
        "published_method": line.published,
        "published_dataset": f"{plan.data}: {published}" if value is not None else "",
        "published_recomputed": None,
        "same_data": same,
        "gain": gain,
    }


def _printed(plan: Plan, line: Line, column: str) -> float | None:
    value = plan.published.get(line.published, {}).get(column)
    return value if isinstance(value, float) else None


def _recomputed(plan: Plan, line: Line, block: Block, mean: Mean) -> float | None:
    """The average of the printed row's own columns, where a published average is named."""
    printed = plan.published.get(line.published)
    if printed is None or not mean.published:
        return None
    skipped = {"ImageNet"} if mean.published == "OOD Average" else set()
    values = [v for k, v in printed.items() if isinstance(v, float) and "Average" not in k and k not in skipped]
    return round(float(np.mean(values)), 4)


def _cell(table: Mapping[str, Any] | None, line: Line, condition: str) -> dict[str, Any] | None:
    if table is None or not condition:
        return None
    return next((r for r in table["rows"] if (r["method"], r["dataset"]) == (line.method, condition)), None)


class Answers:
    """What every method of a block answered, read once: {condition: (ids, {method: 1 where right})}."""

    def __init__(self, block: Block, places: Mapping[str, str], runs: Path) -> None:
        self.methods = [line.method for line in block.open_lines]
        self.specs = {places[c.title]: c.spec for c in block.open_columns if c.title in places}
        self.right: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.ids: dict[str, list[str]] = {}
        self.skipped: dict[str, int] = {}
        for condition in self.specs:
            found = answers(runs, condition, self.methods)
            self.ids[condition] = ids = shared_samples(found)
            self.right[condition] = {m: right(run, ids) for m, run in found.items()}
            self.skipped[condition] = len(found[self.methods[0]]) - len(ids)

    def average(self, line: Line, conditions: Sequence[str]) -> dict[str, Any] | None:
        """A method's mean over conditions, each counting alike, and its paired differences from the other methods'."""
        if not all(self.ids[c] for c in conditions):
            return None
        groups = {c: (self.specs[c], *self.ids[c]) for c in conditions}
        value, interval = stratified({c: self.right[c][line.method] for c in conditions}, groups)
        found: dict[str, Any] = {"measured": value, "ci95": interval}
        found |= {"n": sum(len(self.ids[c]) for c in conditions), "skipped": sum(self.skipped[c] for c in conditions)}
        found["versus"] = versus = {}
        for other in self.methods:
            if other != line.method:
                minus = {c: self.right[c][line.method] - self.right[c][other] for c in conditions}
                versus[other] = stratified(minus, groups)
        if line.method != self.methods[0]:
            found["difference"], found["difference_ci95"] = versus[self.methods[0]]
        return found


def stratified(
    values: Mapping[str, NDArray[np.float64]], pictures: Mapping[str, tuple[str, ...]]
) -> tuple[float, list[float]]:
    """The mean of the conditions' means in percent, and its 95 % bootstrap interval.

    Conditions of the same `pictures` (one data set under many corruptions) are resampled together, picture by picture;
    conditions of different pictures apart.
    """
    groups: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
    for condition, found in values.items():
        groups.setdefault(pictures[condition], []).append(100 * found)
    value = float(np.mean([x.mean() for columns in groups.values() for x in columns]))
    if len(groups) == 1:
        [columns] = groups.values()
        low, high = bootstrap_ci(np.mean(columns, axis=0), resamples=RESAMPLES)
    else:
        rng = np.random.default_rng(0)
        total = sum(len(columns) for columns in groups.values())
        means = np.zeros(RESAMPLES)
        for columns in groups.values():
            x = np.mean(columns, axis=0)
            means += [x[rng.integers(0, len(x), len(x))].mean() * len(columns) / total for _ in range(RESAMPLES)]
        low, high = np.quantile(means, [0.025, 0.975])
    return round(value, 4), [round(float(low), 4), round(float(high), 4)]


def _filled(row: dict[str, Any], found: Mapping[str, Any] | None, why: str) -> dict[str, Any]:
    """The row with what was measured, and the note that says what may be compared."""
    same = row.pop("same_data")
    measured = found["measured"] if found else None
    row |= {
        "measured": measured,
        "ci95": found["ci95"] if found else None,
        "n": found["n"] if found else 0,
        "skipped": found["skipped"] if found else 0,
        "difference": None,
        "note": why or ("" if found else "not run"),
    }
    if found and row["gain"] is not None:
        row["gain"] |= {"measured": found.get("difference"), "ci95": found.get("difference_ci95")}
        row["gain"]["p_holm"] = found.get("p_holm")
    if measured is not None and row["published"] is not None:
        if same:
            row["difference"] = round(measured - row["published"], 4)
        else:
            row["note"] = OTHER
    return row
