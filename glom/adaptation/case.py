"""A sample that is adapted to: what is known of it before, what is written down on the way, what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from torch import Tensor

from glom.apm import AsynchronousPerceptionMachine


@dataclass(frozen=True)
class Case:
    """One sample ready to be adapted: the folded picture and what the teacher said of it.

    Attributes:
        id, label: as in the data set; label None where there is none.
        picture: (3, S, S), see `glom.columns.picture`.
        token: (F,), the teacher's.
        grid: (h, w, F) or None.
        scale: whose strengths its corruption had, "" without one.
    """

    id: str
    label: int | None
    picture: Tensor
    token: Tensor
    grid: Tensor | None = None
    scale: str = ""


_Class = TypedDict("_Class", {"class": int})


class Step(_Class):
    """What is read at one iteration: `class`, the predicted one's number, its probability, the loss on the way."""

    iteration: int
    loss: float | None
    cosine: float
    probability: float


@dataclass(frozen=True)
class Adaptation:
    """What one sample's adaptation gave.

    Attributes:
        id, label: the sample's.
        token: (F,), the adapted APM's token over the whole grid, after the last step.
        teacher_class, apm_class: predictions from the teacher's and from the adapted token.
        oracle: whether any iteration's prediction was right (a diagnostic, never a result); None without a label.
        cosine: cosine of `token` with the teacher's.
        loss: the loss before the last step.
        steps: optimiser steps taken.
        trace: what was read at each iteration, when asked for.
        failed: why the sample failed, or "".
        apm: the adapted network, when asked for.
    """

    id: str
    label: int | None
    token: Tensor
    teacher_class: int
    apm_class: int
    oracle: bool | None
    cosine: float
    loss: float
    steps: int
    trace: tuple[Step, ...] = ()
    failed: str = ""
    apm: AsynchronousPerceptionMachine | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """The line in `results.jsonl`."""
        if self.failed:
            return {"id": self.id, "status": "failed", "label": self.label, "reason": self.failed}
        right = None if self.label is None else self.apm_class == self.label
        return {
            "id": self.id,
            "status": "ok",
            "label": self.label,
            "teacher": self.teacher_class,
            "apm": self.apm_class,
            "correct": right,
            "oracle": self.oracle,
            "cosine": float(f"{self.cosine:.6g}"),
            "loss": float(f"{self.loss:.4g}"),
            "iterations": self.steps,
        }


class Notes:
    """What is written down of one sample while it is adapted."""

    def __init__(self, case: Case) -> None:
        self.case, self.teacher_class = case, -1
        self.classes: list[int] = []
        self.trace: list[Step] = []
        self.cosine = self.loss = math.nan
        self.steps, self.failed = 0, ""
        self.state: dict[str, Tensor] = {}

    def take(self, iteration: int, said: Sequence[float], stop_at: float | None) -> bool:
        """Write one step down: its loss, cosine, probability and class; whether another follows."""
        loss, cosine, probability, predicted = said
        self.loss = loss
        if not math.isfinite(loss):
            self.failed = f"the loss turned {loss} at iteration {iteration + 1}"
            return False
        self.see(iteration, loss, int(predicted), probability, cosine)
        if stop_at is not None and cosine >= stop_at:
            return False
        self.steps = iteration + 1
        return True

    def see(self, iteration: int, loss: float | None, predicted: int, probability: float, cosine: float) -> None:
        self.classes.append(predicted)
        self.cosine = cosine
        step: Step = {"iteration": iteration, "loss": loss, "cosine": cosine, "class": predicted,
                      "probability": probability}  # fmt: skip
        self.trace.append(step)
