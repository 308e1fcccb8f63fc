"""COCO (Lin et al. 2014): its pictures, and its instances or panoptic segments as label maps for islands.

    coco/val2017/000000000139.jpg        coco/annotations/instances_val2017.json
    coco/annotations/panoptic_val2017/000000000139.png    coco/annotations/panoptic_val2017.json

An instance is one or several polygons, or a run-length encoding of its pixels taken column by column; a crowd is always
the latter. Both are decoded here: `pycocotools`, which does it elsewhere, has to be compiled.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glom.datasets.reading import MAX_PIXELS, one_line
from glom.errors import InputError

Mask = NDArray[np.bool_]
Labels = NDArray[np.int64]
Annotation = Mapping[str, Any]


@dataclass(frozen=True)
class Segment:
    """One panoptic segment: its id in the picture, its category, whether it is a thing, whether a crowd of them."""

    id: int
    category: int
    thing: bool
    crowd: bool


def read_instances(path: Path) -> dict[str, tuple[Annotation, ...]]:
    """`instances_*.json` -> the annotations of each picture that has any, by file name.

    Raises:
        InputError: not there, or not such a file.
    """
    with _parts_of(path, "instances") as found:
        names = {image["id"]: Path(str(image["file_name"])).name for image in found["images"]}
        grouped: dict[str, list[Annotation]] = defaultdict(list)
        for annotation in found["annotations"]:
            if "segmentation" in annotation:
                grouped[names[annotation["image_id"]]].append(annotation)
        return {name: tuple(annotations) for name, annotations in grouped.items()}


def read_panoptic(path: Path) -> dict[str, tuple[str, tuple[Segment, ...]]]:
    """`panoptic_*.json` -> the mask's file name and the segments of each picture, by the picture's file name.

    Raises:
        InputError: not there, or not such a file.
    """
    with _parts_of(path, "panoptic") as found:
        names = {image["id"]: Path(str(image["file_name"])).name for image in found["images"]}
        things = {category["id"]: bool(category["isthing"]) for category in found["categories"]}
        return {
            names[annotation["image_id"]]: (
                Path(str(annotation["file_name"])).name,
                tuple(
                    Segment(int(s["id"]), int(s["category_id"]), things[s["category_id"]], bool(s.get("iscrowd", 0)))
                    for s in annotation["segments_info"]
                ),
            )
            for annotation in found["annotations"]
        }


@contextmanager
def _parts_of(path: Path, kind: str) -> Iterator[Any]:
    """What a file of COCO's holds; whatever goes wrong with it within is one `InputError`."""
    where = one_line(path)
    try:
        with path.open(encoding="utf-8") as file:
            found = json.load(file)
        yield found
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {one_line(error)[:80]}"
        raise InputError(f"{where}: not a COCO {kind} file ({reason})") from None


def label_map(annotations: Sequence[Annotation], height: int, width: int) -> Labels:
    """(H, W): 0 where there is nothing, else 1, 2, ... for the instances from the largest to the smallest.

    Where instances overlap the smaller one is seen, as it would otherwise vanish under what it lies on.

    Raises:
        InputError: an outline that cannot be decoded, or of another size.
    """
    masks = [decode(annotation["segmentation"], height, width) for annotation in annotations]
    labels = np.zeros((height, width), np.int64)
    for number, mask in enumerate(sorted(masks, key=lambda mask: -int(mask.sum())), 1):
        labels[mask] = number
    return labels


def decode(outline: Any, height: int, width: int) -> Mask:
    """Polygons [[x, y, x, y, ...], ...] or {"size": [h, w], "counts": [...] or text} -> (H, W) of True inside.

    Raises:
        InputError: neither of these, or of another size than the picture.
    """
    try:
        if isinstance(outline, Mapping):
            counts = outline["counts"]
            runs = _runs_from_text(counts) if isinstance(counts, str) else [int(count) for count in counts]
            if list(outline["size"]) != [height, width] or sum(runs) != height * width or min(runs) < 0:
                raise InputError(f"its runs cover {sum(runs)} pixels of {outline['size']}, not {height}x{width}")
            values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # runs of outside and inside take turns
            return values.reshape(width, height).T
        canvas = Image.new("1", (width, height))
        draw = ImageDraw.Draw(canvas)
        for polygon in outline:
            if len(polygon) < 6 or len(polygon) % 2:
                raise InputError(f"a polygon has {len(polygon)} coordinates; it needs pairs, three of them at least")
            draw.polygon([float(value) for value in polygon], fill=1, outline=1)
        return np.asarray(canvas)
    except InputError as error:
        raise InputError(f"an outline cannot be decoded: {error}") from None
    except (ValueError, KeyError, TypeError, IndexError, MemoryError) as error:
        raise InputError(f"an outline cannot be decoded ({one_line(error)[:80]})") from None


def _runs_from_text(text: str) -> list[int]:
    """COCO's compressed runs: five bits a character from 48 on, the sixth bit says that more follow, numbers signed;
    from the fourth on each is the difference from the last but one."""
    if len(text) > MAX_PIXELS:
        raise InputError(f"its runs take {len(text):,} characters")
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            shift, place, more = shift + 5, place + 1, bool(bits & 32)
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def digest(annotations: Sequence[Annotation]) -> str:
    """sha256 of what a picture's outlines are, in hex."""
    outlines = [annotation["segmentation"] for annotation in annotations]
    return hashlib.sha256(json.dumps(outlines, sort_keys=True).encode()).hexdigest()
