"""The machines that samples are adapted by: their weights, their optimiser, a step of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from weakref import WeakMethod

import torch
import torch.nn.functional as F
from torch import Tensor

from glom import execution
from glom.adaptation.case import Adaptation, Case, Notes
from glom.adaptation.objectives import Objective, Targets
from glom.adaptation.settings import TTTSettings
from glom.apm import APMConfig, AsynchronousPerceptionMachine, Percept, unset_apm
from glom.devices import moved
from glom.execution import Locations, StackedAPM
from glom.runs.seeds import sample_seed
from glom.teachers.heads import ZeroShotHead


class Machines:
    """S machines behind one face: a single APM in any execution, or a stack with batched products."""

    def __init__(
        self,
        cases: Sequence[Case],
        settings: TTTSettings,
        generators: Sequence[torch.Generator],
        device: torch.device,
        seed: int,
    ) -> None:
        self.settings, self.device = settings, device
        self.config = settings.config(len(cases[0].token))
        self.images = moved(torch.stack([c.picture for c in cases]), device)
        readout = "attention.out_proj" if self.config.readout == "attention" else "feature_head"
        self.last_bias = f"{readout}.bias"
        self.single: AsynchronousPerceptionMachine | None = None
        self.stack: StackedAPM | None = None
        if len(cases) == 1:
            self.single = unset_apm(self.config)
            if settings.solved:
                self.single.load_state_dict(_drawn(self.config, seed, device).state_dict())
            else:
                self.single.reset(generators[0], settings.initialisation)
            self.single.to(device)
        elif settings.solved:
            self.stack = StackedAPM(self.config, len(cases), "meta")
            own = self.stack.names if settings.iterations else [self.last_bias]
            self.stack.repeat(_drawn(self.config, seed, device), own)
        else:
            self.stack = StackedAPM(self.config, len(cases), device)
            self.stack.reset(generators, settings.initialisation)
        self.optimiser = make_optimiser(self.single or self.stack, settings)  # type: ignore[arg-type]
        # Locations are drawn, checked and sorted on the host: nothing has to be read back for them.
        shape = self.single or self.stack.pattern  # type: ignore[union-attr]
        self.everywhere = shape.default_queries(self.images, "cpu")
        self.whole = execution.locate(self.everywhere, device)
        self._chosen: dict[tuple[int, tuple[str, ...]], tuple[str, int | None]] = {}
        self._solved: Tensor | None = None  # what the first step finds in the trunk, where `solve` has asked it
        self._reader: AsynchronousPerceptionMachine | None = None
        self._repeat()

    def _repeat(self) -> None:
        graphs = self.settings.graphs and self.device.type == "cuda" and self.settings.optimiser != "sgd"
        graphs = graphs and self.settings.execution != "sharded"
        iteration = WeakMethod(self._iteration)  # a circle would keep half a GiB of machines until it is collected

        def work(where: Locations) -> Tensor:
            step = iteration()
            assert step is not None
            return step(where)

        self.repeated = execution.Repeated(work, execution.cuda_recorder if graphs else None)

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
        """Losses (S,) in the autograd graph and, (4, S), what is told of them; see `Notes.take`."""
        percept = self.run(where, objective.outputs)
        assert percept.token is not None
        losses = objective.loss(percept, targets, where.points())
        return losses, torch.cat([losses.detach().float()[None], read_out(percept.token, targets, head)])

    def still(self, objective: Objective, targets: Targets) -> tuple[Tensor, Tensor]:
        """Losses (S,) and tokens (S, F) over the whole grid, of machines that take no step."""
        with torch.no_grad():
            percept = self.run(self.whole, objective.outputs)
            assert percept.token is not None
            return objective.loss(percept, targets, self.whole.points()).float(), percept.token.float()

    def run(self, where: Locations, outputs: tuple[str, ...]) -> Percept:
        with self._products():
            if self.stack is not None:
                hidden, self._solved = self._solved, None
                if hidden is not None and where is self.whole and outputs == ("token",):
                    return Percept(None, None, self.stack.token(hidden, where))
                return self.stack(self.images, where, outputs)
            assert self.single is not None
            how, chunk = self._how(where.count, outputs)
            return execution.run(self.single, self.images, where, outputs, how, chunk=chunk)

    def _products(self) -> torch.autocast:
        """In bfloat16 where the settings ask for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _how(self, count: int, outputs: tuple[str, ...]) -> tuple[str, int | None]:
        """The execution of so many locations; what "auto" finds is found once, since it asks for the free memory."""
        assert self.single is not None
        if self.settings.execution != "auto":
            return self.settings.execution, None
        if (count, outputs) not in self._chosen:
            choice = execution.choose(self.single, 1, count, outputs, self.device)
            self._chosen[count, outputs] = choice.execution, choice.chunk
        return self._chosen[count, outputs]

    def solve(self, tokens: Tensor) -> None:
        """Move the last bias so that every token over the whole grid is its target: exact, and linear."""
        hidden = None
        if self.stack is not None and self.device.type == "cpu" and self.config.readout != "location":
            with self._products(), torch.set_grad_enabled(self.settings.iterations > 0):
                hidden = self.stack.hidden(self.images, self.whole)
        self._solved = hidden
        with torch.no_grad():
            reached = self.run(self.whole, ("token",)).token
            assert reached is not None
            if self.stack is not None:
                self.stack[self.last_bias].add_(tokens - reached.float())
            else:
                assert self.single is not None
                self.single.get_parameter(self.last_bias).add_((tokens - reached.float())[0])
        self._solved = hidden  # once more: no read-out's parameters are in it

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

    def release(self, place: int, note: Notes) -> None:
        """Take a finished sample's parameters out, unless it failed."""
        if note.failed:
            return
        source = self.single.state_dict() if self.single is not None else self.stack.state_of(place)  # type: ignore[union-attr]
        note.state = source

    def _answer(self, apm: AsynchronousPerceptionMachine, case: Case) -> Tensor:
        """The token (F,) of one machine over the whole grid."""
        with torch.no_grad(), self._products():
            image = moved(case.picture[None], self.device)
            token = execution.run(apm, image, self.whole, ("token",), self.settings.execution).token
        assert token is not None
        return token[0]

    def finish(
        self,
        note: Notes,
        head: ZeroShotHead,
        keep_trace: bool,
        keep_apm: bool,
        found: Tensor | None = None,
    ) -> Adaptation:
        """Read the adapted machine over the whole grid, one sample at a time, and classify; or take what was `found`
        so, a row of `answers`."""
        case, token, apm = note.case, torch.full_like(note.case.token, math.nan), None
        if not note.failed:
            if found is None or keep_apm:
                apm = self.single or self._reader or unset_apm(self.config).to(self.device)
                self._reader = None if keep_apm else apm
                apm.load_state_dict(note.state)
            if found is None:
                assert apm is not None
                target = Targets(moved(case.token[None], self.device).to(torch.float32))
                [found] = answers(self._answer(apm, case)[None], target, head)
            if bool(torch.isfinite(found[:-3]).all()):
                cosine, probability, predicted = found[-3:].tolist()
                note.see(note.steps, None, int(predicted), probability, cosine)
                token = found[:-3].clone()
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


