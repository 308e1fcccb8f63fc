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


class Views(Method):
    """What methods share that look at views through the head."""

    templates = "photo"

    def __init__(self, settings: VotingSettings | None = None) -> None:
        self.settings: VotingSettings = settings or VotingSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = self.task.head(self.templates)

    def view_logits(self, image: Image.Image, seed: int) -> Tensor:
        """(V, C), the picture itself first."""
        return self.head(self.task.view_tokens(image, self.settings.views, seed))


@register
class Zero(Views):
    """A majority vote of the surest views: the marginal probability at temperature zero.

    A tie goes to the class, of those tied, that the surest of the discarded views names. Where none names one, the
    surest discarded view's scores decide among them (the release means this, but masks other classes than the tied).
    """

    name = "zero"

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        logits = self.view_logits(image, seed)
        kept, others = by_confidence(logits, self.settings.share)
        return vote(logits[kept], logits[others])


@register
class ZeroEnsemble(Zero):
    """ZERO with class embeddings averaged over 80 templates: the paper's `+Ensemble`; `ensemble+zero` is the same."""

    name = "zero+ensemble"
    templates = "imagenet"


def vote(kept: Tensor, others: Tensor) -> Tensor:
    """(C,): the log of each class's share of the votes, one for each of the `kept` views (K, C).

    The class that wins a tie has one vote more, as in the release. The share is the probability: a class that nobody
    names has next to none.

    A tie goes to the class, of those tied, that the first of the `others` (R, C) to name one does; where none does, to
    the one with the highest score in the first of them.
    """
    counts = torch.bincount(kept.argmax(-1), minlength=kept.shape[-1]).float()
    tied = counts == counts.max()
    if int(tied.sum()) > 1:
        named = [view for view in others.argmax(-1).tolist() if tied[view]]
        surest = (others if len(others) else kept)[0].masked_fill(~tied, -torch.inf)
        counts[named[0] if named else int(surest.argmax())] += 1
    return (counts / counts.sum()).clamp_min(torch.finfo(counts.dtype).tiny).log()


@register
class MeanOfViews(Views):
    """The mean probability of the surest views: what TPT's gradient works on, without the gradient."""

    name = "views"
    mixes = ("other",)

    def __init__(self) -> None:
        super().__init__(VotingSettings(share=0.1))

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        logits = self.view_logits(image, seed)
        return logits[confident(logits, self.settings.share)].softmax(-1).mean(0).log()
