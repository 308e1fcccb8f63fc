"""What a cell of a table means as a label: a whole number, a name, or none. Every reader asks here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glom.errors import InputError

# What programs write where there is no label; `None` and `NA` may be names of classes and count among numbers only.
NOTHING = frozenset({"", "nan", "<na>"})
AMONG_NUMBERS = frozenset({"none", "null", "na", "n/a"})


@dataclass(frozen=True)
class Labels:
    """One label a row: `numbers` where all are whole numbers, else `names`; None in either for a row without one."""

    numbers: tuple[int | None, ...] | None = None
    names: tuple[str | None, ...] | None = None

    @property
    def values(self) -> tuple[int | str | None, ...]:
        """Whichever there are."""
        return self.numbers if self.numbers is not None else self.names or ()


def parse_labels(cells: Sequence[str]) -> Labels:
    """Cells as people's tools write them -> labels.

    Whole numbers may be written as floats (`1.0`, `1.`, as pandas does beside a missing value) and are the same
    numbers. An empty cell, `nan` and -1 are no label; among numbers `None`, `null` and `NA` are none either.

    Raises:
        InputError: numbers that are no labels (0.5, -2), named with the cell; the caller says where.

    Example:
        >>> parse_labels(["1.0", " 2", "-1", ""]).numbers
        (1, 2, None, None)
    """
    plain = [cell.strip() for cell in cells]
    numbers = [_number(cell) for cell in plain]
    words = [cell for cell, number in zip(plain, numbers) if number is None and cell.lower() not in NOTHING]
    if all(word.lower() in AMONG_NUMBERS for word in words) and any(number is not None for number in numbers):
        for cell, number in zip(plain, numbers):
            if number is not None and (number < -1 or not number.is_integer()):
                raise InputError(f"'{cell}' is no label; a label is a whole number from 0, a name, or -1 for none")
        return Labels(tuple(None if number is None or number == -1 else int(number) for number in numbers))
    return Labels(names=tuple(None if cell.lower() in NOTHING or n == -1 else cell for cell, n in zip(plain, numbers)))


def whole_number(cell: str) -> int | None:
    """`3`, `3.0`, ` 3.` -> 3; None for anything else.

    Example:
        >>> whole_number("007"), whole_number("1.5"), whole_number("n1")
        (7, None, None)
    """
    number = _number(cell.strip())
    return int(number) if number is not None and number.is_integer() and number >= 0 else None


def whole_array(values: np.ndarray) -> np.ndarray | None:
    """Integers and truth values as they are, floats that are all whole numbers (as MATLAB and pandas write labels) as
    int64, else None.

    Args:
        values: of any shape.
    """
    if values.dtype.kind in "iub":
        return values
    whole = np.issubdtype(values.dtype, np.floating) and bool(np.all(np.mod(values, 1) == 0))
    return values.astype(np.int64) if whole else None


def _number(cell: str) -> float | None:
    """A plain decimal number; None for words, for `nan` and `inf`, and for Python's own spellings such as 1_000."""
    if not cell.isascii() or not any(map(str.isdigit, cell)) or cell.strip("+-.0123456789eE"):
        return None
    try:
        return float(cell)
    except ValueError:
        return None
