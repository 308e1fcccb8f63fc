"""The paired table of a benchmark, from the lines of its folders alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.settings import BUDGET
from experiments.comparison.stream import parse_stream
from experiments.comparison.trust import MEASURES, TRUST, Given, Measured, right
from glom.errors import demand_some
from glom.methods import method_class
from glom.methods_list import LISTED
from glom.runs.artifacts import read_manifest, read_results, read_timing
from glom.runs.statistics import holm, interval, mcnemar_exact

STILL = (0.5, 0.002)  # percent of the answers changed, and mean change of probability, at which a method does nothing


def answers(out: Path, condition: str, methods: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """{method: {sample id: record}} of one condition."""
    return {m: {r["id"]: r for r in read_results(out / condition / m)} for m in methods}


def demand_answers(out: Path, table: Mapping[str, Any]) -> None:
    """Raise where a method has no answer at all under some condition; see `demand_some`. What is in `out` stays."""
    for row in table["rows"]:
        found = read_results(out / row["dataset"] / row["method"])
        demand_some(found, f"pictures of {row['dataset']} ({row['method']})")


def shared_samples(runs: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[str]:
    """Ids of the pictures that every method answered."""
    good = [{i for i, r in run.items() if r["status"] == "ok"} for run in runs.values()]
    return sorted(set.intersection(*good)) if good else []


class Compared(TypedDict):
    """Methods on conditions; see `make_table`."""

    conditions: list[str]
    stream: dict[str, Any] | None
    rows: list[dict[str, Any]]
    means: dict[str, dict[str, Any]]
    averages: dict[str, float | None]
    seconds: dict[str, float | None]
    asked: dict[str, Any]
    warnings: list[str]
    settings: dict[str, Any]


def make_table(out: Path, settings: Mapping[str, Any], conditions: Sequence[str]) -> Compared:
    """A row a method and condition, on the pictures all methods could read.

    Args:
        settings: a `BenchmarkSettings`, as a dictionary.

    Returns:
        `conditions`, by name. `stream`: what online methods saw, None where there are none. `asked`: a condition's
        `Asked.record`. `warnings`, `settings`. `seconds`: method -> median a picture, all told. `averages`: method ->
        mean accuracy; `means`: the same of all of `MEASURES`, with intervals. `rows`, each with

        method, condition (also as `dataset`), n, skipped, constants; batch of online methods;
        top1 (also as `measured`) and its ci95; difference from the first method, difference_ci95, p, p_holm; in points;
        changed and moved, see `action`; scale: the published sets whose strengths the corruptions had;
        ece, brier, auroc_wrong, auroc_unknown, within_budget, shape, texture, shape_bias, see `comparison.trust`;
        seconds: the method's own, the median a picture, and times: how often the first method's;
        clean: the accuracy on the same data set as it is;
        intervals: name -> ci95, difference, difference_ci95, p of the last three lines' measures.

        Each of `TRUST` is a family of comparisons as accuracy is: all rows' differences in it, corrected as `p_holm`.
    """
    methods = settings["methods"]
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    asked: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {m: [] for m in methods}
    given = [read_given(out, condition, methods, bool(settings.get("out_set"))) for condition in conditions]
    clean: dict[str, str] = {}
    for g in given:
        base = right(next(iter(g.runs.values())))
        for method, run in g.runs.items():
            manifest = read_manifest(out / g.name / method)
            if manifest["settings"].get("corruption", "") is None:
                clean[g.pictures] = g.name
            found = base if run is g.runs[methods[0]] else right(run)
            rows.append(row(method, g.name, found, base) | action(run, g.runs[methods[0]]))
            rows[-1] |= {"skipped": g.skipped[method], "scale": sorted({r["scale"] for r in run if "scale" in r})}
            rows[-1] |= provenance(method, manifest)
            seconds[method] += read_timing(out / g.name / method).values()
            said = [*manifest.get("warnings", []), *manifest.get("notices", [])]
            warnings += [w for w in said if w not in warnings]
            asked[g.name] = manifest.get("asked")
    measured = Measured(given, settings.get("budget", BUDGET))
    for r in rows:
        r |= measures_of(measured, r["condition"], r["method"], clean)
    compared = [r for r in rows if "p" in r]
    for r, p in zip(compared, holm([r["p"] for r in compared]), strict=True):
        r["p_holm"] = p
    for family in TRUST:
        cells = [r["intervals"][family] for r in rows if r["intervals"][family].get("p") is not None]
        for cell, p in zip(cells, holm([cell["p"] for cell in cells]), strict=True):
            cell["p_holm"] = p
    return {
        "conditions": list(conditions),
        "stream": stream_of(settings),
        "rows": rows,
        "means": {m: {kind: measured.cell(conditions, m, kind) for kind in MEASURES} for m in methods},
        "averages": averages(rows, methods),
        "seconds": {m: round(float(np.median(s)), 4) if s else None for m, s in seconds.items()},
        "asked": asked,
        "warnings": warnings,
        "settings": public(settings),
    }


def read_given(out: Path, condition: str, methods: Sequence[str], unknown: bool) -> Given:
    """What the methods answered under a condition, of the pictures that all could read, and of its unknowns."""
    runs = answers(out, condition, methods)
    shared = shared_samples(runs)
    settings = read_manifest(out / condition / methods[0])["settings"]
    given = Given(condition, settings.get("data_fingerprint", condition))
    for method, run in runs.items():
        given.runs[method] = [run[i] for i in shared]
        given.skipped[method] = len(run) - len(shared)
        own = list(read_timing(out / condition / method, "own").values())
        given.seconds[method] = float(np.median(own)) if own else None
    strange = answers(out, f"{condition}-unknown", methods) if unknown else {}
    known = shared_samples(strange)
    given.unknown = {m: [run[i] for i in known] for m, run in strange.items()} if known else {}
    return given


def provenance(method: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Where a method's constants come from, and of an online one how many pictures it was given at once."""
    listed = LISTED[method].constants if method in LISTED else None
    found = {"constants": manifest.get("constants", listed)}
    stream = manifest["settings"].get("stream")
    return found | ({"batch": stream["batch"]} if stream else {})


