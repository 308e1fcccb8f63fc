"""What the methods for networks with batch norm share: a copy of the teacher that is theirs, and its affine weights.

Every such method moves a copy, so that the teacher itself answers for the other methods as ever.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from glom.errors import InputError
from glom.methods.base import Task, Together
from glom.teachers.base import Teacher
from glom.teachers.registry import SHIPPED

Norms = tuple[type[nn.Module], ...]
IMAGE_TOWERS = ("visual.", "vision_model.")  # where a network has one beside its text encoder


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """A network's batch norms, in their order."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def own_copy(teacher: Teacher, method: str) -> Teacher:
    """The teacher with a network of its own, in evaluation mode, no parameter asking for a gradient.

    Raises:
        InputError: a network without batch norm, or one that is not in float32, in which small steps would be lost.
    """
    if not batch_norms(teacher.model):
        raise InputError(
            f"{method} needs a teacher with batch norm, and {teacher.name} has none; "
            f"{', '.join(SHIPPED)} and timm's convolutional networks (timm:resnet50) have it"
        )
    if teacher.precision != "fp32":
        raise InputError(f"{method} needs a teacher in fp32; {teacher.name} was loaded in {teacher.precision}")
    return copy.deepcopy(teacher)


@dataclass(frozen=True)
class StepSettings:
    """SGD on the affine weights of the norms.

    Attributes:
        lr, momentum, nesterov: of SGD, one step a batch.
        full: batches below this many pictures take `lr` times their share of it; 0: all take `lr`.
    """

    lr: float = 0.00025
    momentum: float = 0.9
    nesterov: bool = False
    full: int = 32


class NotFinite(Exception):
    """Class scores that are not finite, before anything was learned from them."""


class Adapting(Together):
    """A method that moves the affine weights of the norms while the stream passes.

    Batch norms normalise by the batch at hand. Everything else stays in evaluation mode. `together` is the batch.

    Attributes:
        norms: whose weights move. settings: with SGD's. twin: the teacher's copy. weights: {name: parameter} that move.
        origin: {name: value} they started from.
    """

    norms: ClassVar[Norms] = (nn.BatchNorm2d,)
    together = 64
    settings: Any

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        self.twin = own_copy(task.teacher, self.name)
        self.twin.by_batch = True
        for layer in batch_norms(self.twin.model):
            layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
        self.weights = dict(self._affine(self.twin.model))
        self.origin = {name: p.detach().clone() for name, p in self.weights.items()}
        for p in self.weights.values():
            p.requires_grad_(True)
        s: StepSettings = self.settings
        self.optimiser = torch.optim.SGD(self.weights.values(), lr=s.lr, momentum=s.momentum, nesterov=s.nesterov)

    @abstractmethod
    def adapt(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        """(B, 3, S, S) -> (B, C) logits, detached; the weights take their step. Scores come from `scores` first."""

    def moves(self, layer: str) -> bool:
        """Whether the norm of this name moves."""
        del layer
        return True

    @torch.enable_grad()
    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        """The batch's logits. A picture that is not finite by itself is left out of the batch, and fails alone."""
        batch = self.task.read(list(images))
        logits = self._adapted(batch, seeds)
        if not bool(logits.isfinite().all()):
            sound = self.head(self.task.encoded(batch)[0]).isfinite().all(-1)
            if bool(sound.any()) and not bool(sound.all()):
                logits[sound] = self._adapted(batch[sound], [s for s, good in zip(seeds, sound, strict=True) if good])
        return list(logits.unbind())

    def scores(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C) logits inside the graph. Raises `NotFinite`."""
        logits = self.head(self.twin.token_with_grad(batch))
        if not bool(logits.isfinite().all()):
            raise NotFinite
        return logits

    def descend(self, loss: Tensor) -> None:
        """One step on a loss; one that is not finite moves nothing."""
        if bool(loss.isfinite()):
            loss.backward()
            self.step()

    def step(self) -> None:
        """One step of SGD along the gradients that the weights hold; they are let go."""
        s: StepSettings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = s.lr * min(1.0, self.together / s.full if s.full else 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def stream_state(self) -> dict[str, Tensor]:
        state = {f"weight/{name}": p for name, p in self.weights.items()}
        for name, p in self.weights.items():
            momentum = self.optimiser.state[p].get("momentum_buffer")
            if momentum is not None:
                state[f"momentum/{name}"] = momentum
        return {key: value.detach().cpu().clone() for key, value in state.items()}

    @torch.no_grad()
    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        for name, p in self.weights.items():
            p.copy_(state[f"weight/{name}"])
            momentum = state.get(f"momentum/{name}")
            self.optimiser.state[p]["momentum_buffer"] = None if momentum is None else momentum.to(p.device).clone()

    def _adapted(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        try:
            return self.adapt(batch, seeds)
        except NotFinite:
            return torch.full((len(batch), len(self.task.classes)), float("nan"), device=batch.device)

    def _affine(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        layers = dict(model.named_modules())
        tower = {name: layer for name, layer in layers.items() if name.startswith(IMAGE_TOWERS)}
        for name, layer in (tower or layers).items():
            if isinstance(layer, self.norms) and self.moves(name):
                for key in ("weight", "bias"):
                    if isinstance(p := getattr(layer, key), nn.Parameter):
                        yield f"{name}.{key}", p
