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
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from glom import execution
from glom.adaptation.objectives import Objective, Targets, get_objective
from glom.adaptation.settings import TTTSettings
from glom.apm import AsynchronousPerceptionMachine, Percept, blank_apm
from glom.devices import moved, tf32
from glom.execution import Locations, StackedAPM, halved
from glom.runs.events import finished
from glom.runs.seeds import sample_seed
from glom.teachers.heads import ZeroShotHead

READ_EVERY = 32  # steps between two looks at what they said: each look waits for the device
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


def adapting(
    case: Case,
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep_trace: bool = False,
) -> Generator[int, None, Adaptation]:
    """The same, yielding now and then how many iterations are done; arguments and errors as of `adapt_group`."""
    steps = _adapt_group([case], settings, head, seed, torch.device(device), keep_trace, keep_apm=False)
    while True:
        try:
            with tf32(settings.precision == "tf32", torch.device(device)):
                [done] = halved(lambda _: [next(steps)], [case], "samples")
        except StopIteration as end:
            [found] = end.value
            return found  # type: ignore[no-any-return]
        yield done


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
        RunError: out of memory, and again with half as many samples at once.
    """
    device = torch.device(device)

    def attempt(part: Sequence[Case]) -> list[Adaptation]:
        with tf32(settings.precision == "tf32", device):
            return finished(_adapt_group(part, settings, head, seed, device, keep_trace, keep_apm))

    return halved(attempt, cases, "samples")


def _adapt_group(
    cases: Sequence[Case],
    settings: TTTSettings,
    head: ZeroShotHead,
    seed: int,
    device: torch.device,
    keep_trace: bool,
    keep_apm: bool,
) -> Generator[int, None, list[Adaptation]]:
    objective = get_objective(settings.objective)
    generators = [torch.Generator().manual_seed(sample_seed(seed, case.id, "ttt")) for case in cases]
    machines = _Machines(cases, settings, generators, device)
    targets = Targets(
        token=moved(torch.stack([c.token for c in cases]), device).to(torch.float32),
        grid=_stack([c.grid for c in cases], device),
        picture=machines.images,
    )
    if settings.initialisation == "solve":
        machines.solve(targets.token)
    head = head.to(device)
    teacher_classes = head(targets.token).argmax(-1)
    notes = [_Notes(case) for case in cases]
    alive = list(range(len(cases)))
    unread: list[Tensor] = []

    for step in range(settings.iterations):
        where = machines.locate(_draw(machines.everywhere, settings.queries, [generators[i] for i in alive]))
        rate = settings.rate(step)
        if settings.stop_at is None:
            unread.append(machines.iterate(where, objective, targets, head, rate))
            if len(unread) < READ_EVERY and step + 1 < settings.iterations:
                continue
            stay = _read(unread, notes, alive, step + 1, None)
        else:  # who goes on is known before the step is taken: this rule reads every one
            losses, said = machines.look(where, objective, targets, head)
            stay = _read([said], notes, alive, step + 1, settings.stop_at)
        unread = []
        yield step + 1
        for place in set(range(len(alive))) - set(stay):
            machines.release(place, notes[alive[place]])
        if not stay:
            alive = []
            break
        if settings.stop_at is not None:
            machines.step((losses if len(stay) == len(alive) else losses[stay]).sum(), rate)
        if len(stay) < len(alive):
            machines.keep(stay)
            targets = targets.select(torch.tensor(stay, device=device))
            alive = [alive[place] for place in stay]

    for place, i in enumerate(alive):
        machines.release(place, notes[i])
    for note, teacher in zip(notes, teacher_classes.tolist(), strict=True):
        note.teacher_class = teacher
    return [machines.finish(note, head, settings, keep_trace, keep_apm) for note in notes]


def _read(
    unread: Sequence[Tensor], notes: Sequence[_Notes], alive: Sequence[int], done: int, stop_at: float | None
) -> list[int]:
    """Write down what the last steps said, (4, S) each, of which `done` is the last; the places that go on."""
    steps = torch.stack(list(unread)).tolist()
    first, stay = done - len(steps), []
    for place, i in enumerate(alive):
        numbers = enumerate(([row[place] for row in rows] for rows in steps), first)
        if all(notes[i].take(step, said, stop_at) for step, said in numbers):
            stay.append(place)
    return stay


class _Notes:
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


class _Machines:
    """S machines behind one face: a single APM in any execution, or a stack with batched products."""

    def __init__(
        self, cases: Sequence[Case], settings: TTTSettings, generators: Sequence[torch.Generator], device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        self.config = settings.config(len(cases[0].token))
        self.images = moved(torch.stack([c.picture for c in cases]), device)
        self.single = blank_apm(self.config) if len(cases) == 1 else None
        self.stack = None if self.single is not None else StackedAPM(self.config, len(cases), device)
        kind = "default" if settings.initialisation == "solve" else settings.initialisation
        if self.single is not None:
            self.single.reset(generators[0], kind)
            self.single.to(device)
        else:
            assert self.stack is not None
            self.stack.reset(generators, kind)
        self.optimiser = make_optimiser(self.single or self.stack, settings)  # type: ignore[arg-type]
        # Locations are drawn, checked and sorted on the host: nothing has to be read back for them.
        shape = self.single or self.stack.pattern  # type: ignore[union-attr]
        self.everywhere = shape.default_queries(self.images, "cpu")
        self.whole = execution.locate(self.everywhere, device)
        self._chosen: dict[tuple[int, tuple[str, ...]], tuple[str, int | None]] = {}
        self._repeat()

    def _repeat(self) -> None:
        graphs = self.settings.graphs and self.device.type == "cuda" and self.settings.optimiser != "sgd"
        graphs = graphs and self.settings.execution != "sharded"
        self.repeated = execution.Repeated(self._iteration, execution.cuda_recorder if graphs else None)

    def locate(self, queries: Tensor) -> Locations:
        """The whole grid, which is asked again and again, or what was drawn for this step; on the device."""
        if queries is self.everywhere:
            return self.whole
        return execution.locate(queries[0] if self.single is not None else queries, self.device)

    def iterate(
        self, where: Locations, objective: Objective, targets: Targets, head: ZeroShotHead, rate: float
    ) -> Tensor:
        """One step of all samples: what `look` says from before it."""
        self.work = (objective, targets, head)
        self._set(rate)
        return self.repeated(where)

    def _iteration(self, where: Locations) -> Tensor:
        losses, said = self.look(where, *self.work)
        self._descend(losses.sum())
        return said

    def look(
        self, where: Locations, objective: Objective, targets: Targets, head: ZeroShotHead
    ) -> tuple[Tensor, Tensor]:
        """Losses (S,) in the autograd graph and, (4, S), what is told of them; see `_Notes.take`."""
        percept = self.run(where, objective.outputs)
        assert percept.token is not None
        losses = objective.loss(percept, targets, where.points())
        return losses, torch.cat([losses.detach().float()[None], _look(percept.token, targets, head)])

    def run(self, where: Locations, outputs: tuple[str, ...]) -> Percept:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            if self.stack is not None:
                return self.stack(self.images, where, outputs)
            assert self.single is not None
            how, chunk = self._how(where.count, outputs)
            return execution.run(self.single, self.images, where, outputs, how, chunk=chunk)

    def _how(self, count: int, outputs: tuple[str, ...]) -> tuple[str, int | None]:
        """The execution of so many locations; what "auto" finds is found once, since it asks for the free memory."""
        assert self.single is not None
        if self.settings.execution != "auto":
            return self.settings.execution, None
        if (count, outputs) not in self._chosen:
            choice = execution.choose(self.single, 1, count, outputs, self.device)
            self._chosen[count, outputs] = choice.execution, choice.chunk
        return self._chosen[count, outputs]

    @torch.no_grad()
    def solve(self, tokens: Tensor) -> None:
        """Move the last bias so that every token over the whole grid is its target: exact, and linear."""
        name = "attention.out_proj.bias" if self.config.readout == "attention" else "feature_head.bias"
        reached = self.run(self.whole, ("token",)).token
        assert reached is not None
        if self.stack is not None:
            self.stack[name].add_(tokens - reached.float())
        else:
            assert self.single is not None
            self.single.get_parameter(name).add_((tokens - reached.float())[0])

    def step(self, loss: Tensor, rate: float) -> None:
        self._set(rate)
        self._descend(loss)

    def _set(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _descend(self, loss: Tensor) -> None:
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
            self._repeat()

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
                image = moved(case.picture[None], self.device)
                read = execution.run(apm, image, self.whole, ("token",), settings.execution).token
            assert read is not None
            target = Targets(moved(case.token[None], self.device).to(torch.float32))
            # One read: the token, and what the head says of it.
            both = torch.cat([read[0].float(), _look(read, target, head)[:, 0]]).cpu()
            if bool(torch.isfinite(both[:-3]).all()):
                cosine, probability, predicted = both[-3:].tolist()
                note.see(note.steps, None, int(predicted), probability, cosine)
                token = both[:-3].clone()
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


def _look(tokens: Tensor, targets: Targets, head: ZeroShotHead) -> Tensor:
    """(3, S) of (S, F) tokens: cosine with the teacher's, probability of its class among the head's, and that class.

    As numbers of float32, which holds the number of any class, so that one read brings all of them.
    """
    tokens = tokens.detach().float()
    cosines = F.cosine_similarity(tokens, targets.token, dim=-1)
    logits = head(tokens)
    said = logits.argmax(-1)
    probabilities = logits.softmax(-1).gather(-1, said[:, None])[:, 0]
    return torch.stack([cosines, probabilities, said.float()])


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
    return moved(torch.stack(kept), device).to(torch.float32) if len(kept) == len(grids) else None


def make_optimiser(module: torch.nn.Module, settings: TTTSettings) -> torch.optim.Optimizer:
    """A fresh optimiser; fused where PyTorch has it, which changes the time and not the step.

    On a GPU its rate and count of steps lie there too, so that a recorded step can be replayed with another rate.
    """
    if settings.optimiser == "sgd":
        return torch.optim.SGD(module.parameters(), lr=settings.lr, momentum=0.9)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    first = next(module.parameters())
    if not first.is_cuda:
        return kind(module.parameters(), lr=settings.lr, fused=True)
    made = kind(module.parameters(), lr=settings.lr, fused=True, capturable=True)
    made.param_groups[0]["lr"] = first.detach().new_full((), settings.lr)  # the constructor would read it back
    return made


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
