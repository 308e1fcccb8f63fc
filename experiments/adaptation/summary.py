"""What a run of test-time training found, from its lines alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from glom.errors import InputError, demand_some
from glom.runs.artifacts import read_manifest, read_results, read_timing
from glom.runs.events import Event, result_of
from glom.runs.statistics import interval, mcnemar_exact


class Summary(TypedDict):
    """What a run found; see `summary`."""

    corruption: str | None
    corrupt: str | None
    scale: list[str]
    n: int
    skipped: int
    failed: int
    iterations: float | None
    teacher_top1: float | None
    teacher_ci95: list[float] | None
    apm_top1: float | None
    apm_ci95: list[float] | None
    difference: float | None
    ci95: list[float] | None
    mcnemar_p: float | None
    oracle_top1: float | None
    agreement: float | None
    seconds_per_sample: float | None
    asked: dict[str, Any] | None
    warnings: list[str]


def demand_results(folder: Path) -> None:
    """Raise where no sample of a run has a result; see `demand_some`. What is in the folder stays."""
    demand_some(read_results(folder), f"samples of {read_manifest(folder)['settings']['data']}")


def summary(folder: Path) -> Summary:
    """The table of a run from its lines alone; accuracies in percent, agreement in 0-1, None without labels.

    `iterations` is the mean over samples (whole where all took as many); `difference` is APM minus teacher on the same
    samples, `ci95` its paired bootstrap interval, `mcnemar_p` exact; `teacher_ci95` and `apm_ci95` are of the
    accuracies themselves. `scale` names the published sets whose strengths the corruption had, applied at `corrupt`.
    """
    return result_of(summarising(folder))


def summarising(folder: Path) -> Iterator[Event[Summary]]:
    """As `summary`, with events while the samples are drawn anew for the intervals, seconds each for 50,000 of them."""
    manifest = read_manifest(folder)
    if manifest.get("kind") != "ttt":
        raise InputError(f"{folder} holds a {manifest.get('kind')} run, not a TTT run")
    records = read_results(folder)
    good = [r for r in records if r["status"] == "ok"]
    labelled = [r for r in good if r["label"] is not None]
    teacher = np.array([r["teacher"] == r["label"] for r in labelled], dtype=float)
    apm = np.array([r["apm"] == r["label"] for r in labelled], dtype=float)
    seconds = [s for i, s in read_timing(folder).items() if i in {r["id"] for r in good}]
    percent = lambda x: round(100 * float(np.mean(x)), 4) if len(x) else None  # noqa: E731
    steps = [r["iterations"] for r in good]
    held = manifest["settings"]
    resampled = {"teacher": teacher, "apm": apm, "difference": apm - teacher}
    intervals: dict[str, list[float] | None] = {}
    for done, (name, values) in enumerate(resampled.items()):
        yield Event("resampling", done, len(resampled))
        intervals[name] = interval(100 * values)
    found: Summary = {
        "corruption": held.get("corruption"),
        "corrupt": held.get("corrupt"),
        "scale": sorted({r["scale"] for r in records if "scale" in r}),
        "n": len(good),
        "skipped": sum(r["status"] == "skipped" for r in records),
        "failed": sum(r["status"] == "failed" for r in records),
        "iterations": steps[0] if len(set(steps)) == 1 else (round(float(np.mean(steps)), 1) if steps else None),
        "teacher_top1": percent(teacher),
        "teacher_ci95": intervals["teacher"],
        "apm_top1": percent(apm),
        "apm_ci95": intervals["apm"],
        "difference": round(100 * float(np.mean(apm - teacher)), 4) if len(apm) else None,
        "ci95": intervals["difference"],
        "mcnemar_p": round(mcnemar_exact(apm, teacher), 6) if len(apm) else None,
        "oracle_top1": percent([r["oracle"] for r in labelled]),
        "agreement": round(float(np.mean([r["teacher"] == r["apm"] for r in good])), 4) if good else None,
        "seconds_per_sample": round(float(np.mean(seconds)), 4) if seconds else None,
        "asked": manifest.get("asked"),
        "warnings": manifest.get("notices", []),
    }
    yield Event("resampling", len(resampled), len(resampled), result=found)
