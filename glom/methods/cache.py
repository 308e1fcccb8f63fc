"""A cache of what earlier test pictures looked like: TDA, which learns nothing and yet depends on the stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.errors import unknown
from glom.methods.base import Method, Task, register
from glom.methods.views import entropy
from glom.runs.seeds import sample_seed

LOGARITHMS = {"nats/log2": math.log2, "nats/ln": math.log}
ORDERS = ("shuffled", "data set")


@dataclass(frozen=True)
class TDASettings:
    """The released settings for ImageNet.

    Attributes:
        positive, negative: entries a class. alpha, beta: weight and sharpness of the positive cache, then the negative.
        unsure: (low, high) normalised entropies between which a picture enters the negative cache.
        mask: (low, high) probabilities between which a class counts as negative.
        entropy: "nats/log2": normalised as the released `get_entropy` does it, in nats over the binary logarithm of the
            number of classes, so that no picture is above 0.69; "nats/ln": a share of the largest.
        scale: what the release multiplies cosines by; see `TDA`.
        order: "shuffled" by the run's seed, as the release's loaders do; "data set", where a class follows the other.
    """

    positive: int = 3
    negative: int = 2
    alpha: tuple[float, float] = (2.0, 0.117)
    beta: tuple[float, float] = (5.0, 1.0)
    unsure: tuple[float, float] = (0.2, 0.5)
    mask: tuple[float, float] = (0.03, 1.0)
    entropy: str = "nats/log2"
    scale: float = 100.0
    order: str = "shuffled"

    def __post_init__(self) -> None:
        if self.entropy not in LOGARITHMS:
            raise unknown("normalisation of the entropy", self.entropy, LOGARITHMS)
        if self.order not in ORDERS:
            raise unknown("order of the stream", self.order, ORDERS)


@register
class TDA(Method):
    """logits + A(f Q_p^T) L_p - A(f Q_n^T) L_n, with A(z) = alpha exp(-beta (1 - z)); queues keep the surest entries.

    The release's logits are 100 times a cosine, CLIP's own scale, so that an alpha is worth alpha / 100 of a cosine. It
    is worth that here whatever the teacher: one with scale s weighs its caches by alpha s / 100. Entropies and
    probabilities are those of the teacher's own scale, which is what they are of in the release.

    Every test picture may enter the caches, so the answers depend on those before it: one process sees them all, in an
    order drawn from the run's seed and the pictures' ids, unlike in every other method here.
    """

    name = "tda"

    def __init__(self, settings: TDASettings | None = None) -> None:
        self.settings: TDASettings = settings or TDASettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        # class -> [(entropy, feature (F,), probabilities (C,))], the surest first
        self.sure: dict[int, list[tuple[float, Tensor, Tensor]]] = {}
        self.doubtful: dict[int, list[tuple[float, Tensor, Tensor]]] = {}

    def order(self, ids: Sequence[str], seed: int) -> list[int]:
        """The stream's: two pictures come in the same order whatever others are among them."""
        if self.settings.order == "data set":
            return super().order(ids, seed)
        return sorted(range(len(ids)), key=lambda i: sample_seed(seed, ids[i], "stream"))

    @torch.no_grad()
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s = self.settings
        feature = F.normalize(self.task.teacher.token(self.task.read([image]))[0], dim=-1)
        logits = self.head(feature)
        p, h = logits.softmax(-1), float(entropy(logits))
        share = h / LOGARITHMS[s.entropy](max(2, len(p)))
        entry = (h, feature, p)
        guess = int(p.argmax())
        _keep(self.sure, guess, entry, s.positive)
        if s.unsure[0] < share < s.unsure[1]:
            _keep(self.doubtful, guess, entry, s.negative)
        logits = logits + self._answer(feature, self.sure, 0)
        return logits - self._answer(feature, self.doubtful, 1) if self.doubtful else logits

    def _answer(self, feature: Tensor, cache: dict[int, list[tuple[float, Tensor, Tensor]]], which: int) -> Tensor:
        s = self.settings
        entries = [(label, e) for label, queue in sorted(cache.items()) for e in queue]
        keys = torch.stack([e[1] for _, e in entries])
        if which == 0:
            values = F.one_hot(torch.tensor([label for label, _ in entries]), len(self.task.classes)).float()
        else:
            p = torch.stack([e[2] for _, e in entries])
            values = ((p > s.mask[0]) & (p < s.mask[1])).float()
        alpha = s.alpha[which] * self.head.scale / s.scale
        weights = alpha * torch.exp(-s.beta[which] * (1 - keys @ feature))
        return weights @ values.to(weights.device)


def _keep(
    cache: dict[int, list[tuple[float, Tensor, Tensor]]], label: int, entry: tuple[float, Tensor, Tensor], most: int
) -> None:
    queue = cache.setdefault(label, [])
    if len(queue) < most:
        queue.append(entry)
    elif entry[0] < queue[-1][0]:
        queue[-1] = entry
    queue.sort(key=lambda e: e[0])
