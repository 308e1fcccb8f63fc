"""Class names: from folder names, from ImageNet's wnids, from a file of names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from glom.datasets.base import ImageDataset
from glom.datasets.reading import one_line
from glom.errors import InputError, nearest

WNID = re.compile(r"n\d{8}")
# Names that say nothing to a person: a file of names may replace them line by line.
OPAQUE = re.compile(r"n\d{8}|[a-z]{0,8}[ _-]?\d+", re.IGNORECASE)
TABLE = "classes.tsv"


@dataclass(frozen=True)
class ClassList:
    """C classes: what they are called on disk and what they are called in words, in the order of the labels."""

    keys: tuple[str, ...]
    names: tuple[str, ...]


def class_list(keys: Sequence[str], tables: Sequence[Path] = (), renamed: bool = False) -> ClassList:
    """The classes that folders of these names stand for.

    Where all are ImageNet wnids, the classes are a whole table's: the first of `tables` that exists, else ImageNet's
    1,000 classes in their usual order with the names open_clip publishes for prompts. Otherwise they are the
    folder names in sorted order, with underscores shown as spaces.

    Args:
        keys: folder names, or a manifest's class names.
        tables: where a `classes.tsv` (index, wnid, name) may lie.
        renamed: whether names will be given by a file, so that wnids outside the table are no fault.

    Raises:
        InputError: a wnid that is not in the table, or a table that is not one.
    """
    ordered = sorted(set(keys))
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


def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 wnids of ILSVRC 2012 (Russakovsky et al. 2015) in the order of the labels."""
    return tuple((files("glom.datasets") / "samples" / "imagenet_wnids.txt").read_text().split())


def imagenet_names() -> tuple[str, ...]:
    """Their 1,000 names as prompts use them (Radford et al. 2021, section 3.1.4), in the same order."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


def read_table(path: Path) -> ClassList:
    """A `classes.tsv`: index, wnid, name on each line, separated by tabs, indices 0, 1, 2, ... in order.

    Raises:
        InputError: a line that is not one of these, or a wnid that comes twice.
    """
    rows = [line.split("\t") for line in read_lines(path)]
    for number, row in enumerate(rows):
        if len(row) != 3 or row[0].strip() != str(number):
            raise InputError(f"{one_line(path)}: line {number + 1} should be '{number}<TAB>wnid<TAB>name'")
    keys = tuple(row[1].strip() for row in rows)
    if len(set(keys)) != len(keys):
        raise InputError(f"{one_line(path)}: wnid '{_repeated(keys)}' comes twice")
    return ClassList(keys, tuple(row[2].strip() for row in rows))


def read_lines(path: Path) -> list[str]:
    """The non-blank lines of a UTF-8 text file, stripped. Raises `InputError` where there are none, or no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{one_line(path)}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{one_line(path)}: not UTF-8 text; a class list has one name a line") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{one_line(path)}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{one_line(path)}: no names in it; a class list has one name a line")
    return lines


def rename_classes(dataset: ImageDataset, path: Path) -> ImageDataset:
    """Give the classes the names, and the order, of a file with one name a line.

    * A file that lists the class names themselves (case, underscores and hyphens aside) orders the classes.
    * Classes with names that say nothing (numbers, wnids, `class_07`) take the lines' names one by one.
    * Lines `FOLDER<TAB>name` give any class any name.

    A file may name all classes, or just those that have images: the labels then count within the file.

    Raises:
        InputError: another number of names than of classes, names that match no class, or a name listed twice.
    """
    where = one_line(path)
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_lines(path)]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) > 2:
        raise InputError(f"{where}: every line should be a name, or every line 'FOLDER<TAB>name'")
    paired = len(rows[0]) == 2
    given, names = [row[0] for row in rows], tuple(row[-1] for row in rows)
    keys = dataset.keys or dataset.classes
    used = sorted({sample.label for sample in dataset.samples if sample.label is not None})
    if keys is None:
        needed = used[-1] + 1 if used else 0
        if len(names) < needed:
            raise InputError(
                f"{where}: {len(names)} names, but the labels of {dataset.name} need {needed} (0-{used[-1]})"
            )
        return replace(dataset, classes=names)
    if len(names) not in (len(keys), len(used)):
        with_images = f" ({len(used)} of them with images)" if len(used) != len(keys) else ""
        raise InputError(f"{where}: {len(names)} names, but {dataset.name} has {len(keys)} classes{with_images}")
    labels = list(range(len(keys))) if len(names) == len(keys) else used
    called = {label: {_plain(keys[label]), _plain((dataset.classes or keys)[label])} for label in labels}
    position = _positions(called, given)
    if position is None:
        if paired or not all(OPAQUE.fullmatch(keys[label]) for label in labels):
            raise _mismatch(where, dataset, labels, given)
        position = {label: place for place, label in enumerate(labels)}
    place_of = {place: label for label, place in position.items()}
    return replace(
        dataset,
        classes=names,
        keys=tuple(keys[place_of[place]] for place in range(len(names))),
        samples=tuple(
            sample if sample.label is None else replace(sample, label=position[sample.label])
            for sample in dataset.samples
        ),
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _positions(called: dict[int, set[str]], given: list[str]) -> dict[int, int] | None:
    """label -> line whose name it has, or None unless every label has just one line of its own."""
    lines = {_plain(name): line for line, name in enumerate(given)}
    found: dict[int, int] = {}
    for label, names in called.items():
        hits = {lines[name] for name in names if name in lines}
        if len(hits) != 1:
            return None
        found[label] = hits.pop()
    return found if len(set(found.values())) == len(called) == len(given) else None


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
