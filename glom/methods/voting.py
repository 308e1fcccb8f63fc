"""Views that vote: ZERO, and the plain mean over views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register
from glom.methods.views import by_confidence, confident


@dataclass(frozen=True)
class VotingSettings:
    """`views` with the picture itself, the surest `share` of them."""

    views: int = 64
    share: float = 0.3


class _Views(Method):
    def __init__(self, settings: VotingSettings | None = None) -> None:
        self.settings: VotingSettings = settings or VotingSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()

    def view_logits(self, image: Image.Image, seed: int) -> Tensor:
        """(V, C), the picture itself first."""
        return self.head(self.task.view_tokens(image, self.settings.views, seed))


@register
class Zero(_Views):
    """A majority vote of the surest views: the marginal probability at temperature zero.

    A tie goes to the class, of those tied, that the surest of the discarded views names. Where none names one, the
    surest discarded view's scores decide among them (the release means this, but masks other classes than the tied).
    """

    name = "zero"

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        logits = self.view_logits(image, seed)
        kept, others = by_confidence(logits, self.settings.share)
        counts = torch.bincount(logits[kept].argmax(-1), minlength=logits.shape[-1]).float()
        tied = counts == counts.max()
        if int(tied.sum()) > 1:
            named = [view for view in logits[others].argmax(-1).tolist() if tied[view]]
            surest = logits[others[0] if len(others) else kept[0]].masked_fill(~tied, -torch.inf)
            counts[named[0] if named else int(surest.argmax())] += 1
        return counts


@register
class MeanOfViews(_Views):
    """The mean probability of the surest views: what TPT's gradient works on, without the gradient."""

    name = "views"

    def __init__(self) -> None:
        super().__init__(VotingSettings(share=0.1))

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        logits = self.view_logits(image, seed)
        return logits[confident(logits, self.settings.share)].softmax(-1).mean(0).log()
