"""Tent on the pictures that are sure and unlike the earlier ones (ETA), held to what mattered at the source (EATA).

Niu, Wu, Zhang, Chen, Zheng, Zhao & Tan 2022, "Efficient Test-Time Model Adaptation without Forgetting" (ICML).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glom.methods.base import FewShot, Task, register
from glom.methods.batch_norm import Adapting, StepSettings
from glom.methods.views import entropy


@dataclass(frozen=True)
class EATASettings(StepSettings):
    """SGD's, and:

    Attributes:
        name: of the setting, as recorded.
        sure: pictures below this share of the largest entropy, ln C, are learned from.
        unlike: of those, the ones whose probabilities have a cosine below this with the running mean of earlier ones.
        keep: of that running mean at each batch.
        fisher: weight of the pull towards the source.
    """

    name: str = "imagenet"
    sure: float = 0.4
    unlike: float = 0.05
    keep: float = 0.9
    fisher: float = 2000.0


# The most classes a setting is for. ImageNet's are the release's, CIFAR's mariodoebler/test-time-adaptation's.
PRESETS = {
    10: EATASettings(name="cifar-10", unlike=0.4, fisher=1.0),
    100: EATASettings(name="cifar-100", unlike=0.1, fisher=1.0),
    math.inf: EATASettings(),
}


def eata_preset(classes: int) -> EATASettings:
    """The setting for this many classes."""
    return next(s for most, s in PRESETS.items() if classes <= most)


@register
class ETA(Adapting):
    """One step on mean exp(E0 - H) H over the batch's sure and unlike pictures; without any, none."""

    name = "eta"

    def __init__(self, settings: EATASettings | None = None) -> None:
        """`settings`: None for those by the number of classes, from `prepare` on."""
        self._given = settings

    def prepare(self, task: Task) -> None:
        self.settings = self._given or eata_preset(len(task.classes))
        super().prepare(task)
        self.mean: Tensor | None = None
        self.importance: dict[str, Tensor] = {}  # of each weight at the source; none here

    def adapt(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        s: EATASettings = self.settings
        logits = self.scores(batch)
        h, p = entropy(logits), logits.detach().softmax(-1)
        most = s.sure * math.log(logits.shape[-1])
        taken = h < most
        if self.mean is not None:
            taken = taken & (torch.cosine_similarity(self.mean[None], p, dim=-1).abs() < s.unlike)
        if bool(taken.any()):
            fresh, h = p[taken].mean(0), h[taken]
            self.mean = fresh if self.mean is None else s.keep * self.mean + (1 - s.keep) * fresh
            away = ((f * (self.weights[w] - self.origin[w]) ** 2).sum() for w, f in self.importance.items())
            self.descend(((most - h.detach()).exp() * h).mean() + s.fisher * sum(away))
        return logits.detach()

    def stream_state(self) -> dict[str, Tensor]:
        seen = {} if self.mean is None else {"mean": self.mean.cpu().clone()}
        return super().stream_state() | seen

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        super().load_stream_state(state)
        self.mean = state["mean"].to(self.task.device) if "mean" in state else None


@register
class EATA(ETA):
    """ETA, and fisher sum_i F_i (w_i - w_i at the source)^2.

    F_i is the mean over batches of pictures near the source of the squared gradient of the cross-entropy with the
    network's own answers: their labels are not read.
    """

    name = "eata"
    follows = False  # what it learns from pictures is of the teacher itself
    reads_labels = False
    why_shots = "weighs its parameters by pictures near the source (labels are not read)"

    @torch.enable_grad()
    def fit(self, shots: FewShot) -> list[float]:
        """Make F from batches of `together`; the cross-entropies."""
        count, losses = len(shots.labels), []
        total = {name: torch.zeros_like(p) for name, p in self.weights.items()}
        blocks = [range(i, min(i + self.together, count)) for i in range(0, count, self.together)]
        for rows in blocks:
            logits = self.scores(shots.read(self.task, rows))
            loss = torch.nn.functional.cross_entropy(logits, logits.detach().argmax(-1))
            for name, g in zip(total, torch.autograd.grad(loss, list(self.weights.values())), strict=True):
                total[name] += g**2
            losses.append(loss.detach())
        self.importance = {name: value / len(blocks) for name, value in total.items()}
        return list(torch.stack(losses).tolist()) if losses else []

    def state(self) -> dict[str, Tensor]:
        return self.importance

    def load(self, state: dict[str, Tensor]) -> None:
        self.importance = {name: value.to(self.task.device) for name, value in state.items()}
