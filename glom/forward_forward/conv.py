"""Convolutional layers that each learn by their own goodness, and the network of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.errors import InputError
from glom.forward_forward.learner import LIMIT, Diverged
from glom.forward_forward.moments import Rectified, normalised
from glom.forward_forward.objectives import LABELLED, grouped, scff
from glom.forward_forward.samples import seen
from glom.forward_forward.settings import FFSettings
from glom.runs.seeds import fixed_seed

READ = 4  # side of the averaged map that a linear read-out sees


class ConvLayer(nn.Module):
    """y = BN(pool(relu(conv(x)))), as in channel-wise competition (Papachristodoulou et al. 2024).

    Args:
        inputs, channels: of the 3 x 3 convolution.
        groups: that it is cut into: every second layer is an extractor, one group a class.
        pool: whether 2 x 2 maxima follow.
        scores: classes of the layer's own linear read-out.
    """

    def __init__(self, inputs: int, channels: int, groups: int, pool: bool, scores: int) -> None:
        super().__init__()
        self.channels, self.pool = channels, pool
        self.conv = nn.Conv2d(inputs, channels, 3, padding=1, groups=groups)
        self.norm = nn.BatchNorm2d(channels, eps=1e-4)
        self.head = nn.Linear(channels * READ * READ, scores)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H', W')."""
        x = F.relu(self.conv(x), inplace=True)
        return self.norm(F.max_pool2d(x, 2) if self.pool else x)

    def compete(self, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """`forward` in training and `grouped` of it, its gradient by this layer's weights: see `moments`.

        Args:
            x: (B, inputs, H, W), data, in the dtype of the products.

        Returns:
            y (B, channels, H', W') as data; goodness (B, classes), float32, with a gradient.
        """
        weight, bias = self.conv.weight.to(x.dtype), self.conv.bias.to(x.dtype)  # type: ignore[union-attr]
        u, total, squares = Rectified.apply(x, weight, bias, self.conv.groups, self.pool)  # type: ignore[no-untyped-call]
        y, told = normalised(u, total, squares, self.norm)
        return y, told.unflatten(1, (classes, -1)).mean(2)

    def read(self, y: Tensor) -> Tensor:
        """The linear read-out's logits of activities: (B, channels, H', W') -> (B, scores)."""
        return self.head(F.adaptive_avg_pool2d(y, READ).flatten(1))


class ConvNet(nn.Module):
    """Layers in a row; separators and extractors by turns, an extractor halving the map while it has 8 places a side.

    Args:
        shape: (C, H, W) of the pictures. classes: how many.
        channels: of each layer. competing: whether channels have to be cut into one group a class.

    Raises:
        InputError: channels that the classes do not divide, or pictures smaller than what is read of the last layer.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, channels: Sequence[int], competing: bool) -> None:
        super().__init__()
        inputs, side = shape[0], min(shape[1:])
        if side < READ:
            raise InputError(f"a convolutional network reads pictures of {READ} px or more, these have {side}")
        if competing and any(n % classes for n in channels):
            even = ",".join(str(max(1, round(n / classes)) * classes) for n in channels)
            raise InputError(
                f"`widths` {','.join(map(str, channels))}: channels are cut into one group a class, and {classes} "
                f"classes do not divide all of them; {even} would do"
            )
        self.layers = nn.ModuleList()
        for number, width in enumerate(channels):
            extractor = number % 2 == 1
            pool = extractor and side >= 2 * READ
            own = classes if extractor and competing and not inputs % classes else 1
            self.layers.append(ConvLayer(inputs, width, own, pool, classes))
            inputs, side = width, side // 2 if pool else side

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the last layer's logits (B, classes), a gradient going through all."""
        for layer in self.layers:
            x = layer(x)
        return self.layers[-1].read(x)  # type: ignore[operator]


def drawn(shape: tuple[int, int, int], classes: int, settings: FFSettings, device: torch.device) -> ConvNet:
    """A network with the seed's weights, laid out as its products want them."""
    with fixed_seed(settings.seed):
        net = ConvNet(shape, classes, settings.widths, settings.objective != "scff")
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


class ConvLearner:
    """A convolutional forward-forward network: the door that `Learner` is for the other modes.

    Every layer has an Adam of its own and steps on every batch, on what the layer below gives before its step; nothing
    of a layer's loss reaches another. Beside each a linear read-out learns from what the layer gives, and changes
    nothing in it.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, settings: FFSettings, device: torch.device) -> None:
        if classes < 2:
            raise InputError(f"at least two classes are needed, got {classes}")
        self.settings, self.shape, self.classes = settings, shape, classes
        self.net = drawn(shape, classes, settings, device)
        self.layers: list[ConvLayer] = list(self.net.layers)  # type: ignore[arg-type]
        self.dtype = torch.float32
        self.optimisers = [
            torch.optim.Adam(
                [
                    {"params": [*layer.conv.parameters(), *layer.norm.parameters()], "lr": settings.lr},
                    {"params": list(layer.head.parameters()), "lr": settings.readout_lr},
                ],
                fused=True,
            )
            for layer in self.layers
        ]

    @property
    def labelled(self) -> bool:
        """Whether goodness tells classes apart."""
        return self.settings.objective != "scff"

    def learn(self, images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One step of every layer; see `Learner.learn`.

        Returns:
            the last layer's read-out before the step (B, classes); each layer's mean goodness of the right class and
            of the wrong ones (with `scff`: of positives and of negatives), (layers, 2).

        Raises:
            Diverged: a goodness that is infinite, not a number or beyond all measure.
        """
        self.net.train()
        x = seen(images, self.settings, generator).contiguous(memory_format=torch.channels_last)
        told, logits, below = [], x, torch.zeros((), device=x.device)
        for number, (layer, optimiser) in enumerate(zip(self.layers, self.optimisers, strict=True)):
            for group, rate in zip(optimiser.param_groups, (self.settings.lr, self.settings.readout_lr), strict=True):
                group["lr"] = rate * share
            loss, y, g = self._local(number, layer, x, labels, generator, below)
            with self._products(x):
                logits = layer.read(y)
            loss = loss + F.cross_entropy(logits.float(), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            told.append(self._pair(g, labels))
            x = y
            if self.settings.cumulative:
                below = below + g
        means = torch.stack(told)
        for number, (right, wrong) in enumerate(means.tolist(), 1):
            if not (right < LIMIT and wrong < LIMIT):
                raise Diverged(number)
        return logits.detach().float(), means

    def _local(
        self, number: int, layer: ConvLayer, x: Tensor, labels: Tensor, generator: torch.Generator, below: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A layer's loss on its input, and as data what it gives and its goodness: of classes (B, classes), or of a
        batch without labels its means of positives and of negatives (2,)."""
        if not self.labelled:
            return self._contrast(number, layer, x, generator)
        y, g = layer.compete(x.bfloat16() if self.settings.precision == "bf16" else x, self.classes)
        return LABELLED[self.settings.objective](g + below, labels, generator), y, g.detach()

    def _pair(self, g: Tensor, labels: Tensor) -> Tensor:
        """(2,) mean goodness of right and of wrong."""
        if not self.labelled:
            return g
        right = g.gather(1, labels[:, None]).mean()
        return torch.stack([right, (g.sum() / len(g) - right) / (self.classes - 1)])

    def _contrast(
        self, number: int, layer: ConvLayer, x: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same without labels: pictures paired with themselves, and with the batch's next in a random circle."""
        x = standard(x)
        circle = torch.randperm(len(x), generator=generator, device=x.device)
        other = torch.empty_like(circle)
        other[circle] = circle.roll(1)
        with self._products(x):
            one = layer.conv(x)  # linear: a pair's product is the sum of its pictures'
            bias = layer.conv.bias.to(one.dtype)[:, None, None]  # type: ignore[union-attr]
            pairs = F.relu(2 * one - bias), F.relu(one + one[other] - bias)
        right, wrong = (pair.float().square().mean(1) for pair in pairs)
        with torch.no_grad(), self._products(x):
            y = layer.norm(F.max_pool2d(pairs[0], 2) if layer.pool else pairs[0])
        told = torch.stack([right.detach().mean(), wrong.detach().mean()])
        return scff(right, wrong, number), y, told

    def settle(self, images: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """One step of the read-outs alone, on what the layers give when asked; see `learn`.

        Returns:
            the last layer's read-out before the step (B, classes).
        """
        logits = labels
        for (layer, y), optimiser in zip(
            self._maps(seen(images, self.settings, generator)), self.optimisers, strict=True
        ):
            optimiser.param_groups[1]["lr"] = self.settings.readout_lr * share
            with self._products(y):
                logits = layer.read(y)
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
        return logits.detach().float()

    def _products(self, x: Tensor) -> torch.autocast:
        """In bfloat16 where the settings ask for it."""
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def _maps(self, images: Tensor) -> Iterator[tuple[ConvLayer, Tensor]]:
        """Each layer and what it gives for pictures, without learning."""
        self.net.eval()
        x = images.float().contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            with torch.no_grad(), self._products(x):
                x = layer(x if self.labelled else 2 * standard(x))
            yield layer, x.float()

    @torch.no_grad()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Activities of every layer at every place: (B, C, H, W) -> (B, H', W', channels) each."""
        return [y.permute(0, 2, 3, 1) for _, y in self._maps(images)]

    @torch.no_grad()
    def readouts(self, images: Tensor) -> dict[str, Tensor]:
        """Scores (B, classes) by read-out of the last layer: `softmax`, and with labels its `goodness`, or where layers
        are taught so the goodness of all."""
        layers = self.by_layer(images)
        found: dict[str, Tensor] = {n: layers[-1][n] for n in ("softmax", "goodness") if n in layers[-1]}
        if self.settings.cumulative:
            found["goodness"] = torch.stack([layer["goodness"] for layer in layers]).sum(0)
        return found

    @torch.no_grad()
    def by_layer(self, images: Tensor) -> list[dict[str, Tensor]]:
        """The same after each layer, and `place`: goodness by place (B, H', W')."""
        found = []
        for layer, y in self._maps(images):
            scores = {"softmax": layer.read(y), "place": y.square().mean(1)}
            if self.labelled:
                scores["goodness"] = grouped(y, self.classes)
            found.append(scores)
        return found

    def goodness(self, images: Tensor) -> Tensor:
        """Every layer's goodness for every class, (B, classes, layers); without labels the same for all."""
        whole = [s.get("goodness", s["place"].mean((1, 2))[:, None]) for s in self.by_layer(images)]
        return torch.stack([g.expand(len(images), self.classes) for g in whole], 2)

    def check(self, images: Tensor) -> None:
        """See that what the last step left is fit to be kept; raises `Diverged` where it is not."""
        for number, layer in enumerate(self.layers, 1):
            if not all(bool(torch.isfinite(p).all()) for p in layer.parameters()):
                raise Diverged(number, "weights")
        for number, mean in enumerate(self.goodness(images).abs().mean(0).amax(0).tolist(), 1):
            if not mean < LIMIT:
                raise Diverged(number)

    def state(self) -> dict[str, Any]:
        """Everything that learning changes, as tensors."""
        return {"net": self.net.state_dict(), "optimisers": [o.state_dict() for o in self.optimisers]}

    def load(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's values."""
        self.net.load_state_dict(state["net"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)


def standard(x: Tensor) -> Tensor:
    """Every picture's activities (B, C, H, W) with mean 0 and variance 1."""
    return (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-10)
