"""How many steps, at which rate, asking how many locations: what it takes to reach the teacher's token."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TypedDict

import numpy as np

from experiments.adaptation.run import load_cases, prepare
from experiments.adaptation.settings import StepsSettings, TTTRun
from glom.adaptation.settings import settings_for
from glom.adaptation.ttt import adapt_group, stack_size
from glom.runs.events import Event

ENOUGH = 0.999  # the cosine below which a distillation is not called done


class Row(TypedDict):
    """One setting: what was asked, and how near its machines came to the teacher."""

    apm: str
    start: str
    rate: float
    steps: int
    queries: int
    cosine_min: float
    cosine_median: float
    enough: bool
    agreement: float
    n: int
    seconds_per_sample: float


class Steps(TypedDict):
    """A row a setting."""

    rows: list[Row]


def run(settings: StepsSettings) -> Iterator[Event[Steps]]:
    """A row a setting: smallest and median cosine, agreement with the teacher, seconds a sample.

    The closed form (`exact`) comes last: what is left for steps to do.
    """
    base = settings_for(settings.teacher, "fast", apm=settings.apm)
    request = TTTRun(
        data=settings.data, teacher=settings.teacher, ttt=base, limit=settings.limit, seed=settings.seed, device="cpu"
    )
    ready = prepare(request)
    cases = load_cases(request, ready)
    trials = [
        (replace(base, lr=rate, iterations=steps, queries=queries or None), queries)
        for rate, steps, queries in itertools.product(settings.rates, settings.steps, settings.queries)
    ]
    trials.append((settings_for(settings.teacher, "exact", apm=base.apm), 0))
    rows: list[Row] = []
    for ttt, queries in trials:
        yield Event("adapting", len(rows), len(trials))
        stack = stack_size(ttt, "cpu")
        started = time.perf_counter()
        groups = [cases[i : i + stack] for i in range(0, len(cases), stack)]
        results = [r for group in groups for r in adapt_group(group, ttt, ready.head, settings.seed)]
        seconds = (time.perf_counter() - started) / len(cases)
        cosines = np.array([r.cosine for r in results])
        rows.append(
            {
                "apm": ttt.apm,
                "start": ttt.initialisation,
                "rate": ttt.lr,
                "steps": ttt.iterations,
                "queries": queries,
                "cosine_min": round(float(np.nanmin(cosines)), 5),
                "cosine_median": round(float(np.nanmedian(cosines)), 5),
                "enough": bool(np.nanmin(cosines) >= ENOUGH),
                "agreement": round(float(np.mean([r.apm_class == r.teacher_class for r in results])), 4),
                "n": len(results),
                "seconds_per_sample": round(seconds, 4),
            }
        )
    yield Event("adapting", len(rows), len(trials), result={"rows": rows})
