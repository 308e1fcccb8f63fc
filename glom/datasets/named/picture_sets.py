"""Named sets of pictures without labels: COCO, PASCAL VOC, BSDS500. Their outlines: `glom.datasets.segmentation`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.folder import folder_dataset
from glom.datasets.named.layouts import Layout
from glom.datasets.reading import one_line
from glom.datasets.sources import FileSource
from glom.errors import InputError

COCO_PLACES = ("coco", "COCO", "coco/images", "")
VOC_PLACES = ("VOCdevkit/VOC2012/JPEGImages", "VOC2012/JPEGImages", "voc/JPEGImages", "JPEGImages")
BSDS_PLACES = ("BSR/BSDS500/data/images", "BSDS500/data/images", "data/images")
BSDS_OWN = ("bsds500/val", "bsds500/train", "val/[0-9]*.npz", "train/[0-9]*.npz")


def coco_layouts() -> tuple[Layout, ...]:
    """COCO 2017's folders as they are unpacked; the validation pictures serve as the test set."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return _unlabelled("coco", coco_folder(place, split))

    places = tuple(f"{base}/{part}2017".lstrip("/") for base in COCO_PLACES for part in ("val", "train"))
    shape = ("coco/val2017/NUMBER.jpg", "coco/train2017/NUMBER.jpg", "coco/annotations/instances_SPLIT2017.json")
    counts = {"test": (5_000, 0), "val": (5_000, 0), "train": (118_287, 0)}
    return (Layout("COCO 2017", places, counts, read, shape),)


def coco_folder(place: Path, split: str) -> Path:
    """The folder of a split, beside the one that was found."""
    return place.parent / ("train2017" if split == "train" else "val2017")


def voc_layouts() -> tuple[Layout, ...]:
    """PASCAL VOC 2012's pictures with segmentations; the validation ones serve as the test set."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return ImageDataset(
            "voc",
            tuple(Sample(f"{n}.jpg", None, FileSource(place / f"{n}.jpg")) for n in voc_names(place.parent, split)),
        )

    shape = tuple(f"VOCdevkit/VOC2012/{part}" for part in (
        "JPEGImages/ID.jpg", "SegmentationObject/ID.png", "SegmentationClass/ID.png",
        "ImageSets/Segmentation/{train,val}.txt",
    ))  # fmt: skip
    counts = {"test": (1_449, 0), "val": (1_449, 0), "train": (1_464, 0)}
    return (Layout("PASCAL VOC 2012", VOC_PLACES, counts, read, shape),)


def voc_names(base: Path, split: str) -> list[str]:
    """The pictures that VOC lists for a split. Raises `InputError` where there is no list, or nothing on it."""
    path = base / "ImageSets" / "Segmentation" / f"{'train' if split == 'train' else 'val'}.txt"
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise InputError(f"voc: no list of pictures {one_line(path)} ({one_line(error)[:80]})") from None
    if not names:
        raise InputError(f"voc: {one_line(path)} lists no picture")
    return [Path(name).name for name in names]


def bsds_layouts() -> tuple[Layout, ...]:
    """As its authors published it (BSR/BSDS500/data), or pictures beside `.npz` files of their outlines."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return _unlabelled("bsds500", place / split)

    def read_own(place: Path, root: Path, split: str) -> ImageDataset:
        return _unlabelled("bsds500", bsds_own_folder(place, split))

    counts = {"test": (200, 0), "val": (100, 0), "train": (200, 0)}
    shape = ("BSR/BSDS500/data/images/SPLIT/ID.jpg", "BSR/BSDS500/data/groundTruth/SPLIT/ID.mat")
    own = {"val": (100, 0), "train": (200, 0), "test": (100, 0)}  # without test pictures "test" is val, counted once
    return (
        Layout("its authors'", BSDS_PLACES, counts, read, shape),
        Layout("npz", BSDS_OWN, own, read_own, ("bsds500/SPLIT/ID.jpg", "bsds500/SPLIT/ID.npz")),
    )


def bsds_own_folder(place: Path, split: str) -> Path:
    """The folder of a split beside the one found (or around the file found); without test pictures "test" is `val`."""
    base = place.parent if place.is_dir() else place.parent.parent
    return base / "val" if split == "test" and not (base / "test").is_dir() else base / split


def _unlabelled(name: str, folder: Path) -> ImageDataset:
    if not folder.is_dir():
        raise InputError(f"{name}: no folder '{folder.name}' in {one_line(folder.parent)}")
    found = folder_dataset(folder)
    if found.classes is not None:
        raise InputError(f"{name}: {one_line(folder)} should hold pictures, not folders of them")
    others = {kind: count for kind, count in found.passed_over.items() if kind != ".npz files"}  # BSDS500's outlines
    return replace(found, name=name, passed_over=others)
