"""torchvision's data sets by name: read where they lie, in torchvision's own layout, by torchvision's own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.named.layouts import Counts, Layout
from glom.datasets.prompts import A_PHOTO, TEMPLATES
from glom.datasets.reading import one_line
from glom.datasets.sources import ArraySource, FileSource, Source
from glom.errors import InputError

Splits = Mapping[str, Mapping[str, object]]
TRAIN_TEST: Splits = {"test": {"train": False}, "train": {"train": True}}
WHOLE: Splits = {"test": {}, "all": {}}


def by_split(**splits: str) -> Splits:
    """Our names of splits -> torchvision's."""
    return {ours: {"split": theirs} for ours, theirs in splits.items()}


def plain(name: str) -> str:
    """polka_dotted -> polka dotted"""
    return name.replace("_", " ")


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's data sets: how it is built, where its pictures and labels are kept.

    Attributes:
        name: ours. kind: torchvision's class.
        folder: what it must find under the root.
        counts: split -> (images, classes), as published.
        splits: our split -> arguments of the class.
        pictures: its attribute with an array or paths; or how they are told from the loaded object.
        labels: its attribute; None where `pictures` holds (path, label) pairs. classes: its attribute.
        spell: its class names -> words, as CLIP's authors spelled them (Radford et al. 2021) where they did.
    """

    name: str
    kind: str
    folder: str
    counts: Counts
    splits: Splits
    pictures: str | Callable[[Any], Sequence[Path]] = "data"
    labels: str | None = "targets"
    classes: str = "classes"
    spell: Callable[[str], str] = plain


def torchvision_layout(kind: TorchvisionSet) -> Layout:
    """Its layout, read by torchvision's class."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        import torchvision.datasets

        if not place.is_dir():
            raise InputError(f"{kind.name}: {one_line(place)} is not a folder")
        try:
            build = getattr(torchvision.datasets, kind.kind)
            loaded = build(root=str(root), download=False, **kind.splits[split])
            return _convert(kind, loaded, root, split)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{kind.name}: incomplete or damaged in {one_line(place)} ({one_line(error)})") from error

    counts = {split: kind.counts[split] for split in kind.splits}
    return Layout("torchvision", (kind.folder,), counts, read, (f"{kind.folder}/...",))


def _convert(kind: TorchvisionSet, loaded: Any, root: Path, split: str) -> ImageDataset:
    found = kind.pictures(loaded) if callable(kind.pictures) else getattr(loaded, kind.pictures)
    if kind.labels is None:
        found, labels = zip(*found) if len(found) else ((), ())
    else:
        labels = getattr(loaded, kind.labels)
    names = getattr(loaded, kind.classes, None)
    # Imagenette gives each class a tuple of synonyms, the usual name first.
    spelt = [kind.spell(name if isinstance(name, str) else name[0]) for name in names] if names is not None else None
    sources: list[tuple[str, Source]]
    if kind.pictures == "data":
        array = _channels_last(np.asarray(found))
        sources = [(f"{split}/{index:06d}", ArraySource(array, index)) for index in range(len(array))]
    else:
        paths = [Path(path) for path in found]
        sources = [(path.relative_to(root).as_posix(), FileSource(path)) for path in paths]
    samples = [Sample(name, int(label), source) for (name, source), label in zip(sources, labels, strict=True)]
    templates = TEMPLATES.get(kind.name, (A_PHOTO,))
    return ImageDataset(kind.name, tuple(samples), tuple(spelt) if spelt else None, templates)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(N, 3, H, W), as STL-10 has them, -> (N, H, W, 3); others as they are."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 and array.shape[1] == 3 else array


# -- how class names become CLIP's --------------------------------------------------------------------------------

