"""Augmented views of one picture, and how sure a model is of each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from glom.runs.seeds import fixed_seed


class ViewCache:
    """Tokens of views by key, the least recently used forgotten beyond `most` numbers: one GiB of float32.

    `spared` counts the seconds that making what was found here had taken: they are part of what a method costs.
    """

    def __init__(self, most: int = 2**28) -> None:
        self.most, self._size = most, 0
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._took: dict[Hashable, float] = {}
        self.spared = 0.0

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """What is held under `key`, made where nothing is. Not to be changed in place."""
        if key in self._held:
            self.spared += self._took[key]
        else:
            begun = time.perf_counter()
            self._held[key] = made = make()
            self._took[key] = time.perf_counter() - begun
            self._size += made.numel()
            while self._size > self.most and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1].numel()
        self._held.move_to_end(key)
        return self._held[key]

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._took.clear()
        self._size = 0


def augmented(
    image: Image.Image,
    count: int,
    size: int,
    seed: int,
    least: float = 0.08,
    by: InterpolationMode = InterpolationMode.BILINEAR,
) -> list[Image.Image]:
    """The picture itself and `count` - 1 random resized crops of it, each flipped half of the time.

    The augmentation of TPT (Shu et al. 2022, section 4.1) and ZERO: torchvision's random resized crop as it comes.

    Args:
        size: side of the crops in pixels.
        seed: the picture's own.
        least: the smallest share of the area a crop keeps. by: how crops are resized.

    Returns:
        `count` pictures, the first as it came.
    """
    views = [image]
    with fixed_seed(seed):
        for _ in range(count - 1):
            i, j, h, w = RandomResizedCrop.get_params(image, [least, 1.0], [3 / 4, 4 / 3])
            view = TF.resized_crop(image, i, j, h, w, [size, size], by)
            views.append(TF.hflip(view) if float(torch.rand(())) < 0.5 else view)
    return views


def entropy(logits: Tensor) -> Tensor:
    """(..., C) -> (...): -sum p log p of the softmax, in nats."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def marginal_entropy(logits: Tensor) -> Tensor:
    """(V, C) -> (): the entropy of the mean of the views' probabilities (MEMO: Zhang et al. 2022, equation 2)."""
    log_mean = logits.log_softmax(-1).logsumexp(0) - torch.log(torch.tensor(float(len(logits))))
    return -(log_mean.exp() * log_mean.clamp_min(torch.finfo(log_mean.dtype).min)).sum()


def confident(logits: Tensor, share: float) -> Tensor:
    """Indices of the `share` of views with the least entropy, the surest first; at least one."""
    return by_confidence(logits, share)[0]


def by_confidence(logits: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Indices of the `share` of views with the least entropy (at least one), and of the others, the surest first."""
    count = max(1, int(len(logits) * share))
    order = entropy(logits).argsort(stable=True)
    return order[:count], order[count:]
