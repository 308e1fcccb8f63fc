"""A world of ellipses: wholes are arrangements of five, each of which alone could be a part of any of them.

After Culp, Sabour & Hinton 2022, "Testing GLOM's ability to infer wholes from ambiguous parts" (arXiv 2211.16564). An
ellipse is an affine image of a circle and so is every part of every whole: in a pose to suit, any ellipse is any part.
Five together leave one whole and one pose. What a column is given of its ellipse are five numbers, the ellipse as a set
of points: centre, logarithm of its size, and how far and which way it is longer (`e cos 2 theta`, `e sin 2 theta`),
which are the same for every parametrisation of the same ellipse.

    kind c, part r     A_cr, t_cr       the unit circle becomes the part in the whole's own frame
    whole              M, m             that frame's pose in the picture: size, turn, stretch, shear, place
    what is seen       m + M t_cr and the ellipse M A_cr A_cr' M'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from glom.datasets.ellipse_settings import EllipseSettings

PARTS, SEEN, POSE = 5, 5, 6
APART = 0.5  # centres of a kind's parts lie at least so far apart, in a frame of radius 1
AXES = (0.15, 0.45)  # longer half axis of a part in that frame
LONGER = 3.0  # at most so many times the shorter one
UNIT = (0.25, 0.25, 0.4, 0.35, 0.35)  # what is seen is given in these, about a deviation each


@dataclass(frozen=True)
class EllipseBatch:
    """Pictures of n = 5 x objects ellipses.

    Attributes:
        seen: (B, n, 5), the ellipses as their columns see them, noise and all.
        places: (B, n, 2), their centres (x, y) as seen; pictures are [0, 1]^2, and ellipses may lie beyond.
        objects: (B, n) int64, the whole that each belongs to, from 0.
        parts: (B, n) int64, which part it is: kind x 5 + number.
        kinds: (B, n) int64, the kind of its whole.
        poses: (B, n, 6), the pose of its whole: place minus 1/2 in quarters of a picture, M in units of the usual size.
    """

    seen: Tensor
    places: Tensor
    objects: Tensor
    parts: Tensor
    kinds: Tensor
    poses: Tensor

    def to(self, device: torch.device) -> EllipseBatch:
        return EllipseBatch(*(value.to(device) for value in (getattr(self, name) for name in self.__match_args__)))


@dataclass(frozen=True)
class Reach:
    """How far poses go, in the bounds of training: (from, to) each, of the turn and of size, stretch and shear."""

    turn: tuple[float, float] = (0.0, 1.0)
    shape: tuple[float, float] = (0.0, 1.0)


TRAINED = Reach()


class Ellipses:
    """As many pictures as a generator gives.

    Example:
        >>> made = Ellipses(EllipseSettings(objects=3)).batch(4, torch.Generator().manual_seed(0))
        >>> tuple(made.seen.shape), made.objects[0].unique().tolist()
        ((4, 15, 5), [0, 1, 2])
    """

    def __init__(self, settings: EllipseSettings) -> None:
        self.settings = settings
        self.centres, self.shapes = arrangements(settings.classes, settings.arrangements)

    def batch(
        self, count: int, generator: torch.Generator, jitter: float | None = None, reach: Reach = TRAINED
    ) -> EllipseBatch:
        """`count` pictures; `jitter` is the noise's deviation in what is seen, None for the settings'."""
        how, k = self.settings, self.settings.objects
        kinds = torch.randint(how.classes, (count, k), generator=generator)
        frames, middles = self._poses((count, k), generator, reach)
        centres = middles[:, :, None] + torch.einsum("bkij,bkrj->bkri", frames, self.centres[kinds])
        affine = frames[:, :, None] @ self.shapes[kinds]
        scale = torch.tensor([*UNIT])
        seen = torch.cat([centres - 0.5, log_shape(affine) - torch.tensor([self._usual(), 0.0, 0.0])], -1) / scale
        seen = (seen + _some(how.jitter, jitter) * torch.randn(seen.shape, generator=generator)).flatten(1, 2)
        poses = torch.cat([(middles - 0.5) / 0.25, frames.flatten(2) / how.scale], -1)
        parts = kinds[..., None] * PARTS + torch.arange(PARTS)

        def each(values: Tensor) -> Tensor:
            return values.repeat_interleave(PARTS, 1)

        objects = torch.arange(k).expand(count, k)
        places = seen[..., :2] * scale[:2] + 0.5
        return EllipseBatch(seen, places, each(objects), parts.flatten(1), each(kinds), each(poses))

    def _poses(self, shape: tuple[int, int], generator: torch.Generator, reach: Reach) -> tuple[Tensor, Tensor]:
        """Frames M, (B, K, 2, 2), and where they stand, (B, K, 2)."""
        how = self.settings

        def draw(bounds: tuple[float, float]) -> Tensor:
            low, high = bounds
            size = low + (high - low) * torch.rand(*shape, generator=generator)
            return size * (2.0 * torch.randint(2, shape, generator=generator) - 1)

        turn = math.radians(how.turn) * draw(reach.turn)
        size, stretch, shear = (how.stretch * draw(reach.shape) for _ in range(3))
        zero = torch.zeros(shape)
        rotation = _matrix(turn.cos(), -turn.sin(), turn.sin(), turn.cos())
        frame = rotation @ _matrix((size + stretch).exp(), shear, zero, (size - stretch).exp()) * how.scale
        return frame, 0.5 + how.spread * (2 * torch.rand(*shape, 2, generator=generator) - 1)

    def _usual(self) -> float:
        """The logarithm of an ellipse's usual size."""
        return math.log(self.settings.scale) + float(log_shape(self.shapes)[..., 0].mean())


