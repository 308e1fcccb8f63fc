"""What every backbone offers: layers with names, an input size it can be fitted to, outputs that become grids."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from glom.backbones.patching import Region, patch
from glom.errors import InputError
from glom.pictures import Picture
from glom.runs.seeds import fixed_seed


class Backbone(ABC):
    """A frozen network that reads boring videos (or one image), and the places in it that can be looked at.

    Attributes:
        name: what loads it again.
        what: architecture in a few words, MViTv1 and MViTv2 told apart.
        model: the network, in eval mode, float32.
        layers: (name, module) in the order they run.
        frames: T it was built for; 1 for an image model, which reads no other.
        size: side it was built for, in pixels.
        view: side the toolkit shows it if nothing else is said.
        patch_side: of the first patch, in pixels.
        mean, std: of the normalisation, three numbers each, for pixels in [0, 1].
    """

    video: bool = True

    def __init__(
        self,
        name: str,
        what: str,
        model: nn.Module,
        device: torch.device,
        *,
        frames: int,
        size: int,
        patch: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.name, self.what, self.device = name, what, device
        self.model: Any = model.eval().requires_grad_(False).to(device)
        self.frames, self.size, self.view, self.patch_side = frames, size, size, patch
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    @abstractmethod
    def layers(self) -> list[tuple[str, nn.Module]]:
        """(name, module) of every place that can be read, in the order they run."""

    @abstractmethod
    def fit(self, frames: int, size: int) -> list[str]:
        """Prepare for clips of `frames` x `size` x `size`; returns what was interpolated, a sentence each.

        Raises:
            InputError: a length or size this architecture cannot read.
        """

    @abstractmethod
    def run(self, clip: Tensor) -> Any:
        """`clip` (1, 3, T, H, W) through the network, after `fit`; whatever it gives."""

    @abstractmethod
    def grid(self, output: Any) -> Tensor:
        """One layer's output -> (T', h, w, D), class token dropped."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The same architecture with new random weights."""

    def untrained(self, seed: int = 0) -> Backbone:
        """The same network with random weights, drawn as its authors draw them; `seed` of the draw."""
        twin = copy.copy(self)
        with fixed_seed(seed):
            twin.model = self.build().eval().requires_grad_(False).to(self.device)
        twin.name = f"{self.name} (untrained)"
        twin.remember()
        return twin

    def classify(self, clip: Tensor, classes: Sequence[str] = ()) -> tuple[tuple[str, ...], Tensor] | None:
        """What it says a clip shows: class names and their probabilities (C,); None where it ends in no classifier.

        Args:
            clip: (3, T, H, W) that it was fitted to.
            classes: names to choose from, for a network that reads text.
        """
        return None

    def patch(
        self,
        layer: int | str,
        region: Region,
        value: Picture,
        frames: int | None = None,
        size: int | None = None,
    ) -> AbstractContextManager[None]:
        """Put something else for a layer's features while inside; see `glom.backbones.patching.patch`.

        Args:
            layer: number or name. region: a location, a box, a boolean mask, or "all". value: what is put there.
            frames: of the video that is shown. size: its side in pixels.

        Raises:
            InputError: as that says.
        """
        return patch(self, layer, region, value, frames, size)

    def remember(self) -> None:
        """Note what `fit` will interpolate from; called whenever the weights are new."""
        return

    def check(self, frames: int, size: int) -> None:
        """Raises `InputError` for no `frames`, a `size` under one patch, or several frames for an image model."""
        if frames < 1:
            raise InputError(f"a boring video needs at least 1 frame, got {frames}")
        if size < self.patch_side:
            raise InputError(f"{size} px is less than one patch of {self.name} ({self.patch_side} px)")
        if not self.video and frames != 1:
            raise InputError(f"{self.name} reads one image, not a video; leave `frames` out (got {frames})")

    def size_note(self, frames: int, size: int, what: str) -> list[str]:
        """The sentence about `frames` of `size` px and `what` is done, where the network was built for others."""
        if (frames, size) == (self.frames, self.size):
            return []
        given, own = f"{size} px", f"{self.size} px"
        if self.video:
            given, own = f"{frames} x {size} px", f"{self.frames} x {self.size} px"
        return [f"{self.name} was built for {own} and reads {given} here: {what}"]


def tokens_to_grid(tokens: Tensor, shape: tuple[int, int, int], prefix: int) -> Tensor:
    """(1, prefix + T h w, D) tokens, time first -> (T, h, w, D)."""
    return tokens.reshape(-1, tokens.shape[-1])[prefix:].unflatten(0, shape)


def resize_positions(positions: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """(prod(old), D) position embeddings on a line, plane or volume -> (prod(new), D), (bi-, tri-)linearly."""
    if old == new:
        return positions.clone()
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(old)]
    volume = positions.T.reshape(1, -1, *old)
    resized = nn.functional.interpolate(volume, size=new, mode=mode, align_corners=False)
    return resized.flatten(2)[0].T.contiguous()


def conv_shape(conv: nn.Module, frames: int, size: int) -> tuple[int, int, int]:
    """(T', h, w) a patch-embedding convolution makes of (T, H, W); T' = 1 for a 2-D one."""
    c: Any = conv
    sides = [size, size] if isinstance(conv, nn.Conv2d) else [frames, size, size]
    out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(sides, c.padding, c.kernel_size, c.stride, strict=True)]
    if min(out) < 1:
        raise InputError(f"{frames} x {size} px is less than one patch ({'x'.join(map(str, c.kernel_size))})")
    return (1, out[0], out[1]) if len(out) == 2 else (out[0], out[1], out[2])
