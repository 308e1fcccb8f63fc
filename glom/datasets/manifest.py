"""A manifest: a CSV or TSV file that lists pictures and, if it has them, their labels."""

from __future__ import annotations

import csv
import io
import os.path
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.classes import TABLE, class_list
from glom.datasets.reading import SUFFIXES, one_line
from glom.datasets.sources import FileSource
from glom.errors import InputError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PATH_COLUMNS = ("path", "file", "image", "filename", "filepath", "file_name", "image_path")
# Names before numbers: where a manifest has both, the names say what the numbers mean.
LABEL_COLUMNS = ("class", "class_name", "label", "target", "category")


def manifest_dataset(path: Path, renamed: bool = False) -> ImageDataset:
    """The pictures a manifest lists.

    The first row names the columns: one of `PATH_COLUMNS` and, for labels, one of `LABEL_COLUMNS` (the first that is
    there; case aside). Paths are relative to the manifest. Labels that are all whole numbers are indices, and the
    classes have no names until a file gives them; other labels are class names and follow
    `glom.datasets.classes.class_list`. Nothing but the manifest is opened here.

    Args:
        path: an existing `.csv` (commas) or `.tsv` (tabs) file, UTF-8.
        renamed: whether a file of class names follows, see `class_list`.

    Raises:
        InputError: not a manifest, no path column, a row that does not fit, a picture listed twice, no rows.
    """
    where = one_line(path)
    rows = _rows(path)
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    path_column = next((header.index(name) for name in PATH_COLUMNS if name in header), None)
    label_column = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    if path_column is None:
        shown = ", ".join(cell or "''" for cell in header[:6]) or "nothing"
        raise InputError(
            f"{where}: its first row must name the columns, one of them {' or '.join(PATH_COLUMNS[:3])}; "
            f"it has {one_line(shown)[:120]}"
        )
    entries: list[tuple[str, str]] = []
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise InputError(f"{where}: line {number} has {len(row)} columns, the first row {len(header)}")
        entry = row[path_column].strip(), "" if label_column is None else row[label_column].strip()
        if not entry[0] or "\0" in entry[0]:
            raise InputError(f"{where}: line {number} has no path")
        if label_column is not None and not entry[1]:
            raise InputError(f"{where}: line {number} has no label")
        entries.append(entry)
    if not entries:
        raise InputError(f"{where}: it lists no images, only the names of columns")
    return _dataset(path, entries, label_column is not None, renamed)


def _dataset(path: Path, entries: list[tuple[str, str]], labelled: bool, renamed: bool) -> ImageDataset:
    classes = None
    labels: list[int | None] = [None] * len(entries)
    values = [label for _, label in entries]
    if labelled and all(value.isascii() and value.isdigit() for value in values):
        labels = [int(value) for value in values]
    elif labelled:
        try:
            classes = class_list(values, [path.parent / TABLE], renamed)
        except InputError as error:
            raise InputError(f"{one_line(path)}: {error}") from None
        index = {key: place for place, key in enumerate(classes.keys)}
        labels = [index[value] for value in values]
    samples = tuple(
        Sample(_id(name, path.parent), label, FileSource(path.parent / name))
        for (name, _), label in zip(entries, labels)
    )
    return ImageDataset(path.stem, samples, classes.names if classes else None, keys=classes.keys if classes else None)


def _id(name: str, folder: Path) -> str:
    """A path relative to the manifest wherever the picture lies below it, however the path was written."""
    if Path(name).is_absolute():
        full = Path(os.path.normpath(name))
        base = Path(os.path.normpath(folder.absolute()))
        return full.relative_to(base).as_posix() if full.is_relative_to(base) else full.as_posix()
    return Path(os.path.normpath(name)).as_posix()


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of every row that is not blank."""
    where = one_line(path)
    suffix = path.suffix.lower()
    if suffix not in SEPARATORS:
        what = "one image; give its folder" if suffix in SUFFIXES else "not a manifest; give a .csv or .tsv file"
        raise InputError(f"{where}: {what} with a header row, a folder of images, or a registered name")
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=SEPARATORS[suffix], strict=True)
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text, so not a manifest") from None
    except csv.Error as error:
        raise InputError(f"{where}: not a manifest ({one_line(error)})") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from error
