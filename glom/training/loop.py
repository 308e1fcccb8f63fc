"""The one loop of every network that learns by gradients, and the file from which a killed one goes on.

    training = Training(net, optimiser, rate, total=1000, path=out / STATE)
    training.restore()
    for values in training.run(loss, lambda done: done % 100 == 0):
        print(training.done, values)

What a step draws has to follow from its number (or lie in `beside`): then weights, the optimiser's moments and the
number of steps done are the whole state, and a training that was killed ends, to the bit, where one that was not ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from glom.errors import InputError, RunError
from glom.execution import Ranks, sync_gradients
from glom.runs.saving import save_state
from glom.weights import check_state

STATE = "state.pt"
FORMAT = 1
READ_EVERY = 16  # steps whose values are read from a device together, at most
# What the file and its parts were called when every study had its own.
EARLIER = ("checkpoint", "training")
RENAMED = {"apm": "model", "optimizer": "optimiser"}

Loss = Callable[[int], Tensor | Iterable[Tensor]]


class Stateful(Protocol):
    """What a state can hold beside the network: tensors and plain values out, and in again."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Diverged(ArithmeticError):
    """What is no sensible number any more, in words: "the weights of level 2"."""


@dataclass
class Training:
    """A network, its optimiser, the steps that are done, and the file that keeps them.

    Attributes:
        model: trained in place, where it is. Every rank begins with equal weights.
        optimiser: of its parameters.
        rate: the learning rate of step 0, 1, ...
        total: steps in all.
        path: the state file; None to keep none.
        clip: the gradient is scaled to at most this norm; None for as it is.
        match: what a state must have been trained with to be gone on with, by name; plain values.
        beside: what else steps change, by name.
        after: called after each step, to bound weights.
        check: called after each step whose values are read, to raise `Diverged` for weights that are not to be kept.
        blame: the values of a loss that is no number -> what diverged, in words.
        group: the ranks that train together, each on a share of every batch. The first one keeps the state.
        done, kept: steps that are done, and those of them that the file holds.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    rate: Callable[[int], float]
    total: int
    path: Path | None = None
    clip: float | None = 1.0
    match: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Stateful] = field(default_factory=dict)
    after: Callable[[], None] | None = None
    check: Callable[[], None] | None = None
    blame: Callable[[list[float]], str] | None = None
    group: Ranks = field(default_factory=Ranks)
    done: int = 0
    kept: int = 0

    def run(
        self, loss: Loss, keep: Callable[[int], bool] | None = None, told: Callable[[list[float]], None] | None = None
    ) -> Iterator[list[float]]:
        """Every step that is left, yielding its values as `step` does.

        Args:
            loss: see `step`.
            keep: whether the state after so many steps is kept. The first and the last are: a disk that takes no
                state is known before there is anything to lose.
            told: called with a step's values before its state is kept, so that whatever it writes down or measures
                is there when a training goes on. What comes after the last state comes again.

        Raises:
            RunError: see `step`, or the disk is full; the last whole state stays.
        """
        if not self.done:
            self.keep()
        while self.done < self.total:
            unread, due = list[Tensor](), False
            while not due and len(unread) < self.every:
                unread.append(self._descend(loss, self.done + len(unread)))
                at = self.done + len(unread)
                due = at == self.total or bool(keep and keep(at))
            for values in self._read(unread):
                self.done += 1
                if told:
                    told(values)
                if due and self.done == at:
                    self.keep()
                yield values

    def step(self, loss: Loss) -> list[float]:
        """One step.

        Args:
            loss: number of the step -> what is descended, a scalar, or (k,) with figures that are told beside it; or
                several of these whose sum is meant, as an iterator to have the graph of one at a time. Of ranks' losses
                the mean is meant.

        Returns:
            the k values from before the step.

        Raises:
            RunError: a loss, a gradient or a weight that is no number. The file keeps the state that it had.
        """
        [values] = self._read([self._descend(loss, self.done)])
        self.done += 1
        return values

    @property
    def every(self) -> int:
        """Steps whose values are read together: on a CPU they are there; of a device each reading waits."""
        return 1 if self._device.type == "cpu" else READ_EVERY

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _descend(self, loss: Loss, number: int) -> Tensor:
        """Take step `number`: its values and, last, the gradient's norm, where they were made."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(number)
        try:
            losses = loss(number)
            self.optimiser.zero_grad(set_to_none=True)
            told = torch.zeros((), device=self._device)
            for part in [losses] if isinstance(losses, Tensor) else losses:
                share = part.reshape(-1) / self.group.world
                if share.requires_grad:  # else nothing to learn from, as where no picture can be read
                    share[0].backward()
                told = told + share.detach()
            values = self.group.total(told)
            if self.group.world > 1:
                sync_gradients(self.model)
            learning = [p for p in self.model.parameters() if p.grad is not None]
            norm = get_total_norm([p.grad for p in learning if p.grad is not None])
            said = torch.cat([values.reshape(-1), norm.reshape(1).to(values)])
            if self.every == 1:  # before the step, which is then not taken
                self._check(said.tolist())
            if self.clip is not None:
                clip_grads_with_norm_(learning, self.clip, norm)
            self.optimiser.step()
            if self.after:
                self.after()
        except Diverged as error:
            raise self._diverged(error, number) from error
        return said

    def _read(self, unread: list[Tensor]) -> list[list[float]]:
        """The values of the steps after `done`. Raises `RunError` at the first that is no number."""
        found, number = torch.stack(unread).tolist(), self.done
        try:
            for number, said in enumerate(found, self.done):  # noqa: B007 (its last value is wanted)
                self._check(said)
            if self.check:
                self.check()
        except Diverged as error:
            raise self._diverged(error, number) from error
        return [said[:-1] for said in found]

    def _check(self, said: list[float]) -> None:
        *values, norm = said
        if not math.isfinite(values[0]):
            raise Diverged(self.blame(values) if self.blame else f"the loss ({values[0]:g})")
        if not math.isfinite(norm):
            raise Diverged("the gradient")

    def _diverged(self, error: Diverged, number: int) -> RunError:
        kept = f"; the state of step {self.kept} is kept" if self.path else ""
        return RunError(f"{error} diverged at step {number + 1}{kept}; try a lower `lr`")

    def keep(self) -> None:
        """Write the state, whole or not at all. Raises `RunError` where the disk is full."""
        if self.path is None:
            return
        if self.group.rank:  # the first rank writes
            self.kept = self.done
            return
        state: dict[str, Any] = {"format": FORMAT, "step": self.done, "match": dict(self.match)}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        save_state(self.path, state | {name: part.state_dict() for name, part in self.beside.items()})
        self.kept = self.done

    def restore(self) -> int:
        """Take the state up where there is one; the steps that are done.

        Raises:
            InputError: a damaged file, one of another training, or one of an earlier version.
        """
        if self.path is None:
            return self.done
        found = [self.path, *(self.path.with_name(self.path.name.replace("state", word)) for word in EARLIER)]
        path = next((file for file in found if file.exists()), None)
        if path is None:
            return self.done
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if "match" not in state:
                state = {RENAMED.get(name, name): value for name, value in state.items()} | {"match": self.match}
            # States that counted epochs held none of their random numbers.
            if "step" not in state or state.get("format", FORMAT) != FORMAT:
                raise InputError(f"{path} is of another version and cannot be gone on with; delete it to begin again")
            other = [name for name, value in self.match.items() if state["match"].get(name) != value]
            if other:
                raise InputError(f"{path} was trained with other {' and '.join(other)}; choose another `out`")
            check_state(self.model, state["model"], path)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            for name, part in self.beside.items():
                part.load_state_dict(state[name])
            self.done = self.kept = int(state["step"])
        except InputError:
            raise
        except Exception as error:  # a damaged archive fails in any way it likes
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise InputError(f"{path} is damaged ({reason}); delete it to begin again") from error
        return self.done
