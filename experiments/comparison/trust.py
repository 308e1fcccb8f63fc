"""What a gain costs: calibration, errors that show, time; every measure with an interval over pictures.

    ece             expected calibration error, 15 bins
    brier           mean squared error of the probabilities, 0 to 2
    auroc_wrong     whether a right answer is surer than a wrong one; 0.5 is chance
    auroc_unknown   whether an answer for a picture of a known class is surer than one for a picture of the out-set
    within_budget   accuracy in points where all pictures together may take B times the first method's time: as many as
                    fit are the method's own answers, drawn by lot, and the others the first method's (the idea of
                    Alfarra et al. 2024: a method that is late does not answer)
    shape, texture  of the pictures whose shape and texture disagree, answers in points by either; shape_bias is
                    shape / (shape + texture) (Geirhos et al. 2019)
    top1            accuracy in points

Pictures are what is drawn again: one that was answered under fifteen corruptions is drawn with all fifteen answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glom.runs.calibration import Values, auroc, brier, calibration_error, draws, mean, percentiles, resampled_p

MEASURES = (
    "top1", "ece", "brier", "auroc_wrong", "auroc_unknown", "within_budget", "shape", "texture", "shape_bias",
)  # fmt: skip
TRUST = ("ece", "brier", "auroc_wrong", "auroc_unknown")  # each a family of comparisons of its own
Measure = Callable[[Values, Values], Values]
"""Weights of the pictures (R, n) and of the out-set's (R, m) -> (R,)."""
Records = Sequence[Mapping[str, Any]]


@dataclass
class Given:
    """What every method answered under one condition.

    Attributes:
        name: the condition. pictures: what it is of; conditions of the same pictures are drawn together.
        runs: method -> records, of the same pictures in the same order; the first method is the base.
        skipped: method -> pictures that were left out, as one of the methods has no answer.
        unknown: the same of the out-set's pictures; {} where there is none.
        seconds: method -> seconds a picture, None where that was not kept.
    """

    name: str
    pictures: str
    runs: dict[str, Records] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, Records] = field(default_factory=dict)
    seconds: dict[str, float | None] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        return [r["id"] for r in next(iter(self.runs.values()))]

    @property
    def unknown_ids(self) -> list[str]:
        return [r["id"] for r in next(iter(self.unknown.values()), ())]


def fits(seconds: float, base: float, budget: float) -> float:
    """The share of pictures that a method answers itself where all may take `budget` times the base's seconds.

    Example:
        >>> fits(2.0, 1.0, 3.0), fits(5.0, 1.0, 3.0)
        (1.0, 0.5)
    """
    return 1.0 if seconds <= budget * base else (budget - 1) * base / (seconds - base)


def measures(given: Given, method: str, budget: float) -> dict[str, Measure]:
    """What can be measured of a method's lines: those of before probabilities were kept allow less."""
    run, base = given.runs[method], next(iter(given.runs.values()))
    correct = right(run)
    found: dict[str, Measure] = {"top1": lambda w, u: mean(w, 100 * correct)}
    if run and all("p" in r for r in run):
        p = np.array([r["p"] for r in run])
        found["ece"] = lambda w, u: calibration_error(w, p, correct)
        found["auroc_wrong"] = lambda w, u: auroc(w, p, correct)
        unknown = given.unknown.get(method, ())
        if unknown:
            both = np.concatenate([p, [r["p"] for r in unknown]])
            known = np.arange(len(both)) < len(p)
            found["auroc_unknown"] = lambda w, u: auroc(np.concatenate([w, u], axis=1), both, known)
    if run and all("squares" in r for r in run):
        scores = brier([r["squares"] for r in run], [r["p_label"] for r in run])
        found["brier"] = lambda w, u: mean(w, scores)
    own, first = given.seconds.get(method), next(iter(given.seconds.values()), None)
    if own is not None and first is not None:
        share = fits(own, first, budget)
        mixed = 100 * (share * correct + (1 - share) * right(base))
        found["within_budget"] = lambda w, u: mean(w, mixed)
    return found | _by_texture(run)