@lru_cache(maxsize=1)  # a run asks for the same one with every group, and drawing it takes as long as three passes
def _drawn(config: APMConfig, seed: int, device: torch.device) -> AsynchronousPerceptionMachine:
    """The machine that every sample of a run starts from where its last bias is solved for: to read, not to change."""
    apm = unset_apm(config)
    apm.reset(torch.Generator().manual_seed(sample_seed(seed, "", "ttt")), "default")
    return apm.to(device)


def read_out(tokens: Tensor, targets: Targets, head: ZeroShotHead) -> Tensor:
    """(3, S) of (S, F) tokens: cosine with the teacher's, probability of its class among the head's, and that class.

    As numbers of float32, which holds the number of any class, so that one read brings all of them.
    """
    tokens = tokens.detach().float()
    cosines = F.cosine_similarity(tokens, targets.token, dim=-1)
    logits = head(tokens)
    said = logits.argmax(-1)
    probabilities = logits.softmax(-1).gather(-1, said[:, None])[:, 0]
    return torch.stack([cosines, probabilities, said.float()])


def answers(tokens: Tensor, targets: Targets, head: ZeroShotHead) -> Tensor:
    """(S, F + 3) on the host, of (S, F) tokens: each, and what `read_out` says of it; one read brings all of them."""
    return torch.cat([tokens.float(), read_out(tokens, targets, head).T], dim=1).cpu()


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
