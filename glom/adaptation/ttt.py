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
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from glom import execution
from glom.adaptation.objectives import Targets, get_objective
from glom.adaptation.settings import TTTSettings
from glom.apm import AsynchronousPerceptionMachine, Percept, blank_apm
from glom.execution import Locations, StackedAPM
from glom.runs.seeds import sample_seed
from glom.teachers.heads import ZeroShotHead

BLOCK = 16  # samples read, corrupted and encoded at once, one block ahead of the adaptation


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


def adapt(
    case: Case,
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep_trace: bool = False,
    keep_apm: bool = False,
) -> Adaptation:
    """Adapt a fresh APM to one sample and classify: `adapt_group` of one."""
    return adapt_group([case], settings, head, seed, device, keep_trace, keep_apm)[0]


def adapt_group(
    cases: Sequence[Case],
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep_trace: bool = False,
    keep_apm: bool = False,
) -> list[Adaptation]:
    """Adapt a fresh APM to each of S samples at once, each with its own weights, optimiser state and random numbers.

    Args:
        cases: the samples; equal to one by one up to rounding.
        settings: how.
        head: turns a token into class scores; on any device.
        seed: the run's; a sample's own follows from it and its id.
        keep_trace, keep_apm: fill `Adaptation.trace`, `.apm`.

    Returns:
        One result a case, in order. A loss that turns NaN fails its own sample and no other.

    Raises:
        InputError: targets that do not fit the objective.
    """
    device = torch.device(device)
    objective = get_objective(settings.objective)
    generators = [torch.Generator().manual_seed(sample_seed(seed, case.id, "ttt")) for case in cases]
    machines = _Machines(cases, settings, generators, device)
    targets = Targets(
        token=torch.stack([c.token for c in cases]).to(device, torch.float32),
        grid=_stack([c.grid for c in cases], device),
        picture=machines.images,
    )
    if settings.initialisation == "solve":
        machines.solve(targets.token)
    head = head.to(device)
    teacher_classes = head(targets.token).argmax(-1).tolist()
    notes = [_Notes(case, teacher) for case, teacher in zip(cases, teacher_classes, strict=True)]
    alive = list(range(len(cases)))

    for step in range(settings.iterations):
        queries = _draw(machines.everywhere, settings.queries, [generators[i] for i in alive])
        percept = machines.run(queries, objective.outputs)
        losses = objective.loss(percept, targets, queries)
        assert percept.token is not None
        stay = []
        for place, (loss, seen) in enumerate(zip(losses.tolist(), _look(percept.token, targets, head), strict=True)):
            note = notes[alive[place]]
            note.loss = loss
            if not math.isfinite(loss):
                note.failed = f"the loss turned {loss} at iteration {step + 1}"
                continue
            note.see(step, loss, *seen)
            if settings.stop_at is None or note.cosine < settings.stop_at:
                stay.append(place)
        for place in set(range(len(alive))) - set(stay):
            machines.release(place, notes[alive[place]])
        if not stay:
            alive = []
            break
        machines.step(losses[stay].sum(), settings.rate(step))
        for place in stay:
            notes[alive[place]].steps += 1
        if len(stay) < len(alive):
            machines.keep(stay)
            targets = targets.select(torch.tensor(stay, device=device))
            alive = [alive[place] for place in stay]

    for place, i in enumerate(alive):
        machines.release(place, notes[i])
    return [machines.finish(note, head, settings, keep_trace, keep_apm) for note in notes]


class _Notes:
    """What is written down of one sample while it is adapted."""

    def __init__(self, case: Case, teacher_class: int) -> None:
        self.case, self.teacher_class = case, teacher_class
        self.classes: list[int] = []
        self.trace: list[Step] = []
        self.cosine = self.loss = math.nan
        self.steps, self.failed = 0, ""
        self.state: dict[str, Tensor] = {}

    def see(self, iteration: int, loss: float | None, predicted: int, probability: float, cosine: float) -> None:
        self.classes.append(predicted)
        self.cosine = cosine
        step: Step = {"iteration": iteration, "loss": loss, "cosine": cosine, "class": predicted,
                      "probability": probability}  # fmt: skip
        self.trace.append(step)


