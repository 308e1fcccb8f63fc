"""Caches of what earlier test pictures looked like: TDA, which learns nothing and yet depends on the stream.

Karmanov, Guan, Lu, El Saddik & Xing 2024, "Efficient Test-Time Adaptation of Vision-Language Models" (CVPR).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.errors import unknown
from glom.methods.base import Method, Task, register
from glom.methods.views import confident, entropy, marginal_entropy

LOGARITHMS = {"nats/log2": math.log2, "nats/ln": math.log}
VIEWS, SHARE = 64, 0.1  # of AugMix views with the picture itself, where a picture is seen as these; the surest

Entry = tuple[float, Tensor, Tensor]  # entropy, feature (F,), probabilities (C,)
Cache = dict[int, list[Entry]]  # by class


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
    """

    positive: int = 3
    negative: int = 2
    alpha: tuple[float, float] = (2.0, 0.117)
    beta: tuple[float, float] = (5.0, 1.0)
    unsure: tuple[float, float] = (0.2, 0.5)
    mask: tuple[float, float] = (0.03, 1.0)
    entropy: str = "nats/log2"
    scale: float = 100.0

    def __post_init__(self) -> None:
        if self.entropy not in LOGARITHMS:
            raise unknown("normalisation of the entropy", self.entropy, LOGARITHMS)


@register
class TDA(Method):
    """logits + A(f Q_p^T) L_p - A(f Q_n^T) L_n, with A(z) = alpha exp(-beta (1 - z)); queues keep the surest entries.

    The release's logits are 100 times a cosine, CLIP's own scale, so that an alpha is worth alpha / 100 of a cosine. It
    is worth that here whatever the teacher: one with scale s weighs its caches by alpha s / 100. Entropies and
    probabilities are those of the teacher's own scale, which is what they are of in the release.

    Every test picture may enter the caches, so the answers depend on those before it: one process sees them all, in an
    order drawn from the run's seed and the pictures' ids. One whose scores are not finite enters none.
    """

    name = "tda"
    mixes: ClassVar[tuple[str, ...]] = ("shift",)

    def __init__(self, settings: TDASettings | None = None) -> None:
        self.settings: TDASettings = settings or TDASettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        self.sure: Cache = {}
        self.doubtful: Cache = {}

    @torch.no_grad()
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s = self.settings
        tokens = self.tokens(image, seed)
        feature, logits, p, h = self.look(F.normalize(tokens, dim=-1))
        if not bool(logits.isfinite().all()):
            return logits
        share = h / LOGARITHMS[s.entropy](max(2, len(p)))
        guess = int(p.argmax())
        keep(self.sure, guess, (h, feature, p), s.positive)
        if s.unsure[0] < share < s.unsure[1]:
            self.doubt(guess, (h, feature, p))
        logits = logits + self._answer(feature, self.resembled(tokens), 0)
        return logits - self._answer(feature, self.doubtful, 1) if self.doubtful else logits

    def tokens(self, image: Image.Image, seed: int) -> Tensor:
        """(V, F): the teacher's tokens of the picture, itself first: alone, unless its release mixes views."""
        if self.task.augment == "crops":
            return self.task.token(image)[None]
        return self.task.view_tokens(image, VIEWS, seed)

    def look(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """(V, F) of length one -> a picture's feature (F,), class scores (C,), probabilities (C,) and entropy.

        Of several views they are the surest ones' means, and the entropy is the marginal one.
        """
        if len(features) == 1:
            logits = self.head(features[0])
            return features[0], logits, logits.softmax(-1), float(entropy(logits))
        kept = confident(self.head(features), SHARE)
        logits = self.head(features[kept])
        return features[kept].mean(0), logits.mean(0), logits.softmax(-1).mean(0), float(marginal_entropy(logits))

    def doubt(self, guess: int, entry: Entry) -> None:
        """Put a picture into the negative cache."""
        keep(self.doubtful, guess, entry, self.settings.negative)

    def resembled(self, tokens: Tensor) -> Cache:
        """The positive cache a picture with these tokens is compared with."""
        return self.sure

    def stream_state(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, cache in (("sure", self.sure), ("doubtful", self.doubtful))
            for key, value in packed(cache).items()
        }

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        self.sure, self.doubtful = (
            unpacked({k.partition("/")[2]: v.to(self.task.device) for k, v in state.items() if k.startswith(name)})
            for name in ("sure/", "doubtful/")
        )

    def _answer(self, feature: Tensor, cache: Cache, which: int) -> Tensor:
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


def keep(cache: Cache, label: int, entry: Entry, most: int) -> None:
    """Put an entry into its class's queue and let the least sure beyond `most` go; the surest come first."""
    queue = [*cache.get(label, ()), entry]
    cache[label] = sorted(queue, key=lambda e: e[0])[:most]


def packed(cache: Cache) -> dict[str, Tensor]:
    """A cache as tensors: `label` (n,), `entropy` (n,) float64, `feature` (n, F), `p` (n, C); {} where it is empty."""
    entries = [(label, *entry) for label, queue in cache.items() for entry in queue]
    if not entries:
        return {}
    labels, entropies, features, p = zip(*entries, strict=True)
    return {
        "label": torch.tensor(labels),
        "entropy": torch.tensor(entropies, dtype=torch.float64),
        "feature": torch.stack(features).cpu(),
        "p": torch.stack(p).cpu(),
    }


def unpacked(state: dict[str, Tensor]) -> Cache:
    """The cache that `packed` made these of."""
    cache: Cache = {}
    if state:
        columns = state["label"].tolist(), state["entropy"].tolist(), state["feature"], state["p"]
        for label, *entry in zip(*columns, strict=True):
            cache.setdefault(label, []).append((entry[0], entry[1], entry[2]))
    return cache
