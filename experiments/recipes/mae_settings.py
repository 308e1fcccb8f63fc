"""The recipe of `mae-tiny`: four trainings and one choice, each a stage of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.recipes.settings import Shipped
from glom import settings
from glom.errors import InputError, unknown
from glom.masked.shapes import HeadShape, MAEShape

TINY_HEAD = HeadShape(width=128, layers=2, heads=4, pool="mean")


@dataclass(frozen=True)
class Recipe:
    """One training.

    Attributes:
        epochs: passes over the training pictures. batch_size, lr, weight_decay: of AdamW; the rate goes up linearly
            for a twentieth of the steps and down to nothing along a cosine.
        whole: how many of the last epochs classify whole pictures; before them the encoder sees a random half of the
            patches, which costs half as much and regularises (Liu et al. 2023, "PatchDropout", section 3).
        label_smoothing: of the cross-entropy.
        translate, cutout: pixels pictures are shifted by at most, and the side of the square cut out of them.
    """

    epochs: int
    lr: float
    batch_size: int = 128
    weight_decay: float = 0.05
    whole: int = 0
    label_smoothing: float = 0.1
    translate: int = 4
    cutout: int = 0


@dataclass(frozen=True, kw_only=True)
class MAETinySettings(Shipped):
    """All stages of mae-tiny.

    Attributes:
        shape, head: sizes.
        pretrain: reconstruction alone. probe: the head on the frozen encoder. fine_tune: encoder and head.
        joint: encoder, decoder and head, the sum of both losses. The last two start from the probe's weights: a head
            that fits distorts the trunk less (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features").
        held_out: training pictures that no stage trains on, at most a tenth of all.
        chosen_on: how many of them, corrupted, the settings of test-time training are chosen on.
        tested_on: test pictures, spread over the split, that the network so adapted answers for.
        bf16: products in bfloat16.
    """

    shape: MAEShape = field(default_factory=MAEShape)
    head: HeadShape = TINY_HEAD
    pretrain: Recipe = Recipe(epochs=12, lr=1.5e-3)
    probe: Recipe = Recipe(epochs=2, lr=1e-3, whole=2, translate=2)
    fine_tune: Recipe = Recipe(epochs=13, lr=1e-3, whole=2, translate=2)
    joint: Recipe = Recipe(epochs=8, lr=1e-3, whole=1, translate=2)
    held_out: int = 1000
    chosen_on: int = 200
    tested_on: int = 500
    bf16: bool = True
    device: str = settings.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        for recipe in (self.pretrain, self.probe, self.fine_tune, self.joint):
            if recipe.epochs < 1 or recipe.batch_size < 1:
                raise InputError(f"epochs and batch size must be at least 1, got {recipe.epochs}, {recipe.batch_size}")
        if not 1 <= self.chosen_on <= self.held_out or self.tested_on < 1:
            asked = f"{self.chosen_on}, {self.held_out} and {self.tested_on}"
            raise InputError(f"1 <= chosen_on <= held_out and 1 <= tested_on are needed, got {asked}")

    def recipe(self, stage: str) -> Recipe:
        """Of a stage that trains."""
        return {"pretrain": self.pretrain, "probe": self.probe, "fine-tune": self.fine_tune, "joint": self.joint}[stage]


STAGES = ("pretrain", "probe", "adapt", "fine-tune", "joint")
# The part of `glom.masked` that a stage makes.
PART_OF = {"probe": "vit-probe", "fine-tune": "fine-tune", "joint": "joint-train"}


def stages_of(stage: str) -> tuple[str, ...]:
    """`all` or one stage. Raises `InputError` for anything else."""
    if stage == "all":
        return STAGES
    if stage not in STAGES:
        raise unknown("stage", stage, (*STAGES, "all"))
    return (stage,)
