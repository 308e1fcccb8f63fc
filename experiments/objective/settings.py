"""The objective study's request: pictures in two halves, conditions, and what is the same for every candidate."""

from __future__ import annotations

from dataclasses import dataclass

from glom.datasets.corruptions import parse_corruption
from glom.errors import InputError
from glom.runs.seeds import sample_seed
from glom.teachers.corrupted import CROP, check_place

SELECT, CONFIRM = "select", "confirm"
CLEAN = "clean"
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "contrast", "fog", "jpeg_compression", "pixelate")
DEFAULT = (CLEAN, *(f"{name}:{severity}" for name in CORRUPTIONS for severity in (3, 5)))


@dataclass(frozen=True)
class ObjectiveSettings:
    """What decides the study.

    Attributes:
        data: a data set with labels, see `apm datasets`.
        teacher: with a feature grid as wide as its token, see `apm teachers`.
        conditions: `clean` or `corruption:severity`.
        each: conditions every picture is met under, drawn by its id; 0: all of them. One makes all cases independent.
        limit: pictures of each half at most, spread over the classes; 0: all.
        views: random resized crops of at least 0.08 of the area (TPT's). crops: of at least 0.6.
        iterations: steps of an overfit.
        trunk: widths of the APM's trunk; () for those of the preset that suits the teacher.
        seed: of the run. The halves do not depend on it.
        corrupt: where: "crop", what the teacher sees, or "file"; see `glom.teachers.corrupted`.
        superclasses: what an ImageNet classifier's classes are gathered into: `geirhos16`, `pacs`, or a table's file.
        nameable: leave classes out that the teacher cannot name, rather than refuse them.
    """

    data: str = "cifar10-sample"
    teacher: str = "glom-tiny"
    conditions: tuple[str, ...] = DEFAULT
    each: int = 1
    limit: int = 0
    views: int = 32
    crops: int = 16
    iterations: int = 40
    trunk: tuple[int, ...] = ()
    seed: int = 0
    corrupt: str = CROP
    superclasses: str = ""
    nameable: bool = False

    def __post_init__(self) -> None:
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise InputError("name at least one condition, and each once")
        for condition in self.conditions:
            if condition != CLEAN:
                parse_corruption(condition)
        check_place(self.corrupt)
        if not 0 <= self.each <= len(self.conditions):
            raise InputError(f"--each must be 0 (all) to {len(self.conditions)}, got {self.each}")
        if self.limit < 0 or min(self.views, self.crops) < 2 or self.iterations < 4:
            raise InputError("--limit must not be negative, --views and --crops at least 2, --iterations at least 4")
        if any(width < 1 for width in self.trunk):
            raise InputError(f"--trunk takes widths of at least 1, got {self.trunk}")


def half_of(sample_id: str) -> str:
    """`select` or `confirm`: a picture's half follows from its id alone, whatever the run's seed, limit or order.

    Example:
        >>> half_of("cat/1.jpg") == half_of("cat/1.jpg")
        True
    """
    return (SELECT, CONFIRM)[sample_seed(0, sample_id, "half") % 2]


def conditions_of(sample_id: str, settings: ObjectiveSettings) -> tuple[str, ...]:
    """The conditions a picture is met under, in the order of the settings."""
    ranked = sorted(settings.conditions, key=lambda c: sample_seed(settings.seed, sample_id, f"condition {c}"))
    chosen = set(ranked[: settings.each or len(ranked)])
    return tuple(c for c in settings.conditions if c in chosen)
