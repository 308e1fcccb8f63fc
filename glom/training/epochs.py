"""Trainings that go over their pictures epoch by epoch: the order, and what is told of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.training.loop import Loss, Training

KEEP = 200  # steps between two states, at most; one is kept after every epoch as well
TELL = 20  # steps between two reports, at most


class Epochs:
    """Every picture once an epoch, in an order of its own; whatever else an epoch draws comes from the same generator.

    Args:
        count: of pictures; those that fill no batch at an epoch's end are left out.
        batch: pictures a step.
        seed: number of the epoch -> seed of its random numbers.

    Attributes:
        steps: in an epoch. epoch: the running one. generator: its random numbers.

    Raises:
        InputError: fewer pictures than a batch.
    """

    def __init__(self, count: int, batch: int, seed: Callable[[int], int]) -> None:
        if count < batch:
            raise InputError(f"the recipe needs at least {batch} training pictures, got {count}")
        self.count, self.batch, self.steps, self.seed = count, batch, count // batch, seed
        self.epoch, self.generator, self.sums = -1, torch.Generator(), list[float]()

    def pictures(self, step: int) -> Tensor:
        """(batch,) indices: what a step learns from. Steps come in their order."""
        epoch, place = divmod(step, self.steps)
        if epoch != self.epoch:
            self._begin(epoch)
        return self.order[place * self.batch : (place + 1) * self.batch]

    def _begin(self, epoch: int) -> None:
        self.epoch, self.sums = epoch, []
        self.generator.manual_seed(self.seed(epoch))
        self.order = torch.randperm(self.count, generator=self.generator)

    def add(self, values: list[float]) -> None:
        """A step's loss and, where it classifies, how many of its pictures were classified rightly."""
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(values), values, strict=True)]

    def means(self, done: int) -> dict[str, float]:
        """The epoch's mean loss and, in percent, its accuracy, at so many steps of the training."""
        steps = (done - 1) % self.steps + 1
        found = {"loss": self.sums[0] / steps}
        return found | ({"accuracy": 100 * self.sums[1] / (steps * self.batch)} if self.sums[1:] else {})

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "generator": self.generator.get_state(), "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["epoch"] >= 0:
            self._begin(state["epoch"])
        self.generator.set_state(state["generator"])
        self.sums = list(state["sums"])

    def run(
        self,
        training: Training,
        loss: Loss,
        folder: RunFolder,
        record: Callable[[int, dict[str, float]], dict[str, Any]],
        stage: str = "training",
    ) -> Iterator[Event]:
        """Every step that is left, yielding loss and accuracy of the running epoch.

        Args:
            training: has this under `beside`, and was restored.
            record: number of an epoch 1, 2, ... and its `means` -> the line about it in the folder's results.
        """
        known, begun = {line["id"] for line in folder.records()}, perf_counter()

        def told(values: list[float]) -> None:
            nonlocal begun
            self.add(values)
            if training.done % self.steps == 0:
                line = record(self.epoch + 1, self.means(training.done))
                if line["id"] not in known:  # a kill before the state leaves a line that is right already
                    folder.append(line, perf_counter() - begun)
                begun = perf_counter()

        def keep(done: int) -> bool:
            return done % self.steps == 0 or done % self.steps % KEEP == 0

        for _ in training.run(loss, keep, told):
            if (training.done % self.steps) % TELL == 0:
                means = {name: round(mean, 4) for name, mean in self.means(training.done).items()}
                yield Event(stage, training.done, training.total, values=means)
