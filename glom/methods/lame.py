"""Neighbouring answers agree, no weight moves: LAME.

Boudiaf, Mueller, Ben Ayed & Bertinetto 2022, "Parameter-free Online Test-time Adaptation" (CVPR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.methods.base import Task, Together, register


@dataclass(frozen=True)
class LAMESettings:
    """`neighbours`: the width of the kernel is the mean distance to a picture's k-th nearest, itself counted.
    `steps`: at most."""

    neighbours: int = 5
    steps: int = 100


@register
class LAME(Together):
    """z = softmax(log p + W z) until it rests: a batch's answers, drawn together where the features are close.

    W_ij = exp(-|f_i - f_j|^2 / (2 sigma^2)) over features of length one, W_ii = 1. Nothing is kept from one batch to
    the next, yet a picture's answer depends on those in its batch. One whose scores are not finite stays outside.
    """

    name = "lame"
    together = 64

    def __init__(self, settings: LAMESettings | None = None) -> None:
        self.settings: LAMESettings = settings or LAMESettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()

    @torch.no_grad()
    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        tokens, _ = self.task.encoded(self.task.read(list(images)))
        logits = self.head(tokens)
        sound = logits.isfinite().all(-1)
        if bool(sound.any()):
            logits[sound] = self.agreed(tokens[sound], logits[sound])
        return list(logits.unbind())

    def stream_state(self) -> dict[str, Tensor]:
        return {}

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        """Nothing is kept from batch to batch."""

    def agreed(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """(B, C) log probabilities of a batch with these tokens (B, F) and class scores (B, C)."""
        unary = (logits.softmax(-1) + 1e-10).log()
        kernel = self._kernel(F.normalize(tokens, dim=-1))
        found, before = unary.log_softmax(-1), float("inf")
        for step in range(self.settings.steps):
            pull = kernel @ found.exp()
            found = (unary + pull).log_softmax(-1)
            z = found.exp()
            energy = float((z * (z.clamp_min(1e-20).log() - unary - pull)).sum())
            if step > 1 and abs(energy - before) <= 1e-8 * abs(before):
                break
            before = energy
        return found

    def _kernel(self, features: Tensor) -> Tensor:
        distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.topk(min(self.settings.neighbours, len(features)), largest=False).values[:, -1]
        width = nearest.mean().clamp_min(1e-12)  # copies of one picture, or one alone, lie at no distance
        return torch.exp(-(distance**2) / (2 * width**2))
