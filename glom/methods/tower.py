"""An image tower that learns for one picture and is put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from glom.teachers.base import Teacher


class Tower:
    """The weights of a teacher's image side: of a classifier, all of them."""

    def __init__(self, teacher: Teacher) -> None:
        model = teacher.model
        own = [p for name, p in model.named_parameters() if name.startswith(("visual.", "vision_model."))]
        self.weights: list[nn.Parameter] = own or list(model.parameters())
        self._first = [p.detach().clone() for p in self.weights]

    @contextmanager
    def learning(self) -> Iterator[list[nn.Parameter]]:
        """The weights, with gradients; what was learned is forgotten at the end."""
        try:
            for p in self.weights:
                p.requires_grad_(True)
            yield self.weights
        finally:
            with torch.no_grad():
                for p, before in zip(self.weights, self._first, strict=True):
                    p.requires_grad_(False).copy_(before)
                    p.grad = None
