"""torchvision's data sets by name: read where they lie, downloaded only on request."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.reading import one_line
from glom.datasets.sources import ArraySource, FileSource, Source
from glom.errors import InputError, RunError, unknown

TRAIN_TEST: Mapping[str, Mapping[str, object]] = {"test": {"train": False}, "train": {"train": True}}


def _by_split(**splits: str) -> dict[str, dict[str, object]]:
    return {ours: {"split": theirs} for ours, theirs in splits.items()}


@dataclass(frozen=True)
class TorchvisionSet:
    """One of torchvision's data sets: how it is called, how it is built, where its pictures and labels are kept.

    Attributes:
        name: ours. `kind`: torchvision's class.
        layout: the folder it must have under the root.
        splits: our split -> arguments of the class.
        pictures, labels: its attributes; `labels` None where `pictures` holds (path, label) pairs.
        templates: prompts for its classes, after those published for CLIP (Radford et al. 2021, section 3.1.4).
        spell: turns its class names into words.
    """

    name: str
    kind: str
    what: str
    size: str
    licence: str
    origin: str
    layout: str
    splits: Mapping[str, Mapping[str, object]]
    pictures: str = "data"
    labels: str | None = "targets"
    templates: tuple[str, ...] = ("a photo of a {}.",)
    spell: Callable[[str], str] = field(default=lambda name: name.replace("_", " "))


def _camel(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


SMALL = ("a photo of a {}.", "a low resolution photo of a {}.", "a blurry photo of a {}.", "a photo of the small {}.")
CIFAR_SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
VGG_SITE = "https://www.robots.ox.ac.uk/~vgg/data"

SETS: tuple[TorchvisionSet, ...] = (
    TorchvisionSet(
        "cifar10", "CIFAR10", "10 classes of small objects, 32x32", "10,000 test, 50,000 train", "MIT",
        CIFAR_SITE, "cifar-10-batches-py", TRAIN_TEST, templates=SMALL,
    ),
    TorchvisionSet(
        "cifar100", "CIFAR100", "100 classes of small objects, 32x32", "10,000 test, 50,000 train", "not stated",
        CIFAR_SITE, "cifar-100-python", TRAIN_TEST, templates=SMALL,
    ),
    TorchvisionSet(
        "imagenette", "Imagenette", "10 easy classes of ImageNet", "3,925 val, 9,469 train",
        "ImageNet's terms: research use", "https://github.com/fastai/imagenette", "imagenette2",
        _by_split(test="val", val="val", train="train"), "_samples", None,
    ),
    TorchvisionSet(
        "mnist", "MNIST", "handwritten digits, 28x28 grey", "10,000 test, 60,000 train", "CC BY-SA 3.0",
        "https://yann.lecun.com/exdb/mnist", "MNIST/raw", TRAIN_TEST,
        templates=('a photo of the number: "{}".', "a handwritten digit {}."), spell=lambda name: name.split(" - ")[0],
    ),
    TorchvisionSet(
        "fashion-mnist", "FashionMNIST", "10 kinds of clothing, 28x28 grey", "10,000 test, 60,000 train", "MIT",
        "https://github.com/zalandoresearch/fashion-mnist", "FashionMNIST/raw", TRAIN_TEST,
        templates=("a photo of a {}, a type of clothing.",),
    ),
    TorchvisionSet(
        "flowers102", "Flowers102", "102 kinds of flowers", "6,149 test, 1,020 val, 1,020 train", "research use",
        f"{VGG_SITE}/flowers/102", "flowers-102", _by_split(test="test", val="val", train="train"),
        "_image_files", "_labels", ("a photo of a {}, a type of flower.",),
    ),
    TorchvisionSet(
        "dtd", "DTD", "47 textures, first partition", "1,880 test, 1,880 val, 1,880 train", "research use",
        f"{VGG_SITE}/dtd", "dtd/dtd", _by_split(test="test", val="val", train="train"), "_image_files", "_labels",
        ("a photo of a {} texture.", "a photo of a {} pattern.", "a photo of a {} thing."),
    ),
    TorchvisionSet(
        "oxford-pets", "OxfordIIITPet", "37 breeds of cats and dogs", "3,669 test, 3,680 train", "CC BY-SA 4.0",
        f"{VGG_SITE}/pets", "oxford-iiit-pet", _by_split(test="test", train="trainval"), "_images", "_labels",
        ("a photo of a {}, a type of pet.",),
    ),
    TorchvisionSet(
        "food101", "Food101", "101 dishes", "25,250 test, 75,750 train", "research use",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101", "food-101",
        _by_split(test="test", train="train"), "_image_files", "_labels", ("a photo of {}, a type of food.",),
    ),
    TorchvisionSet(
        "eurosat", "EuroSAT", "10 kinds of land from a satellite, 64x64, no splits", "27,000", "MIT",
        "https://github.com/phelber/eurosat", "eurosat/2750", {"test": {}, "all": {}}, "samples", None,
        ("a satellite photo of {}.", "a centered satellite photo of {}."), _camel,
    ),
    TorchvisionSet(
        "stl10", "STL10", "10 classes of objects, 96x96", "8,000 test, 5,000 train", "ImageNet's terms: research use",
        "https://cs.stanford.edu/~acoates/stl10", "stl10_binary", _by_split(test="test", train="train"),
        labels="labels",
    ),
)  # fmt: skip


def torchvision_dataset(kind: TorchvisionSet, root: Path, split: str, download: bool = False) -> ImageDataset:
    """One of `SETS`, read from `root` in torchvision's own layout.

    Args:
        root: the folder that `kind.layout` lies in.
        split: one of `kind.splits`.
        download: fetch it into `root` where it is not there.

    Raises:
        InputError: a split it does not have; not there, or damaged.
        RunError: the download failed.
    """
    if split not in kind.splits:
        raise unknown(f"split of {kind.name}", split, kind.splits)
    import torchvision.datasets

    build = getattr(torchvision.datasets, kind.kind)
    arguments = dict(kind.splits[split])
    place = one_line(root / kind.layout)
    if download and not (root / kind.layout).is_dir():
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Standard output belongs to results; what a download reports is progress.
            with contextlib.redirect_stdout(sys.stderr):
                build(root=str(root), download=True, **arguments)
        except Exception as error:
            raise RunError(f"{kind.name}: the download into {one_line(root)} failed ({one_line(error)})") from error
    if not (root / kind.layout).is_dir():
        raise InputError(
            f"{kind.name}: not there, looked for {place}; name the folder that holds it as '{kind.name}:ROOT', or ask "
            f"for the download (from {kind.origin}, {kind.size} images)"
        )
    try:
        loaded = build(root=str(root), download=False, **arguments)
    except Exception as error:
        raise InputError(f"{kind.name}: incomplete or damaged in {place} ({one_line(error)})") from error
    return _convert(kind, loaded, root, split)


def _convert(kind: TorchvisionSet, loaded: Any, root: Path, split: str) -> ImageDataset:
    pictures = getattr(loaded, kind.pictures)
    if kind.labels is None:
        pictures, labels = zip(*pictures) if len(pictures) else ((), ())
    else:
        labels = getattr(loaded, kind.labels)
    names = getattr(loaded, "classes", None)
    # Imagenette gives each class a tuple of synonyms, the usual name first.
    spelt = [kind.spell(name if isinstance(name, str) else name[0]) for name in names] if names is not None else None
    samples = []
    sources: list[tuple[str, Source]]
    if kind.pictures == "data":
        array = _channels_last(np.asarray(pictures))
        sources = [(f"{split}/{index:06d}", ArraySource(array, index)) for index in range(len(array))]
    else:
        paths = [Path(path) for path in pictures]
        sources = [(path.relative_to(root).as_posix(), FileSource(path)) for path in paths]
    for (name, source), label in zip(sources, labels, strict=True):
        samples.append(Sample(name, int(label), source))
    return ImageDataset(kind.name, tuple(samples), tuple(spelt) if spelt else None, kind.templates)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(N, 3, H, W), as STL-10 has them, -> (N, H, W, 3); others as they are."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 and array.shape[1] == 3 else array
