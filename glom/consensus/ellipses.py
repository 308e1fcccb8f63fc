"""GLOM in the world of ellipses: a column an ellipse, part and whole asked for after every update.

Culp, Sabour & Hinton 2022 (arXiv 2211.16564): each ellipse is ambiguous, makes a multi-modal prediction of its whole,
and agreement with similar predictions settles on the mode they share; trained with labels. Level 1 is asked which part
the ellipse is, the levels above for its whole: which kind, and in what pose, each by one linear map, the same for every
level and update. No embedding is told to be like another: islands are what follows.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.consensus.columns import Columns
from glom.consensus.config import GlomConfig, ObjectiveSettings
from glom.consensus.objectives import Loss
from glom.datasets.ellipse_settings import EllipseSettings
from glom.datasets.ellipses import PARTS, POSE, SEEN, EllipseBatch


class EllipseGlom(Columns):
    """Columns that each see one ellipse; attributes `part`, `kind` and `pose` are the linear read-outs.

    Args:
        config: its settings, of which those of patches mean nothing here.
        world: whose wholes it is asked for.

    Example:
        >>> from glom.datasets.ellipses import Ellipses
        >>> glom = EllipseGlom(GlomConfig(levels=2, dim=16, hidden=32), EllipseSettings())
        >>> batch = Ellipses(EllipseSettings()).batch(3, torch.Generator())
        >>> next(glom.settle(batch)).shape
        torch.Size([2, 3, 10, 16])
    """

    def __init__(self, config: GlomConfig, world: EllipseSettings) -> None:
        super().__init__(config, nn.Linear(SEEN, config.dim))
        self.world = world
        self.part = nn.Linear(config.dim, world.classes * PARTS)
        self.kind = nn.Linear(config.dim, world.classes)
        self.pose = nn.Linear(config.dim, POSE)

    def settle(self, batch: EllipseBatch, iterations: int | None = None) -> Iterator[Tensor]:
        """The states of every level after one update, after two, ...: (L, B, n, d) each."""
        side = self.config.cells
        steps = self.iterate(self.eye(batch.seen), self.places((side, side), batch.places))
        for _ in range(self.config.iterations if iterations is None else iterations):
            yield next(steps)


def recover(glom: EllipseGlom, batch: EllipseBatch, generator: torch.Generator, settings: ObjectiveSettings) -> Loss:
    """What part, kind and pose cost, added up, mean over ellipses and over the updates from which all levels have seen.

    Kinds and parts cost cross-entropy, poses the share of their variance that is left over. Told of level 1 is the
    part's cost, of the others the kind's.
    """
    levels = glom.config.levels
    spread = batch.poses.flatten(0, 1).var(0).clamp_min(1e-6)
    costs = []
    for number, state in enumerate(glom.settle(batch), 1):
        if number < min(levels, glom.config.iterations):
            continue
        part = F.cross_entropy(glom.part(state[0]).flatten(0, 1), batch.parts.flatten())
        above = state[1:]
        said = glom.kind(above).flatten(1, 2)
        kinds = torch.stack([F.cross_entropy(one, batch.kinds.flatten()) for one in said])
        pose = ((glom.pose(above) - batch.poses).square() / spread).mean((1, 2, 3))
        costs.append(torch.cat([part[None], kinds, pose]))
    mean = torch.stack(costs).mean(0)
    total = mean[0] + mean[1:levels].mean() + mean[levels:].mean()
    return Loss(total, mean[:levels].detach(), "nats")
