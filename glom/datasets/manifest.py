"""A manifest: a CSV or TSV file that lists pictures, or holds them, and, if it has them, their labels."""

from __future__ import annotations

import base64
import csv
import io
import os.path
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.classes import TABLE, class_list
from glom.datasets.labels import Labels, parse_labels
from glom.datasets.reading import SUFFIXES, one_line
from glom.datasets.sources import BytesSource, FileSource
from glom.errors import InputError

# Spreadsheets in many languages write semicolons into a .csv.
SEPARATORS = {".csv": ",;\t", ".tsv": "\t;,"}
# Names of columns without blanks, hyphens and underscores; the first that is there counts.
PATH_COLUMNS = (
    "path", "file", "image", "filename", "filepath", "imagepath", "imagefile", "imagename", "img", "imgpath",
)  # fmt: skip
BYTES_COLUMNS = ("imagebytes", "bytes", "base64", "imagebase64")
LABEL_COLUMNS = (
    "class", "classname", "label", "labelname", "labels", "target", "targets", "category", "categoryname", "classid",
    "classidx", "classindex", "labelid", "labelidx", "labelindex", "targetid", "categoryid", "groundtruth",
    "wnid", "synset",
)  # fmt: skip
TRIED = 20  # pictures that are looked for elsewhere
CELL = 2**31 - 1  # characters of a cell at most: a picture's file may lie in one
# What files of pictures begin with: JPEG, PNG, GIF, WebP, BMP, TIFF.
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class ColumnClasses:
    """A label a row, and what the labels mean where that is known."""

    labels: list[int | None]
    names: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def manifest_dataset(path: Path, renamed: bool = False) -> ImageDataset:
    """The pictures a manifest lists.

    The first row names the columns: one of `PATH_COLUMNS` or `BYTES_COLUMNS` and, for labels, any of `LABEL_COLUMNS`
    (case, blanks and underscores aside). Paths are relative to the manifest; in their place the files themselves may
    stand, in base64, with or without `data:image/png;base64,` before each; their ids are the numbers of their rows.
    What a label means is `glom.datasets.labels.parse_labels`'s.

    * A column of names gives the classes, which follow `glom.datasets.classes.class_list`; with a column of numbers
      beside it that goes one to one with the names, the classes are in the order of the numbers.
    * Numbers alone are labels, and the classes have no names until a file gives them.

    Nothing but the manifest is opened here.

    Args:
        path: an existing `.csv` (commas or semicolons) or `.tsv` (tabs) file, UTF-8.
        renamed: whether a file of class names follows, see `class_list`.

    Raises:
        InputError: not a manifest, no path column, a row that does not fit, a picture listed twice, no rows; a row
            without a picture where the first has one, bytes as Python prints them; or pictures that are all elsewhere,
            as their paths are relative to another folder, which is named.
    """
    where = one_line(path)
    rows, paths = _read(path)
    header = rows[0][1]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InputError(f"{where}: line {number} has {len(row)} columns, the first row {len(header)}")
        if not row[paths] or "\0" in row[paths]:
            raise InputError(f"{where}: line {number} has no path")
    if not rows[1:]:
        raise InputError(f"{where}: it lists no images, only the names of columns")
    names = [row[paths] for _, row in rows[1:]]
    held = _held(where, rows[1:], paths)
    lost = [] if held else _elsewhere(path, names)
    columns = {head: [row[n] for _, row in rows[1:]] for n, head in enumerate(header) if n != paths}
    try:
        found = column_classes(columns, len(names), [path.parent / TABLE], renamed)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    folder, samples = path.parent, list[Sample]()
    for number, (source, label) in enumerate(zip(held, found.labels)):
        samples.append(Sample(f"{number:06d}", label, source))
    for name, label in () if held else zip(names, found.labels, strict=True):
        own = _id(name, folder)
        samples.append(Sample(name if name == own else own, label, FileSource(name, folder)))  # one text, kept once
    return ImageDataset(path.stem, tuple(samples), found.names, keys=found.keys, notes=(*lost, *found.notes))


def column_classes(
    columns: Mapping[str, Sequence[str]], count: int, tables: Sequence[Path] = (), renamed: bool = False
) -> ColumnClasses:
    """What the columns beside the pictures say of the classes; those with labels are `LABEL_COLUMNS`.

    Args:
        columns: the cells by the column's name. count: of rows. tables, renamed: see `class_list`.

    Raises:
        InputError: a cell that is no label.
    """
    known = [head for name in LABEL_COLUMNS for head in columns if plain_head(head) == name]
    read = {head: _labels(head, columns[head]) for head in known}
    words = next((head for head in known if any(read[head].names or ())), None)
    numbers = next((head for head in known if read[head].numbers is not None), None)
    if words is None and numbers is None:
        heads = [head for head in columns if head]
        shown = one_line(", ".join(heads[:4]))
        what = f"column '{known[0]}' is empty" if known else f"none of its columns ({shown}) is known to hold labels"
        return ColumnClasses([None] * count, notes=(f"it has no labels: {what}",) if heads else ())
    chosen = words or numbers
    assert chosen is not None
    others = [head for head in known if any(v is not None for v in read[head].values)]
    others = [head for head in others if not _one_to_one(read[chosen].values, read[head].values)]
    note = f"its labels are those of column '{chosen}', not of '{others[0]}'" if others else ""
    notes = (note,) if note else ()
    if words is None:
        return ColumnClasses(list(read[chosen].numbers or ()), notes=notes)
    texts = read[words].names or ()
    if numbers is not None and numbers not in others:
        return _by_number(texts, read[numbers].numbers or ())
    classes = class_list([text for text in texts if text is not None], tables, renamed)
    index = {key: place for place, key in enumerate(classes.keys)}
    return ColumnClasses([None if text is None else index[text] for text in texts], classes.names, classes.keys, notes)


