"""Test-time training: distil the teacher's token once, overfit, classify, reset - for every picture anew.

    token* = teacher(I)                               once
    for k in 1..K:  theta <- Adam(theta, grad L(APM_theta(I), token*))
    class  = argmax head(APM_theta(I))                read after the last step, a rule fixed in advance

(Modi & Rawat, NeurIPS 2024, section 3 and the released code for the published settings.)

Everything that belongs to a sample - weights, optimiser, schedule, random numbers - starts afresh with it. Its seed
comes from the run's seed and its id, so that order, resumption and sharding change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glom import execution
from glom.apm import INITIALISATIONS, APMConfig, AsynchronousPerceptionMachine, Percept, preset
from glom.errors import InputError, unknown
from glom.objectives import Targets, get_objective
from glom.seeds import sample_seed
from glom.teachers.base import ZeroShotHead

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("step", "cosine", "linear", "constant")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TTTSettings:
    """How one sample is adapted.

    Attributes:
        apm: name of the APM's preset.
        iterations: K, optimiser steps.
        objective: one of `glom.objectives.OBJECTIVES`.
        optimiser: "adam", "adamw" or "sgd" (momentum 0.9).
        lr: the rate at the first step.
        schedule: "step" multiplies by `decay` every `decay_every` steps; "cosine" and "linear" fall to zero at K.
        decay, decay_every: of the step schedule.
        initialisation: "published", normal(0, 0.01) everywhere, or "default", by fan-in.
        queries: location queries drawn at random for each step, or None for the whole grid. The read-out that is
            classified always asks the whole grid.
        stop: "none", or "cosine:X" to stop once the token's cosine with the teacher's reaches X.
        precision: "fp32", or "bf16" for bf16 matrix products (autocast) around fp32 parameters.
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
    execution: str = "auto"

    def __post_init__(self) -> None:
        get_objective(self.objective)
        for kind, value, valid in (
            ("optimiser", self.optimiser, OPTIMISERS),
            ("schedule", self.schedule, SCHEDULES),
            ("initialisation", self.initialisation, INITIALISATIONS),
            ("precision", self.precision, PRECISIONS),
            ("execution", self.execution, execution.EXECUTIONS),
        ):
            if value not in valid:
                raise unknown(kind, value, valid)
        if self.iterations < 1:
            raise InputError(f"iterations must be at least 1, got {self.iterations}")
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries must be at least 1, got {self.queries}")
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
    "fast": TTTSettings(iterations=60, lr=1e-3, schedule="cosine", initialisation="default", queries=64, stop="none"),
}


def ttt_preset(name: str, **changes: Any) -> TTTSettings:
    """The named settings with some replaced; None means unchanged."""
    if name not in PRESETS:
        raise unknown("TTT preset", name, PRESETS)
    return replace(PRESETS[name], **{k: v for k, v in changes.items() if v is not None})


@dataclass(frozen=True)
class Case:
    """One sample ready to be adapted: the folded picture and what the teacher said of it.

    Attributes:
        id, label: as in the data set; label None where there is none.
        picture: (3, S, S), see `glom.columns.picture`.
        token: (F,), the teacher's.
        grid: (h, w, F) or None.
    """

    id: str
    label: int | None
    picture: Tensor
    token: Tensor
    grid: Tensor | None = None


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
        trace: per iteration `{"iteration", "loss", "cosine", "class"}`, when asked for.
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
    trace: tuple[dict[str, Any], ...] = ()
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


