"""The paired table of a benchmark, from the lines of its folders alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glom.errors import demand_some
from glom.runs.artifacts import read_json, read_results, read_timing
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


def right(run: Mapping[str, dict[str, Any]], ids: Sequence[str]) -> NDArray[np.float64]:
    """1 where the method's class is the label, else 0."""
    return np.array([run[i]["class"] == run[i]["label"] for i in ids], dtype=float)


def make_table(out: Path, settings: Mapping[str, Any], conditions: Sequence[str]) -> dict[str, Any]:
    """A row a method and condition, on the pictures all methods could read.

    Args:
        settings: a `BenchmarkSettings`, as a dictionary.

    Returns:
        {"rows": [{"method", "dataset", "measured", "ci95", "n", "skipped", "difference", "difference_ci95", "p",
        "p_holm", "scale"}], "averages", "seconds", "asked", "warnings", "settings"}; accuracies and differences in
        points, `difference` from the first method, `seconds` the median a picture, `asked` a condition's
        `Asked.record`; `scale` names the published sets whose strengths the corruptions had.
    """
    methods = settings["methods"]
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    asked: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {m: [] for m in methods}
    for condition in conditions:
        runs = answers(out, condition, methods)
        shared = shared_samples(runs)
        base: NDArray[np.float64] | None = None
        first = runs[methods[0]]
        for method, run in runs.items():
            found = right(run, shared)
            base = found if base is None else base
            scale = sorted({run[i]["scale"] for i in shared if "scale" in run[i]})
            acted = action([run[i] for i in shared], [first[i] for i in shared])
            rows.append(
                {**row(method, condition, found, base), "skipped": len(run) - len(shared), "scale": scale, **acted}
            )
            place = out / condition / method
            seconds[method] += read_timing(place).values()
            manifest = read_json(place / "manifest.json")
            said = [*manifest.get("warnings", []), *manifest.get("notices", [])]
            warnings += [w for w in said if w not in warnings]
            asked[condition] = manifest.get("asked")
    compared = [r for r in rows if "p" in r]
    for r, p in zip(compared, holm([r["p"] for r in compared]), strict=True):
        r["p_holm"] = p
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    kept |= {"data": [Path(d).name for d in settings["data"]], "train": Path(settings["train"]).name}
    kept["classes"] = Path(settings.get("classes", "")).name
    mae = settings["mae"]
    kept["mae"] = Path(mae).name if Path(mae).is_absolute() else mae
    return {
        "rows": rows,
        "averages": averages(rows, methods),
        "seconds": {m: round(float(np.median(s)), 4) if s else None for m, s in seconds.items()},
        "asked": asked,
        "warnings": warnings,
        "settings": kept,
    }


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
        "measured": round(100 * float(found.mean()), 4) if len(found) else None,
        "ci95": interval(100 * found),
        "n": len(found),
    }
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
