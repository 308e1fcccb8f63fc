"""Settings of test-time training, checked at the door, and the presets with their sources."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from glom import execution
from glom.adaptation.objectives import get_objective
from glom.apm import INITIALISATIONS, APMConfig, preset
from glom.devices import native_bf16
from glom.errors import InputError, unknown

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("step", "cosine", "linear", "constant")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TTTSettings:
    """How one sample is adapted.

    Attributes:
        apm: name of the APM's preset.
        iterations: K, optimiser steps.
        objective: one of `glom.adaptation.objectives.OBJECTIVES`.
        optimiser: "adam", "adamw" or "sgd" (momentum 0.9).
        lr: the rate at the first step.
        schedule: "step" multiplies by `decay` every `decay_every` steps; "cosine" and "linear" fall to zero at K.
        decay, decay_every: of the step schedule.
        initialisation: "published", normal(0, 0.01) everywhere; "default", by fan-in; or "solve", by fan-in with the
            last bias solved for, so that the token is the teacher's before the first step: distilling one token is a
            linear problem once the trunk is fixed, and this exact answer is the baseline for what steps add.
        queries: location queries drawn for each step (a Latin hypercube sample), or None for the whole grid. The
            read-out that is classified always asks the whole grid.
        stop: "none", or "cosine:X" to stop once the token's cosine with the teacher's reaches X.
        precision: "fp32", or "bf16" for bf16 matrix products (autocast) around fp32 parameters.
        stack: samples adapted together with stacked weights; 0 for what suits the APM and the device. Equal to one by
            one up to rounding.
        execution: how the APM is run; never changes a result beyond rounding.
    """

    apm: str = "apm-ttt"
    iterations: int = 1200
    objective: str = "token-mse"
    optimiser: str = "adam"
    lr: float = 1e-4
    schedule: str = "step"
    decay: float = 0.1
    decay_every: int = 200
    initialisation: str = "published"
    queries: int | None = None
    stop: str = "none"
    precision: str = "fp32"
    stack: int = 0
    execution: str = "auto"

    def __post_init__(self) -> None:
        get_objective(self.objective)
        for kind, value, valid in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("initialisation", self.initialisation, (*INITIALISATIONS, "solve")),
            ("precision", self.precision, PRECISIONS),
            ("execution", self.execution, execution.EXECUTIONS),
        ):
            if value not in valid:
                raise unknown(kind, value, valid)
        if self.iterations < 1:
            raise InputError(f"iterations must be at least 1, got {self.iterations}")
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries must be at least 1, got {self.queries}")
        if self.stack < 0:
            raise InputError(f"samples at once must be at least 1, or 0 to choose, got {self.stack}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise InputError(f"the learning rate must be a positive number, got {self.lr}")
        self.stop_at  # noqa: B018  (validates)

    @property
    def stop_at(self) -> float | None:
        """The cosine that ends a sample early, or None."""
        if self.stop == "none":
            return None
        kind, _, value = self.stop.partition(":")
        try:
            cosine = float(value)
        except ValueError:
            cosine = math.nan
        if kind != "cosine" or not 0 < cosine <= 1:
            raise InputError(f"unknown stopping rule '{self.stop}'; valid: none, cosine:X with 0 < X <= 1")
        return cosine

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., K - 1."""
        if self.schedule == "step":
            return self.lr * self.decay ** (step // self.decay_every)
        done = step / self.iterations
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (1 - done) if self.schedule == "linear" else self.lr

    def config(self, teacher_width: int) -> APMConfig:
        """The APM's configuration for a teacher of that width; heads shrink to divide it."""
        base = preset(self.apm)
        heads = next(h for h in range(base.heads, 0, -1) if teacher_width % h == 0)
        config = replace(base, features=teacher_width, heads=heads)
        if "rgb" not in get_objective(self.objective).outputs:
            config = replace(config, rgb=None)  # parameters no loss reaches are not worth drawing
        return config


PRESETS: dict[str, TTTSettings] = {
    # Adam at 1e-4, a tenth every 200 steps, 1,200 steps, normal(0, 0.01): the released test-time code.
    "published": TTTSettings(),
    # Reaches cosine 0.999 and the same class in a small part of the time; see docs/ttt.md for how it was chosen.
    "fast": TTTSettings(iterations=60, lr=1e-3, schedule="cosine", initialisation="default", queries=32),
    # The closed form, and one step that finds nothing left to do.
    "exact": TTTSettings(iterations=1, lr=1e-6, schedule="constant", initialisation="solve"),
}


def ttt_preset(name: str, **changes: Any) -> TTTSettings:
    """The named settings with some replaced; None means unchanged.

    For the wide published trunks `fast` takes 40 steps at 4e-4, since 1e-3 overshoots there, and multiplies in bf16
    where the machine does so in hardware: its cosines stay above 0.999.

    Raises:
        InputError: no such preset, or a setting that cannot be.
    """
    if name not in PRESETS:
        raise unknown("TTT preset", name, PRESETS)
    settings = replace(PRESETS[name], **{k: v for k, v in changes.items() if v is not None})
    if name == "fast" and max(preset(settings.apm).trunk) > 2048:
        if changes.get("lr") is None:
            settings = replace(settings, lr=4e-4)
        if changes.get("iterations") is None:
            settings = replace(settings, iterations=40)
        if changes.get("precision") is None and native_bf16():
            settings = replace(settings, precision="bf16")
    return settings


def settings_for(teacher: str, preset: str = "fast", queries: int | None = None, **changes: Any) -> TTTSettings:
    """A preset's settings, with an APM that suits the teacher unless one is named.

    `published` is always the published APM. The others take the small ones for the small teachers that ship.
    `queries` 0 means the whole grid at every step.

    Raises:
        InputError: no such preset, or a setting that cannot be.
    """
    if preset != "published" and changes.get("apm") is None:
        changes["apm"] = {"glom-tiny": "apm-tiny", "efficientnet-lite0": "apm-small"}.get(teacher, "apm-ttt")
    settings = ttt_preset(preset, queries=queries or None, **changes)
    return replace(settings, queries=None) if queries == 0 else settings


def settings_dict(settings: TTTSettings) -> dict[str, Any]:
    """The settings that decide results (execution does not)."""
    values = asdict(settings)
    values.pop("execution")
    return values
