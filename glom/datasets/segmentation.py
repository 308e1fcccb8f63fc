"""Pictures with outlines: BSDS500, COCO, a folder of pictures with masks, or sets that are made.

    bsds500[:ROOT], or the folder itself:
               SPLIT/ID.jpg beside SPLIT/ID.npz with `segmentations` (annotators, H, W); give the folder above or SPLIT
               or as published, BSR/BSDS500/data/{images,groundTruth}/SPLIT/ID.{jpg,mat}
    coco[:ROOT]: coco/SPLIT2017/NUMBER.jpg and coco/annotations/instances_SPLIT2017.json, see `glom.datasets.coco`
    masks:     images/NAME.jpg and masks/NAME.png, or NAME.jpg beside NAME.png; 0 is the background
    composites[:SOURCE[:ROOT]]: pictures made on the fly with their masks, see `glom.datasets.composites`
    tetrominoes[:N], multi-dsprites[:N]: N pictures of these sets, made on the fly too, see `glom.datasets.scenes`

BSDS500: Arbelaez, Maire, Fowlkes & Malik 2011.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from glom.datasets.coco import Annotation, label_map, read_instances
from glom.datasets.coco import digest as outlines_digest
from glom.datasets.composites import (
    GARMENTS,
    SAMPLE,
    Composites,
    CompositeSettings,
    open_source,
    resolve_source,
)
from glom.datasets.label_maps import Maps, read_mask, read_mat, read_npz
from glom.datasets.named.layouts import data_root
from glom.datasets.named.picture_sets import bsds_own_folder, coco_folder
from glom.datasets.reading import SUFFIXES, one_line, read_image
from glom.datasets.scenes import SCENES, open_scenes
from glom.datasets.sources import FileSource
from glom.errors import InputError, unknown
from glom.runs.files import key_bytes


@dataclass(frozen=True)
class SegmentedPicture:
    """One picture and where its outlines are.

    Attributes:
        id: its name without an ending, unique in the data set.
        path: the picture.
        truth: the `.npz`, `.mat` or `.png` with the outlines.
        background: the label of what is no object, or None where every region is one.
    """

    id: str
    path: Path = field(repr=False)
    truth: Path = field(repr=False)
    background: int | None = None

    def read(self) -> tuple[Image.Image, Maps]:
        """The picture (RGB) and its label maps (annotators, H, W).

        Raises:
            InputError: either cannot be read, or their sizes differ.
        """
        if not self.path.is_file() or not self.truth.is_file():
            here, lost = (self.truth, "no picture") if self.truth.is_file() else (self.path, f"no {self.truth.name}")
            raise InputError(f"{one_line(here.name)}: {lost} beside it")
        image = read_image(self.path)
        maps = self.maps()
        if maps.shape[1:] != (image.height, image.width):
            h, w = maps.shape[1:]
            raise InputError(
                f"{one_line(self.path.name)}: its outlines are {w}x{h} pixels, the picture {image.width}x{image.height}"
            )
        return image, maps

    def maps(self) -> Maps:
        """Its label maps alone (annotators, H, W). Raises `InputError` where they cannot be read."""
        readers = {".npz": read_npz, ".mat": read_mat}
        return readers[self.truth.suffix](self.truth) if self.truth.suffix in readers else read_mask(self.truth)[None]

    def digest(self) -> str:
        """Of both files' contents."""
        return f"{FileSource(self.path).digest()}\0{FileSource(self.truth).digest()}"


@dataclass(frozen=True)
class CocoPicture(SegmentedPicture):
    """One picture of COCO; `truth` is the file that holds every picture's outlines, `annotations` are its own."""

    annotations: tuple[Annotation, ...] = field(default=(), repr=False, compare=False)

    def maps(self) -> Maps:
        """(1, H, W): its instances on a ground of 0."""
        try:
            with Image.open(self.path) as image:
                size = image.height, image.width
            return label_map(self.annotations, *size)[None]
        except InputError as error:
            raise InputError(f"{one_line(self.path.name)}: {error}") from None

    def digest(self) -> str:
        """Of the picture and its own outlines."""
        return f"{FileSource(self.path).digest()}\0{outlines_digest(self.annotations)}"


class Made(Protocol):
    """What makes pictures with masks by their numbers: composites, scenes."""

    @property
    def settings(self) -> object: ...

    def batch(self, indices: Sequence[int]) -> Any: ...


