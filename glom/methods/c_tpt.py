"""Calibrated test-time prompt tuning (Yoon et al. 2024, ICLR, "C-TPT: Calibrated Test-Time Prompt Tuning for
Vision-Language Models via Text Feature Dispersion", section 4).

    L = L_TPT - lambda (1/C) sum_y || t_y - mean_y t_y ||        t_y: the classes' text features, of length one

A prompt under which the classes lie further apart is better calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from glom.methods.base import Task, kind_of, register
from glom.methods.tuned import TPT, TPTSettings


@dataclass(frozen=True)
class CTPTSettings(TPTSettings):
    """TPT's, and `dispersion`: the weight lambda of the text features' dispersion."""

    dispersion: float = 50.0


SHIFTED = 20.0  # its weight on ImageNet and its shifts


@register
class CTPT(TPT):
    """TPT's one step on both terms at once."""

    name = "c-tpt"
    mixes = ("imagenet", "shift", "other")

    def __init__(self, settings: CTPTSettings | None = None) -> None:
        """`settings`: None for the release's for this kind of data."""
        super().__init__(settings or CTPTSettings())
        self._given = settings is not None

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        if not self._given and kind_of(task.dataset) != "other":
            self.settings = replace(self.settings, dispersion=SHIFTED)

    def loss(self, logits: Tensor, features: Tensor) -> Tensor:
        assert isinstance(self.settings, CTPTSettings)
        return super().loss(logits, features) - self.settings.dispersion * dispersion(features)


def dispersion(features: Tensor) -> Tensor:
    """(C, F) -> (): the mean distance of the classes' features, each of length one, from their mean."""
    features = F.normalize(features, dim=-1)
    return (features - features.mean(0)).norm(dim=-1).mean()
