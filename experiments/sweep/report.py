"""A sweep's table: what every setting gave, over its seeds, and its differences from the base, paired.

A figure of a run is one at the top of its result, or further down by its path ("rows.clean.top1"), or the mean of a
figure of its samples. Where two settings have samples, they are compared on the same samples, each with the mean of its
seeds: samples are what generalises. Where they have none, the seeds are the pairs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from experiments.sweep.job import state_of
from experiments.sweep.plan import matches
from glom.errors import InputError, unknown
from glom.runs.artifacts import read_json, read_result, read_results
from glom.runs.events import Event, result_of
from glom.runs.statistics import holm, interval, mcnemar_exact

SKIPPED = {"index", "number", "seed", "label"}  # of a sample: what is no measure
FIGURES = 8  # measures that are shown where none are named


class Measured(TypedDict):
    """Of a row: the mean over its runs, each run's, and the paired difference from the base, its interval and p.

    `pairs` counts samples or seeds; `p`: exact McNemar for what is 0 or 1, else Wilcoxon's signed ranks; `p_holm`:
    corrected for all rows. None where there is nothing to compare.
    """

    mean: float
    runs: list[float]
    minus_base: float | None
    ci95: list[float] | None
    pairs: int
    p: float | None
    p_holm: float | None


class Row(TypedDict):
    """One setting: what the sweep varied, its runs and their seeds, how many are done, and what they measured."""

    settings: dict[str, Any]
    names: list[str]
    seeds: list[int | None]
    done: int
    base: bool
    errors: dict[str, str]
    measures: dict[str, Measured]


class SweepReport(TypedDict):
    """Runs there are, are done and have failed, and a row a setting."""

    runs: int
    done: int
    failed: int
    rows: list[Row]
    command: NotRequired[str]


class _Run(TypedDict):
    figures: dict[str, float]
    samples: dict[str, dict[str, float]]  # measure: {pair: value}


def report(sweep: Path, measures: Sequence[str] = ()) -> SweepReport:
    """What `reporting` ends with."""
    return result_of(reporting(sweep, measures))


def reporting(sweep: Path, measures: Sequence[str] = ()) -> Iterator[Event[SweepReport]]:
    """The table of what a sweep's folder holds by now, with events on the way.

    Args:
        measures: those to have; else the file's, else all at the top of a result, else those of samples.

    Raises:
        InputError: no sweep lies there, or a measure that none of its runs has.
    """
    plan = _plan(sweep)
    pair = plan.get("pair") or ["id"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in plan["runs"]:
        groups.setdefault(json.dumps(one["settings"], sort_keys=True), []).append(one)
    states = {one["name"]: state_of(sweep, one["name"]) or {"status": "waiting", "error": ""} for one in plan["runs"]}
    finished, found = [name for name, s in states.items() if s["status"] == "done"], dict[str, _Run]()
    for name in finished:
        yield Event("reading runs", len(found), len(finished))
        found[name] = _read(sweep / "runs" / name, pair)
    names = _measures(list(measures) or plan.get("measures") or [], list(found.values()))
    first = next(ones for ones in groups.values() if matches(ones[0]["settings"], plan.get("base") or {}))
    rows: list[Row] = []
    for ones in groups.values():
        yield Event("comparing", len(rows), len(groups))
        own = [one["name"] for one in ones]
        row: Row = {
            "settings": ones[0]["settings"],
            "names": own,
            "seeds": [one["seed"] for one in ones],
            "done": sum(name in found for name in own),
            "base": ones is first,
            "errors": {name: states[name]["error"] for name in own if states[name]["status"] == "failed"},
            "measures": {},
        }
        for measure in names:
            value = _measured(measure, ones, [] if ones is first else first, found)
            if value is not None:
                row["measures"][measure] = value
        rows.append(row)
    for measure in names:
        tested = [m for row in rows if (m := row["measures"].get(measure)) is not None and m["p"] is not None]
        for value, corrected in zip(tested, holm([m["p"] or 0.0 for m in tested]), strict=True):
            value["p_holm"] = corrected
    failed = sum(s["status"] == "failed" for s in states.values())
    whole: SweepReport = {"runs": len(states), "done": len(found), "failed": failed, "rows": rows}
    yield Event("comparing", len(rows), len(groups), result={**whole, "command": plan["command"]})


def _plan(sweep: Path) -> dict[str, Any]:
    if not (sweep / "plan.json").is_file():
        raise InputError(f"{sweep} holds no sweep (no plan.json)")
    plan = read_json(sweep / "plan.json")
    try:
        kinds = {"name": str, "settings": dict, "seed": int | None}
        if not all(isinstance(one[key], kind) for one in plan["runs"] for key, kind in kinds.items()):
            raise TypeError
        return dict(plan, command=str(plan["command"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{sweep / 'plan.json'} is no plan of a sweep; run the sweep again with `resume`") from error


def _read(folder: Path, pair: Sequence[str]) -> _Run:
    """What one run measured: the figures of its result, and those of its samples by what pairs them."""
    samples: dict[str, dict[str, float]] = {}
    for record in read_results(folder):
        key = json.dumps([record.get(name) for name in pair])
        for name, value in record.items():
            if isinstance(value, bool | int | float) and name not in SKIPPED and name not in pair:
                samples.setdefault(name, {})[key] = float(value)
    try:
        figures = dict(_flat(read_result(folder)))
    except InputError:
        figures = {}  # a command that leaves no result
    return {"figures": {k: v for k, v in figures.items() if np.isfinite(v)}, "samples": samples}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by their paths; of a list of tables, by their names where they have some."""
    if isinstance(value, bool | int | float):
        yield path, float(value)
    parts: list[tuple[str, Any]] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        parts = [(str(part.get("name") or part.get("setting") or n), part) for n, part in enumerate(value)]
    for name, part in parts:
        yield from _flat(part, f"{path}.{name}" if path else str(name))


