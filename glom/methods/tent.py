"""The entropy of the answers goes down, batch by batch: Tent.

Wang, Shelhamer, Liu, Olshausen & Darrell 2021, "Tent: Fully Test-Time Adaptation by Entropy Minimization" (ICLR).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glom.methods.base import register
from glom.methods.batch_norm import Adapting, StepSettings
from glom.methods.views import entropy


@register
class Tent(Adapting):
    """One step on the batch's mean entropy; the answer is the one before it."""

    name = "tent"

    def __init__(self, settings: StepSettings | None = None) -> None:
        self.settings: StepSettings = settings or StepSettings()

    def adapt(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        logits = self.scores(batch)
        self.descend(entropy(logits).mean())
        return logits.detach()