@dataclass(frozen=True)
class CompositePicture:
    """One made picture and its mask; as `SegmentedPicture`, but made when it is read."""

    id: str
    number: int
    made: Made = field(repr=False, compare=False)
    background: int | None = 0

    def read(self) -> tuple[Image.Image, Maps]:
        """The picture (RGB) and its mask (1, S, S), 0 the ground."""
        batch = self.made.batch([self.number])
        pixels = (batch.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        return Image.fromarray(pixels), batch.masks.numpy()

    def digest(self) -> str:
        """Its number and all that decides it."""
        return f"{self.made.settings}\0{self.number}"


@dataclass(frozen=True)
class SegmentedSet:
    """Pictures in the order of their names, and what they are called together ("bsds500/val")."""

    name: str
    pictures: tuple[SegmentedPicture | CompositePicture, ...]

    def fingerprint(self) -> str:
        """sha256 over ids and contents of pictures and outlines."""
        digest = hashlib.sha256()
        for item in self.pictures:
            digest.update(key_bytes(f"{item.id}\0{item.digest()}\n"))
        return digest.hexdigest()


def open_segmentation(folder: str | Path, split: str = "val", limit: int | None = None, seed: int = 0) -> SegmentedSet:
    """Open a folder in either layout, or a made set. A picture or a mask without its other half is kept, and fails when
    it is read.

    Args:
        folder: see the module's text. A folder called bsds500 or coco here is that folder.
        split: of a bsds500 folder that holds several; composites are made of the test objects unless it is "train".
        limit: at most this many pictures, the first by name; of made sets 100 if nothing is said.
        seed: of made sets.

    Raises:
        InputError: no such folder, no such split, or nothing in either layout.
    """
    if limit is not None and limit < 1:
        raise InputError(f"`limit` must be at least 1, got {limit}")
    word, _, source = str(folder).partition(":")
    if word == "composites":
        return _composites(source, "train" if split == "train" else "test", limit or 100, seed)
    if word in SCENES:
        scenes, count = open_scenes(str(folder), split, seed)
        numbers = range(min([n for n in (count, limit) if n] or [100]))
        return SegmentedSet(f"{word}/{split}", tuple(CompositePicture(f"{word}-{i:05d}", i, scenes) for i in numbers))
    if word in ("bsds500", "coco") and not Path(folder).expanduser().is_dir():
        named = _named(word, source, split)
        return SegmentedSet(named.name, named.pictures[:limit])
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{one_line(root)} is not a folder; give a bsds500 folder, one with pictures and masks, or a made set"
        )
    inner = root / split
    splits = sorted(d.name for d in root.iterdir() if d.is_dir() and any(d.glob("*.npz")))
    if any(root.glob("*.npz")):
        inner = root
    elif splits and split not in splits:
        raise InputError(f"{one_line(root)} has no split '{split}'; there is: {', '.join(splits)}")
    if any(inner.glob("*.npz")):
        pictures, name = _pairs(inner, inner, ".npz", None), f"{inner.parent.name}/{inner.name}"
    elif (root / "masks").is_dir():
        pictures, name = _pairs(root / "images", root / "masks", ".png", 0), root.name
    else:
        pictures, name = _pairs(root, root, ".png", 0), root.name
    if not any(p.path.is_file() and p.truth.is_file() for p in pictures):
        raise InputError(
            f"{one_line(root)} holds no picture with outlines: ID.jpg beside ID.npz, NAME.jpg beside NAME.png, "
            "or images/NAME.jpg and masks/NAME.png"
        )
    return SegmentedSet(name, tuple(pictures[:limit]))


def _named(name: str, source: str, split: str) -> SegmentedSet:
    """BSDS500 or COCO where they lie under `source`, or where named data sets lie."""
    from glom.datasets.named.catalogue import NAMED

    root = Path(source).expanduser() if source else data_root()
    found = NAMED[name].find(root)
    if found is None:
        raise NAMED[name].not_there(root)
    layout, place = found
    if split not in layout.counts:
        raise unknown(f"split of {name}", split, layout.counts)
    if name == "coco":
        return SegmentedSet(f"coco/{'train' if split == 'train' else 'val'}", _coco(coco_folder(place, split)))
    if layout.title == "npz":
        folder = bsds_own_folder(place, split)
        return SegmentedSet(f"bsds500/{folder.name}", tuple(_pairs(folder, folder, ".npz", None)))
    pictures = _pairs(place / split, place.parent / "groundTruth" / split, ".mat", None)
    if not pictures:
        raise InputError(f"bsds500: no pictures in {one_line(place / split)}")
    return SegmentedSet(f"bsds500/{split}", tuple(pictures))


def _coco(folder: Path) -> tuple[CocoPicture, ...]:
    """The pictures that have outlines; COCO has some without."""
    near = [folder.parent / "annotations", folder.parent.parent / "annotations"]
    file = f"instances_{folder.name}.json"
    path = next((place / file for place in near if (place / file).is_file()), near[0] / file)
    instances = read_instances(path)
    return tuple(
        CocoPicture(Path(name).stem, folder / name, path, 0, tuple(instances[name])) for name in sorted(instances)
    )


def _composites(source: str, split: str, count: int, seed: int) -> SegmentedSet:
    """Two garments (or digits, or photographs) a picture, so that one number of clusters suits them all; as the recipe
    `weave` of `apm islands emerge` has them."""
    name, root, _ = resolve_source(source)
    kind = "fashion-mnist" if name == SAMPLE else name
    classes = GARMENTS if kind == "fashion-mnist" else ()
    settings = CompositeSettings(
        kind, objects=(2, 2), scale=(0.5, 0.65), texture=1.0, colour=0.3, fabrics=True, classes=classes, seed=seed
    )
    made = Composites(*open_source(name, root, split), settings)
    pictures = tuple(CompositePicture(f"composite-{i:05d}", i, made) for i in range(count))
    return SegmentedSet(f"composites of {name}/{split}", pictures)


def _pairs(images: Path, truths: Path, ending: str, background: int | None) -> list[SegmentedPicture]:
    def files(folder: Path) -> list[Path]:
        return (
            sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")) if folder.is_dir() else []
        )

    masks = {p.stem: p for p in files(truths) if p.suffix.lower() == ending}
    found = {
        p.stem: p
        for p in files(images)
        if p.suffix.lower() in SUFFIXES and (images != truths or p not in masks.values())
    }
    names = sorted(found.keys() | masks.keys())
    return [
        SegmentedPicture(n, found.get(n, images / f"{n}.jpg"), masks.get(n, truths / f"{n}{ending}"), background)
        for n in names
    ]
