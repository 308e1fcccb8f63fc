"""The fixed few-shot splits that CoOp's authors published (Zhou et al. 2022), as they lie in their layout.

    split_zhou_NAME.json    {"train": [[path, label, class name], ...], "val": [...], "test": [...]}

Paths are relative to a folder of pictures beside the file. Flowers102, DTD, Oxford-IIIT Pets, Food101, Caltech101,
SUN397, EuroSAT and UCF101 have such a file; FGVC-Aircraft has its authors' own lists, and so has UCF101 without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.class_files import read_lines
from glom.datasets.named.layouts import Counts, Layout, plural
from glom.datasets.prompts import clip_templates
from glom.datasets.reading import one_line
from glom.datasets.sources import FileSource
from glom.errors import InputError

PARTS = ("train", "val", "test")
Entry = tuple[str, int, str]


def coop_layout(
    name: str, file: str, images: str, folders: Sequence[str], counts: tuple[int, int, int], classes: int
) -> Layout:
    """The layout of a data set with a split file.

    Args:
        file: `split_zhou_NAME.json`.
        images: the folder of pictures beside it.
        folders: where the file may lie under the root, CoOp's place first.
        counts: images in train, val and test.
    """

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return split_dataset(name, read_split(place), place.parent / images, split, place)

    expected = {part: (count, classes) for part, count in zip(PARTS, counts)}
    places = tuple(str(PurePosixPath(folder) / file) for folder in folders)
    shape = (places[0], str(PurePosixPath(folders[0]) / images / "..."))
    return Layout("CoOp", places, {part: expected[part] for part in ("test", "train", "val")}, read, shape)


def read_split(path: Path) -> dict[str, list[Entry]]:
    """Read and check a split file.

    Raises:
        InputError: no JSON of this form, a path that leaves the folder of pictures, labels and class names that do not
            go together, a gap in the labels, a picture listed twice - also where it is in two parts.
    """
    where = one_line(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a JSON file ({one_line(error)[:120]})") from None
    if not isinstance(found, dict) or not all(isinstance(found.get(part), list) for part in PARTS):
        raise InputError(f'{where}: not a split file; it should be {{"train": [...], "val": [...], "test": [...]}}')
    split = {part: [_entry(item, part, number, where) for number, item in enumerate(found[part])] for part in PARTS}
    _check_apart(split, where)
    return split


def _entry(item: Any, part: str, number: int, where: str) -> Entry:
    if not isinstance(item, list) or [type(x) for x in item] != [str, int, str]:
        raise InputError(f"{where}: entry {number} of {part} is not [path, label, class name]")
    name, label, called = item
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or re.search(r"[\x00-\x1f\\]|^[A-Za-z]:", name):
        raise InputError(f"{where}: entry {number} of {part} leaves the folder of pictures ({one_line(name)[:80]!r})")
    if label < 0 or not called.strip():
        raise InputError(f"{where}: entry {number} of {part} has label {label} and class name {called!r}")
    return path.as_posix(), label, called


def _check_apart(split: Mapping[str, Sequence[Entry]], where: str) -> None:
    """No picture twice: one that is trained on and tested would be known before it is seen."""
    seen: dict[str, str] = {}
    twice: list[tuple[str, str, str]] = []
    for part in PARTS:
        for name, _, _ in split[part]:
            if name in seen:
                twice.append((name, seen[name], part))
            seen.setdefault(name, part)
    if twice:
        name, one, other = twice[0]
        both = f"in both {one} and {other}" if one != other else f"twice in {one}"
        raise InputError(
            f"{where}: {plural(len(twice), 'picture is', 'pictures are')} listed more than once; '{name}' is {both}"
        )


def split_dataset(name: str, split: Mapping[str, Sequence[Entry]], images: Path, part: str, file: Path) -> ImageDataset:
    """One part of a split; ids are the paths it lists, classes those of all its parts.

    Args:
        images: the folder the paths are relative to.
        part: "train", "val" or "test".
        file: where the split is from, for errors.

    Raises:
        InputError: pictures that are not there, labels that do not fit the class names, an empty part.
    """
    where = one_line(file)
    called: dict[int, str] = {}
    for _, label, text in (entry for entries in split.values() for entry in entries):
        if called.setdefault(label, text) != text:
            raise InputError(f"{where}: label {label} is called both '{called[label]}' and '{text}'")
    gaps = sorted(set(range(len(called))) - set(called))
    if gaps:
        raise InputError(f"{where}: no picture has label {gaps[0]}, though labels go up to {max(called)}")
    entries = split[part]
    if not entries:
        raise InputError(f"{where}: its part '{part}' is empty")
    return _listed(name, entries, [called[label] for label in range(len(called))], images, file, part)


def _listed(
    name: str, entries: Sequence[Entry], classes: Sequence[str], images: Path, file: Path, part: str
) -> ImageDataset:
    missing = [path for path, _, _ in entries if not (images / path).is_file()]
    if missing:
        raise InputError(
            f"{name}: {len(missing):,} of the {plural(len(entries), 'picture')} that {one_line(file.name)} lists for "
            f"'{part}' are not in {one_line(images)}, the first of them {missing[0]}"
        )
    samples = tuple(Sample(path, label, FileSource(path, images)) for path, label, _ in entries)
    spelt = tuple(text.replace("_", " ") for text in classes)
    return ImageDataset(name, samples, spelt, clip_templates(name), spelt)


# -- the two that have lists of their own -------------------------------------------------------------------------


def aircraft_layout(name: str, counts: Counts) -> Layout:
    """FGVC-Aircraft's own lists of variants (Maji et al. 2013), in CoOp's folder or in torchvision's.

    torchvision's class reads one of these two folders only, so the lists are read here.
    """

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        label = {variant: index for index, variant in enumerate(read_lines(place))}
        file = place.parent / f"images_variant_{split}.txt"
        entries = []
        for number, line in enumerate(read_lines(file)):
            picture, _, variant = line.partition(" ")
            if variant not in label:
                raise InputError(f"{name}: line {number + 1} of {file.name} names no variant: {line!r}")
            entries.append((f"{picture}.jpg", label[variant], variant))
        return _listed(name, entries, tuple(label), place.parent / "images", file, split)

    places = ("fgvc_aircraft/variants.txt", "fgvc-aircraft-2013b/data/variants.txt", "data/variants.txt")
    shape = ("fgvc_aircraft/variants.txt", "fgvc_aircraft/images_variant_SPLIT.txt", "fgvc_aircraft/images/NUMBER.jpg")
    return Layout("its authors'", places, counts, read, shape)


def ucf_layout(name: str) -> Layout:
    """UCF101's first official split (Soomro et al. 2012) over CoOp's middle frames, without their split file."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        rows = [line.split() for line in read_lines(place)]
        numbers = [row[0] for row in rows]
        if numbers != [str(number + 1) for number in range(len(rows))] or {len(row) for row in rows} != {2}:
            raise InputError(f"{name}: {one_line(place)} should have lines '1 ApplyEyeMakeup', '2 ApplyLipstick', ...")
        label = {action: index for index, (_, action) in enumerate(rows)}
        file = place.parent / f"{split}list01.txt"
        entries = []
        for number, line in enumerate(read_lines(file)):
            action, _, film = line.split()[0].partition("/")
            if action not in label or not film:
                raise InputError(f"{name}: line {number + 1} of {file.name} names no class: {line!r}")
            entries.append((f"{_apart(action)}/{Path(film).stem}.jpg", label[action], action))
        images = place.parent.parent / "UCF-101-midframes"
        return _listed(name, entries, [_apart(action) for action in label], images, file, split)

    place = "ucf101/ucfTrainTestlist/classInd.txt"
    shape = (place, "ucf101/ucfTrainTestlist/SPLITlist01.txt", "ucf101/UCF-101-midframes/Class_Name/VIDEO.jpg")
    counts = {"test": (3_783, 101), "train": (9_537, 101)}
    return Layout("official lists", (place, "ucfTrainTestlist/classInd.txt"), counts, read, shape)


def _apart(action: str) -> str:
    """ApplyEyeMakeup -> Apply_Eye_Makeup, as CoOp's folders have it."""
    return "_".join(re.findall("[A-Z][^A-Z]*", action)) or action