def _labels(head: str, cells: Sequence[str]) -> Labels:
    try:
        return parse_labels(cells)
    except InputError as error:
        raise InputError(f"column '{one_line(head)}': {error}") from None


def _one_to_one(one: Sequence[object], other: Sequence[object]) -> bool:
    """Whether each label of either column goes with just one of the other's, rows without a label aside."""
    pairs = {(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None}
    return len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)


def _by_number(texts: Sequence[str | None], numbers: Sequence[int | None]) -> ColumnClasses:
    """Classes in the order of their numbers; a row with either has a label."""
    called = {number: text for number, text in zip(numbers, texts, strict=True) if number is not None and text}
    ordered = dict.fromkeys([called[number] for number in sorted(called)] + [text for text in texts if text])
    label = {text: place for place, text in enumerate(ordered)}
    rows = [text or (called.get(number) if number is not None else None) for number, text in zip(numbers, texts)]
    names = tuple(text.replace("_", " ") for text in label)
    return ColumnClasses([None if text is None else label[text] for text in rows], names, tuple(label))


def _held(where: str, rows: Sequence[tuple[int, list[str]]], column: int) -> list[BytesSource]:
    """The pictures where the cells hold them; none where they hold paths, as the first one does.

    Raises:
        InputError: a row that holds none, or bytes that are no base64.
    """
    if re.match(r"b['\"]", rows[0][1][column]):
        raise InputError(f"{where}: its pictures are bytes as Python prints them; write them in base64, or as parquet")
    found: list[BytesSource] = []
    for number, row in rows:
        data = _from_base64(row[column])
        if data is None and not found:
            return []
        if data is None:
            raise InputError(f"{where}: line {number} holds no picture in base64, as those before it do")
        found.append(BytesSource(data, f"{where}: line {number}"))
    return found


def _from_base64(cell: str) -> bytes | None:
    """The file of a picture that a cell holds, or None."""
    text = "".join(cell.rpartition(",")[2].split())
    if len(text) < 48 or len(text) % 4:  # no picture is smaller
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if data.startswith(BEGINNINGS) else None


def _elsewhere(path: Path, names: Sequence[str]) -> list[str]:
    """What to say where none of the pictures is there.

    Raises:
        InputError: they are in another place that can be guessed.
    """
    folder = path.parent
    if any(_is_there(folder / name) for name in names):
        return []
    none = f"none of its {len(names):,} pictures is where it says, the first of them {one_line(names[0])}"
    spellings: list[tuple[str, Callable[[str], str]]] = [("", str), (" with / for \\", lambda s: s.replace("\\", "/"))]
    for place in _near(folder):
        for how, spelt in spellings:
            if all(_is_there(place / spelt(name)) for name in names[:TRIED]):
                raise InputError(
                    f"{one_line(path)}: {none}; they are there from {one_line(place)}{how}, but paths are relative to "
                    "the manifest's folder: move the manifest, or write its paths so"
                )
    return [f"{none}; paths are relative to the manifest's folder, {one_line(folder)}"]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or no name
        return False


def _near(folder: Path) -> Iterator[Path]:
    """Folders that paths may have been meant from: its own, the working directory, those above it and those in it."""
    yield folder
    yield Path.cwd()
    yield from folder.absolute().parents
    try:
        yield from sorted(place for place in folder.iterdir() if place.is_dir())
    except OSError:
        return


def _id(name: str, folder: Path) -> str:
    """A path relative to the manifest wherever the picture lies below it, however the path was written."""
    if os.path.isabs(name):  # noqa: PTH117 - a Path each leaves what it interned
        full = Path(os.path.normpath(name))
        base = Path(os.path.normpath(folder.absolute()))
        return full.relative_to(base).as_posix() if full.is_relative_to(base) else full.as_posix()
    return os.path.normpath(name).replace(os.sep, "/")


def plain_head(head: str) -> str:
    """A column's name as it is compared: `Class Name` is `classname`."""
    return re.sub(r"[\s_-]+", "", head).lower()


def _read(path: Path) -> tuple[list[tuple[int, list[str]]], int]:
    """(line, stripped cells) of every row that is not blank, the first being the header; the column of paths."""
    where = one_line(path)
    suffix = path.suffix.lower()
    if suffix not in SEPARATORS:
        what = "one image; give its folder" if suffix in SUFFIXES else "not a manifest; give a .csv or .tsv file"
        raise InputError(f"{where}: {what} with a header row, a folder of images, or a registered name")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text, so not a manifest") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    usual = SEPARATORS[suffix][0]
    separator = next((s for s in SEPARATORS[suffix] if _path_column(_cells(first, s)) is not None), usual)
    before = csv.field_size_limit(CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{where}: not a manifest ({one_line(error)})") from None
    finally:
        csv.field_size_limit(before)
    header = rows[0][1] if rows else []
    paths = _path_column(header)
    if paths is None:
        shown = ", ".join(cell or "''" for cell in header[:6]) or "nothing"
        raise InputError(
            f"{where}: its first row must name the columns, one of them {' or '.join(PATH_COLUMNS[:3])}; "
            f"it has {one_line(shown)[:120]}"
        )
    return rows, paths


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _path_column(header: Sequence[str]) -> int | None:
    plain = [plain_head(cell) for cell in header]
    return next((plain.index(name) for name in (*PATH_COLUMNS, *BYTES_COLUMNS) if name in plain), None)
