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

import torch
from torch import Tensor

from glom.adaptation.case import Adaptation, Case, Notes
from glom.adaptation.machines import Machines, answers
from glom.adaptation.objectives import Targets, get_objective
from glom.adaptation.settings import TTTSettings
from glom.devices import moved, tf32
from glom.execution import halved
from glom.runs.events import finished
from glom.runs.seeds import sample_seed
from glom.teachers.heads import ZeroShotHead

READ_EVERY = 32  # steps between two looks at what they said: each look waits for the device
BLOCK = 16  # samples read, corrupted and encoded at once, one block ahead of the adaptation


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
    machines = Machines(cases, settings, generators, device, seed)
    targets = Targets(
        token=moved(torch.stack([c.token for c in cases]), device).to(torch.float32),
        grid=_stack([c.grid for c in cases], device),
        picture=machines.images,
    )
    if settings.solved:
        machines.solve(targets.token)
    head = head.to(device)
    teacher_classes = head(targets.token).argmax(-1)
    notes = [Notes(case) for case in cases]
    alive = list(range(len(cases)))
    unread: list[Tensor] = []
    answered: Sequence[Tensor | None] = [None] * len(cases)
    if settings.iterations == 0:
        losses, tokens = machines.still(objective, targets)
        answered = answers(tokens, targets, head).unbind()
        for note, loss in zip(notes, losses.tolist(), strict=True):
            note.loss = loss

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

    if settings.iterations or keep_apm:
        for place, i in enumerate(alive):
            machines.release(place, notes[i])
    for note, teacher in zip(notes, teacher_classes.tolist(), strict=True):
        note.teacher_class = teacher
    pairs = zip(notes, answered, strict=True)
    return [machines.finish(note, head, keep_trace, keep_apm, found) for note, found in pairs]


def _read(
    unread: Sequence[Tensor], notes: Sequence[Notes], alive: Sequence[int], done: int, stop_at: float | None
) -> list[int]:
    """Write down what the last steps said, (4, S) each, of which `done` is the last; the places that go on."""
    steps = torch.stack(list(unread)).tolist()
    first, stay = done - len(steps), []
    for place, i in enumerate(alive):
        numbers = enumerate(([row[place] for row in rows] for rows in steps), first)
        if all(notes[i].take(step, said, stop_at) for step, said in numbers):
            stay.append(place)
    return stay


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
