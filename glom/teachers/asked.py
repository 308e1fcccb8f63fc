"""What a run asks and whom: the line at its head, the warnings below it, and what its manifest keeps of both.

A teacher answers whatever it is asked. Whether the question was the one that was meant is seen from the data set's
name, its classes and its pictures, before the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from glom.datasets.base import ImageDataset
from glom.datasets.classes import imagenet_wnids
from glom.datasets.registry import open_dataset
from glom.errors import GlomError, InputError
from glom.runs.artifacts import public_name
from glom.runs.notices import notice
from glom.teachers.base import Teacher
from glom.teachers.known import SHIPPED_MODELS, Known, unlike
from glom.teachers.superclasses import Superclasses
from glom.teachers.zero_shot import read_class_file

FIRST = 3  # class names that are shown
LOOKED = 5  # pictures of a data set that are looked at


class Kept(TypedDict):
    """What a manifest or a result holds of a question."""

    asked: dict[str, Any]
    warnings: list[str]


@dataclass(frozen=True)
class Asked:
    """One question.

    Attributes:
        data: name of the data set, or of the picture.
        pictures: how many; 0 where they are made when they are needed.
        classes: the class names that an answer is chosen from, in order; () where there are none.
        model: who is asked.
        chosen: where the class names come from, where nobody named them; else "".
        warnings: what the model was not trained for, a sentence each; what is amiss with a data set it says itself.
    """

    data: str
    pictures: int
    classes: tuple[str, ...]
    model: str = ""
    chosen: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """`DATA: 200 pictures, 10 classes (airplane, automobile, bird, ...); asked of MODEL`."""
        parts = [f"{self.pictures:,} picture{'s' if self.pictures != 1 else ''}"] if self.pictures else []
        if self.classes:
            some = "es" if len(self.classes) != 1 else ""
            parts.append(f"{len(self.classes):,} class{some} ({listed(self.classes)})")
        text = f"{public_name(self.data)}: {', '.join(parts)}"
        if self.chosen:
            text += f", {self.chosen}"
        return f"{text}; asked of {public_name(self.model)}" if self.model else text

    def record(self) -> dict[str, Any]:
        """What manifests and JSON hold, the warnings beside it: `{"data", "pictures", "classes", "first", ...}`."""
        kept = asdict(self) | {"classes": len(self.classes), "first": list(self.classes[:FIRST]), "line": self.line}
        kept |= {"data": public_name(self.data), "model": public_name(self.model)}
        del kept["warnings"]
        return kept

    def kept(self) -> Kept:
        """`{"asked": record, "warnings": [...]}`, for a manifest or a result."""
        return Kept(asked=self.record(), warnings=list(self.warnings))

    def say(self) -> Asked:
        """Say the line, and what is amiss, as notices; returns itself."""
        notice(self.line, keep=False)
        for warning in self.warnings:
            notice(warning)
        return self


def listed(names: Sequence[str]) -> str:
    """The first few names, and whether there are more; a long name is cut."""
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in names[:FIRST]]
    return ", ".join(shown) + (", ..." if len(names) > FIRST else "")


def asked_of(
    dataset: ImageDataset,
    classes: Sequence[str] | None,
    model: str,
    look: bool = True,
    superclasses: Superclasses | None = None,
) -> Asked:
    """The question that a data set puts to a model.

    Args:
        dataset: as it is used, limited or not.
        classes: what an answer is chosen from, where that is not the data set's own: a classifier's.
        model: as it was named; what ships is known in `glom.teachers.known`.
        look: whether a few pictures are opened, to see whether they are like those the model was trained on.
        superclasses: what the model's classes are gathered into: then those are the ones it knows.
    """
    names = tuple(classes or dataset.classes or ())
    chosen = f"{model}'s own" if names and dataset.classes is None and classes is not None else ""
    known = SHIPPED_MODELS.get(model)
    by_wnid = known is not None and known.source == "ImageNet" and set(dataset.keys or ("",)) <= set(imagenet_wnids())
    by_wnid = by_wnid or superclasses is not None
    warnings = [] if by_wnid else strangers(known, names)  # names of ImageNet's classes are spelled in several ways
    warnings += unlike(known, _some(dataset)) if known is not None and look else []
    told = tuple(f"{dataset.name}: {warning}" for warning in warnings)
    chosen = chosen or (f"gathered into the superclasses of {superclasses.name}" if superclasses else "")
    return Asked(dataset.name, len(dataset), names, model, chosen, told)


def asked_about(
    pictures: Sequence[tuple[str, Image.Image]],
    classes: Sequence[str],
    model: str,
    known: Known | None = None,
    chosen: str = "",
) -> Asked:
    """The question that single pictures, (name, picture) each, put to a model.

    Args:
        classes, model: as for `asked_of`.
        known: what the model was trained on; None to look it up among those that ship.
        chosen: why these classes, where nobody named them.
    """
    known = known or SHIPPED_MODELS.get(model)
    warnings = strangers(known, classes)
    for one in pictures:
        warnings += [] if known is None else unlike(known, [one])
    names = " and ".join(name for name, _ in pictures)
    return Asked(names, len(pictures), tuple(classes), model, chosen, tuple(dict.fromkeys(warnings)))


def choose_classes(
    teacher: Teacher, file: str | None, data: str | None, otherwise: str = ""
) -> tuple[tuple[str, ...], str]:
    """Whatever class names there are for a picture: of a file, else of a data set, else what the teacher knows.

    Args:
        file: of class names. data: a data set with class names. otherwise: one for teachers that know no classes.

    Returns:
        The names, and where nobody named them a few words that say why these; else "".

    Raises:
        InputError: none at all, or a file or data set without any.
    """
    if file:
        return read_class_file(Path(file)), ""
    if data:
        classes = open_dataset(data).classes
        if classes is None:
            raise InputError(f"{data} has no class names; give them with `classes` FILE")
        return classes, ""
    if teacher.classes is not None:
        return teacher.classes, f"{public_name(teacher.name)}'s own, as none were named"
    if teacher.name in SHIPPED_MODELS:
        return SHIPPED_MODELS[teacher.name].classes(), f"those {teacher.name} was trained on, as none were named"
    if otherwise:
        return choose_classes(teacher, None, otherwise)[0], f"those of {otherwise}, as none were named"
    raise InputError(f"{teacher.name} needs class names: `classes` FILE, or `classes_of` a data set")


def strangers(known: Known | None, names: Sequence[str]) -> list[str]:
    """A warning where class names are not those that a model was trained on; nothing where that is not known."""
    foreign = known.foreign(names) if known is not None else []
    if known is None or not foreign:
        return []
    own = known.classes()
    which = f"{len(foreign)} of {len(names)} classes are not"
    if len(foreign) in (1, len(names)):
        which = f"class '{foreign[0]}' is not" if len(foreign) == 1 else f"none of the {len(names):,} classes is"
    theirs = f"{known.source}'s {len(own):,} ({listed(own)})"
    return [f"{which} among those that {known.model} was trained on, {theirs}: its answers are guesses there"]


def _some(dataset: ImageDataset) -> list[tuple[str, Image.Image]]:
    """A few readable pictures, spread over the data set."""
    found = []
    for sample in dataset.samples[:: max(1, len(dataset) // LOOKED)][:LOOKED]:
        try:
            found.append((sample.id, sample.image()))
        except GlomError:
            continue  # a run says so when it comes to it
    return found
