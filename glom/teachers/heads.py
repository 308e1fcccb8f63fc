"""What turns a token into class scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

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
