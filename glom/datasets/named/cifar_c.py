"""CIFAR-10-C and CIFAR-100-C as downloaded (Hendrycks & Dietterich 2019): CORRUPTION.npy beside labels.npy.

An array holds the test pictures five times, severity 1 first: (50,000, 32, 32, 3) uint8. It is mapped, not loaded.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.corruptions import SEVERITIES
from glom.datasets.labels import whole_array
from glom.datasets.named.imagenet_sets import parse_variant
from glom.datasets.named.layouts import Layout
from glom.datasets.prompts import clip_templates
from glom.datasets.reading import array_trouble, one_line
from glom.datasets.sources import ArraySource
from glom.errors import InputError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar100_names() -> tuple[str, ...]:
    """The 100 fine classes of CIFAR-100 in the order of the labels, which is that of the alphabet."""
    text = (files("glom.datasets") / "samples" / "cifar100_names.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def cifar_c_layouts(name: str, folder: str, variant: str) -> tuple[Layout, ...]:
    """One corruption at one severity of `cifar10-c` or `cifar100-c`; `folder` is the archive's.

    Ids are those of the clean test pictures in torchvision's order (`test/000000`), so that runs can be paired.
    """
    corruption, severity = parse_variant(name, variant)
    classes = CIFAR10 if name == "cifar10-c" else cifar100_names()

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        pictures, labels = read_array(name, place), read_array(name, place.parent / "labels.npy")
        rows = len(pictures) // len(SEVERITIES)
        if pictures.dtype != np.uint8 or pictures.shape != (rows * len(SEVERITIES), 32, 32, 3) or not rows:
            raise InputError(
                f"{name}: {place.name} should be (50000, 32, 32, 3) uint8, five severities of equal length; it is "
                f"{pictures.shape} {pictures.dtype}"
            )
        whole = whole_array(labels)
        if labels.shape != (len(pictures),) or whole is None:
            raise InputError(
                f"{name}: labels.npy should have a whole number for each of the {len(pictures):,} pictures; it is "
                f"{labels.shape} {labels.dtype}"
            )
        start = (severity - 1) * rows
        samples = tuple(
            Sample(f"test/{index:06d}", int(whole[start + index]), ArraySource(pictures, start + index))
            for index in range(rows)
        )
        return ImageDataset(f"{name}/{corruption}-{severity}", samples, classes, clip_templates(name), classes)

    places = tuple(f"{base}{corruption}.npy" for base in (f"{folder}/", f"{name}/", ""))
    shape = (f"{folder}/CORRUPTION.npy", f"{folder}/labels.npy")
    return (Layout("arrays", places, {"test": (10_000, len(classes))}, read, shape),)


def read_array(name: str, path: Path) -> np.ndarray:
    """An array of `name`, mapped. Raises `InputError` where it is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{name}: {path.name} is not in {one_line(path.parent)}") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{name}: {one_line(path)} cannot be read ({array_trouble(error)})") from error
