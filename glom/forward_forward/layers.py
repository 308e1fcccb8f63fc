"""A hidden layer that learns alone, and the linear read-out: everything by closed form, nothing through autograd."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from glom.forward_forward.goodness import Rule, length_scale, peer_pull, sum_squares
from glom.forward_forward.maps import LinearMap
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.weights import Weights


class Layer:
    """n rectified units, the maps that lead to them, a bias, and the running mean of their activity.

    Attributes:
        maps: from below first; a recurrent layer has a second one, from above.
        mean: (n,) running mean activity over positive rows, what peer normalisation looks at.
    """

    def __init__(self, maps: list[LinearMap], rule: Rule, device: torch.device) -> None:
        self.maps, self.units, self.rule = maps, maps[0].outputs, rule
        self.bias = Weights(torch.zeros(self.units, device=device), working=maps[0].weights.working.dtype)
        self.mean = torch.full((self.units,), 0.5, device=device)

    def fire(self, states: Tensor, normal: Tensor) -> Tensor:
        """Rectify `states` (R, n) in place, write their normalised form, return their sums of squares (R,)."""
        torch.relu_(states)
        squares = sum_squares(states)
        torch.mul(states, length_scale(squares, self.units)[:, None].to(states.dtype), out=normal)
        return squares

    def pull(self, mean: Tensor) -> Tensor | None:
        """What peer normalisation adds to every positive row, (n,), once their mean (n,) is known; None without it."""
        if not self.rule.peer:
            return None
        self.mean.mul_(0.9).add_(mean, alpha=0.1)
        return peer_pull(self.mean, self.rule.peer)

    def step(self, rate: float) -> None:
        """Move all parameters along their smoothed gradients."""
        for one in self.maps:
            one.weights.step(rate)
        self.bias.step(rate)

    def state(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"maps": [m.weights.state() for m in self.maps], "bias": self.bias.state(), "mean": self.mean}

    def load(self, state: dict[str, object]) -> None:
        """Take a checkpoint's values, in place."""
        maps, bias, mean = state["maps"], state["bias"], state["mean"]
        assert isinstance(maps, list) and isinstance(bias, dict) and isinstance(mean, Tensor)
        for one, saved in zip(self.maps, maps, strict=True):
            one.weights.load(saved)
        self.bias.load(bias)
        self.mean.copy_(mean)


class Readout:
    """A linear softmax over the layers' normalised states; no gradient of it reaches a layer (section 3.3)."""

    def __init__(self, units: list[int], classes: int, settings: FFSettings, device: torch.device) -> None:
        self.rate, self.momentum = settings.readout_lr, settings.momentum
        # A class's weights lie side by side, as a unit's do in `Dense`.
        self.weights = [Weights(torch.zeros(classes, n, device=device).T, settings.readout_decay) for n in units]
        self._one_hot = torch.eye(classes, device=device)

    def logits(self, normal: list[Tensor]) -> Tensor:
        """(R, n) a layer -> (R, classes)."""
        parts = [x.to(w.value.dtype) @ w.value for x, w in zip(normal, self.weights, strict=True)]
        return functools.reduce(torch.add, parts)

    def learn(self, normal: list[Tensor], labels: Tensor, share: float) -> Tensor:
        """One step on the cross-entropy; returns the logits from before it."""
        wide = [x.to(w.value.dtype) for x, w in zip(normal, self.weights, strict=True)]
        logits = self.logits(wide)
        d = self._one_hot[labels] - logits.softmax(1)
        for x, w in zip(wide, self.weights, strict=True):
            w.accumulate(x, d, self.momentum, (1 - self.momentum) / len(labels))
            w.step(self.rate * share)
        return logits

    def state(self) -> list[dict[str, Tensor]]:
        """What a checkpoint keeps."""
        return [w.state() for w in self.weights]

    def load(self, state: list[dict[str, Tensor]]) -> None:
        """Take a checkpoint's values, in place."""
        for w, saved in zip(self.weights, state, strict=True):
            w.load(saved)
