"""What decides a GLOM, every value checked at the door."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from glom import settings
from glom.apm_config import LOCATION_CODES
from glom.datasets.ellipse_settings import EllipseSettings
from glom.errors import InputError, unknown
from glom.settings import Settings, part, setting

NEGATIVES = ("half", "faded", "blobs")
OBJECTIVES = ("denoise", "mask", "contrast", "forward-forward", "recover")  # see `glom.consensus.objectives`
WORLDS = ("pictures", "ellipses")


@dataclass(frozen=True, kw_only=True)
class GlomConfig(Settings):
    """Settings of `glom.consensus.Glom`.

    Hinton (2021, section 4.1) thinks of about five `levels` for a picture; a column sees beyond its patch as in section
    4.3. `code` is the width of the coordinate code the top-down nets read, `cells` bounds its frequencies: from one to
    cells/2 turns over the picture. The agreement's exponent is beta = 1 / (temperature sqrt(dim)) (section 1, footnote
    on beta). A column that attends to itself counts among those it agrees with, as in softmax(X X^T) X; None as a
    radius is everywhere. Weights are divided by their sum.
    """

    levels: int = setting(4, "Levels of a column.", least=2)
    dim: int = setting(64, "Width of an embedding.", least=1)
    hidden: int = setting(128, "Hidden width of the nets.", least=1)
    patch: int = setting(4, "Pixels a column stands on, each way.", least=1)
    margin: int = setting(2, "Pixels a column sees beyond its patch.", least=0)
    code: int = setting(32, "Width of the coordinate code, a multiple of 4.", least=1)
    cells: int = setting(16, "Twice the code's highest frequency.", least=1)
    location_code: str = setting("fourier", choices=LOCATION_CODES)
    iterations: int = setting(6, "Updates a picture.", least=1)
    temperature: float = setting(1.0, "Of the agreement's exponent.", above=0)
    radius: tuple[int | None, ...] = setting(
        (None,),
        "Cells a column attends over: global, 2, or one a level: 1,2,4,global.",
        least=0,
        none="global",
        shown="global",
    )
    attend_self: bool = setting(True, "A column does not attend to itself.", key="self")
    weights: tuple[float, float, float, float] = setting(
        (1.0, 1.0, 1.0, 1.0), "Of bottom-up, top-down, previous, consensus.", least=0, metavar="W"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code % 4:
            raise InputError(f"the coordinate code's width must be a multiple of 4, got {self.code}")
        if len(self.radius) not in (1, self.levels):
            raise InputError(f"give one `radius`, or one for each of {self.levels} levels; got {len(self.radius)}")
        if len(self.weights) != 4 or self.weights[0] <= 0:
            raise InputError("give four `weights`, the bottom-up one above 0: nothing of the picture would come in")

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
        """The settings whose `values` `as_dict` gave. Raises `InputError` for a name or a value that is none."""
        names = {f.name for f in fields(cls)}
        for name in values:
            if name not in names:
                raise unknown("setting of a GLOM", name, names)
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**plain)
        except TypeError as error:
            raise InputError(f"these are no settings of a GLOM: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """How hard the task is.

    A masked square has `block` columns a side; `points` are places compared a picture, and `crop` is above 0.5 so that
    two crops always meet. Goodness g becomes the probability of being real as sigmoid(sharpness (g - threshold)).
    """

    noise: float = setting(0.2, "denoise: deviation, pixels in [0, 1].", above=0, metavar="S")
    masked: float = setting(0.5, "mask: share taken away.", above=0, below=1)
    block: int = setting(3, "mask: side of a masked square, in columns.", least=1)
    crop: float = setting(0.6, "contrast: smallest side of a crop.", above=0.5, most=1)
    points: int = setting(16, "contrast: places compared a picture.", least=1)
    contrast_temperature: float = setting(0.2, "contrast: of the softmax.", above=0)
    agreement: float = setting(0.2, "Weight of the agreement terms; not in forward-forward.", least=0)
    threshold: float = setting(0.5, "forward-forward: goodness that is as likely real as not.")
    sharpness: float = setting(10.0, "forward-forward: of the sigmoid.", above=0)
    negatives: str = setting("half", "forward-forward: half, faded or blobs.", choices=NEGATIVES, metavar="K")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """What decides a training. The rate rises over the first twentieth of the steps and falls to zero as a cosine.

    In the world of ellipses other values are the start, `IN_ELLIPSES`, and nothing of pictures or patches has a say.
    """

    IN_ELLIPSES: ClassVar[Mapping[str, Any]] = {
        "objective": "recover", "steps": 2500, "batch": 64, "lr": 3e-3, "precision": "fp32",
        "levels": 2, "dim": 96, "hidden": 192,
    }  # fmt: skip

    world: str = setting("pictures", "pictures, or ellipses: see docs/glom.md.", choices=WORLDS, metavar="W")
    data: str = settings.data(
        "composites",
        "composites, fashion-mnist, cifar10, NAME:ROOT, or a folder.",
        kind="data or composites",
        named=True,
    )
    objective: str = setting("mask", choices=OBJECTIVES, metavar="O")
    source: str = setting("", "Objects of the composites, e.g. fashion-mnist:ROOT.", metavar="S")
    limit: int = setting(0, "Pictures of a data set at most; 0: 20,000.", least=0, metavar="N")
    size: int = setting(48, "Side of the pictures in pixels.", least=1)
    steps: int = setting(1500, "Optimiser steps.", least=1)
    batch: int = setting(16, "Pictures a step.", least=1)
    lr: float = setting(2e-3, "AdamW's rate at its highest.", above=0)
    weight_decay: float = setting(0.01, "AdamW's.", least=0)
    precision: str = setting("auto", "auto, fp32 or bf16 products.", choices=("auto", "fp32", "bf16"))
    seed: int = settings.seed()
    device: str = settings.device()
    config: GlomConfig = part(
        GlomConfig(),
        keys=("levels", "dim", "hidden", "patch", "margin", "iterations", "temperature", "radius", "self", "weights"),
    )
    ellipses: EllipseSettings = part(EllipseSettings())
    task: ObjectiveSettings = part(ObjectiveSettings(), keys=("agreement", "noise", "masked", "crop", "negatives"))

    @classmethod
    def of(cls, preset: str = "", **given: Any) -> Self:
        """What is given, on top of what suits its world."""
        start = cls.IN_ELLIPSES if given.get("world") == "ellipses" else {}
        return super().of(preset, **{**start, **given})

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.world == "ellipses") != (self.objective == "recover"):
            raise InputError("`recover` is the objective of the world of ellipses, and of no other")
        if self.objective == "forward-forward" and self.batch < 2:
            raise InputError("forward-forward needs a `batch` of 2 or more: negatives are halves of two pictures")
        if self.size % self.config.patch:
            raise InputError(f"`size` must be a multiple of the patch ({self.config.patch} px), got {self.size}")
