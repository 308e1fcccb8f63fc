"""Pictures of any data set, classified or outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from glom.datasets.base import Sample
from glom.datasets.registry import open_dataset
from glom.datasets.segmentation import CompositePicture, SegmentedPicture, open_segmentation


@dataclass(frozen=True)
class Item:
    """One picture of a data set, with its label or with people's outlines where there are such."""

    id: str
    label: int | None
    source: Sample | SegmentedPicture | CompositePicture

    def read(self) -> tuple[Image.Image, Sequence[Any]]:
        """The picture and its (H, W) label maps (none for a classified picture). Raises `InputError`."""
        if isinstance(self.source, Sample):
            return self.source.image(), []
        image, maps = self.source.read()
        return image, list(maps)


def open_pictures(data: str, limit: int | None) -> tuple[list[Item], tuple[str, ...] | None, str, str]:
    """Pictures of either kind of data set: (items, class names or None, the set's name, its fingerprint).

    Raises:
        InputError: nothing there, or a limit below 1.
    """
    root = Path(data).expanduser()
    if root.is_dir() and (any(root.glob("*.npz")) or any(root.glob("*/*.npz")) or (root / "masks").is_dir()):
        found = open_segmentation(root, "val", limit)
        return [Item(p.id, None, p) for p in found.pictures], None, found.name, found.fingerprint()
    dataset = open_dataset(data).limit(limit)
    items = [Item(s.id, s.label, s) for s in dataset]
    return items, dataset.classes, dataset.name, dataset.fingerprint()
