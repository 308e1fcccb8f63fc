"""Tent on sure pictures, towards weights whose neighbourhood is as good: SAR.

Niu, Wu, Zhang, Wen, Chen, Zhao & Tan 2023, "Towards Stable Test-Time Adaptation in Dynamic Wild World" (ICLR), with the
step of Foret, Kleiner, Mobahi & Neyshabur 2021, "Sharpness-Aware Minimization" (ICLR).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glom.methods.base import Task, register
from glom.methods.batch_norm import Adapting, StepSettings
from glom.methods.views import entropy

# The last stage of a ResNet and the last blocks and norm of a ViT-B stay as they are, by the release's names for them.
LAST = ("layer4", "blocks.9", "blocks.10", "blocks.11", "norm.")


@dataclass(frozen=True)
class SARSettings(StepSettings):
    """SGD's, and:

    Attributes:
        sure: pictures below this share of the largest entropy, ln C, are learned from.
        radius: of the step up, over all weights together.
        collapsed: the running mean of the entropies below which the weights go back to the source. keep: of that mean.
    """

    sure: float = 0.4
    radius: float = 0.05
    collapsed: float = 0.2
    keep: float = 0.9


@register
class SAR(Adapting):
    """Up by `radius` along the gradient of the sure pictures' entropy; the gradient there is the step down from here.

    Batch norms move, and layer and group norms where there are any.
    """

    name = "sar"
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

    def __init__(self, settings: SARSettings | None = None) -> None:
        self.settings: SARSettings = settings or SARSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.mean: float | None = None

    def moves(self, layer: str) -> bool:
        return layer != "norm" and not any(part in layer for part in LAST)

    def adapt(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        s, weights = self.settings, list(self.weights.values())
        logits = self.scores(batch)
        h, most = entropy(logits), s.sure * math.log(logits.shape[-1])
        here = [p.detach().clone() for p in weights]
        slope = torch.autograd.grad(_mean(h[h < most]), weights, materialize_grads=True)
        length = torch.stack([g.norm() for g in slope]).norm()
        with torch.no_grad():
            for p, g in zip(weights, slope, strict=True):
                p.add_(g * (s.radius / (length + 1e-12)))
        above = entropy(self.head(self.twin.token_with_grad(batch)))[h < most]
        above = above[above < most]
        steps = torch.autograd.grad(_mean(above), weights, materialize_grads=True)
        self._put_back(here)
        if all(bool(g.isfinite().all()) for g in steps):
            for p, g in zip(weights, steps, strict=True):
                p.grad = g
            self.step()
        if len(above):
            value = float(above.detach().mean())
            self.mean = value if self.mean is None else s.keep * self.mean + (1 - s.keep) * value
        if self.mean is not None and self.mean < s.collapsed:
            self._put_back(list(self.origin.values()))
        return logits.detach()

    @torch.no_grad()
    def _put_back(self, values: Sequence[Tensor]) -> None:
        for p, value in zip(self.weights.values(), values, strict=True):
            p.copy_(value)

    def stream_state(self) -> dict[str, Tensor]:
        seen = {} if self.mean is None else {"mean": torch.tensor(self.mean, dtype=torch.float64)}
        return super().stream_state() | seen

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        super().load_stream_state(state)
        self.mean = float(state["mean"]) if "mean" in state else None


def _mean(values: Tensor) -> Tensor:
    """() 0, with gradients of 0, of none."""
    return values.sum() / max(1, len(values))
