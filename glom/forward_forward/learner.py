"""One door to every mode: pictures and labels in, a learning step, scores, a state that a checkpoint can keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glom.errors import InputError
from glom.forward_forward.feedforward import FeedForward
from glom.forward_forward.maps import Grid
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.samples import blur_matrix, hybrid, seen
from glom.forward_forward.settings import FFSettings

LIMIT = 1e8  # mean squares above this are a divergence, long before float32 ends


class Diverged(ArithmeticError):
    """A layer's goodness, or what it is made of, is no finite, sensible number any more.

    Attributes:
        layer: which, counted from 1.
    """

    def __init__(self, layer: int, what: str = "goodness") -> None:
        super().__init__(f"the {what} of layer {layer} diverged")
        self.layer = layer


class Learner:
    """A forward-forward network of any mode.

    Args:
        shape: (C, H, W) of the pictures. classes: how many labels.
        device: where it lives; the settings' seed draws its weights.

    Raises:
        InputError: pictures too small to hold the label (supervised).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, settings: FFSettings, device: torch.device) -> None:
        channels, height, width = shape
        inputs = channels * height * width
        if classes < 2:
            raise InputError(f"at least two classes are needed, got {classes}")
        if settings.mode == "supervised" and inputs <= classes:
            raise InputError(
                f"the label of {classes} classes takes the first {classes} pixels, but the pictures have {inputs} "
                f"({width}x{height}); use another mode or larger pictures"
            )
        self.settings, self.shape, self.classes = settings, shape, classes
        generator = torch.Generator(device).manual_seed(settings.seed)
        self.network: FeedForward | Recurrent
        if settings.recurrent:
            self.network = Recurrent(Grid(*shape), classes, settings, generator)
        else:
            self.network = FeedForward(inputs, classes, settings, generator)
        self.dtype = self.network.dtype
        self._units = torch.tensor([[layer.units] for layer in self.network.layers], device=device)
        self._blur = tuple(blur_matrix(n, settings.blur).to(device) for n in (height, width))

    def learn(self, images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            images: (B, C, H, W) in the network's dtype. labels: (B,).
            share: of the learning rates. generator: of this epoch.

        Returns:
            the read-out's logits (B, classes) from before the step; each layer's mean square on positive and on
            negative rows, (layers, 2).

        Raises:
            Diverged: a goodness that is infinite, not a number or beyond all measure.
        """
        images = seen(images, self.settings, generator)
        network = self.network
        if isinstance(network, Recurrent):
            logits, squares = network.learn(images.flatten(1), labels, share, generator)
        elif network.labelled:
            logits, squares = network.learn(self._blank(images), labels, share, generator)
        else:
            wrong = hybrid(images, (self._blur[0], self._blur[1]), generator)
            logits, squares = network.learn_unlabelled(images.flatten(1), wrong.flatten(1), labels, share)
        # Negative rows come first.
        means = squares.view(len(squares), 2, -1).mean(2).flip(1) / self._units
        for layer, (right, wrong_ones) in enumerate(means.tolist(), 1):
            if not (right < LIMIT and wrong_ones < LIMIT):
                raise Diverged(layer)
        return logits, means

    def check(self, images: Tensor) -> None:
        """See that what the last step left is fit to be kept.

        `learn` looks at the goodness that a step begins with, so nothing has looked at a step's result before the next
        one. Draws no random numbers.

        Args:
            images: (B, C, H, W) in the network's dtype, a batch to look at.

        Raises:
            Diverged: weights or goodness that are infinite, not a number or beyond all measure.
        """
        for number, layer in enumerate(self.network.layers, 1):
            for weights in (*(one.weights for one in layer.maps), layer.bias):
                # Inputs have a mean square of 1, so this is about the mean square that a random one calls forth.
                if not float(weights.value.square().sum()) / layer.units < LIMIT:
                    raise Diverged(number, "weights")
        means = self.goodness(images).abs().mean(0).amax(0)
        if self.settings.goodness == "sum":
            means = means / self._units[:, 0]
        for number, mean in enumerate(means.tolist(), 1):
            if not mean < LIMIT:
                raise Diverged(number)

    def _blank(self, images: Tensor) -> Tensor:
        x = images.flatten(1).clone()
        x[:, : self.classes] = 0
        return x

    def _input(self, images: Tensor) -> Tensor:
        x = images.to(self.dtype)
        labelled = isinstance(self.network, FeedForward) and self.network.labelled
        return self._blank(x) if labelled else x.flatten(1)

    def readouts(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (B, classes) by read-out, the one that counts first: `goodness` (with labels as input), `softmax`."""
        x = self._input(images)
        found = {}
        if self.settings.mode != "unsupervised":
            found["goodness"] = self.network.label_scores(x)
        found["softmax"] = self.network.readout_logits(x)
        return found

    def goodness(self, images: Tensor) -> Tensor:
        """Every layer's goodness times its sign for every label, (B, classes, layers)."""
        return self.network.goodness(self._input(images))

    def state(self) -> dict[str, Any]:
        """Everything that learning changes, as tensors."""
        return {"layers": [a.state() for a in self.network.layers], "readout": self.network.readout.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's values, in place."""
        for layer, saved in zip(self.network.layers, state["layers"], strict=True):
            layer.load(saved)
        self.network.readout.load(state["readout"])
