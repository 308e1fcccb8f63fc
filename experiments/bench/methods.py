"""What one more training-free method costs a benchmark: views and pictures are made once for all of them.

    cost = (seconds of all the methods that train nothing - seconds of one) / (how many more x seconds of one)

measured over the same pictures in one process, from reading the picture to the class; the one makes the views.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from experiments.bench.going import SILENT, Going
from experiments.bench.methods_settings import MethodsBenchSettings
from experiments.bench.timing import clock, spread
from experiments.comparison.answers import shown
from experiments.comparison.conditions import base_task, open_conditions, task_of
from experiments.comparison.settings import BenchmarkSettings
from glom.methods import make_method
from glom.methods.views import ViewCache
from glom.runs.seeds import sample_seed

WANTED = 1.03


def run_methods(asked: MethodsBenchSettings, tell: Going = SILENT) -> dict[str, Any]:
    """`times` a benchmark of one such method that one more makes, its spread, and each method's share.

    Raises:
        InputError: a data set or a teacher that is not here.
    """
    s = asked
    run = BenchmarkSettings(
        methods=s.methods, data=(s.data,), corruptions=(s.corruption,), teacher=s.teacher, limit=s.limit, device="cpu"
    )
    task = base_task(run)
    [condition] = open_conditions(run, task.teacher)
    seconds: dict[str, list[float]] = {name: [] for name in s.methods}
    tell.expect((s.rounds + 1) * len(s.methods))
    for number in range(-1, s.rounds):
        own = replace(task_of(condition, task), views=ViewCache())
        for name in s.methods:
            method = make_method(name, own, False)
            begun = clock()
            for sample in condition.dataset.samples:
                image = shown(sample, condition, own, 0)
                method.predict(image, sample_seed(0, sample.id, "method"))
            taken = clock() - begun
            tell.row(name, taken, round=number + 1)
            if number >= 0:
                seconds[name].append(taken)
    first, *others = (seconds[name] for name in s.methods)
    shares = {n: [m / f for m, f in zip(seconds[n], first, strict=True)] for n in s.methods[1:]}
    times = [1 + sum(more) / len(others) / f for f, *more in zip(first, *others, strict=True)]
    found = {"times": spread(times), "wanted": WANTED, "seconds": spread(first)}
    return {**found, "shares": {n: spread(x) for n, x in shares.items()}, "asked": asdict(s)}
