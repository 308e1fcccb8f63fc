"""Recipes of `apm islands emerge`: what is seen, by which network, how it learns. Data, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from glom.backbones.mvit_tiny import Block
from glom.datasets.composites import GARMENTS, SOURCES, CompositeSettings
from glom.errors import InputError, unknown

EVEN: tuple[Block, ...] = tuple(Block(2, 64, 64, 1, 2) for _ in range(4))
"""One stage, one resolution: every layer's grid is as fine as the first, so layers differ in what they know alone."""
SMALL: tuple[Block, ...] = (Block(1, 32, 32, 1, 2), Block(1, 32, 32, 1, 2))
"""For `quick`: learns little, costs nothing."""
BLOCKS = {"even": EVEN, "small": SMALL}


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes:
        what: in a few words.
        objects, scale, texture, colour, fabrics: of `CompositeSettings`. merged: Fashion-MNIST's ten
            classes as five (`GARMENTS`).
        blocks: "even" or "small". stride: of the patch embedding, in pixels.
        readout: what is classified: "mean" of the tokens, the "class" token, or "lse": every location classifies for
            itself, and log-mean-exp over locations is the picture's score (Pinheiro & Collobert 2015, equation 1).
        size: side of the pictures. steps, batch, lr, weight_decay, warmup (steps): of AdamW, cosine schedule.
        curriculum: share of the steps over which difficulty grows from 0 to 1.
        bf16: matrix products in bfloat16.
    """

    what: str
    objects: tuple[int, int] = (2, 2)
    scale: tuple[float, float] = (0.5, 0.65)
    texture: float = 1.0
    colour: float = 0.3
    fabrics: bool = True
    merged: bool = True
    blocks: str = "even"
    stride: int = 4
    readout: str = "lse"
    size: int = 48
    steps: int = 1500
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 50
    curriculum: float = 0.0
    bf16: bool = True


RECIPES: dict[str, Recipe] = {
    "weave": Recipe("two garments, a weave for each of five kinds; every location classifies"),
    "weave-mean": Recipe("as weave, the mean of the tokens classifies", readout="mean"),
    "weave-class": Recipe("as weave, a class token classifies", readout="class"),
    "outline": Recipe(
        "as weave, but outlines alone tell the kind, under clouds of colour",
        fabrics=False,
        texture=0.4,
        colour=0.8,
        curriculum=0.4,
        steps=2000,
    ),
    "quick": Recipe(
        "one garment, a small network, under a minute: to see that all works",
        objects=(1, 1),
        scale=(0.55, 0.8),
        blocks="small",
        size=32,
        steps=240,
        batch=16,
    ),
}


@dataclass(frozen=True)
class EmergeSettings:
    """One run of `apm islands emerge`.

    Attributes:
        data: "composites", or an image folder with class folders.
        source: of the composites, `NAME[:ROOT]`; "" for Fashion-MNIST where there is one, else the shipped sample.
        recipe: a name in `RECIPES`.
        steps: 0 for the recipe's.
        every: steps from one look to the next; 0 for a sixteenth of all.
        watch: held-out pictures the curve is drawn from. images: held-out pictures the verdict is drawn from.
        film: "gif" or "mp4".
        seed: of weights, composites and k-means.

    Raises:
        InputError: an unknown recipe, or numbers out of range.
    """

    data: str = "composites"
    source: str = ""
    recipe: str = "weave"
    steps: int = 0
    every: int = 0
    watch: int = 40
    images: int = 200
    film: str = "gif"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise unknown("recipe", self.recipe, RECIPES)
        if self.steps < 0 or self.every < 0:
            raise InputError(f"--steps and --every must be at least 1, got {min(self.steps, self.every)}")
        if self.watch < 2 or self.images < 4:
            raise InputError(f"--watch must be at least 2 and --images at least 4, got {self.watch} and {self.images}")

    @property
    def plan(self) -> Recipe:
        return RECIPES[self.recipe]

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.steps or self.plan.steps

    @property
    def interval(self) -> int:
        """Steps from one look to the next."""
        return min(self.every or max(1, self.total // 16), self.total)

    def record(self) -> dict[str, Any]:
        """Everything that decides the results, for the manifest."""
        return {**asdict(self), "plan": asdict(self.plan), "steps": self.total, "every": self.interval}


def composite_settings(plan: Recipe, source: str, seed: int) -> CompositeSettings:
    """The composites of a recipe. `source` is a name in `SOURCES`."""
    merged = plan.merged and source == "fashion-mnist"
    assert source in SOURCES
    return CompositeSettings(
        source=source,
        size=plan.size,
        objects=plan.objects,
        scale=plan.scale,
        texture=plan.texture,
        colour=plan.colour,
        fabrics=plan.fabrics,
        classes=GARMENTS if merged else (),
        seed=seed,
    )
