"""Pictures with outlines: BSDS500, COCO, a folder of pictures with masks, or sets that are made.

    bsds500[:ROOT], or the folder itself:
               SPLIT/ID.jpg beside SPLIT/ID.npz with `segmentations` (annotators, H, W); give the folder above or SPLIT
               or as published, BSR/BSDS500/data/{images,groundTruth}/SPLIT/ID.{jpg,mat}
    coco[:ROOT]: coco/SPLIT2017/NUMBER.jpg and coco/annotations/instances_SPLIT2017.json, or where it is there
               annotations/panoptic_SPLIT2017.json with the folder of that name, see `glom.datasets.coco`
    voc[:ROOT]: VOCdevkit/VOC2012/{JPEGImages,SegmentationObject,SegmentationClass}, 255 void
    masks:     images/NAME.jpg and masks/NAME.png, or NAME.jpg beside NAME.png; 0 is the background. Where classes/ lies
               beside masks/, it holds the objects' classes
    panoptic:FOLDER: the same with every region an object, and 0 what nobody labelled
    composites[:SOURCE[:ROOT]]: pictures made on the fly with their masks, see `glom.datasets.composites`
    tetrominoes[:N], multi-dsprites[:N]: N pictures of these sets, made on the fly too, see `glom.datasets.scenes`

BSDS500: Arbelaez, Maire, Fowlkes & Malik 2011.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from glom.datasets.coco import read_instances, read_panoptic
from glom.datasets.composites import (
    GARMENTS,
    SAMPLE,
    Composites,
    CompositeSettings,
    open_source,
    resolve_source,
)
from glom.datasets.named.layouts import data_root
from glom.datasets.named.picture_sets import bsds_own_folder, coco_folder, voc_names
from glom.datasets.reading import SUFFIXES, one_line
from glom.datasets.scenes import SCENES, open_scenes
from glom.datasets.segmented import CocoPicture, CompositePicture, PanopticPicture, SegmentedPicture
from glom.errors import InputError, unknown
from glom.runs.files import key_bytes


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
        folder: see the module's text. A folder called bsds500, coco or voc here is that folder.
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
    if word in ("bsds500", "coco", "voc") and not Path(folder).expanduser().is_dir():
        named = _named(word, source, split)
        return SegmentedSet(named.name, named.pictures[:limit])
    panoptic = word == "panoptic" and not Path(folder).expanduser().is_dir()
    found = _folder(Path(source if panoptic else folder).expanduser(), split, panoptic)
    return SegmentedSet(found.name, found.pictures[:limit])


def _folder(root: Path, split: str, panoptic: bool) -> SegmentedSet:
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
    else:
        apart = (root / "masks").is_dir()
        images, masks = (root / "images", root / "masks") if apart else (root, root)
        pictures, name = _pairs(images, masks, ".png", None if panoptic else 0), root.name
        if panoptic:
            pictures = [replace(p, void=0) for p in pictures]
        if apart:
            pictures = [replace(p, class_map=_there(root / "classes" / p.truth.name)) for p in pictures]
    if not any(p.path.is_file() and p.truth.is_file() for p in pictures):
        raise InputError(
            f"{one_line(root)} holds no picture with outlines: ID.jpg beside ID.npz, NAME.jpg beside NAME.png, "
            "or images/NAME.jpg and masks/NAME.png"
        )
    return SegmentedSet(name, tuple(pictures))


def _named(name: str, source: str, split: str) -> SegmentedSet:
    """BSDS500, COCO or PASCAL VOC where they lie under `source`, or where named data sets lie."""
    from glom.datasets.named.catalogue import NAMED

    root = Path(source).expanduser() if source else data_root()
    found = NAMED[name].find(root)
    if found is None:
        raise NAMED[name].not_there(root)
    layout, place = found
    if split not in layout.counts:
        raise unknown(f"split of {name}", split, layout.counts)
    if name == "coco":
        return _coco(coco_folder(place, split), f"coco/{'train' if split == 'train' else 'val'}")
    if name == "voc":
        return SegmentedSet(f"voc/{'train' if split == 'train' else 'val'}", _voc(place.parent, split))
    if layout.title == "npz":
        folder = bsds_own_folder(place, split)
        return SegmentedSet(f"bsds500/{folder.name}", tuple(_pairs(folder, folder, ".npz", None)))
    pictures = _pairs(place / split, place.parent / "groundTruth" / split, ".mat", None)
    if not pictures:
        raise InputError(f"bsds500: no pictures in {one_line(place / split)}")
    return SegmentedSet(f"bsds500/{split}", tuple(pictures))


def _coco(folder: Path, name: str) -> SegmentedSet:
    """The pictures that have outlines; COCO has some without. Panoptic ones where they are there."""
    near = [folder.parent / "annotations", folder.parent.parent / "annotations"]
    paths = [place / f"{kind}_{folder.name}.json" for kind in ("panoptic", "instances") for place in near]
    path = next((path for path in paths if path.is_file()), paths[2])
    if path.name.startswith("instances"):
        instances = read_instances(path)
        return SegmentedSet(
            name,
            tuple(CocoPicture(Path(n).stem, folder / n, path, 0, annotations=instances[n]) for n in sorted(instances)),
        )
    masks = path.with_suffix("")
    if not masks.is_dir():
        raise InputError(
            f"{one_line(masks)} is not there: {masks.name}.zip, which came with {path.name}, has to be unpacked"
        )
    pictures = [
        PanopticPicture(
            Path(image).stem,
            folder / image,
            masks / file,
            tuple(i for i, segment in enumerate(segments, 1) if not segment.thing),
            segments=segments,
        )
        for image, (file, segments) in sorted(read_panoptic(path).items())
    ]
    return SegmentedSet(f"{name} panoptic", tuple(pictures))


def _voc(base: Path, split: str) -> tuple[SegmentedPicture, ...]:
    images, objects, classes = (base / part for part in ("JPEGImages", "SegmentationObject", "SegmentationClass"))
    return tuple(
        SegmentedPicture(n, images / f"{n}.jpg", objects / f"{n}.png", 0, 255, _there(classes / f"{n}.png"))
        for n in sorted(voc_names(base, split))
    )


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


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