def arrangements(classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """The kinds: centres t, (classes, 5, 2), around 0 in a disc of radius 1, and shapes A, (classes, 5, 2, 2)."""
    generator = torch.Generator().manual_seed(seed)
    centres: list[Tensor] = []
    for _ in range(classes):
        chosen: list[Tensor] = []
        while len(chosen) < PARTS:
            point = 2 * torch.rand(2, generator=generator) - 1
            if point.norm() <= 1 and all((point - other).norm() >= APART for other in chosen):
                chosen.append(point)
        own = torch.stack(chosen)
        centres.append(own - own.mean(0))
    draw = torch.rand(classes, PARTS, 3, generator=generator)
    longer = AXES[0] * (AXES[1] / AXES[0]) ** draw[..., 0]
    angle, shorter = math.pi * draw[..., 1], longer / LONGER ** draw[..., 2]
    rotation = _matrix(angle.cos(), -angle.sin(), angle.sin(), angle.cos())
    return torch.stack(centres), rotation @ torch.diag_embed(torch.stack([longer, shorter], -1))


def log_shape(affine: Tensor) -> Tensor:
    """The ellipse that an affine map makes of the unit circle: (..., 2, 2) -> (..., 3).

    Its half axes being p >= q, the longer at an angle theta: log(p q) / 2, and log(p / q) / 2 times cos and sin of
    2 theta, which no rotation or reflection of the circle changes.
    """
    square = affine @ affine.mT
    mean, cos, sin = square[..., 0, 0] + square[..., 1, 1], square[..., 0, 0] - square[..., 1, 1], 2 * square[..., 0, 1]
    apart = torch.hypot(cos, sin)
    longer = torch.atanh((apart / mean).clamp(max=1 - 1e-6)) / 2
    share = longer / apart.clamp_min(1e-12)
    return torch.stack([affine.det().abs().log() / 2, share * cos, share * sin], -1)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([a, b, c, d], -1).unflatten(-1, (2, 2))


def _some(usual: float, other: float | None) -> float:
    return usual if other is None else other