def adapt(
    case: Case,
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep_trace: bool = False,
    keep_apm: bool = False,
    progress: Any = None,
) -> Adaptation:
    """Adapt a fresh APM to one sample and classify.

    Args:
        case: the sample.
        settings: how.
        head: turns a token into class scores; on any device.
        seed: the run's; the sample's own follows from it and `case.id`.
        keep_trace, keep_apm: fill `Adaptation.trace`, `.apm`.
        progress: called with (apm, iteration) after every step, for films and figures.

    Raises:
        InputError: targets that do not fit the objective. A loss that turns NaN is not raised: it is `failed`.
    """
    objective = get_objective(settings.objective)
    device = torch.device(device)
    generator = torch.Generator().manual_seed(sample_seed(seed, case.id, "ttt"))
    apm = AsynchronousPerceptionMachine(settings.config(len(case.token)))
    apm.reset(generator, settings.initialisation)
    apm.to(device)
    images = case.picture[None].to(device)
    targets = Targets(
        token=case.token[None].to(device, torch.float32),
        grid=None if case.grid is None else case.grid[None].to(device, torch.float32),
        picture=images,
    )
    optimiser = make_optimiser(apm, settings)
    everywhere = apm.default_queries(images)
    head_on = replace(head, weights=head.weights.to(device), bias=None if head.bias is None else head.bias.to(device))
    teacher_class = int(head_on(targets.token).argmax(-1))
    seen: list[int] = []
    trace: list[dict[str, Any]] = []
    loss_value, steps = math.nan, 0

    def look(token: Tensor, iteration: int, loss: float | None) -> float:
        """Note the prediction of this iteration; returns the cosine with the teacher's token."""
        predicted = int(head_on(token).argmax(-1))
        cosine = float(F.cosine_similarity(token.float(), targets.token, dim=-1))
        seen.append(predicted)
        if keep_trace:
            trace.append({"iteration": iteration, "loss": loss, "cosine": cosine, "class": predicted})
        return cosine

    def failed(reason: str) -> Adaptation:
        token = torch.full_like(case.token, math.nan)
        return Adaptation(case.id, case.label, token, teacher_class, -1, None, math.nan, math.nan, steps, failed=reason)

    for step in range(settings.iterations):
        queries = subset(everywhere, settings.queries, generator)
        percept = _run(apm, images, queries, objective.outputs, settings)
        loss = objective.loss(percept, targets, queries).sum()
        loss_value = float(loss.detach())
        if not math.isfinite(loss_value):
            return failed(f"the loss turned {loss_value} at iteration {step + 1}")
        assert percept.token is not None
        cosine = look(percept.token.detach(), step, loss_value)
        if settings.stop_at is not None and cosine >= settings.stop_at:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        steps += 1
        if progress is not None:
            progress(apm, steps)

    with torch.no_grad():
        token = _run(apm, images, everywhere, ("token",), settings).token
    assert token is not None
    if not bool(torch.isfinite(token).all()):
        return failed(f"the token is not finite after iteration {steps}")
    cosine = look(token, steps, None)
    return Adaptation(
        id=case.id,
        label=case.label,
        token=token[0].float().cpu(),
        teacher_class=teacher_class,
        apm_class=seen[-1],
        oracle=None if case.label is None else case.label in seen,
        cosine=cosine,
        loss=loss_value,
        steps=steps,
        trace=tuple(trace),
        apm=apm if keep_apm else None,
    )


def make_optimiser(module: torch.nn.Module, settings: TTTSettings) -> torch.optim.Optimizer:
    """A fresh optimiser; fused where PyTorch has it, which changes the time and not the step."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), lr=settings.lr, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(module.parameters(), lr=settings.lr, fused=True)


def subset(queries: Tensor, count: int | None, generator: torch.Generator) -> Tensor:
    """`count` of the queries drawn without replacement, or all of them."""
    if count is None or count >= len(queries):
        return queries
    return queries[torch.randperm(len(queries), generator=generator)[:count].to(queries.device)]


def _run(
    apm: AsynchronousPerceptionMachine, images: Tensor, queries: Tensor, outputs: Sequence[str], settings: TTTSettings
) -> Percept:
    with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        return execution.run(apm, images, queries, tuple(outputs), settings.execution)


def adapt_all(
    cases: Iterable[Case],
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Adaptation]:
    """Adapt each case in turn, everything reset between them; one result per case, in order."""
    for case in cases:
        yield adapt(case, settings, head, seed, device)


def settings_dict(settings: TTTSettings) -> dict[str, Any]:
    """The settings that decide results (execution does not)."""
    values = asdict(settings)
    values.pop("execution")
    return values
