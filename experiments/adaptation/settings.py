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
