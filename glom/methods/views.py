"""Augmented views of one picture, and how sure a model is of each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as TF

from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed

FORMAT = 1  # of what is kept on a disk: to be raised where views or corruptions are made otherwise

Key = tuple[str | int | float | tuple[int, ...] | None, ...]
"""What a thing was made from. Written out it names a file, so that it may hold nothing that another process sees
otherwise, as `hash` is."""


class ViewCache:
    """What all methods need of a picture, by key: made once, kept for the next that asks.

    Methods go over the same pictures one after the other. So what was made first is kept: were the oldest forgotten,
    each method would find nothing but what the one before it had made last.

    Args:
        most: float32 numbers that are held in memory: one GiB. What comes later is made anew, or read from `folder`.
        folder: where all of it is kept on the disk as well, for later runs; several may share it at a time.

    Attributes:
        spared: seconds that were not spent because what was asked for was there. A method costs what it took and what
            it was spared, whichever came first.
    """

    def __init__(self, most: int = 2**28, folder: Path | None = None) -> None:
        self.most, self.folder, self.spared, self._size = most, folder, 0.0, 0
        self._held: dict[Key, tuple[Tensor, float]] = {}

    def get(self, key: Key, make: Callable[[], Tensor]) -> Tensor:
        """What is held under `key`, made where nothing is. Not to be changed in place."""
        known = self._held.get(key) or self._read(key)
        if known is None:
            begun = time.perf_counter()
            known = make(), time.perf_counter() - begun
            if self.folder is not None:
                save_tensors(self._path(key), {"kept": known[0], "seconds": torch.tensor(known[1])})
        else:
            self.spared += known[1]
        numbers = known[0].nbytes // 4
        if key not in self._held and (not self._held or self._size + numbers <= self.most):
            self._held[key] = known
            self._size += numbers
        return known[0]

    def known(self, key: Key) -> Tensor | None:
        """What is kept under `key`, or None: for a process that only looks."""
        found = self._held.get(key) or self._read(key)
        return None if found is None else found[0]

    def _path(self, key: Key) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(repr((FORMAT, *key)).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _read(self, key: Key) -> tuple[Tensor, float] | None:
        if self.folder is None:
            return None
        try:
            stored = load_file(self._path(key))
        except (OSError, SafetensorError):  # not there, or damaged: made, and written over
            return None
        return stored["kept"], float(stored["seconds"])

    def clear(self) -> None:
        """Forget what is in memory."""
        self._held.clear()
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
