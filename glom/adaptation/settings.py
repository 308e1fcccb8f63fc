"""Settings of test-time training, checked at the door, and the presets with their sources."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from glom.devices import PRODUCTS
from glom.errors import InputError, unknown
from glom.settings import Settings, setting
from glom.teachers.registry import LITE

if TYPE_CHECKING:
    from glom.apm import APMConfig

SCHEDULES = ("step", "cosine", "linear", "constant")
OF_PRESET = "the preset's"


@dataclass(frozen=True, kw_only=True)
class TTTSettings(Settings):
    """How one sample is adapted. The optimiser "sgd" has momentum 0.9.

    `initialisation`: "published", normal(0, 0.01) everywhere; "default", by fan-in; or "solve", by fan-in with the
    last bias solved for, so that the token is the teacher's before the first step: distilling one token is a linear
    problem once the trunk is fixed, and this exact answer is the baseline for what steps add. The first two draw
    every sample's machine anew; "solve" draws one for the run, from its seed, and every sample starts from that.
    `queries` are drawn for each step (a Latin hypercube sample); the read-out that is classified always asks the
    whole grid. Samples that are stacked equal those adapted one by one, up to rounding, and `execution` changes no
    result beyond that either.
    """

    apm: str = setting("apm-ttt", "The machine's preset: apm-ttt, apm-full, apm-small, apm-tiny.", shown=OF_PRESET)
    iterations: int = setting(1200, "Optimiser steps a sample; 0: none.", least=0, metavar="K", shown=OF_PRESET)
    objective: str = setting("token-mse", "token-mse, token-cosine, token+grid, ...")
    optimiser: str = setting("adam", choices=("adam", "adamw", "sgd"))
    lr: float = setting(1e-4, "Learning rate at the first step.", above=0, shown=OF_PRESET)
    schedule: str = setting(
        "step", "step (times `decay`), cosine, linear or constant.", choices=SCHEDULES, shown=OF_PRESET
    )
    decay: float = setting(0.1, "What the step schedule multiplies the rate by.")
    decay_every: int = setting(200, "Steps between two decays.", least=1)
    initialisation: str = setting(
        "published", "published (normal(0, 0.01)), default, or solve.", key="init", shown=OF_PRESET
    )
    queries: int | None = setting(None, "Location queries drawn a step; 0 for all.", shown=OF_PRESET)
    stop: str = setting("none", "none, or cosine:X to stop once the token is that near the teacher's.")
    precision: str = setting("fp32", "fp32, tf32 or bf16 matrix products.", choices=PRODUCTS, shown=OF_PRESET)
    stack: int = setting(0, "Samples adapted together; 0 to choose.", least=0, metavar="S")
    execution: str = setting("auto", "auto, plain, folded, streamed.")
    graphs: bool = setting(True, "On a CUDA device, launch every step anew: replay no recorded one.")

    def __post_init__(self) -> None:
        from glom.adaptation.objectives import get_objective
        from glom.apm import INITIALISATIONS
        from glom.execution import EXECUTIONS

        super().__post_init__()
        get_objective(self.objective)
        for kind, value, valid in (
            ("initialisation", self.initialisation, (*INITIALISATIONS, "solve")),
            ("execution", self.execution, EXECUTIONS),
        ):
            if value not in valid:
                raise unknown(kind, value, valid)
        if self.queries is not None and self.queries < 1:
            raise InputError(f"`queries` must be at least 1, or 0 for all, got {self.queries}")
        self.stop_at  # noqa: B018  (validates)

    @property
    def stop_at(self) -> float | None:
        """The cosine that ends a sample early, or None. Raises `InputError` for a rule that is none."""
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

    @property
    def solved(self) -> bool:
        """Whether the last bias is solved for."""
        return self.initialisation == "solve"

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., K - 1."""
        if self.schedule == "step":
            return self.lr * self.decay ** (step // self.decay_every)
        done = step / self.iterations
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr * (1 - done) if self.schedule == "linear" else self.lr

    def config(self, teacher_width: int) -> APMConfig:
        """The APM's configuration for a teacher whose token is `teacher_width` wide; heads shrink to divide it."""
        from glom.adaptation.objectives import get_objective
        from glom.apm import preset

        base = preset(self.apm)
        heads = next(h for h in range(base.heads, 0, -1) if teacher_width % h == 0)
        config = replace(base, features=teacher_width, heads=heads)
        if "rgb" not in get_objective(self.objective).outputs:
            config = replace(config, rgb=None)  # parameters no loss reaches are not worth drawing
        return config


@dataclass(frozen=True, kw_only=True)
class OverfitSettings(Settings):
    """How one picture is overfit: Adam, whose rate falls to zero as a cosine.

    A step asks `points` x `points` locations, each drawn at random within its cell, or `subset` of them without
    replacement. `execution` is one of `glom.execution.EXECUTIONS` and never changes a result beyond rounding.
    """

    iterations: int = setting(300, "Optimiser steps.", least=1, metavar="K")
    points: int = setting(24, "Side of the lattice of locations a step.", least=1)
    lr: float = setting(2e-3, "Rate at the start.", above=0)
    precision: str = setting("fp32", "fp32, tf32 or bf16 products.", choices=PRODUCTS)
    subset: int = setting(0, "Locations of them asked in a step; 0: all.", least=0)
    execution: str = setting("auto", "auto, plain, folded, streamed.")


PRESETS: dict[str, dict[str, Any]] = {
    # Adam at 1e-4, a tenth every 200 steps, 1,200 steps, normal(0, 0.01): the released test-time code.
    "published": {},
    # Reaches cosine 0.999 and the same class in a small part of the time; see docs/ttt.md for how it was chosen.
    "fast": {"iterations": 60, "lr": 1e-3, "schedule": "cosine", "initialisation": "default", "queries": 32},
    # The closed form, which leaves nothing for a step to do.
    "exact": {"iterations": 0, "initialisation": "solve"},
}


def ttt_preset(name: str, **changes: Any) -> TTTSettings:
    """The settings called `name` with some replaced by `changes`; None means unchanged.

    For the wide published trunks `fast` takes 40 steps at 4e-4, since 1e-3 overshoots there. Where the machine
    multiplies in bf16 in hardware, it does so for those trunks, and its cosines stay above 0.999; so does `exact` for
    every trunk, which solves for the last bias, kept in float32, in the arithmetic that it is read in.

    Raises:
        InputError: no such preset, or a setting that cannot be.
    """
    from glom.apm import preset
    from glom.devices import native_bf16

    if name not in PRESETS:
        raise unknown("TTT preset", name, PRESETS)
    settings = TTTSettings(**{**PRESETS[name], **{k: v for k, v in changes.items() if v is not None}})
    wide = max(preset(settings.apm).trunk) > 2048
    if name == "fast" and wide:
        if changes.get("lr") is None:
            settings = replace(settings, lr=4e-4)
        if changes.get("iterations") is None:
            settings = replace(settings, iterations=40)
    low = name == "exact" or (name == "fast" and wide)
    if low and changes.get("precision") is None and native_bf16():
        settings = replace(settings, precision="bf16")
    return settings


def settings_for(teacher: str, preset: str = "fast", queries: int | None = None, **changes: Any) -> TTTSettings:
    """A preset's settings, with an APM that suits the teacher unless one is named.

    Args:
        teacher: its name.
        preset: one of `ttt_preset`. `published` is always the published APM; the others take the small ones for the
            small teachers that ship.
        queries: locations asked in a step; 0: the whole grid; None: the preset's.
        changes: any other field of `TTTSettings`; None means unchanged.

    Raises:
        InputError: no such preset, or a setting that cannot be.
    """
    if preset != "published" and changes.get("apm") is None:
        changes["apm"] = {"glom-tiny": "apm-tiny", **dict.fromkeys(LITE, "apm-small")}.get(teacher, "apm-ttt")
    settings = ttt_preset(preset, queries=queries or None, **changes)
    return replace(settings, queries=None) if queries == 0 else settings


def settings_dict(settings: TTTSettings) -> dict[str, Any]:
    """The settings that decide results (execution and graphs do not)."""
    return {name: value for name, value in asdict(settings).items() if name not in ("execution", "graphs")}
