"""Test-time prototype shifting (Sui, Wang & Yeung-Levy 2025, WACV, "Just Shift It: Test-Time Prototype Shifting for
Zero-Shot Generalization with Vision-Language Models", section 3).

    p(y | x) = softmax( scale f(x) . normalise(w_y + d_y) ),      d = 0, then one step on TPT's loss

Each class's prototype w_y gets a shift of its own; no gradient goes through an encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register
from glom.methods.views import confident, marginal_entropy
from glom.teachers.heads import ZeroShotHead


@dataclass(frozen=True)
class TPSSettings:
    """The release's.

    Attributes:
        views: with the picture itself. share: the surest of them, chosen anew for each step.
        steps, lr: of AdamW. templates: of the prototypes.
    """

    views: int = 64
    share: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    templates: str = "imagenet"


@register
class TPS(Method):
    """One picture's prototypes. A classifier's are the rows of its last layer, which are not of length one."""

    name = "tps"
    mixes = ("other",)

    def __init__(self, settings: TPSSettings | None = None) -> None:
        self.settings = settings or TPSSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = self.task.head(self.settings.templates)

    def shifted(self, shift: Tensor) -> ZeroShotHead:
        """The head with its prototypes moved by (rows, F)."""
        moved = self.head.weights + shift
        return replace(self.head, weights=F.normalize(moved, dim=-1) if self.head.normalize else moved)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s = self.settings
        tokens = self.task.view_tokens(image, s.views, seed)
        shift = torch.zeros_like(self.head.weights).requires_grad_()
        optimiser = torch.optim.AdamW([shift], lr=s.lr)
        for _ in range(s.steps):
            logits = self.shifted(shift)(tokens)
            loss = marginal_entropy(logits[confident(logits.detach(), s.share)])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            return self.shifted(shift)(tokens[:1])[0]