class _Machines:
    """S machines behind one face: a single APM in any execution, or a stack with batched products."""

    def __init__(
        self, cases: Sequence[Case], settings: TTTSettings, generators: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        self.config = settings.config(len(cases[0].token))
        self.images = torch.stack([c.picture for c in cases]).to(device)
        self.single = blank_apm(self.config) if len(cases) == 1 else None
        self.stack = None if self.single is not None else StackedAPM(self.config, len(cases), device)
        kind = "default" if settings.initialisation == "solve" else settings.initialisation
        if self.single is not None:
            self.single.reset(generators[0], kind)
            self.optimiser = make_optimiser(self.single.to(device), settings)
            self.everywhere = self.single.default_queries(self.images)
        else:
            assert self.stack is not None
            self.stack.reset(generators, kind)
            self.optimiser = make_optimiser(self.stack, settings)
            self.everywhere = self.stack.pattern.default_queries(self.images)
        self._located: dict[int, Locations] = {}

    def run(self, queries: Tensor, outputs: tuple[str, ...]) -> Percept:
        # The whole grid is asked again and again: checked and sorted once.
        where = queries
        if queries is self.everywhere:
            where = self._located.setdefault(0, execution.locate(queries))  # type: ignore[assignment]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            if self.stack is not None:
                return self.stack(self.images, where, outputs)
            assert self.single is not None
            if queries.ndim == 3:
                where = queries[0]
            elif self.settings.execution == "plain":
                where = queries
            return execution.run(self.single, self.images, where, outputs, self.settings.execution)

    @torch.no_grad()
    def solve(self, tokens: Tensor) -> None:
        """Move the last bias so that every token over the whole grid is its target: exact, and linear."""
        name = "attention.out_proj.bias" if self.config.readout == "attention" else "feature_head.bias"
        reached = self.run(self.everywhere, ("token",)).token
        assert reached is not None
        if self.stack is not None:
            self.stack[name].add_(tokens - reached.float())
        else:
            assert self.single is not None
            self.single.get_parameter(name).add_((tokens - reached.float())[0])

    def step(self, loss: Tensor, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.execution == "sharded":
            assert self.single is not None
            execution.sync_gradients(self.single)
        self.optimiser.step()

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these samples alone."""
        if self.stack is not None:
            self.stack.compact(places, self.optimiser)
            self.images = self.images[torch.tensor(places, device=self.device)]

    def release(self, place: int, note: _Notes) -> None:
        """Take a finished sample's parameters out, unless it failed."""
        if note.failed:
            return
        source = self.single.state_dict() if self.single is not None else self.stack.state_of(place)  # type: ignore[union-attr]
        note.state = source

    def finish(
        self, note: _Notes, head: ZeroShotHead, settings: TTTSettings, keep_trace: bool, keep_apm: bool
    ) -> Adaptation:
        """Read the adapted machine over the whole grid, one sample at a time, and classify."""
        case, token, apm = note.case, torch.full_like(note.case.token, math.nan), None
        if not note.failed:
            apm = self.single or blank_apm(self.config).to(self.device)
            apm.load_state_dict(note.state)
            with (
                torch.no_grad(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"),
            ):
                image = case.picture[None].to(self.device)
                read = execution.run(apm, image, self.everywhere, ("token",), settings.execution).token
            assert read is not None
            if bool(torch.isfinite(read).all()):
                [seen] = _look(read, Targets(case.token[None].to(self.device, torch.float32)), head)
                note.see(note.steps, None, *seen)
                token = read[0].float().cpu()
            else:
                note.failed = f"the token is not finite after iteration {note.steps}"
        note.state = {}
        return Adaptation(
            id=case.id,
            label=case.label,
            token=token,
            teacher_class=note.teacher_class,
            apm_class=-1 if note.failed else note.classes[-1],
            oracle=None if case.label is None else case.label in note.classes,
            cosine=note.cosine,
            loss=note.loss,
            steps=note.steps,
            trace=tuple(note.trace) if keep_trace else (),
            failed=note.failed,
            apm=apm if keep_apm else None,
        )


def _look(tokens: Tensor, targets: Targets, head: ZeroShotHead) -> list[tuple[int, float, float]]:
    """(class, its probability among the head's, cosine with the teacher's token) of each of (S, F) tokens."""
    tokens = tokens.detach().float()
    cosines = F.cosine_similarity(tokens, targets.token, dim=-1)
    logits = head(tokens)
    said = logits.argmax(-1)
    probabilities = logits.softmax(-1).gather(-1, said[:, None])[:, 0]
    return list(zip(said.tolist(), probabilities.tolist(), cosines.tolist(), strict=True))


def _draw(everywhere: Tensor, count: int | None, generators: Sequence[torch.Generator]) -> Tensor:
    """The whole grid (N, 2), or `count` of its points for each sample, (S, count, 2).

    A Latin hypercube sample (McKay, Beckman & Conover 1979): every point is equally likely, and no row or column of the
    grid is asked again before all others were. The mean over the points is as unbiased as over points drawn freely, and
    what varies along one axis alone - as the positional code does - adds no noise to it.
    """
    if count is None or count >= len(everywhere):
        return everywhere
    side = math.isqrt(len(everywhere))

    def axis(generator: torch.Generator) -> Tensor:
        rounds = [torch.randperm(side, generator=generator) for _ in range(-(-count // side))]
        return torch.cat(rounds)[:count]

    picks = torch.stack([axis(g) * side + axis(g) for g in generators])
    return everywhere[picks.to(everywhere.device)]


def _stack(grids: Sequence[Tensor | None], device: torch.device) -> Tensor | None:
    kept = [g for g in grids if g is not None]
    return torch.stack(kept).to(device, torch.float32) if len(kept) == len(grids) else None


def make_optimiser(module: torch.nn.Module, settings: TTTSettings) -> torch.optim.Optimizer:
    """A fresh optimiser; fused where PyTorch has it, which changes the time and not the step."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), lr=settings.lr, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(module.parameters(), lr=settings.lr, fused=True)


def stack_size(settings: TTTSettings, device: torch.device | str) -> int:
    """Samples adapted together: as set, or what is fastest for the APM's size and the device."""
    if settings.execution == "sharded":
        return 1  # all ranks share one sample's columns
    if settings.stack:
        return settings.stack
    if torch.device(device).type == "cuda":
        return 32
    widest = max(settings.config(128).trunk)
    return 64 if widest <= 512 else 16 if widest <= 1024 else 1
