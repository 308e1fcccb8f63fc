"""Class names: from folder names, from ImageNet's wnids, from a file of names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from glom.datasets.base import ImageDataset
from glom.datasets.class_files import WNID, ClassFile, read_class_file
from glom.datasets.reading import one_line
from glom.errors import InputError, nearest

# Names that say nothing to a person: a file of names may replace them line by line.
OPAQUE = re.compile(r"n\d{8}|[a-z]{0,8}[ _-]?\d+", re.IGNORECASE)
TABLE = "classes.tsv"
EMPTY = "empty folders"  # as counted in `ImageDataset.passed_over`


@dataclass(frozen=True)
class ClassList:
    """C classes: what they are called on disk and what they are called in words, in the order of the labels."""

    keys: tuple[str, ...]
    names: tuple[str, ...]


def class_list(keys: Sequence[str], tables: Sequence[Path] = (), renamed: bool = False) -> ClassList:
    """The classes that folders of these names stand for.

    Where all are ImageNet wnids, the classes are a whole table's: the first of `tables` that exists, else ImageNet's
    1,000 classes in their usual order with the names open_clip publishes for prompts. Otherwise they are the
    folder names in sorted order, with underscores shown as spaces; names that end in a number and say nothing else
    (`10`, `class_10`) are sorted by it.

    Args:
        keys: folder names, or a manifest's class names.
        tables: where a `classes.tsv` (index, wnid, name) may lie.
        renamed: whether names will be given by a file, so that wnids outside the table are no fault.

    Raises:
        InputError: a wnid that is not in the table, or a table that is not one.
    """
    ordered = sorted(set(keys))
    if all(OPAQUE.fullmatch(key) and not WNID.fullmatch(key) for key in ordered):
        ordered.sort(key=_counted)
    plain = ClassList(tuple(ordered), tuple(key.replace("_", " ") for key in ordered))
    if not ordered or not all(WNID.fullmatch(key) for key in ordered):
        return plain
    table = next((path for path in tables if path.is_file()), None)
    known = read_table(table) if table else None
    wnids = known.keys if known else imagenet_wnids()
    outside = sorted(set(ordered) - set(wnids))
    if outside and renamed:
        return plain
    if outside:
        where = one_line(table) if table else "ImageNet's 1,000"
        raise InputError(
            f"class '{outside[0]}' is not among the {len(wnids)} wnids of {where} ({len(outside)} of {len(ordered)} "
            f"are not); put a {TABLE} of index, wnid and name beside the class folders"
        )
    return known or ClassList(wnids, imagenet_names())


def _counted(key: str) -> tuple[str, int]:
    """("class_", 10) of `class_10`."""
    word = key.rstrip("0123456789")
    return word.casefold(), int(key[len(word) :] or 0)


def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 wnids of ILSVRC 2012 (Russakovsky et al. 2015) in the order of the labels."""
    return tuple((files("glom.datasets") / "samples" / "imagenet_wnids.txt").read_text().split())


