"""Two networks around slot attention, each learning by nothing but giving back what it saw.

`PixelSlots` sees pixels (Locatello et al. 2020, section 4.1): a convolutional encoder with a position embedding, slots,
and a spatial broadcast decoder (Watters et al. 2019). Encoder and decoder work on cells of 4x4 pixels rather than on
single ones, so that one core trains them.

`FeatureSlots` sees a frozen backbone's grid (DINOSAUR; Seitzer et al. 2023): an MLP, slots, and the MLP decoder, which
is asked for one location at a time, given a slot and the location's embedding. That is the APM's column [T, p(x, y)]
and its shared MLP, with a slot where the APM has its trigger column; several slots answer, and alphas say who is heard.

In both, slot k gives values and an alpha everywhere; the alphas' softmax over slots are the masks, and the picture is
the mean of the slots' values under them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.slots.attention import SlotAttention
from glom.slots.config import CELL, SlotConfig


class Seen(NamedTuple):
    """What slots make of a batch.

    Attributes:
        target: what is to be given back, pixels (B, 3, S, S) or standardised features (B, N, F).
        given: of the same shape. masks: (B, K, S, S) or (B, K, N), one over the slots.
    """

    target: Tensor
    given: Tensor
    masks: Tensor

    def loss(self) -> Tensor:
        """The mean squared error."""
        return F.mse_loss(self.given, self.target)


def mix(values: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """(B, K, ...) each slot's values and alphas, in float32 -> the mean under the masks (B, ...), and the masks."""
    masks = alphas.float().softmax(1)
    return (masks * values.float()).sum(1), masks


class Positions(nn.Module):
    """A linear map of a location's distances from the four sides, added to what stands there ."""

    def __init__(self, side: int, dim: int) -> None:
        super().__init__()
        line = torch.linspace(0, 1, side)
        down, across = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("distances", torch.stack([down, across, 1 - down, 1 - across], -1), persistent=False)
        self.map = nn.Linear(4, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, side, side) or what broadcasts to it."""
        return x + self.map(self.distances).permute(2, 0, 1)


class PixelSlots(nn.Module):
    """Pictures (B, 3, S, S) in [0, 1] -> `Seen`."""

    def __init__(self, config: SlotConfig) -> None:
        super().__init__()
        self.config = config
        width, dim, side = config.width, config.dim, config.grid
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 2 * CELL, CELL, CELL // 2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, dim, 3, padding=1),
            nn.ReLU(),
        )
        self.positions, self.places = Positions(side, dim), Positions(side, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.attention = SlotAttention(dim, config.slots, dim, config.hidden, config.iterations, config.beginning)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, 4 * CELL**2, 1),
            nn.PixelShuffle(CELL),
        )

    def forward(self, pictures: Tensor, noise: Tensor | None = None) -> Seen:
        """See the class; `noise` is `SlotAttention`'s."""
        s, side = self.config.side, self.config.grid
        spare = side * CELL - s
        padded = F.pad(pictures, (0, spare, 0, spare)).contiguous(memory_format=torch.channels_last)
        seen = self.positions(self.encoder(padded)).flatten(2).transpose(1, 2)
        slots, _ = self.attention(self.mlp(seen), noise)
        spread = self.places(slots.flatten(0, 1)[:, :, None, None].expand(-1, -1, side, side))
        decoded = self.decoder(spread.contiguous(memory_format=torch.channels_last))[:, :, :s, :s]
        decoded = decoded.unflatten(0, slots.shape[:2])
        given, masks = mix(decoded[:, :, :3], decoded[:, :, 3:])
        return Seen(pictures, given, masks[:, :, 0])


class FeatureSlots(nn.Module):
    """Grids (B, h, w, F) of one layer of a backbone -> `Seen`. `centre` and `spread` (F,) standardise them."""

    centre: Tensor
    spread: Tensor

    def __init__(self, config: SlotConfig) -> None:
        super().__init__()
        self.config = config
        dim, features, width = config.dim, config.features, 4 * config.width
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.mlp = nn.Sequential(
            nn.LayerNorm(features), nn.Linear(features, features), nn.ReLU(), nn.Linear(features, dim)
        )
        self.attention = SlotAttention(dim, config.slots, dim, config.hidden, config.iterations, config.beginning)
        self.places = nn.Parameter(0.02 * torch.randn(config.grid**2, dim))
        layers: list[nn.Module] = []
        for before in (dim, width, width):
            layers += [nn.Linear(before, width), nn.ReLU()]
        self.decoder = nn.Sequential(*layers, nn.Linear(width, features + 1))

    def forward(self, grids: Tensor, noise: Tensor | None = None, asked: Tensor | None = None) -> Seen:
        """See the class; of the N = h w locations only those `asked` for, (Q,) numbers, are given back, or all."""
        target = ((grids - self.centre) / self.spread).flatten(1, 2)
        slots, _ = self.attention(self.mlp(target), noise)
        places: Tensor = self.places
        if asked is not None:
            target, places = target[:, asked], places[asked]
        decoded = self.decoder(slots[:, :, None] + places)
        given, masks = mix(decoded[..., :-1], decoded[..., -1:])
        return Seen(target, given, masks[..., 0])


def build(config: SlotConfig) -> PixelSlots | FeatureSlots:
    """The network that a config describes, with weights from torch's generator."""
    return FeatureSlots(config) if config.features else PixelSlots(config)