CATS = (
    "Abyssinian", "Bengal", "Birman", "Bombay", "British Shorthair", "Egyptian Mau", "Maine Coon", "Persian",
    "Ragdoll", "Russian Blue", "Siamese", "Sphynx",
)  # fmt: skip
FLOWERS = {"pink-yellow dahlia?": "pink and yellow dahlia", "ball moss": "air plant"}
LAND = {
    "AnnualCrop": "annual crop land",
    "Forest": "forest",
    "HerbaceousVegetation": "brushland or shrubland",
    "Highway": "highway or road",
    "Industrial": "industrial buildings or commercial buildings",
    "Pasture": "pasture land",
    "PermanentCrop": "permanent crop land",
    "Residential": "residential buildings or homes or apartments",
    "River": "river",
    "SeaLake": "lake or sea",
}
THINGS = {
    "Faces": "off-center face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car_side": "side of a car",
    "cougar_body": "body of a cougar cat",
    "cougar_face": "face of a cougar cat",
    "crocodile_head": "head of a crocodile",
    "flamingo_head": "head of a flamingo",
    "snoopy": "snoopy (cartoon beagle)",
    "yin_yang": "yin and yang symbol",
}


def breed(name: str) -> str:
    """Cats begin with capitals, dogs do not."""
    return name if name in CATS else name.lower()


def scene(name: str) -> str:
    """apartment_building/outdoor -> apartment building outdoor"""
    return plain(name).replace("/", " ")


def spelled(table: Mapping[str, str]) -> Callable[[str], str]:
    """By a table, and plainly where it says nothing."""
    return lambda name: table.get(name, plain(name))


def caltech_pictures(loaded: Any) -> list[Path]:
    """torchvision keeps a class and a number for each picture, and counts files to know how many there are."""
    folder = Path(loaded.root) / "101_ObjectCategories"
    return [folder / loaded.categories[y] / f"image_{i:04d}.jpg" for y, i in zip(loaded.y, loaded.index)]


SETS: dict[str, TorchvisionSet] = {
    kind.name: kind
    for kind in (
        TorchvisionSet(
            "cifar10", "CIFAR10", "cifar-10-batches-py", {"test": (10_000, 10), "train": (50_000, 10)}, TRAIN_TEST
        ),
        TorchvisionSet(
            "cifar100", "CIFAR100", "cifar-100-python", {"test": (10_000, 100), "train": (50_000, 100)}, TRAIN_TEST
        ),
        TorchvisionSet(
            "imagenette", "Imagenette", "imagenette2",
            {"test": (3_925, 10), "val": (3_925, 10), "train": (9_469, 10)},
            by_split(test="val", val="val", train="train"), "_samples", None,
        ),
        TorchvisionSet(
            "flowers102", "Flowers102", "flowers-102",
            {"test": (6_149, 102), "val": (1_020, 102), "train": (1_020, 102)},
            by_split(test="test", val="val", train="train"), "_image_files", "_labels", spell=spelled(FLOWERS),
        ),
        TorchvisionSet(
            "dtd", "DTD", "dtd/dtd", {"test": (1_880, 47), "val": (1_880, 47), "train": (1_880, 47)},
            by_split(test="test", val="val", train="train"), "_image_files", "_labels",
        ),
        TorchvisionSet(
            "oxford-pets", "OxfordIIITPet", "oxford-iiit-pet", {"test": (3_669, 37), "train": (3_680, 37)},
            by_split(test="test", train="trainval"), "_images", "_labels", spell=breed,
        ),
        TorchvisionSet(
            "food101", "Food101", "food-101", {"test": (25_250, 101), "train": (75_750, 101)},
            by_split(test="test", train="train"), "_image_files", "_labels",
        ),
        TorchvisionSet(
            "eurosat", "EuroSAT", "eurosat/2750", {"test": (27_000, 10), "all": (27_000, 10)}, WHOLE, "samples", None,
            spell=spelled(LAND),
        ),
        TorchvisionSet(
            "stl10", "STL10", "stl10_binary", {"test": (8_000, 10), "train": (5_000, 10)},
            by_split(test="test", train="train"), labels="labels",
        ),
        TorchvisionSet(
            "caltech101", "Caltech101", "caltech101/101_ObjectCategories", {"test": (8_677, 101), "all": (8_677, 101)},
            WHOLE, caltech_pictures, "y", "categories", spelled(THINGS),
        ),
        TorchvisionSet(
            "sun397", "SUN397", "SUN397", {"test": (108_754, 397), "all": (108_754, 397)}, WHOLE, "_image_files",
            "_labels", spell=scene,
        ),
    )
}  # fmt: skip
