"""The objective study's request: pictures in two halves, conditions, and what is the same for every candidate."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.datasets.corruptions import parse_corruption
from glom.errors import InputError
from glom.runs.seeds import CONFIRM as CONFIRM
from glom.runs.seeds import SELECT as SELECT
from glom.runs.seeds import half_of as half_of
from glom.runs.seeds import sample_seed
from glom.settings import Settings, setting

CLEAN = "clean"
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "contrast", "fog", "jpeg_compression", "pixelate")
DEFAULT = (CLEAN, *(f"{name}:{severity}" for name in CORRUPTIONS for severity in (3, 5)))


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """What decides the study. One condition a picture makes all cases independent; the halves know no seed.

    Views are random resized crops of at least 0.08 of the area (TPT's), `crops` of at least 0.6.
    """

    data: tuple[str, ...] = settings.data(("cifar10-sample",), "Data sets with labels.", kind="data sets")
    teacher: str = setting("glom-tiny", "With a grid as wide as its token; `apm teachers`.", letter="t", metavar="T")
    conditions: tuple[str, ...] = setting(DEFAULT, "clean, corruption:severity[@scale]; or the 13.", shown="the 13")
    each: int = setting(1, "Conditions a picture is met under, drawn by its id; 0: all.", least=0)
    limit: int = settings.limit("Pictures of the half, spread over the classes,")
    views: int = setting(32, "Small crops a picture.", least=2)
    crops: int = setting(16, "Large crops a picture.", least=2)
    iterations: int = setting(40, "Steps of an overfit.", least=4)
    trunk: tuple[int, ...] = setting((), "Widths of the APM's trunk, e.g. 512,256.", least=1, shown="the teacher's")
    seed: int = settings.seed()
    corrupt: str = settings.corrupt()
    superclasses: str = settings.superclasses()
    nameable: bool = settings.nameable()
    second: str = setting("", "Another teacher of the same classes.", metavar="T", shown="mvit-v2-tiny where it fits")
    photographs: tuple[str, ...] = setting((), "Data sets on whose half `select` APMs are trained, without labels.")
    each_set: int = setting(300, "Photographs of each of them at most.", least=2, metavar="N")
    steps: int = setting(400, "Steps of that training.", least=1)
    candidates: tuple[str, ...] = setting((), "Which to try, with their controls; `apm ablate objective candidates`.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.data or len(set(self.data)) < len(self.data):
            raise InputError("name at least one data set, and each once")
        if not self.conditions or len(set(self.conditions)) < len(self.conditions):
            raise InputError("name at least one condition, and each once")
        for condition in self.conditions:
            if condition != CLEAN:
                parse_corruption(condition)
        if not 0 <= self.each <= len(self.conditions):
            raise InputError(f"`each` must be 0 (all) to {len(self.conditions)}, got {self.each}")


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings(Settings):
    """What is carried on, and where to."""

    top: int = setting(2, "Candidates of each kind to carry on.", least=1)
    limit: int = settings.limit("Pictures of the half, and of each further data set,")
    on: tuple[str, ...] = setting((), "Further data sets, unseen so far: DATA or DATA@SUPERCLASSES.")


def conditions_of(sample_id: str, settings: ObjectiveSettings) -> tuple[str, ...]:
    """The conditions a picture is met under, in the order of the settings."""
    ranked = sorted(settings.conditions, key=lambda c: sample_seed(settings.seed, sample_id, f"condition {c}"))
    chosen = set(ranked[: settings.each or len(ranked)])
    return tuple(c for c in settings.conditions if c in chosen)


@dataclass(frozen=True, kw_only=True)
class PromptChoice(Settings):
    """What is compared for learned prompts. Of the data, the split `train` is used and no other.

    Attributes:
        lengths: vectors drawn for the context; 0 stands for the words 'a photo of a'.
        rates: (optimiser, learning rate) pairs. epochs: passes over the shots.
    """

    data: str = settings.data("fashion-mnist", "A data set; only its split `train` is read.")
    teacher: str = setting("glom-tiny", "With a text encoder.", letter="t", metavar="T")
    shots: int = setting(16, "Pictures a class to learn from.", least=1)
    held_out: int = setting(100, "Further pictures a class to score on.", least=1, key="held")
    lengths: tuple[int, ...] = (0, 4, 16)
    rates: tuple[tuple[str, float], ...] = (("sgd", 2e-3), ("sgd", 2e-2), ("adam", 3e-3), ("adam", 3e-2))
    epochs: tuple[int, ...] = (50, 160)
    seed: int = settings.seed()