def _measures(asked: list[str], runs: Sequence[_Run]) -> list[str]:
    there = dict.fromkeys(itertools.chain.from_iterable([*run["figures"], *run["samples"]] for run in runs))
    for name in asked:
        if runs and name not in there:
            raise unknown("measure", name, there)
    tops = [name for name in there if "." not in name and any(name in run["figures"] for run in runs)]
    return [name for name in asked or tops or there if name in there]


def _value(run: _Run, measure: str) -> float | None:
    if measure in run["figures"]:
        return run["figures"][measure]
    values = list(run["samples"].get(measure, {}).values())
    return float(np.mean(values)) if values else None


def _measured(
    measure: str, ones: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], found: Mapping[str, _Run]
) -> Measured | None:
    runs = {one["seed"]: found[one["name"]] for one in ones if one["name"] in found}
    others = {one["seed"]: found[one["name"]] for one in base if one["name"] in found}
    values = [value for run in runs.values() if (value := _value(run, measure)) is not None]
    if not values:
        return None
    pairs = _pairs(measure, runs, others)
    gains = [a - b for a, b in pairs]
    p = _p(pairs)
    mean = float(np.mean(gains)) if gains else None
    return {"mean": float(np.mean(values)), "runs": values, "minus_base": mean, "ci95": interval(gains),
            "pairs": len(gains), "p": p, "p_holm": None}  # fmt: skip


def _pairs(measure: str, runs: Mapping[Any, _Run], others: Mapping[Any, _Run]) -> list[tuple[float, float]]:
    """The same samples under both, each with the mean of the seeds that both have; without samples the seeds."""
    seeds = [seed for seed in runs if seed in others]
    sampled: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        mine, theirs = (side[seed]["samples"].get(measure, {}) for side in (runs, others))
        for key in mine:
            if key in theirs:
                sampled.setdefault(key, []).append((mine[key], theirs[key]))
    if sampled:
        return [(float(np.mean([a for a, _ in both])), float(np.mean([b for _, b in both])))
                for both in sampled.values()]  # fmt: skip
    seen = [(_value(runs[seed], measure), _value(others[seed], measure)) for seed in seeds]
    return [(a, b) for a, b in seen if a is not None and b is not None]


def _p(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < 2:
        return None
    first, second = zip(*pairs, strict=True)
    if set(first) | set(second) <= {0.0, 1.0}:
        return mcnemar_exact(first, second)
    if first == second:
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(first, second).pvalue)
