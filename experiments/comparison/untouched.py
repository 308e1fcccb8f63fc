"""Test pictures by which something was chosen here, so that a table can be recorded on others.

`untouched.npz` holds what they look like, 4 x 4 mean colours each, an array a study. In a folder of 500 CIFAR-10 test
pictures a class, named `CLASS/0000.jpg` onwards, they are:

    objective-select    the first 260 of half `select` (`ImageDataset.limit`), by which `apm-trained` was chosen
    objective-confirm   the first 520 of half `confirm`, on which it was confirmed
    tables              the first 300, which earlier recordings of tables 1 to 3 and of learned prompts drew from;
                        `cifar10-sample`, on which presets were tried, is the first 200 of them

They are found by their looks and not by their names, so that it does not matter in which layout CIFAR-10 lies there.

Of PACS's photographs, paintings and cartoons, and of Caltech101, the half `select` (`glom.runs.seeds.half_of`) is kept
for choosing, and for machines that learn from photographs; sketches and `shape-texture` are for neither.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.datasets.base import ImageDataset
from glom.errors import GlomError, InputError
from glom.runs.seeds import SELECT, half_of

ALL, UNTOUCHED = "all", "untouched"
PICTURES = (ALL, UNTOUCHED)
SIZE = (32, 32)  # of every picture that was studied
# Data set -> domains of which a half is for choosing; none named: all of it.
RESERVED: dict[str, tuple[str, ...]] = {"pacs": ("photo", "art_painting", "cartoon"), "caltech101": ()}
CLOSE = 8  # of 255; two different test pictures differ by 21 and more in one of the 48 numbers, a JPEG copy by less


def look(image: Image.Image) -> NDArray[np.int16]:
    """(48,): the mean colours of 4 x 4 parts of a picture."""
    return np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), dtype=np.int16).reshape(-1)


@cache
def studied() -> dict[str, NDArray[np.int16]]:
    """{study: (n, 48)} of every picture that was studied."""
    with np.load(Path(__file__).with_suffix(".npz")) as held:
        return {name: held[name].astype(np.int16) for name in held.files}


_FOUND: dict[str, dict[str, list[str]]] = {}


def studies_of(dataset: ImageDataset) -> dict[str, list[str]]:
    """{sample id: studies} of the samples that are pictures of a study; one that cannot be read is none."""
    name, _, domain = dataset.name.partition("/")
    if name in RESERVED:
        domains = {s.id: domain or s.id.split("/")[0] for s in dataset}
        named = RESERVED[name] or domains.values()
        kept = [i for i, own in domains.items() if own in named and half_of(i) == SELECT]
        return {key: [f"{name}-{SELECT}"] for key in kept}
    try:
        if dataset[0].image().size != SIZE:
            return {}
    except GlomError:
        pass
    key = dataset.fingerprint()
    if key not in _FOUND:
        found = _FOUND[key] = {}
        for sample in dataset:
            try:
                image = sample.image()
            except GlomError:
                continue
            own = look(image)
            names = [n for n, looks in studied().items() if (np.abs(looks - own).max(1) <= CLOSE).any()]
            if names and image.size == SIZE:
                found[sample.id] = names
    return _FOUND[key]


def untouched(dataset: ImageDataset) -> ImageDataset:
    """The samples that no study used. Raises `InputError` where none is left."""
    used = studies_of(dataset)
    left = [sample.id for sample in dataset if sample.id not in used]
    if not left:
        raise InputError(
            f"every picture of {dataset.name} was used by a study; take another data set, or --pictures all"
        )
    return dataset.select(left) if used else dataset


Shared = TypedDict("Shared", {"shares pictures with": list[str]})


def shares_pictures_with(datasets: list[ImageDataset]) -> list[str]:
    """Names of the studies that used one of these pictures."""
    return sorted({name for dataset in datasets for names in studies_of(dataset).values() for name in names})
