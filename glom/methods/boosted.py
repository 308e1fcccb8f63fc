"""TDA's cache, and beside it the test picture's own surest views: BoostAdapter.

Zhang, Wang, Guo, Dai, Chen & Xia 2024, "BoostAdapter: Improving Vision-Language Test-Time Adaptation via Regional
Bootstrapping" (NeurIPS).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.methods.base import register
from glom.methods.cache import TDA, Cache, Entry, TDASettings, keep
from glom.methods.views import confident, entropy


@dataclass(frozen=True)
class BoostAdapterSettings(TDASettings):
    """TDA's, and `views` with the picture itself, the surest `share` of them, `delta` more entries a class for them."""

    views: int = 64
    share: float = 0.1
    delta: int = 3


@register
class BoostAdapter(TDA):
    """The picture is compared with the cache of earlier ones into which its own surest views have been put.

    The views are let go with the picture; what stays is the picture itself, as in TDA. The negative cache is a queue of
    the latest entries here, as its release has it, where TDA's keeps the surest.
    """

    name = "boostadapter"
    mixes = ()
    settings: BoostAdapterSettings

    def __init__(self, settings: BoostAdapterSettings | None = None) -> None:
        super().__init__(settings or BoostAdapterSettings())

    def tokens(self, image: Image.Image, seed: int) -> Tensor:
        return self.task.view_tokens(image, self.settings.views, seed)

    def look(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        return super().look(features[:1])

    def doubt(self, guess: int, entry: Entry) -> None:
        self.doubtful[guess] = [*self.doubtful.get(guess, ()), entry][-self.settings.negative :]

    def resembled(self, tokens: Tensor) -> Cache:
        s, cache = self.settings, dict(self.sure)
        features = F.normalize(tokens, dim=-1)
        logits = self.head(features)
        for i in confident(logits, s.share).tolist():
            entry = float(entropy(logits[i])), features[i], logits[i].softmax(-1)
            keep(cache, int(logits[i].argmax()), entry, s.positive + s.delta)
        return cache
