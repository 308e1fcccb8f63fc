"""What test-time training is asked for: over a data set, and of one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from glom import settings
from glom.adaptation.settings import PRESETS, TTTSettings, settings_for
from glom.settings import Settings, build, keys_of, part, setting


@dataclass(frozen=True, kw_only=True)
class Adapting(Settings):
    """A teacher, how the machine learns from it, and what its pictures go through. Classifiers pass templates over."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: {} for name in PRESETS}
    PRESET: ClassVar[str] = "fast"

    teacher: str = settings.teacher()
    ttt: TTTSettings = part()
    classes: str | None = settings.classes()
    templates: str = setting(
        "simple", "simple (7), imagenet (80), photo (1), or a file; .json: descriptions.", metavar="NAME|FILE"
    )
    corruption: str | None = setting(
        None, "Such as fog:3; strengths by size, or fog:3@imagenet-c.", metavar="NAME:SEVERITY[@SCALE]"
    )
    corrupt: str = settings.corrupt()
    seed: int = settings.seed()
    device: str = settings.device()
    teacher_precision: str = setting("fp32", "Of the teacher: fp32, bf16 or fp16.")

    @classmethod
    def of(cls, preset: str = "", **given: Any) -> Self:
        """A preset's settings for the teacher, some replaced: see `glom.adaptation.settings.settings_for`."""
        fields = {key.name: key.path[0] for key in keys_of(TTTSettings)}
        inside = {fields[name]: given.pop(name) for name in list(given) if name in fields}
        if "queries" in inside:
            inside["queries"] = inside["queries"] or 0  # none named is the whole grid, whatever the preset draws
        ttt = settings_for(given.get("teacher", cls.teacher), preset or cls.PRESET, **inside)
        return build(cls, {"ttt": ttt, **given})


@dataclass(frozen=True, kw_only=True)
class TTTRun(Adapting):
    """One run over a data set. Shuffling and sharing out change no sample's result."""

    data: str = settings.data()
    split: str = setting("test", "Split of the data set.")
    limit: int = settings.limit("Samples, spread over the classes,")
    superclasses: str = settings.superclasses()
    nameable: bool = settings.nameable()
    strict: bool = setting(False, "Stop at the first unreadable picture.")
    shuffle: bool = setting(False, "Visit samples in another order.")
    shard: str = setting("samples", "Under torchrun: share out samples or columns.", choices=("samples", "columns"))
    workers: int | None = settings.workers()
    draft: int = settings.draft()
    jobs: str = settings.jobs()


@dataclass(frozen=True, kw_only=True)
class TraceSettings(Adapting):
    """One picture; class names come from the file `classes`, a data set, or the teacher."""

    image: str = setting(help="A picture.", kind="picture", argument=True)
    classes_of: str | None = setting(None, "Take the class names of this data set.", kind="data", metavar="DATA")


@dataclass(frozen=True, kw_only=True)
class ConditionsSettings(TTTRun):
    """The same run on the pictures as they are and under each of the corruptions."""

    teacher: str = settings.teacher("efficientnet-lite0")
    corruptions: tuple[str, ...] = setting(
        ("gaussian_noise:3", "contrast:3", "glass_blur:3"),
        "Each NAME:SEVERITY, or NAME:SEVERITY@SCALE; none if empty.",
    )


ORDERS = ("random", "raster", "centre", "spread")


@dataclass(frozen=True, kw_only=True)
class AsynchronySettings(Settings):
    """Columns that arrive in some order, asked up to some share: of a pre-trained machine, or one overfit afresh."""

    data: str = settings.data("cifar10-sample", "A data set with classes.")
    checkpoint: str = setting("", "Ask this machine in one pass, without any overfitting.", metavar="C")
    teacher: str = settings.teacher()
    orders: tuple[str, ...] = setting(ORDERS, "In which the columns come.", choices=ORDERS)
    shares: tuple[float, ...] = setting(
        (0.0156, 0.031, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0), "Of the columns, ascending.", above=0, most=1
    )
    objective: str = setting("token-mse", "What each machine is overfit on.")
    iterations: int = setting(60, "Steps of each overfit.", least=1)
    limit: int = settings.limit(default=200)
    seed: int = settings.seed()
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class StepsSettings(Settings):
    """The grid of settings that is tried on the way to the teacher's token."""

    data: str = settings.data("cifar10-sample")
    teacher: str = settings.teacher()
    apm: str | None = setting(None, "The machine's preset.", shown="the teacher's own")
    rates: tuple[float, ...] = setting((1e-3, 3e-3, 6e-3), "Learning rates.", above=0)
    steps: tuple[int, ...] = setting((15, 30, 60), "Numbers of steps.", least=1)
    queries: tuple[int, ...] = setting((0, 32), "Locations a step; 0 for all.", least=0)
    limit: int = settings.limit(default=16)
    seed: int = settings.seed()


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings(Settings):
    """A teacher that is scored on a data set, by several sets of sentences over the same encoding."""

    teacher: str = setting(help="A teacher.", argument=True)
    data: str = settings.data(help="A data set.")
    templates: tuple[str, ...] = setting(("simple",), "Of simple, imagenet, photo, seen, files; .json: descriptions.")
    classes: str | None = settings.classes()
    superclasses: str = settings.superclasses()
    nameable: bool = settings.nameable()
    split: str = setting("test", "Split of the data set.")
    corruption: str | None = setting(None, "NAME:SEVERITY, or NAME:SEVERITY@SCALE.")
    corrupt: str = settings.corrupt()
    limit: int = settings.limit("Samples")
    seed: int = settings.seed()
    device: str = settings.device()
    workers: int | None = settings.workers()
    draft: int = settings.draft()
