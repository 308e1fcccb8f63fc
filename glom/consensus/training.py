"""Training a GLOM: one step at a time, so that runs, notebooks and tests share it.

Every step's pictures and random numbers come from the seed and the step's number alone: weights, Adam's state and the
step are all that a resumption needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glom.consensus.config import GlomConfig
from glom.consensus.model import Glom
from glom.consensus.objectives import Loss, ObjectiveSettings, objective_of
from glom.devices import native_bf16, resolve_precision
from glom.errors import InputError, RunError
from glom.runs.seeds import fixed_seed, sample_seed
from glom.training.optimisation import warmup_cosine

Draw = Callable[[int, torch.Generator], Tensor]

LIMIT = 1e4  # a weight beyond this is a divergence: they begin around 1 / sqrt(width), and nets read at unit scale


@dataclass(frozen=True)
class TrainSettings:
    """What decides a training.

    Attributes:
        objective: one of `glom.consensus.objectives.OBJECTIVES`.
        data, source, limit: see `apm glom train`.
        size: side of the pictures in pixels, a multiple of the patch.
        steps: optimiser steps; the rate rises over the first twentieth and falls to zero as a cosine.
        batch: pictures a step.
        lr, weight_decay: AdamW's.
        precision: "fp32" or "bf16" products, "auto" for bf16 where the machine has it in hardware.
        seed: of weights, data and noise.
        config: the network.
        task: the objective's own settings.
    """

    objective: str = "mask"
    data: str = "composites"
    source: str = ""
    limit: int = 0
    size: int = 48
    steps: int = 1500
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.01
    precision: str = "auto"
    seed: int = 0
    config: GlomConfig = field(default_factory=GlomConfig)
    task: ObjectiveSettings = field(default_factory=ObjectiveSettings)

    def __post_init__(self) -> None:
        objective_of(self.objective)
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"steps and batch must be at least 1, got {self.steps} and {self.batch}")
        if self.objective == "forward-forward" and self.batch < 2:
            raise InputError("forward-forward needs a batch of 2 or more: negatives are halves of two pictures")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr must be above 0, got {self.lr:g}")
        if self.size < self.config.patch or self.size % self.config.patch:
            raise InputError(f"size must be a multiple of the patch ({self.config.patch} px), got {self.size}")


def rate(step: int, settings: TrainSettings) -> float:
    """The learning rate of step 0, 1, ...: a linear rise over the first twentieth, then half a cosine to zero."""
    return settings.lr * warmup_cosine(step, settings.steps, max(1, settings.steps // 20))


def new_glom(config: GlomConfig, seed: int) -> Glom:
    """A GLOM with random weights that depend on the seed alone; the state of the global generator is left as it was."""
    with fixed_seed(sample_seed(seed, "glom", "weights")):
        return Glom(config)


def _check(loss: Loss, glom: Glom, step: int, name: str) -> None:
    """Raise `RunError` for a loss or a gradient that is no number, before it reaches the weights."""
    norms: list[Tensor] = [p.grad.norm() for p in glom.parameters() if p.grad is not None]
    if bool(torch.isfinite(loss.total.detach())) and bool(torch.isfinite(torch.stack(norms)).all()):
        return
    level = next((i + 1 for i, v in enumerate(loss.levels.tolist()) if not math.isfinite(v)), None)
    where = f", first on level {level}" if level else ""
    raise RunError(f"the {name} loss diverged at step {step}{where}")


def _check_weights(glom: Glom, step: int) -> None:
    """Raise `RunError` for weights that a step left infinite, no number or beyond all measure, before they are kept."""
    for name, weights in glom.named_parameters():
        # The nets of all levels lie side by side: net k of those going up and of those going down speaks to level k.
        by_level = name.startswith(("up.", "down."))
        largest = weights.detach().abs().flatten(1 if by_level else 0).amax(-1)
        for level, value in enumerate(largest.reshape(-1).tolist(), 1):
            if not value < LIMIT:
                where = f"the weights of level {level}" if by_level else "the weights"
                raise RunError(f"{where} ({name}) diverged at step {step}")


class Trainer:
    """A GLOM, its optimiser, and the step that changes both.

    Args:
        glom: trained in place, where it is.
        settings: `precision` "auto" is bf16 where the machine has it in hardware.
        draw: (batch, generator) -> pictures (batch, 3, H, W) in [0, 1].

    Attributes:
        precision: "fp32" or "bf16". optimiser: AdamW, so that it can be saved.
    """

    def __init__(self, glom: Glom, settings: TrainSettings, draw: Draw) -> None:
        self.glom, self.settings, self.draw = glom, settings, draw
        self.device = next(glom.parameters()).device
        self.precision = settings.precision
        if self.precision == "auto":
            self.precision = "bf16" if native_bf16() else "fp32"
        resolve_precision(self.precision, self.device)
        self.optimiser = torch.optim.AdamW(glom.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        self._loss = objective_of(settings.objective)

    def step(self, step: int) -> Loss:
        """Step 0, 1, ...: the loss from before it.

        Raises:
            RunError: a loss, a gradient or a weight that is no sensible number any more.
        """
        how = self.settings
        generator = torch.Generator().manual_seed(sample_seed(how.seed, str(step), "glom-train"))
        images = self.draw(how.batch, generator).to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(step, how)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self._loss(self.glom, images, generator, how.task)
        loss.total.backward()
        _check(loss, self.glom, step + 1, how.objective)
        if how.objective != "forward-forward":  # one norm over all levels would let them know of each other
            torch.nn.utils.clip_grad_norm_(self.glom.parameters(), 1.0)
        self.optimiser.step()
        _check_weights(self.glom, step + 1)
        return loss
