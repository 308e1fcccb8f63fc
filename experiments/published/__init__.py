"""The poster's tables, as printed: never to be shown as measured.

Source: Modi & Rawat, "Asynchronous Perception Machine For Efficient Test Time Training", NeurIPS 2024, tables 1 to 4.
"""

from __future__ import annotations

import csv
from importlib import resources

from glom.errors import InputError

TABLES = (1, 2, 3, 4)
Value = float | str | None
"""A printed cell: a number where it is one, text otherwise ("1.8 + 0.6"), None where nothing is printed."""

# Names, though some look like numbers (t is "1" or "1-20").
TEXT_COLUMNS = ("method", "model", "t", "note", "trained_prompts", "trained_on_task")


def published_table(number: int) -> list[dict[str, Value]]:
    """The rows of one table, in the printed order.

    Args:
        number: 1 (ImageNet and its shifts), 2 (ImageNet-C), 3 (nine data sets): top-1 in percent; 4 (computation):
            millions of parameters, GB, GFLOPs.

    Raises:
        InputError: a number that is not one of `TABLES`.

    Example:
        >>> published_table(4)[0]["params_m"]
        87.0
    """
    if number not in TABLES:
        raise InputError(f"there is no published table {number}; there are {', '.join(map(str, TABLES))}")
    text = (resources.files(__name__) / f"table{number}.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [{name: _value(name, cell) for name, cell in row.items()} for row in csv.DictReader(lines)]


def _value(name: str, cell: str) -> Value:
    if cell == "":
        return None
    if name in TEXT_COLUMNS:
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell


def gigabytes(cell: object) -> float:
    """A printed memory: 1.8, or the sum "1.8 + 0.6"."""
    return sum(float(part) for part in str(cell).split("+"))
