"""Sure and diverse pictures weigh more, changed copies answer alike, the weights lean towards the source: ROID.

Marsden, Döbler & Yang 2024, "Universal Test-time Adaptation through Weight Ensembling, Diversity Weighting, and Prior
Correction" (WACV).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import transforms as T
from torchvision.transforms import functional as TF

from glom.methods.base import Task, register
from glom.methods.batch_norm import Adapting, StepSettings
from glom.methods.views import entropy
from glom.runs.seeds import fixed_seed


@dataclass(frozen=True)
class ROIDSettings(StepSettings):
    """SGD's, and:

    Attributes:
        temperature: of the pictures' weights. keep: of the running mean of the probabilities at each batch.
        ensemble: share of the moved weights after each step; the rest is the source's.
        clip: the largest probability in the likelihood ratio.
    """

    nesterov: bool = True
    full: int = 0
    temperature: float = 1 / 3
    keep: float = 0.9
    ensemble: float = 0.99
    clip: float = 0.99


# Adjustments of colour, and between what factors.
COLOURS: tuple[tuple[Callable[[Tensor, float], Tensor], float, float], ...] = (
    (TF.adjust_brightness, 0.6, 1.4),
    (TF.adjust_contrast, 0.7, 1.3),
    (TF.adjust_saturation, 0.5, 1.5),
    (TF.adjust_hue, -0.06, 0.06),
    (lambda x, factor: TF.adjust_gamma(x.clamp(1e-8, 1), factor), 0.7, 1.3),
)


def changed(pixels: Tensor, seed: int) -> Tensor:
    """(B, 3, S, S) in [0, 1], all changed alike: colours in a drawn order, turned, moved, scaled, flipped or not."""
    side = pixels.shape[-1]
    x = pixels.clamp(0, 1)
    with fixed_seed(seed):
        for which in torch.randperm(len(COLOURS)).tolist():
            adjust, low, high = COLOURS[which]
            x = adjust(x, float(torch.empty(()).uniform_(low, high)))
        x = T.Pad(side // 2, padding_mode="reflect")(x)
        x = T.RandomAffine((-15, 15), (1 / 16, 1 / 16), (0.9, 1.1), interpolation=T.InterpolationMode.BILINEAR)(x)
        return T.RandomHorizontalFlip()(TF.center_crop(x, [side, side])).clamp(0, 1)


@register
class ROID(Adapting):
    """One step on the soft likelihood ratio of weighted pictures and on their likeness to changed copies.

    The answers are those before the step, each class times its smoothed mean probability in the batch.
    """

    name = "roid"
    norms = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)

    def __init__(self, settings: ROIDSettings | None = None) -> None:
        self.settings: ROIDSettings = settings or ROIDSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        count = len(task.classes)
        self.mean = torch.full((count,), 1 / count, device=task.device)
        shape = task.teacher.mean, task.teacher.std
        self.centre, self.spread = torch.tensor(shape, device=task.device)[:, :, None, None]

    def adapt(self, batch: Tensor, seeds: Sequence[int]) -> Tensor:
        s = self.settings
        logits = self.scores(batch)
        weights = self._weights(logits.detach())
        diverse = weights > 0
        p = logits.softmax(-1).clamp(0, s.clip)
        ratio = -(p * (p / (1 - p) + 1e-5).log()).sum(-1)
        other = changed(batch[diverse] * self.spread + self.centre, seeds[0])
        views = self.head(self.twin.token_with_grad((other - self.centre) / self.spread))
        unlike = _symmetric(views, logits[diverse])
        self.descend((weights[diverse] * (ratio[diverse] + unlike)).sum() / self.together)
        with torch.no_grad():
            for name, w in self.weights.items():
                w.copy_(s.ensemble * w + (1 - s.ensemble) * self.origin[name])
        return _corrected(logits.detach())

    def _weights(self, logits: Tensor) -> Tensor:
        """(B,), 0 for the pictures that are most like the stream's mean; the mean moves on."""
        s, p = self.settings, logits.softmax(-1)
        diversity = _unit(1 - torch.cosine_similarity(self.mean[None], p, dim=-1))
        weights = (diversity * _unit(-entropy(logits)) / s.temperature).exp()
        weights[diversity < diversity.mean()] = 0
        self.mean = s.keep * self.mean + (1 - s.keep) * p.mean(0)
        return weights

    def stream_state(self) -> dict[str, Tensor]:
        return super().stream_state() | {"mean": self.mean.cpu().clone()}

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        super().load_stream_state(state)
        self.mean = state["mean"].to(self.task.device)


def _unit(values: Tensor) -> Tensor:
    """(B,) from 0 to 1; all 0 where they are all the same."""
    return (values - values.min()) / (values.max() - values.min()).clamp_min(torch.finfo(values.dtype).tiny)


def _symmetric(a: Tensor, b: Tensor) -> Tensor:
    """(B, C) logits twice -> (B,): half of either's cross-entropy with the other."""
    return -(b.softmax(-1) * a.log_softmax(-1) + a.softmax(-1) * b.log_softmax(-1)).sum(-1) / 2


def _corrected(logits: Tensor) -> Tensor:
    """(B, C) logits, each class's times its smoothed prior over the mean prior, 1 / C.

    The release does not divide: the answers are the same, but their softmax is nearly flat.
    """
    prior = logits.softmax(-1).mean(0)
    count, classes = logits.shape
    smooth = max(1 / count, 1 / classes) / prior.max()
    return logits * classes * (prior + smooth) / (1 + smooth * classes)