def _by_texture(run: Records) -> dict[str, Measure]:
    """Of pictures with a label of their texture too: answers by shape and by texture, where the two disagree."""
    if not any("texture" in r for r in run):
        return {}
    conflict = np.array([r.get("texture") != r["label"] for r in run], dtype=float)
    shape = conflict * right(run)
    texture = conflict * np.array([r["class"] == r.get("texture") for r in run], dtype=float)
    return {
        "shape": lambda w, u: mean(w * conflict, 100 * shape),
        "texture": lambda w, u: mean(w * conflict, 100 * texture),
        "shape_bias": lambda w, u: mean(w * (shape + texture), shape),
    }


def right(run: Records) -> Values:
    """(n,): 1 where the method's class is the label, else 0."""
    return np.array([r["class"] == r["label"] for r in run], dtype=np.float64)


class Measured:
    """Every measure of every method and condition: its value, and its values over resampled pictures."""

    def __init__(self, given: Sequence[Given], budget: float) -> None:
        self.given = {g.name: g for g in given}
        self.values: dict[tuple[str, str, str], float] = {}
        self.drawn: dict[tuple[str, str, str], Values] = {}
        for pictures in dict.fromkeys(g.pictures for g in given):
            self._measure([g for g in given if g.pictures == pictures], budget)

    def _measure(self, group: Sequence[Given], budget: float) -> None:
        ids, unknown = sorted({i for g in group for i in g.ids}), sorted({i for g in group for i in g.unknown_ids})
        place, other = {x: n for n, x in enumerate(ids)}, {x: n for n, x in enumerate(unknown)}
        columns = {g.name: ([place[i] for i in g.ids], [other[i] for i in g.unknown_ids]) for g in group}
        wanted = {(g.name, method): measures(g, method, budget) for g in group for method in g.runs}

        def all_of(w: Values, u: Values) -> dict[tuple[str, str, str], Values]:
            found: dict[tuple[str, str, str], Values] = {}
            for name, (own, strange) in columns.items():
                weights = w[:, own], u[:, strange]
                for (condition, method), kinds in wanted.items():
                    if condition == name:
                        found |= {(name, method, kind): measure(*weights) for kind, measure in kinds.items()}
            return found

        if not ids:
            return
        ones = all_of(np.ones((1, len(ids))), np.ones((1, len(unknown))))
        self.values |= {key: float(value[0]) for key, value in ones.items()}
        parts = [all_of(w, u) for w, u in draws(len(ids), len(unknown))]
        self.drawn |= {key: np.concatenate([part[key] for part in parts]) for key in ones}

    def cell(self, conditions: Sequence[str], method: str, kind: str) -> dict[str, Any]:
        """A measure, or its mean over conditions, with its interval and its paired difference from the first method's.

        Returns:
            {"value", "ci95", "difference", "difference_ci95", "p"}; None for what is not to be had.
        """
        empty = dict.fromkeys(("value", "ci95", "difference", "difference_ci95", "p"))
        keys = [(condition, method, kind) for condition in conditions]
        if not keys or any(not np.isfinite(self.values.get(key, np.nan)) for key in keys):
            return empty
        n = min(len(self.given[condition].ids) for condition in conditions)
        value, drawn = self._mean(keys)
        found = {**empty, "value": round(value, 4), "ci95": percentiles(drawn, n)}
        firsts = [(condition, next(iter(self.given[condition].runs)), kind) for condition in conditions]
        if firsts != keys and all(np.isfinite(self.values.get(key, np.nan)) for key in firsts):
            base, again = self._mean(firsts)
            found |= {"difference": round(value - base, 4), "difference_ci95": percentiles(drawn - again, n)}
            found["p"] = resampled_p(value - base, drawn - again, n)
        return found

    def _mean(self, keys: Sequence[tuple[str, str, str]]) -> tuple[float, Values]:
        return float(np.mean([self.values[k] for k in keys])), np.mean([self.drawn[k] for k in keys], axis=0)
