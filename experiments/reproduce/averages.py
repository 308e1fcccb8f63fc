"""Averages over conditions from what every method answered: intervals and p-values over pictures, not over answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison.table import action, answers, shared_samples
from experiments.comparison.trust import right
from experiments.reproduce.plan import Block, Line
from glom.runs.statistics import FEWEST, bootstrap_ci

RESAMPLES = 10_000
FLIPS = 100_000


class Answers:
    """What every method of a block answered, read once: {condition: (ids, {method: 1 where right})}."""

    def __init__(self, block: Block, places: Mapping[str, str], runs: Path) -> None:
        self.methods = [line.method for line in block.open_lines]
        self.specs = {places[c.title]: c.spec for c in block.open_columns if c.title in places}
        self.right: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.ids: dict[str, list[str]] = {}
        self.skipped: dict[str, int] = {}
        self.scale: dict[str, set[str]] = {}
        self.acted: dict[str, dict[str, dict[str, float | None]]] = {}
        for condition in self.specs:
            found = answers(runs, condition, self.methods)
            self.ids[condition] = ids = shared_samples(found)
            self.right[condition] = {m: right([run[i] for i in ids]) for m, run in found.items()}
            first = found[self.methods[0]]
            self.scale[condition] = {first[i]["scale"] for i in ids if "scale" in first[i]}
            base = [first[i] for i in ids]
            self.acted[condition] = {m: action([run[i] for i in ids], base) for m, run in found.items()}
            self.skipped[condition] = len(found[self.methods[0]]) - len(ids)

    def average(self, line: Line, conditions: Sequence[str]) -> dict[str, Any] | None:
        """A method's mean over conditions, each counting alike, and its paired differences from the other methods'."""
        if not all(self.ids[c] for c in conditions):
            return None
        groups = {c: (self.specs[c], *self.ids[c]) for c in conditions}
        value, interval = stratified({c: self.right[c][line.method] for c in conditions}, groups)
        found: dict[str, Any] = {"measured": value, "ci95": interval}
        found |= {"n": sum(len(self.ids[c]) for c in conditions), "skipped": sum(self.skipped[c] for c in conditions)}
        found["scale"] = sorted(set().union(*(self.scale[c] for c in conditions)))
        for what in ("changed", "moved"):
            values = [self.acted[c][line.method][what] for c in conditions]
            found[what] = None if None in values else round(float(np.mean([v for v in values if v is not None])), 6)
        found["versus"] = versus = {}
        for other in self.methods:
            if other != line.method:
                minus = {c: self.right[c][line.method] - self.right[c][other] for c in conditions}
                versus[other] = stratified(minus, groups)
                if other == self.methods[0]:
                    found["difference"], found["difference_ci95"] = versus[other]
                    found["p"] = sign_flip(minus, groups)
        return found


def grouped(
    values: Mapping[str, NDArray[np.float64]], pictures: Mapping[str, tuple[str, ...]]
) -> list[list[NDArray[np.float64]]]:
    """The conditions' values in percent, those of the same pictures together."""
    groups: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
    for condition, found in values.items():
        groups.setdefault(pictures[condition], []).append(100 * found)
    return list(groups.values())


def stratified(
    values: Mapping[str, NDArray[np.float64]], pictures: Mapping[str, tuple[str, ...]]
) -> tuple[float, list[float] | None]:
    """The mean of the conditions' means in percent, and its 95 % bootstrap interval; None below `FEWEST` pictures.

    Conditions of the same `pictures` (one data set under many corruptions) are resampled together, picture by picture;
    conditions of different pictures apart.
    """
    groups = grouped(values, pictures)
    value = float(np.mean([x.mean() for columns in groups for x in columns]))
    if min(len(columns[0]) for columns in groups) < FEWEST:
        return round(value, 4), None
    if len(groups) == 1:
        [columns] = groups
        low, high = bootstrap_ci(np.mean(columns, axis=0), resamples=RESAMPLES)
    else:
        rng = np.random.default_rng(0)
        total = sum(len(columns) for columns in groups)
        means = np.zeros(RESAMPLES)
        for columns in groups:
            x = np.mean(columns, axis=0)
            means += [x[rng.integers(0, len(x), len(x))].mean() * len(columns) / total for _ in range(RESAMPLES)]
        low, high = np.quantile(means, [0.025, 0.975])
    return round(value, 4), [round(float(low), 4), round(float(high), 4)]


def sign_flip(values: Mapping[str, NDArray[np.float64]], pictures: Mapping[str, tuple[str, ...]]) -> float:
    """Two-sided p-value of the mean of the conditions' mean paired differences (Fisher 1935, The
    Design of Experiments, section 21).

    Under the null hypothesis a picture's differences, all of its conditions together, might as well have the other
    sign. `FLIPS` draws of the signs, the observed ones counted among them, so that p is never below 1 / (FLIPS + 1).

    Args:
        values: condition -> (n,) differences of two methods, a picture each. pictures: condition -> what they are of.

    Returns:
        p in (0, 1]; 1.0 where the methods never differ.
    """
    weights: Counter[float] = Counter()
    observed = 0.0
    total = len(values)
    for columns in grouped(values, pictures):
        each = np.sum(columns, axis=0) / (len(columns[0]) * total)
        observed += float(each.sum())
        weights.update(np.round(np.abs(each[each != 0]), 12).tolist())
    # Pictures of equal weight: the sum of m random signs is 2 Binomial(m, 1/2) - m.
    rng, drawn = np.random.default_rng(0), np.zeros(FLIPS)
    for weight, count in sorted(weights.items()):
        drawn += weight * (2.0 * rng.binomial(count, 0.5, FLIPS) - count)
    return float((1 + np.sum(np.abs(drawn) >= abs(observed) - 1e-6)) / (1 + FLIPS))
