"""The backpropagation twin: the same layer sizes and connections, one loss at the top, autograd (section 3.1)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.forward_forward.learner import Diverged
from glom.forward_forward.maps import Dense, Grid, LinearMap, Local
from glom.forward_forward.samples import seen
from glom.forward_forward.settings import FFSettings


class Twin(nn.Module):
    """Rectified layers with the network's bottom-up connections, a linear softmax on the last, Adam.

    It has no connections from above (nor have the paper's), sees no label, and normalises nothing between layers.

    Args:
        shape: (C, H, W) of the pictures. classes: how many labels.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, settings: FFSettings, device: torch.device) -> None:
        super().__init__()
        self.settings = settings
        generator = torch.Generator(device).manual_seed(settings.seed)
        channels, height, width = shape
        self._maps: list[LinearMap]
        if settings.mode == "local":
            grids = [Grid(c, height, width) for c in (channels, *settings.widths)]
            self._maps = [Local(a, b, settings.field, generator) for a, b in itertools.pairwise(grids)]
        else:
            sizes = [channels * height * width, *settings.widths]
            self._maps = [Dense(a, b, generator) for a, b in itertools.pairwise(sizes)]
        self._maps.append(Dense(self._maps[-1].outputs, classes, generator))
        # He initialisation: half of a rectified layer's input is off.
        for one in self._maps[:-1]:
            one.weights.value.mul_(2**0.5)
        self.weights = nn.ParameterList([nn.Parameter(one.weights.value.contiguous()) for one in self._maps])
        for one, parameter in zip(self._maps, self.weights, strict=True):
            one.weights.working = parameter
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(one.outputs, device=device)) for one in self._maps])
        self.optimizer = torch.optim.Adam(self.parameters(), lr=settings.baseline_lr, fused=True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            x = images.flatten(1).float()
            for k, (one, bias) in enumerate(zip(self._maps, self.biases, strict=True)):
                x = one(x) + bias
                if k + 1 < len(self._maps):
                    x = torch.relu(x)
        return x.float()

    def share(self, epoch: int) -> float:
        """Of the learning rate, as the other's."""
        return self.settings.rate_share(epoch, self.settings.baseline_epochs)

    def learn(self, images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """One step; returns the logits (B, classes) from before it."""
        images = seen(images, self.settings, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.baseline_lr * share
        logits = self(images)
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels).backward()
        self.optimizer.step()
        return logits.detach()

    def check(self, images: Tensor) -> None:
        """See that the last step left weights that are numbers, and gives some to pictures (B, C, H, W).

        Raises:
            Diverged: it did not; the softmax counts as the last layer.
        """
        with torch.no_grad():
            logits = self(images)
        for number, parameters in enumerate(zip(self.weights, self.biases, strict=True), 1):
            if not all(bool(torch.isfinite(p).all()) for p in parameters):
                raise Diverged(number, "twin's weights")
        if not bool(torch.isfinite(logits).all()):
            raise Diverged(len(self.weights), "twin's answer")

    def state(self) -> dict[str, Any]:
        """Parameters and optimiser."""
        return {"parameters": self.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's values."""
        self.load_state_dict(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
