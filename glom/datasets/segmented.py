"""One picture with its outlines, in whatever way they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from glom.datasets.coco import Annotation, Segment, label_map
from glom.datasets.coco import digest as outlines_digest
from glom.datasets.label_maps import VOID, Maps, read_ids, read_mask, read_mat, read_npz
from glom.datasets.reading import one_line, read_image
from glom.datasets.sources import FileSource
from glom.errors import InputError


@dataclass(frozen=True)
class SegmentedPicture:
    """One picture and where its outlines are.

    Attributes:
        id: its name without an ending, unique in the data set.
        path: the picture.
        truth: the `.npz`, `.mat` or `.png` with the outlines.
        background: the label or labels of what is no object, or None where every region is one.
        void: the label in the file of what nobody labelled, which becomes `VOID`; or None.
        class_map: a mask of the objects' classes, 0 the background, or None.
    """

    id: str
    path: Path = field(repr=False)
    truth: Path = field(repr=False)
    background: int | tuple[int, ...] | None = None
    void: int | None = None
    class_map: Path | None = field(default=None, repr=False)

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
        self._fit(maps, image.width, image.height, "outlines")
        return image, maps

    def _fit(self, maps: Maps, width: int, height: int, what: str) -> None:
        h, w = maps.shape[-2:]
        if (h, w) != (height, width):
            raise InputError(f"{one_line(self.path.name)}: its {what} are {w}x{h} pixels, the picture {width}x{height}")

    def maps(self) -> Maps:
        """Its label maps alone (annotators, H, W). Raises `InputError` where they cannot be read."""
        readers = {".npz": read_npz, ".mat": read_mat}
        found = readers[self.truth.suffix](self.truth) if self.truth.suffix in readers else read_mask(self.truth)[None]
        return found if self.void is None else np.where(found == self.void, VOID, found)

    def classes(self, width: int, height: int) -> Maps | None:
        """The class of every pixel (H, W), 0 the background and negative where void; None where nobody said.

        Raises:
            InputError: it cannot be read, or is of another size.
        """
        if self.class_map is None:
            return None
        found = read_mask(self.class_map)
        self._fit(found, width, height, "classes")
        return found if self.void is None else np.where(found == self.void, VOID, found)

    def digest(self) -> str:
        """Of both files' contents."""
        classes = f"\0{FileSource(self.class_map).digest()}" if self.class_map else ""
        return f"{FileSource(self.path).digest()}\0{FileSource(self.truth).digest()}{classes}"


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


@dataclass(frozen=True)
class PanopticPicture(SegmentedPicture):
    """One picture of COCO with its panoptic ids; `segments` says what they are, label i + 1 being the i-th."""

    segments: tuple[Segment, ...] = field(default=(), repr=False, compare=False)

    def maps(self) -> Maps:
        """(1, H, W): things and stuff from 1; void where nobody labelled, and where a crowd is."""
        ids, places = np.unique(read_ids(self.truth), return_inverse=True)
        labels = {0: VOID} | {s.id: VOID if s.crowd else i for i, s in enumerate(self.segments, 1)}
        strange = [int(number) for number in ids if int(number) not in labels]
        if strange:
            raise InputError(
                f"{one_line(self.truth.name)}: id {strange[0]} is none of its {len(self.segments)} segments"
            )
        with Image.open(self.truth) as image:
            width, height = image.size
        return np.array([labels[int(number)] for number in ids], np.int64)[places].reshape(1, height, width)

    def classes(self, width: int, height: int) -> Maps | None:
        """Categories of things; stuff is background."""
        found = self.maps()[0]
        self._fit(found, width, height, "classes")
        categories = [0, *(s.category if s.thing else 0 for s in self.segments)]
        return np.where(found < 0, VOID, np.array(categories, np.int64)[found])

    def digest(self) -> str:
        """Of both files and what the ids are."""
        return f"{super().digest()}\0{self.segments}"


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
    background: int | tuple[int, ...] | None = 0

    def read(self) -> tuple[Image.Image, Maps]:
        """The picture (RGB) and its mask (1, S, S), 0 the ground."""
        batch = self.made.batch([self.number])
        pixels = (batch.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        return Image.fromarray(pixels), batch.masks.numpy()

    def digest(self) -> str:
        """Its number and all that decides it."""
        return f"{self.made.settings}\0{self.number}"

    def classes(self, width: int, height: int) -> Maps | None:
        """None: what is made has objects, and nobody names them."""
        return None
