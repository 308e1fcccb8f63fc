"""Where a corruption is applied, to what the teacher sees of a picture or to the file; such pictures encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from PIL import Image
from torch import Tensor

from glom.datasets.base import Sample
from glom.datasets.corruptions import LARGEST, Corruption, corrupt, scale_of
from glom.datasets.loading import read_ahead, readers, to_device
from glom.datasets.reading import reduced
from glom.errors import GlomError, unknown
from glom.runs.seeds import sample_seed
from glom.teachers.base import Teacher
from glom.teachers.views import seen

CROP, FILE = "crop", "file"
PLACES = (CROP, FILE)
BATCH = 64  # pictures encoded at a time


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


def shown(
    teacher: Teacher, sample: Sample, corruption: Corruption | None, seed: int, place: str = CROP, least: int = 0
) -> tuple[Image.Image, str]:
    """A sample's picture as a run of this seed shows it, and the scale of its corruption ("" without one).

    Args:
        least: the side that a JPEG is decoded to at least, see `reduced`; whole where a corruption acts on the file.

    Raises:
        InputError: it cannot be read, or is too small.
    """
    with reduced(0 if corruption is not None and place == FILE else least):
        image = sample.image()
    if corruption is None:
        return image, ""
    image = corrupted(teacher, image, corruption, sample_seed(seed, sample.id, "corruption"), place)
    return image, corruption.scale_for(image.size)


Encoded = tuple[Tensor, str]
"""A picture's token (F,) and the scale of its corruption."""


def encode_ahead(
    teacher: Teacher,
    samples: Sequence[Sample],
    corruption: Corruption | None = None,
    seed: int = 0,
    place: str = CROP,
    workers: int | None = None,
    batch: int = BATCH,
    draft: int = 0,
) -> Iterator[list[Encoded | GlomError]]:
    """Samples as `shown` -> their tokens, a batch at a time; those that cannot be read are their errors.

    Args:
        workers: processes that read; see `glom.datasets.loading`.
        draft: JPEGs are decoded to at least so many times the side that the teacher reads; 0: whole.
    """
    device = teacher.device

    def look(number: int) -> tuple[Tensor, str]:
        image, scale = shown(teacher, samples[number], corruption, seed, place, draft * teacher.image_size)
        return teacher.preprocess(image), scale

    looks = read_ahead(look, range(len(samples)), readers(workers, device), device.type == "cuda")
    while found := list(islice(looks, batch)):
        views = [look[0] for look in found if not isinstance(look, GlomError)]
        tokens = iter(teacher.token(to_device(views, device)) if views else ())
        yield [look if isinstance(look, GlomError) else (next(tokens), look[1]) for look in found]


def described(corruption: Corruption | None, place: str) -> dict[str, Any]:
    """What a run's identity holds of its corruption: which, where, and with the strengths of which published set."""
    if corruption is None:
        return {"corruption": None}
    return {"corruption": str(corruption), "corrupt": place, "corruption_scale": corruption.scale}
