"""What every table of the pages is made of: a record, its cells, and the lines of Markdown they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.claims.run import Results
from glom.errors import InputError


def lines(heads: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, align, *rows)).replace("|  |", "| |")


def record(results: Results, file: str) -> Any:
    """A record's contents. Raises `InputError` where it is not there."""
    found = results.get(file)
    if found is None:
        raise InputError(f"a page's table needs {file}, which is not among the results")
    return found


def spanned(value: float, bounds: Sequence[float] | None, digits: int) -> str:
    """A value with its interval, where there is one."""
    if bounds is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def signed(value: float, bounds: Sequence[float] | None, digits: int = 1) -> str:
    """A difference with its interval, where there are pictures enough for one."""
    if bounds is None:
        return f"{value:+.{digits}f}"
    low, high = bounds
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def p_value(value: float | None) -> str:
    """A p-value to two digits; nothing where none was computed."""
    return "" if value is None else f"{value:.2g}"
