"""Test-time training on one picture's reconstruction, and the exact way back.

    f_x, g_x = argmin over f, g of  E_mask | g(f(mask(x))) - x |²,     then  h(f_x(x))

The head h never learns. Gandelsman et al. 2022, section 3; settings as named in `PRESETS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import ViTMAEForPreTraining

from glom.errors import InputError, RunError
from glom.masked.network import reconstruction, side_of


@dataclass(frozen=True)
class AdaptSettings:
    """How one picture's steps go.

    Attributes:
        steps: of stochastic gradient descent. masks: random maskings of the picture in each.
        lr, momentum, weight_decay: of the descent; the rate is fixed.
        decoder: whether the decoder learns as well. Its mask token always does.
    """

    steps: int = 20
    masks: int = 128
    lr: float = 5e-3
    momentum: float = 0.9
    weight_decay: float = 0.2
    decoder: bool = True

    def __post_init__(self) -> None:
        if self.steps < 0 or self.masks < 1 or self.lr <= 0:
            raise InputError(f"steps, masks and rate must be positive, got {self.steps}, {self.masks} and {self.lr}")


PRESETS = {
    # 20 steps, batch 128, rate 0.005, momentum 0.9, weight decay 0.2, encoder and decoder.
    "paper": AdaptSettings(),
    # What the authors' code runs (README and main_test_time_training.py of test_time_training_mae): base rate 0.01
    # times 128 / 256, `finetune_mode encoder`, and no weight decay, which is not handed to the optimiser.
    "released": AdaptSettings(weight_decay=0.0, decoder=False),
}


class Adapter:
    """Test-time training of one network, a picture at a time.

    Args:
        mae: the network; its weights as they are now are what every picture starts from.
        settings: of the descent.
    """

    def __init__(self, mae: ViTMAEForPreTraining, settings: AdaptSettings) -> None:
        self.mae, self.settings = mae, settings
        fixed = () if settings.decoder else tuple(p for n, p in mae.decoder.named_parameters() if n != "mask_token")
        frozen = {id(p) for p in (mae.vit.embeddings.position_embeddings, mae.decoder.decoder_pos_embed, *fixed)}
        self.weights = [p for p in mae.parameters() if id(p) not in frozen]
        self.first = [p.detach().clone() for p in self.weights]

    @contextmanager
    def on(self, picture: Tensor, seed: int) -> Iterator[list[float]]:
        """Inside, the network is adapted to the picture; afterwards it is what it was, bit for bit.

        Args:
            picture: (3, S, S), normalised. seed: of the maskings.

        Yields:
            The reconstruction loss before each step.

        Raises:
            RunError: a loss that is not finite.
        """
        with self.restored():
            yield read(list(self.descend(picture, seed)))

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Whatever `descend` does inside is undone."""
        try:
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(self.weights, self.first, strict=True):
                    p.requires_grad_(False).copy_(before)
                    p.grad = None

    def descend(self, picture: Tensor, seed: int) -> Iterator[Tensor]:
        """Take the steps one by one; after each, the loss before it, for `read`. Only within `restored`."""
        s = self.settings
        # Drawn on the processor, so that a seed means the same maskings on every device.
        generator = torch.Generator().manual_seed(seed)
        copies = picture.expand(s.masks, -1, -1, -1)
        for p in self.weights:
            p.requires_grad_(True)
        optimiser = torch.optim.SGD(self.weights, lr=s.lr, momentum=s.momentum, weight_decay=s.weight_decay)
        for _ in range(s.steps):
            noise = torch.rand(s.masks, side_of(self.mae) ** 2, generator=generator).to(picture.device)
            with torch.enable_grad():
                loss = reconstruction(self.mae, copies, noise)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            yield loss.detach()


def read(losses: Sequence[Tensor], first: int = 1) -> list[float]:
    """The values of steps `first`, ..., read together. Raises `RunError` where one is not finite."""
    values: list[float] = torch.stack(list(losses)).tolist() if losses else []
    for step, value in enumerate(values, first):
        if not math.isfinite(value):
            raise RunError(f"the reconstruction loss is {value} at step {step}; take a lower rate")
    return values