def imagenet_names() -> tuple[str, ...]:
    """Their 1,000 names as prompts use them (Radford et al. 2021, section 3.1.4), in the same order."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def read_table(path: Path) -> ClassList:
    """A `classes.tsv`: index, wnid and name on each line, indices from 0; see `read_class_file`.

    Raises:
        InputError: a line that is not one of these, an index that is missing, or a wnid that comes twice.
    """
    found = read_class_file(path)
    if found.indices is None or found.wnids is None:
        raise InputError(f"{one_line(path)}: every line should be 'INDEX<TAB>WNID<TAB>NAME'")
    if found.indices != tuple(range(len(found.indices))):
        missing = next(n for n in range(len(found.indices)) if n not in found.indices)
        raise InputError(f"{one_line(path)}: the indices should count from 0; there is no {missing}")
    return ClassList(found.wnids, found.names)


def rename_classes(dataset: ImageDataset, path: Path) -> ImageDataset:
    """Give the classes the names, and the order, of a file; its forms are `glom.datasets.class_files`'s.

    * A file that lists the class names themselves (case, underscores and hyphens aside) orders the classes.
    * Labels and class folders that are numbers take the name with that index. Without indices, as many names as folders
      go one by one, in the order of the numbers; of more names, folder N takes the Nth from 0.
    * Classes with other names that say nothing (wnids, `class_07`) take the lines' names one by one, `class_2` before
      `class_10`.
    * Lines `FOLDER<TAB>name` give any class any name.

    * A list with more names than class folders is taken whole where every folder is among them: its other classes have
      no pictures, and this is said.

    A file may name all classes, or just those that have images: the labels then count within the file. Which order was
    taken is said in `notes` where there are two.

    Raises:
        InputError: another number of names than of classes, names that match no class, or a name listed twice.
    """
    where, file = one_line(path), read_class_file(path)
    keys = dataset.keys or dataset.classes
    used = sorted({sample.label for sample in dataset.samples if sample.label is not None})
    if keys is None:
        return _placed(dataset, file, *_by_number(where, dataset.name, file, {label: label for label in used}))
    if all(key.isdecimal() for key in keys) and (file.indices is not None or len(file.names) > len(keys)):
        numbers = {label: int(key) for label, key in enumerate(keys) if label in used or file.indices is not None}
        if len(set(numbers.values())) == len(numbers):
            position, note = _by_number(where, dataset.name, file, numbers)
            note = note or ("" if file.indices else "folder N takes the Nth name, counted from 0")
            return _placed(dataset, file, position, note)
    called = {label: {_plain(key), _plain((dataset.classes or keys)[label])} for label, key in enumerate(keys)}
    if len(file.names) > len(keys):  # a classifier's whole list, and folders of some of its classes
        for given in filter(None, (file.keys, file.names)):
            found = _positions(called, given, some=True)
            if found is not None:
                note = f"{len(keys)} of the {len(file.names)} names of {where} have pictures"
                return _placed(dataset, file, found, note)
    if len(file.names) not in (len(keys), len(used)):
        with_images = f" ({len(used)} of them with images)" if len(used) != len(keys) else ""
        raise InputError(f"{where}: {len(file.names)} names, but {dataset.name} has {len(keys)} classes{with_images}")
    labels = list(range(len(keys))) if len(file.names) == len(keys) else used
    called = {label: called[label] for label in labels}
    for given in filter(None, (file.keys, file.names)):
        found = _positions(called, given)
        if found is not None:
            return _placed(dataset, file, found, "")
    opaque = [keys[label] for label in labels]
    if file.folders or not all(OPAQUE.fullmatch(key) for key in opaque):
        raise _mismatch(where, dataset, labels, list(file.folders or file.names))
    note = ""
    if opaque != sorted(opaque):
        note = f"its class folders take the names in the order of their numbers: {', '.join(opaque[:3])}, ..."
    return _placed(dataset, file, {label: place for place, label in enumerate(labels)}, note)


def _by_number(where: str, name: str, file: ClassFile, numbers: Mapping[int, int]) -> tuple[dict[int, int], str]:
    """label -> line, by the number each label stands for, and what to say of it.

    Raises:
        InputError: a number that no line has.
    """
    indices = file.indices or tuple(range(len(file.names)))
    line = {index: place for place, index in enumerate(indices)}
    lost = sorted(set(numbers.values()) - set(line))
    if lost:
        shown = f"({min(numbers.values())}-{max(numbers.values())})"
        if file.indices is not None:
            raise InputError(f"{where}: no line has the index {lost[0]}, which {name} has as a label {shown}")
        hint = "" if min(numbers.values()) != 1 else "; where they count from 1, give lines 'INDEX<TAB>NAME'"
        raise InputError(
            f"{where}: {len(line)} names, but the labels of {name} need {max(numbers.values()) + 1} {shown}{hint}"
        )
    note = f"its labels take the names by their index, which begins at {indices[0]}" if indices[0] else ""
    return {label: line[number] for label, number in numbers.items()}, note


def _placed(dataset: ImageDataset, file: ClassFile, position: Mapping[int, int], note: str) -> ImageDataset:
    """The data set with the names of a file, each label moved to its place there."""
    old = dataset.keys or dataset.classes
    keys = None
    if old is not None:
        stood = {place: old[label] for label, place in position.items()}
        keys = tuple(stood.get(place, name) for place, name in enumerate(file.keys or file.names))
    passed = dict(dataset.passed_over)
    if old is not None and len(file.names) >= len(old):
        passed.pop(EMPTY, None)  # the file named them: they are classes without pictures
    samples = tuple(s if s.label is None else replace(s, label=position[s.label]) for s in dataset.samples)
    notes = (*dataset.notes, note) if note else dataset.notes
    return replace(dataset, classes=file.names, keys=keys, samples=samples, passed_over=passed, notes=notes)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _positions(called: dict[int, set[str]], given: Sequence[str], some: bool = False) -> dict[int, int] | None:
    """label -> line whose name it has, or None unless every label has just one line of its own.

    Lines are as many as labels, or, where these are but `some` of the classes, more, all different.
    """
    lines = {_plain(name): line for line, name in enumerate(given)}
    found: dict[int, int] = {}
    for label, names in called.items():
        hits = {lines[name] for name in names if name in lines}
        if len(hits) != 1:
            return None
        found[label] = hits.pop()
    enough = len(lines) == len(given) if some else len(called) == len(given)
    return found if len(set(found.values())) == len(called) and enough else None


def _mismatch(where: str, dataset: ImageDataset, labels: list[int], given: list[str]) -> InputError:
    keys = dataset.keys or dataset.classes or ()
    valid = [keys[label] for label in labels]
    known = {_plain(key): key for key in [*valid, *((dataset.classes or keys)[label] for label in labels)]}
    strange = [name for name in given if _plain(name) not in known]
    if not strange:
        return InputError(f"{where}: '{_repeated([_plain(name) for name in given])}' is listed twice")
    close = nearest(strange[0], valid)
    advice = f"did you mean {' or '.join(close)}?" if close else f"valid: {', '.join(valid[:12])}"
    return InputError(
        f"{where}: '{one_line(strange[0])}' is no class of {dataset.name} ({len(strange)} of {len(given)} names are "
        f"not); {advice} (lines 'FOLDER<TAB>name' give new names)"
    )


def _repeated(names: Sequence[str]) -> str:
    return next((name for i, name in enumerate(names) if name in names[:i]), names[0])
