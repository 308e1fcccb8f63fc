"""What every table of the pages is made of: a record, its cells, and the lines of Markdown they stand in.

A table of `page_tables.toml` says its `record`, where its `rows` are (a path, several, or names and paths: the name is
`{row}` then) and its `columns`, each a head, an alignment and a cell; or whole rows of `cells`. In heads and cells
`{PATH:FORMAT}` is a value of the row, `{PATH [BOUNDS]:FORMAT}` one with its interval where there is one, `{1000*PATH}`
a multiple; words that `names` has are written otherwise. Of several cells the first counts whose values are all there.
`only`: a path without which a row is left out. `like`: another table, whose keys it has that it does not say itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.claims.run import Results, look_up
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


VALUE = re.compile(r"\{(?:([\d.]+)\*)?([^{}\s:]+)(?: \[([^\]]*)\])?(?::([^{}]*))?\}")


def tables_of_data() -> dict[str, dict[str, Any]]:
    """The tables of `page_tables.toml` by name."""
    data = tomllib.loads(Path(__file__).with_name("page_tables.toml").read_text(encoding="utf-8"))
    return {name: {**data.get(spec.get("like", ""), {}), **spec} for name, spec in data.items()}


def table(spec: Mapping[str, Any], results: Results) -> str:
    """A table of `page_tables.toml`. Raises `InputError` where a value is not there."""
    found = record(results, spec["record"])
    try:
        heads, align = zip(*((_filled(head, found, {}), how) for head, how, *_ in spec["columns"]))
        names, cells = spec.get("names", {}), [cell for _, _, *cells in spec["columns"] for cell in cells]
        rows = [[_filled(cell, r, names) for cell in cells] for r in _rows(spec, found)]
        rows += [[_filled(cell, found, names) for cell in row] for row in spec.get("cells", ())]
    except KeyError as error:
        raise InputError(f"{spec['record']} has no {error} (asked by a page's table)") from error
    return lines(heads, align, rows)


def _rows(spec: Mapping[str, Any], found: Any) -> list[dict[str, Any]]:
    asked, rows = spec.get("rows", ()), []
    paths = (
        asked.items() if isinstance(asked, dict) else [("", p) for p in ([asked] if isinstance(asked, str) else asked)]
    )
    for name, path in paths:
        held = look_up(found, path)
        rows += [{"row": name, **r} for r in (held if isinstance(held, list) else [held])]
    return [r for r in rows if r.get(spec.get("only", "row")) is not None]


def _filled(cell: str | Sequence[str], data: Any, names: Mapping[str, str]) -> str:
    if not isinstance(cell, str):
        for one in cell[:-1]:
            try:
                return _filled(one, data, names)
            except KeyError:
                continue
        return _filled(cell[-1], data, names)

    def write(match: re.Match[str]) -> str:
        factor, path, bounds, form = match.groups()
        value, form = look_up(data, path), form or ""
        if isinstance(value, str):
            return names.get(value, value)
        text = format(float(factor) * value if factor else value, form)
        if bounds:
            with suppress(KeyError):
                low, high = look_up(data, bounds)
                return f"{text} [{low:{form}}, {high:{form}}]"
        return text

    return VALUE.sub(write, cell)
