"""Recipes of `apm islands emerge`: what is seen, by which network, how it learns. Data, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from glom import settings
from glom.settings import Settings, setting


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


@dataclass(frozen=True, kw_only=True)
class EmergeSettings(Settings):
    """One run of `apm islands emerge`. The seed is that of weights, composites and k-means."""

    data: str = settings.data(
        "composites", "composites, or a folder of class folders (no masks).", kind="data or composites", named=True
    )
    source: str = setting(
        "",
        "Of composites: fashion-mnist (-sample), mnist or cifar10.",
        metavar="NAME[:ROOT]",
        shown="the best there is",
    )
    recipe: str = setting("weave", "weave (-mean, -class), outline, quick.", choices=tuple(RECIPES), metavar="R")
    steps: int = setting(0, "Steps in all; 0: the recipe's.", least=0)
    every: int = setting(0, "Steps from look to look; 0: a 16th of all.", least=0)
    watch: int = setting(40, "Held-out pictures scored at each look.", least=2)
    images: int = setting(200, "Held-out pictures the verdict is drawn from.", least=4)
    film: str = setting("gif", choices=("gif", "mp4"))
    seed: int = settings.seed()
    device: str = settings.device()

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
