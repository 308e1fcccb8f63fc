"""A plan's rows: published beside measured, with differences only where both are of the same data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparison.run import open_conditions
from experiments.comparison.table import cannot_act
from experiments.reproduce.averages import Answers
from experiments.reproduce.plan import Block, Column, Line, Mean, Plan
from experiments.reproduce.settings import Request
from glom.methods import method_class
from glom.methods.masked import MaskedMethod
from glom.runs.artifacts import read_result, result_file
from glom.runs.statistics import holm

OTHER = "other data"


def make_rows(plan: Plan, request: Request, out: Path) -> list[dict[str, Any]]:
    """Every cell and average of the plan, in its order; those that were not measured say why in `note`.

    Each row: method, teacher, network (what answered: the teacher, or the masked autoencoder), dataset, kind ("cell" or
    "average"), published, published_method, published_dataset, published_recomputed (averages), measured, ci95, n,
    skipped, scale, changed and moved (`comparison.table.action`), cannot_act, difference (measured minus published, on
    the same data alone), gain (over the first method, published and measured, with `p_holm`: of a cell corrected for
    all comparisons of its benchmark, of an average for the block's other methods), note; averages also versus: the
    paired difference from every other method of the block, with its interval.
    """
    return [row for block in plan.blocks for row in _block_rows(plan, block, request, out / "runs" / block.name)]


def _block_rows(plan: Plan, block: Block, request: Request, runs: Path) -> list[dict[str, Any]]:
    table = read_result(runs) if block.runnable and result_file(runs).is_file() else None
    places = _places(block, request, plan.limit) if table else {}
    given = Answers(block, places, runs) if table else None
    rows = []
    for line in block.lines:
        base = block.lines[0] if line is not block.lines[0] else None
        for column in block.columns:
            row = _published(plan, block, line, column.title, column.published, base)
            row["other"] = _other(line, [column])
            found = _cell(table, line, places.get(column.title, ""))
            rows.append(_filled(row, found, block.why or line.why or column.why))
        for mean in block.means:
            row = _published(plan, block, line, mean.title, mean.published, base)
            row["other"] = _other(line, [c for c in block.columns if c.title in mean.columns])
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
    for mean in block.means:
        gains = [r["gain"] for r in rows if r["kind"] == "average" and r["dataset"] == mean.title and r["gain"]]
        gains = [gain for gain in gains if gain["p"] is not None]
        for gain, p in zip(gains, holm([gain["p"] for gain in gains]), strict=True):
            gain["p_holm"] = p
    return rows


def _other(line: Line, columns: Sequence[Column]) -> str:
    """Why nothing is subtracted from a row's measured value: other data, or a method fitted to other data; else ""."""
    if all(column.same for column in columns):
        return line.other
    told = [column.title for column in columns if column.other]
    if not told or any(not column.same and not column.other for column in columns):
        return OTHER
    return columns[0].other if len(columns) == 1 else f"of other splits than the published: {', '.join(told)}"


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


def _published(plan: Plan, block: Block, line: Line, title: str, published: str, base: Line | None) -> dict[str, Any]:
    value = _printed(plan, line, published)
    gain = None
    if base is not None:
        teacher = _printed(plan, base, published)
        gain = {"over": base.method, "published": None if None in (value, teacher) else round(value - teacher, 4)}  # type: ignore[operator]
        gain |= {"published_recomputed": None, "measured": None, "ci95": None, "p": None, "p_holm": None}
    return {
        "method": line.method,
        "teacher": block.teacher,
        "network": block.mae if issubclass(method_class(line.method), MaskedMethod) else block.teacher,
        "dataset": title,
        "kind": "cell",
        "published": value,
        "published_method": line.published,
        "published_dataset": f"{plan.data}: {published}" if value is not None else "",
        "published_recomputed": None,
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


def _filled(row: dict[str, Any], found: Mapping[str, Any] | None, why: str) -> dict[str, Any]:
    """The row with what was measured, and the note that says what may be compared."""
    other = row.pop("other")
    measured = found["measured"] if found else None
    row |= {
        "measured": measured,
        "ci95": found["ci95"] if found else None,
        "n": found["n"] if found else 0,
        "skipped": found["skipped"] if found else 0,
        "scale": found.get("scale", []) if found else [],
        "changed": found.get("changed") if found else None,
        "moved": found.get("moved") if found else None,
        "difference": None,
        "note": why or ("" if found else "not run"),
    }
    if found and row["gain"] is not None:
        row["gain"] |= {"measured": found.get("difference"), "ci95": found.get("difference_ci95")}
        row["gain"] |= {"p": found.get("p"), "p_holm": found.get("p_holm")}
        row["cannot_act"] = cannot_act(row["changed"], row["moved"])
    if measured is not None and row["published"] is not None:
        if other:
            row["note"] = other
        else:
            row["difference"] = round(measured - row["published"], 4)
    return row
