"""Files of class names, in every form that can be told apart; one reader for everybody.

    NAME                       one a line, in the order of the labels
    INDEX  NAME                lines in any order; also INDEX, WNID and NAME, in any order of columns
    WNID   NAME                `n01440764 tench`, as ImageNet's own lists
    FOLDER NAME                what a class is called on disk, and in words

Columns are separated by tabs (in a `.csv` by commas or semicolons); after an index or a wnid at the beginning of every
line a comma, a colon or a blank will do. A first line that names the columns is passed over.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glom.datasets.labels import whole_number
from glom.datasets.reading import one_line
from glom.errors import InputError

WNID = re.compile(r"n\d{8}")
COUNTED = re.compile(r"(\d+)(?:\s*[,;:]\s*|\s+)(\S.*)")
NAMED_BY_WNID = re.compile(rf"({WNID.pattern})(?:\s*[,;:]\s*|\s+)(\S.*)")
HEADER = frozenset(
    {
        "index",
        "idx",
        "id",
        "label",
        "class",
        "class_id",
        "class_index",
        "class_name",
        "name",
        "wnid",
        "synset",
        "folder",
    }
)
EXPECTED = "every line should be a name, or have the same columns: an index, a wnid or a folder, and a name"


@dataclass(frozen=True)
class ClassFile:
    """C classes, in the order of their indices where the file has them, else of its lines.

    Attributes:
        names: in words.
        indices: the labels they stand for, ascending, or None.
        wnids: of ImageNet's, or None.
        folders: what they are called on disk where the first column says so, or None.
    """

    names: tuple[str, ...]
    indices: tuple[int, ...] | None = None
    wnids: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None

    @property
    def keys(self) -> tuple[str, ...] | None:
        """What they are called on disk: wnids or folders."""
        return self.wnids or self.folders


def read_class_file(path: Path) -> ClassFile:
    """Read one.

    Raises:
        InputError: missing, no UTF-8 text, no names, lines of different columns, a line without a name, an index or a
            wnid that comes twice.
    """
    where = one_line(path)
    rows = _rows(path)
    if len({len(row) for row in rows}) != 1 or len(rows[0]) > 3:
        odd = next((n for n, row in enumerate(rows, 1) if len(row) != len(rows[0])), 1)
        raise InputError(f"{where}: {EXPECTED}; line {odd} has {len(rows[odd - 1])} columns, the first {len(rows[0])}")
    if len(rows[0]) == 1:
        return ClassFile(tuple(row[0] for row in rows))
    columns = list(zip(*_without_header(rows)))
    index = next(iter(_numbered(columns)), None)
    wnid = next((n for n, column in enumerate(columns) if n != index and all(map(WNID.fullmatch, column))), None)
    rest = [n for n in range(len(columns)) if n not in (index, wnid)] or [wnid if wnid is not None else 0]
    if len(rest) > (1 if wnid is not None else 2) or (len(columns) == 3 and index is None and wnid is None):
        raise InputError(f"{where}: {EXPECTED}; which of its {len(columns)} columns is which cannot be told")
    names = columns[rest[-1]]
    if "" in names:
        raise InputError(f"{where}: class {names.index('') + 1} has no name")
    for column in (index, wnid):
        twice = _repeated(columns[column]) if column is not None else None
        if twice is not None:
            raise InputError(f"{where}: {'index' if column == index else 'wnid'} '{twice}' comes twice")
    indices = [whole_number(cell) or 0 for cell in columns[index]] if index is not None else None
    order = sorted(range(len(names)), key=indices.__getitem__) if indices else list(range(len(names)))
    return ClassFile(
        tuple(names[n] for n in order),
        tuple(indices[n] for n in order) if indices else None,
        tuple(columns[wnid][n] for n in order) if wnid is not None else None,
        tuple(columns[rest[0]][n] for n in order) if len(rest) == 2 else None,
    )


def read_class_names(path: Path) -> tuple[str, ...]:
    """The names alone, in order. Raises `InputError` as `read_class_file`, and where the indices leave gaps."""
    found = read_class_file(path)
    if found.indices is not None and found.indices[-1] - found.indices[0] != len(found.indices) - 1:
        missing = next(n for n in range(found.indices[0], found.indices[-1]) if n not in found.indices)
        raise InputError(f"{one_line(path)}: the indices must count the classes; there is no {missing}")
    return found.names


def _numbered(columns: Sequence[Sequence[str]]) -> list[int]:
    """Columns of whole numbers, those without a repetition first; of two such the first is the index."""
    found = [n for n, column in enumerate(columns) if all(whole_number(cell) is not None for cell in column)]
    return sorted(found, key=lambda n: _repeated(columns[n]) is not None)


def _without_header(rows: list[list[str]]) -> list[list[str]]:
    return rows[1:] if len(rows) > 1 and {cell.lower().replace(" ", "_") for cell in rows[0]} <= HEADER else rows


def _repeated(column: Sequence[str]) -> str | None:
    seen: set[int | str] = set()
    for cell in column:
        number = whole_number(cell)
        value = cell if number is None else number
        if value in seen:
            return cell
        seen.add(value)
    return None


def _rows(path: Path) -> list[list[str]]:
    """The cells of every line."""
    lines = read_lines(path)
    if path.suffix.lower() == ".csv":
        separator = "," if any("," in line for line in lines) else ";"
        try:
            return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, strict=True)]
        except csv.Error as error:
            raise InputError(f"{one_line(path)}: not a table ({one_line(error)})") from None
    if any("\t" in line for line in lines):
        return [[cell.strip() for cell in line.split("\t")] for line in lines]
    counted = [match for line in lines if (match := COUNTED.fullmatch(line))]
    numbers = sorted(int(match[1]) for match in counted)
    # "3 musketeers" is a name: only lines that count all classes begin with an index.
    if len(counted) == len(lines) > 1 and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        return [list(match.groups()) for match in counted]
    by_wnid = [match for line in lines if (match := NAMED_BY_WNID.fullmatch(line))]
    return [list(match.groups()) for match in by_wnid] if len(by_wnid) == len(lines) else [[line] for line in lines]


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