def measures_of(measured: Measured, condition: str, method: str, clean: Mapping[str, str]) -> dict[str, Any]:
    """A row's trust and cost."""
    given = measured.given[condition]
    cells = {kind: measured.cell([condition], method, kind) for kind in MEASURES if kind != "top1"}
    as_it_is = [clean[given.pictures]] if given.pictures in clean else []
    cells["clean"] = measured.cell(as_it_is, method, "top1")
    if cells["shape_bias"]["value"] is None and cells["shape"]["value"] is None:  # no picture shows two classes
        cells = {kind: cell for kind, cell in cells.items() if kind not in ("shape", "texture", "shape_bias")}
    own, first = given.seconds.get(method), next(iter(given.seconds.values()))
    times = round(own / first, 2) if own is not None and first else None
    found = {kind: cell.pop("value") for kind, cell in cells.items()}
    return found | {"seconds": None if own is None else round(own, 5), "times": times, "intervals": cells}


def stream_of(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run's online methods saw, in figures and in words; None where it has none."""
    online = [m for m in settings["methods"] if method_class(m).stateful]
    if not online:
        return None
    asked = (settings.get("stream", "shuffled"), settings.get("seed", 0), settings.get("batch", 0))
    stream = parse_stream(*asked, settings.get("carry", False))
    return {**asdict(stream), "methods": online, "words": stream.words()}


def public(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as a record holds them: files and folders by their last names."""
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    kept |= {"data": [Path(d).name for d in settings["data"]], "train": Path(settings["train"]).name}
    kept |= {name: Path(settings.get(name, "")).name for name in ("classes", "out_set")}
    mae = settings["mae"]
    kept["mae"] = Path(mae).name if Path(mae).is_absolute() else mae
    return kept


def action(run: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What a method does to the first method's answers, both of the same pictures.

    Returns:
        `changed`: the share of other answers in percent; `moved`: the mean absolute change of the answer's probability.
        None where there are no pictures, or lines of before probabilities were kept.
    """
    if not run or any("p" not in r for r in (*run, *first)):
        return {"changed": None, "moved": None}
    changed = np.mean([a["class"] != b["class"] for a, b in zip(run, first, strict=True)])
    moved = np.mean([abs(a["p"] - b["p"]) for a, b in zip(run, first, strict=True)])
    return {"changed": round(100 * float(changed), 4), "moved": round(float(moved), 6)}


def cannot_act(changed: float | None, moved: float | None) -> bool:
    """The rule by which a method is marked as one that cannot act, rather than beaten: it changes next to nothing."""
    return changed is not None and moved is not None and changed <= STILL[0] and moved < STILL[1]


def row(method: str, condition: str, found: NDArray[np.float64], base: NDArray[np.float64]) -> dict[str, Any]:
    """Accuracy with its interval, and where `found` is not `base` itself the paired difference."""
    result: dict[str, Any] = {
        "method": method,
        "dataset": condition,
        "condition": condition,
        "measured": round(100 * float(found.mean()), 4) if len(found) else None,
        "ci95": interval(100 * found),
        "n": len(found),
        "difference": None,
        "difference_ci95": None,
        "p_holm": None,
    }
    result["top1"] = result["measured"]
    if found is not base:
        result |= {
            "difference": round(100 * float((found - base).mean()), 4) if len(found) else None,
            "difference_ci95": interval(100 * (found - base)),
            "p": mcnemar_exact(found, base),
        }
    return result


def averages(rows: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> dict[str, float | None]:
    """Each method's mean over the conditions, every condition counting alike."""
    found: dict[str, float | None] = {}
    for method in methods:
        values = [r["measured"] for r in rows if r["method"] == method and r["measured"] is not None]
        found[method] = round(float(np.mean(values)), 4) if values else None
    return found
