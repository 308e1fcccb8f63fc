"""Recipes of `apm islands emerge`: what is seen, by which network, how it learns. Data, nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from glom import settings
from glom.errors import unknown
from glom.settings import Settings, setting

READOUTS = ("lse", "mean", "class")


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
        frames: of the boring videos.
        hidden: share of the patches that a step hides (PatchDropout, Liu et al. 2023, but grey instead of left out,
            since pooling needs the whole grid).
        noise: share of the pictures that learn another one's labels.
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
    frames: int = 2
    hidden: float = 0.0
    noise: float = 0.0


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
    readout: str = setting("", "What is classified.", choices=("", *READOUTS), metavar="R", shown="the recipe's")
    frames: int = setting(0, "Frames of the boring videos; 0: the recipe's.", least=0)
    resolution: int = setting(0, "Side of the pictures in pixels; 0: the recipe's.", least=0)
    hidden: float = setting(0.0, "Share of the patches hidden in training.", least=0, most=0.95)
    noise: float = setting(0.0, "Share of the pictures that learn another one's labels.", least=0, most=1)
    every: int = setting(0, "Steps from look to look; 0: a 16th of all.", least=0)
    watch: int = setting(40, "Held-out pictures scored at each look.", least=2)
    images: int = setting(200, "Held-out pictures the verdict is drawn from.", least=4)
    film: str = setting("gif", choices=("gif", "mp4"))
    seed: int = settings.seed()
    device: str = settings.device()

    @property
    def plan(self) -> Recipe:
        """The recipe with what was asked for otherwise."""
        own = RECIPES[self.recipe]
        return replace(
            own,
            readout=self.readout or own.readout,
            frames=self.frames or own.frames,
            size=self.resolution or own.size,
            hidden=self.hidden,
            noise=self.noise,
        )

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


CHANGES: dict[str, dict[str, Any]] = {
    "base": {},
    "readout=mean": {"readout": "mean"},
    "readout=class": {"readout": "class"},
    "frames=1": {"frames": 1},
    "frames=4": {"frames": 4},
    "resolution=32": {"resolution": 32},
    "resolution=64": {"resolution": 64},
    "hidden=0.5": {"hidden": 0.5},
    "noise=0.4": {"noise": 0.4},
    "steps=1/4": {"steps": 0.25},
    "steps=1/2": {"steps": 0.5},
    "steps=2": {"steps": 2.0},
}
"""By name; `steps` is a factor."""


@dataclass(frozen=True, kw_only=True)
class AblateSettings(Settings):
    """Trainings of `apm islands emerge` one after another. The seed is that of weights, composites and k-means."""

    changes: str = setting("", "Some of the changes, by commas.", metavar="NAME,...", shown="all")
    recipe: str = setting("weave", "Of `apm islands emerge`.", choices=("weave", "outline", "quick"), metavar="R")
    source: str = setting(
        "",
        "Of composites: fashion-mnist (-sample), mnist or cifar10.",
        metavar="NAME[:ROOT]",
        shown="the best there is",
    )
    steps: int = setting(300, "Steps of a training.", least=4)
    images: int = setting(100, "Held-out pictures; half of them choose layer and cut, half are scored.", least=4)
    seed: int = settings.seed()
    device: str = settings.device()

    @property
    def names(self) -> list[str]:
        """Of the changes. Raises `InputError` for one that is none."""
        asked = [name.strip() for name in self.changes.split(",")] if self.changes else list(CHANGES)
        for name in asked:
            if name not in CHANGES:
                raise unknown("change", name, CHANGES)
        return list(dict.fromkeys(asked))

    def training(self, name: str) -> EmergeSettings:
        """One of them."""
        own = EmergeSettings(
            recipe=self.recipe, source=self.source, images=self.images, seed=self.seed, device=self.device
        )
        changed = dict(CHANGES[name])
        steps = max(1, round(self.steps * changed.pop("steps", 1)))
        return replace(own, steps=steps, every=steps, watch=min(40, self.images), **changed)
