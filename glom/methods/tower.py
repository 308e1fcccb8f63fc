"""An image tower that learns for one picture and is put back, in the memory that a few of its views take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glom.teachers.base import Teacher, a_few_each


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


def learn_from(scores: Callable[[Tensor], Tensor], views: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
    """Add the gradient of `loss(scores(views))` to the weights that `scores` reads the views by.

    Of many views a few at a time: what every view is scored is found first, without a graph, the loss's gradient by
    those scores g = dL/ds next, and the weights' is then the sum over views of g_i ds_i/dw. One more reading of each
    view, and the memory of some of them: 64 views of 224 x 224 of a small network would hold 7 GiB at once.

    Args:
        scores: (V, 3, S, S) -> (V, C), each view alone. loss: (V, C) -> a number, of all views together.
    """
    parts = a_few_each(views)
    if len(parts) == 1:
        loss(scores(views)).backward()
        return
    with torch.no_grad():
        found = torch.cat([scores(part) for part in parts])
    (by_score,) = torch.autograd.grad(loss(found.requires_grad_()), found)
    for part, gradient in zip(parts, by_score.split([len(part) for part in parts]), strict=True):
        scores(part).backward(gradient)
