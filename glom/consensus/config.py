"""What decides a GLOM, every value checked at the door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from glom.columns import LOCATION_CODES
from glom.errors import InputError, unknown

PARTS = ("bottom-up", "top-down", "previous", "consensus")


@dataclass(frozen=True)
class GlomConfig:
    """Settings of `glom.consensus.Glom`.

    Attributes:
        levels: L; Hinton (2021, section 4.1) thinks of about five for a picture.
        dim: d, width of an embedding, the same on every level.
        hidden: width of the one hidden layer of each bottom-up and top-down net.
        patch: side of the square of pixels a column stands on.
        margin: pixels beyond the patch, on each side, that a column also sees (section 4.3).
        code: width of the coordinate code the top-down nets read, a multiple of 4.
        cells: the code's frequencies run from one to cells/2 turns over the picture.
        location_code: one of `glom.columns.LOCATION_CODES`.
        iterations: T, updates for a still picture.
        temperature: tau > 0 of the agreement's exponent, beta = 1 / (tau sqrt(d)) (section 1, footnote on beta).
        radius: for each level, or one for all: how many cells away a column attends, None for everywhere.
        attend_self: whether a column counts among those it attends to, as in softmax(X X^T) X.
        weights: of the bottom-up, top-down, previous and consensus contributions; they are divided by their sum.
    """

    levels: int = 4
    dim: int = 64
    hidden: int = 128
    patch: int = 4
    margin: int = 2
    code: int = 32
    cells: int = 16
    location_code: str = "fourier"
    iterations: int = 6
    temperature: float = 1.0
    radius: tuple[int | None, ...] = (None,)
    attend_self: bool = True
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "patch", "iterations", "cells", "code"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.levels < 2:
            raise InputError(f"a GLOM has at least 2 levels, got {self.levels}")
        if self.margin < 0:
            raise InputError(f"the margin must not be negative, got {self.margin}")
        if self.code % 4:
            raise InputError(f"the coordinate code's width must be a multiple of 4, got {self.code}")
        if self.location_code not in LOCATION_CODES:
            raise unknown("location code", self.location_code, LOCATION_CODES)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"the temperature must be above 0, got {self.temperature:g}")
        if len(self.radius) not in (1, self.levels):
            raise InputError(f"give one radius, or one for each of {self.levels} levels; got {len(self.radius)}")
        for radius in self.radius:
            if radius is not None and radius < 0:
                raise InputError(f"a radius must be 0 or more cells, or 'global'; got {radius}")
        if len(self.weights) != len(PARTS) or not all(math.isfinite(w) and w >= 0 for w in self.weights):
            raise InputError(f"give four weights of 0 or more ({', '.join(PARTS)}), got {self.weights}")
        if self.weights[0] <= 0:
            raise InputError("the bottom-up weight must be above 0: nothing of the picture would come in")

    @property
    def beta(self) -> float:
        """The inverse temperature that multiplies x_i . x_j."""
        return 1.0 / (self.temperature * math.sqrt(self.dim))

    @property
    def radii(self) -> tuple[int | None, ...]:
        """The radius of every level."""
        return self.radius * self.levels if len(self.radius) == 1 else self.radius

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON keeps them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GlomConfig:
        """The settings `as_dict` gave. Raises `InputError` for a name or a value that is none."""
        names = {f.name for f in fields(cls)}
        for name in values:
            if name not in names:
                raise unknown("setting of a GLOM", name, names)
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**plain)
        except TypeError as error:
            raise InputError(f"these are no settings of a GLOM: {error}") from error


def parse_radius(text: str) -> tuple[int | None, ...]:
    """`global`, `2`, or one a level such as `1,2,4,global`. Raises `InputError` for anything else.

    Example:
        >>> parse_radius("1,2,global")
        (1, 2, None)
    """
    found: list[int | None] = []
    for word in text.split(","):
        word = word.strip()
        if word == "global":
            found.append(None)
            continue
        try:
            found.append(int(word))
        except ValueError:
            raise InputError(f"`radius` '{text}': give numbers of cells or 'global', e.g. 2 or 1,2,4,global") from None
    return tuple(found)


def parse_weights(text: str) -> tuple[float, float, float, float]:
    """`1,1,1,1`: bottom-up, top-down, previous, consensus. Raises `InputError` for anything else."""
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(PARTS):
        raise InputError(f"`weights` '{text}': give four numbers, for {', '.join(PARTS)}")
    return values[0], values[1], values[2], values[3]
