"""ZERO with two teachers (Farina et al. 2024, NeurIPS, "Frustratingly Easy Test-Time Adaptation of Vision-Language
Models", section 5.1, "ZERO-RLCF" of its release): the small one chooses the views, the large one votes on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from glom.methods.base import Task, register
from glom.methods.views import by_confidence
from glom.methods.voting import Views, VotingSettings, vote


@dataclass(frozen=True)
class Zero2Settings(VotingSettings):
    """ZERO's, and the `second` teacher's fingerprint."""

    second: str = ""


@register
class Zero2(Views):
    """The second teacher's majority on the first one's surest views; the first one's other views break ties."""

    name = "zero2"

    def __init__(self, settings: VotingSettings | None = None) -> None:
        given = settings or VotingSettings()
        self.settings: Zero2Settings = Zero2Settings(given.views, given.share)

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.second = self.task.other()
        self.second_head = self.second.head()
        self.settings = replace(self.settings, second=self.second.teacher.fingerprint)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        logits = self.view_logits(image, seed)
        kept, others = by_confidence(logits, self.settings.share)
        seen = self.second.view_tokens(image, self.settings.views, seed, tuple(kept.tolist()))
        return vote(self.second_head(seen), logits[others])
