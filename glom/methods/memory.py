"""A memory of the test pictures of each class, read by likeness: the dynamic half of Dual Memory Networks.

Zhang, Zhu, Tang, Ma, Zhou & Zhang 2024, "Dual Memory Networks: A Versatile Adaptation Approach for Vision-Language
Models" (CVPR), without labelled pictures and without training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register
from glom.methods.cache import Cache, packed, unpacked


@dataclass(frozen=True)
class DMNSettings:
    """Its release's, but for the weight of the memory's answer.

    Attributes:
        views: with the picture itself, the first of the `drawn` that other methods ask for as well. share: of them, the
            surest, that name the picture's class.
        memory: pictures a class. beta: how sharply likeness weighs.
        alpha: the memory's answer beside the text's, in probabilities.
    """

    views: int = 32
    drawn: int = 64
    share: float = 0.1
    memory: int = 50
    beta: float = 5.5
    alpha: float = 1.0


@register
class DMN(Method):
    """p = p_text + alpha p_memory, each a softmax over the classes.

    A class's feature in the memory is its text's feature and its pictures', weighted by exp(-beta (1 - cosine)) with
    the test picture. A picture enters under the class that its surest views name; where that class is full, instead of
    the least sure one there if it is surer. The logits are log p.

    The release chooses alpha among 13 values by the test labels of each data set (`weight_search`; its author says so,
    YBZh/DMN#2). Here it is 1 for all.
    """

    name = "dmn"
    mixes = ("shift", "other")

    def __init__(self, settings: DMNSettings | None = None) -> None:
        self.settings: DMNSettings = settings or DMNSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        self.memory: Cache = {}

    @torch.no_grad()
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s = self.settings
        features = F.normalize(self.task.view_tokens(image, s.drawn, seed)[: s.views], dim=-1)
        logits = self.head(features)
        if not bool(logits[0].isfinite().all()):
            return logits[0]
        p = logits.softmax(-1)
        surest = _entropy(p, 1e-6).argsort(stable=True)[: max(1, int(len(p) * s.share))]
        self._remember(features[0], p[surest].mean(0))
        memory = self.head.scale * self._classes(features[0]) @ features[0]
        both = torch.stack([logits[0].log_softmax(-1), memory.log_softmax(-1) + math.log(s.alpha)])
        return both.logsumexp(0) - math.log(1 + s.alpha)

    def _remember(self, feature: Tensor, p: Tensor) -> None:
        queue = self.memory.setdefault(int(p.argmax()), [])
        h = float(_entropy(p, 1e-8))
        if len(queue) < self.settings.memory:
            queue.append((h, feature, p))
            return
        worst = max(range(len(queue)), key=lambda i: queue[i][0])
        if h < queue[worst][0]:
            queue[worst] = h, feature, p

    def _classes(self, feature: Tensor) -> Tensor:
        """(C, F), of length one: what each class looks like beside a picture with this feature (F,)."""
        texts = self.head.weights
        labels = [label for label, queue in self.memory.items() for _ in queue]
        kept = torch.stack([entry[1] for queue in self.memory.values() for entry in queue])
        rows = torch.cat([torch.arange(len(texts)), torch.tensor(labels)]).to(texts.device)
        keys = torch.cat([texts, kept])
        weights = torch.exp(-self.settings.beta * (1 - keys @ feature))
        return F.normalize(torch.zeros_like(texts).index_add(0, rows, weights[:, None] * keys), dim=-1)

    def stream_state(self) -> dict[str, Tensor]:
        return packed(self.memory)

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        self.memory = unpacked({key: value.to(self.task.device) for key, value in state.items()})


def _entropy(p: Tensor, least: float) -> Tensor:
    return -(p * (p + least).log()).sum(-1)
