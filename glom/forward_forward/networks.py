"""The network and the twin that settings ask for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glom.devices import tell_if_slow
from glom.forward_forward.conv import ConvLearner, drawn
from glom.forward_forward.learner import Diverged, Learner
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.twin import Twin

Shape = tuple[int, int, int]


def learner_of(shape: Shape, classes: int, settings: FFSettings, device: torch.device) -> Learner | ConvLearner:
    """A forward-forward network for pictures (C, H, W); see `Learner` and `ConvLearner` for what they raise."""
    tell_if_slow(settings.precision, device)
    kind = ConvLearner if settings.mode == "conv" else Learner
    return kind(shape, classes, settings, device)


def twin_of(shape: Shape, classes: int, settings: FFSettings, device: torch.device) -> Twin:
    """The same layers for backpropagation."""
    kind = ConvTwin if settings.mode == "conv" else Twin
    return kind(shape, classes, settings, device)


class ConvTwin(Twin):
    """The convolutional network's layers and weights of the first step, one cross-entropy after the last, one Adam."""

    def __init__(self, shape: Shape, classes: int, settings: FFSettings, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.settings = settings
        self.net = drawn(shape, classes, settings, device)
        for layer in list(self.net.layers)[:-1]:
            del layer.head
        self.net.eval()  # as after a step: what a checkpoint brings back answers by running means, not by its company
        self.optimizer = torch.optim.Adam(self.parameters(), lr=settings.baseline_lr, fused=True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, classes)."""
        x = images.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            return self.net(x).float()

    def learn(self, images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """See `Twin.learn`."""
        self.net.train()
        logits = super().learn(images, labels, share, generator)
        self.net.eval()
        return logits

    def check(self, images: Tensor) -> None:
        """See `Twin.check`."""
        for number, layer in enumerate(self.net.layers, 1):
            if not all(bool(torch.isfinite(p).all()) for p in layer.parameters()):
                raise Diverged(number, "twin's weights")
        with torch.no_grad():
            if not bool(torch.isfinite(self(images)).all()):
                raise Diverged(len(self.net.layers), "twin's answer")
