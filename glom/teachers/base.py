"""The teacher protocol: a frozen encoder that turns pictures into tokens, and where it can into grids and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from glom.pictures import Picture
from glom.teachers.zero_shot import Templates

Channels = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True)
class ZeroShotHead:
    """Class scores: `scale * normalise(token) @ weights.T`, or a classifier's own `token @ weights.T + bias`.

    Attributes:
        classes: C class names, in the order of the rows.
        weights: (C, F) float32; unit-length rows where they come from a text encoder.
        scale: the logit scale (CLIP's exp(logit_scale)); 1.0 for a classifier.
        bias: (C,) or None.
        normalize: whether tokens are scaled to unit length first (text encoders: yes; classifiers: no).
    """

    classes: tuple[str, ...]
    weights: Tensor
    scale: float = 1.0
    bias: Tensor | None = None
    normalize: bool = True

    def __call__(self, tokens: Tensor) -> Tensor:
        """(..., F) tokens -> (..., C) logits, float32."""
        tokens = tokens.float()
        if self.normalize:
            tokens = torch.nn.functional.normalize(tokens, dim=-1)
        logits = self.scale * tokens @ self.weights.T
        return logits if self.bias is None else logits + self.bias

    def take(self, classes: Sequence[str], rows: Sequence[int]) -> Self:
        """Some of the classes: these rows, under these names."""
        bias = None if self.bias is None else self.bias[list(rows)]
        return replace(self, classes=tuple(classes), weights=self.weights[list(rows)], bias=bias)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weights=self.weights.to(device), bias=bias)


@runtime_checkable
class Teacher(Protocol):
    """What every adapter offers. All outputs are float32 on `device`, whatever precision the encoder runs in.

    Attributes:
        name: what loads it again, e.g. `open_clip:ViT-L-14@openai`.
        width: F, the length of its token.
        image_size: side of the square picture `preprocess` returns, in pixels.
        mean, std: of its normalisation, for pixels in [0, 1].
        device: where it runs.
        has_grid: whether `grid` works.
        has_text: whether `zero_shot_head` takes arbitrary class names (False: the classifier's own classes only).
        classes: the classifier's own class names, or None.
        unnamed_rows: how many rows a classifier without class names has; `name_classes` names them.
        notes: what loading had to assume, one sentence each.
        fingerprint: sha256 over architecture, preprocessing, weights and precision: equal exactly when the outputs are.
    """

    name: str
    width: int
    image_size: int
    mean: Channels
    std: Channels
    device: torch.device
    has_grid: bool
    has_text: bool
    classes: tuple[str, ...] | None
    notes: list[str]

    @property
    def fingerprint(self) -> str: ...

    @property
    def unnamed_rows(self) -> int: ...

    def name_classes(self, names: Sequence[str]) -> None:
        """Name a classifier's rows, in their order. Raises `InputError` for another number of names."""
        ...

    def preprocess(self, image: Image.Image) -> Tensor:
        """An RGB picture of any size -> (3, image_size, image_size), float32, on the CPU."""
        ...

    def resized(self, size: int) -> Self:
        """The same encoder reading the whole picture squeezed onto (size, size). Raises `InputError` if it cannot."""
        ...

    def encode(self, pictures: Picture | Sequence[Picture]) -> tuple[Tensor, Tensor | None]:
        """Pictures of any kind -> tokens (B, F) and grids (B, h, w, F_grid), None without a grid."""
        ...

    def token(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, F): the raw token, before any normalisation."""
        ...

    def grid(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, h, w, F_grid): the last spatial features. Raises `InputError` unless `has_grid`."""
        ...

    def zero_shot_head(self, classes: Sequence[str], templates: Templates = ("a photo of a {}.",)) -> ZeroShotHead:
        """Class embeddings: templates filled with each name, encoded, normalised, averaged, normalised again.

        A classifier ignores templates and selects its rows by name. Raises `InputError` for names it does not know.
        """
        ...
