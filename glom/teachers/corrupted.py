"""Where a corruption is applied: to what the teacher sees of a picture, or to the file."""

from __future__ import annotations

from typing import Any

from PIL import Image

from glom.datasets.corruptions import LARGEST, Corruption, corrupt, scale_of
from glom.errors import unknown
from glom.teachers.base import Teacher
from glom.teachers.views import seen

CROP, FILE = "crop", "file"
PLACES = (CROP, FILE)


def check_place(place: str) -> None:
    """Raise `InputError` for a place that is not one of `PLACES`."""
    if place not in PLACES:
        raise unknown("place of corruptions", place, PLACES, "`corrupt` is crop or file")


def corrupted(
    teacher: Teacher, image: Image.Image, corruption: Corruption, seed: int, place: str = CROP
) -> Image.Image:
    """The corrupted twin that stands in a picture's place; its size tells its scale (`Corruption.scale_for`).

    Args:
        image: RGB, as the file holds it.
        seed: see `corrupt`.
        place: `crop`, as ImageNet-C was made: the square that the teacher cuts out and resizes is corrupted, and the
            teacher reads it as it is (`Teacher.preprocess`). Small pictures that the teacher does not shrink,
            such as CIFAR-10's, are corrupted at their own size and enlarged afterwards, as CIFAR-10-C is used. `file`:
            the picture at its own size; resizing then takes away part of what was done to a large one.

    Raises:
        InputError: a picture that is too small.
    """
    small = scale_of(image.size) in LARGEST and max(image.size) <= teacher.image_size
    return corrupt(image if place == FILE or small else seen(teacher, image), corruption, seed)


def described(corruption: Corruption | None, place: str) -> dict[str, Any]:
    """What a run's identity holds of its corruption: which, where, and with the strengths of which published set."""
    if corruption is None:
        return {"corruption": None}
    return {"corruption": str(corruption), "corrupt": place, "corruption_scale": corruption.scale}
