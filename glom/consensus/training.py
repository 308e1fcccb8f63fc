"""Training a GLOM: every step's pictures and random numbers come from the seed and the step's number alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from glom.consensus.columns import Columns
from glom.consensus.config import GlomConfig, TrainSettings
from glom.consensus.ellipses import EllipseGlom, recover
from glom.consensus.model import Glom
from glom.consensus.objectives import Loss, objective_of
from glom.datasets.ellipse_settings import EllipseSettings
from glom.datasets.ellipses import EllipseBatch
from glom.devices import chosen_precision
from glom.runs.seeds import fixed_seed, sample_seed
from glom.training.loop import Diverged, Training
from glom.training.optimisation import warmup_cosine

Draw = Callable[[int, torch.Generator], Tensor | EllipseBatch]

LIMIT = 1e4  # a weight beyond this is a divergence: they begin around 1 / sqrt(width), and nets read at unit scale


def rate(step: int, settings: TrainSettings) -> float:
    """The learning rate of step 0, 1, ...: a linear rise over the first twentieth, then half a cosine to zero."""
    return settings.lr * warmup_cosine(step, settings.steps, max(1, settings.steps // 20))


def new_glom(config: GlomConfig, seed: int) -> Glom:
    """A GLOM with random weights that depend on the seed alone; the state of the global generator is left as it was."""
    with fixed_seed(sample_seed(seed, "glom", "weights")):
        return Glom(config)


def new_ellipse_glom(config: GlomConfig, world: EllipseSettings, seed: int) -> EllipseGlom:
    """The same of a GLOM in the world of ellipses."""
    with fixed_seed(sample_seed(seed, "glom", "weights")):
        return EllipseGlom(config, world)


def check_weights(glom: Columns) -> None:
    """Raise `Diverged` for weights that a step left infinite, no number or beyond all measure."""
    # The nets of all levels lie side by side: net k of those going up and of those going down speaks to level k.
    named = {name: (name.startswith(("up.", "down.")), weights.detach()) for name, weights in glom.named_parameters()}
    largest = [weights.abs().flatten(int(by_level)).amax(-1).reshape(-1) for by_level, weights in named.values()]
    values = iter(torch.cat(largest).tolist())
    for (name, (by_level, _)), each in zip(named.items(), largest, strict=True):
        for level, value in enumerate(itertools.islice(values, len(each)), 1):
            if not value < LIMIT:
                where = f"the weights of level {level}" if by_level else "the weights"
                raise Diverged(f"{where} ({name})")


class Trainer:
    """A GLOM, and how it learns.

    Args:
        glom: trained in place, where it is.
        settings: `precision` "auto" is bf16 where the machine has it in hardware.
        draw: (batch, generator) -> pictures (batch, 3, H, W) in [0, 1], or ellipses.
        path: the state file, see `Training`; None for none.

    Attributes:
        training: the loop; `training.run(trainer.loss, ...)` runs it. precision: "fp32" or "bf16".
        measure: what the last loss says of the levels, see `Loss`.
    """

    def __init__(self, glom: Columns, settings: TrainSettings, draw: Draw, path: Path | None = None) -> None:
        self.glom, self.settings, self.draw = glom, settings, draw
        self.device, self.measure = next(glom.parameters()).device, ""
        self.precision = chosen_precision(settings.precision, self.device)
        self._objective: Callable[..., Loss] = (
            recover if settings.world == "ellipses" else objective_of(settings.objective)
        )
        self.training = Training(
            glom,
            torch.optim.AdamW(glom.parameters(), lr=settings.lr, weight_decay=settings.weight_decay),
            lambda step: rate(step, settings),
            settings.steps,
            path,
            # One norm over all levels would let them know of each other.
            clip=None if settings.objective == "forward-forward" else 1.0,
            check=lambda: check_weights(glom),
            blame=self._blame,
        )

    def _blame(self, values: list[float]) -> str:
        level = next((i for i, value in enumerate(values[1:], 1) if not math.isfinite(value)), None)
        return f"the {self.settings.objective} loss" + (f", first on level {level}," if level else "")

    def loss(self, step: int) -> Tensor:
        """(1 + L,): the loss of step 0, 1, ... and each level's."""
        how = self.settings
        generator = torch.Generator().manual_seed(sample_seed(how.seed, str(step), "glom-train"))
        images = self.draw(how.batch, generator).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self._objective(self.glom, images, generator, how.task)
        self.measure = loss.measure
        return torch.cat([loss.total[None], loss.levels])
