"""A sweep's figure: one measure against one setting, a line for each value of another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.sweep.report import Row, reporting
from glom.errors import InputError, unknown
from glom.runs.events import Event


def draw(sweep: Path, x: str, y: str, by: str, path: Path) -> Iterator[Event[Path]]:
    """Means over whatever else the sweep varies, its seeds among it, each run as a dot; the last event has the file.

    Raises:
        InputError: no such setting or measure, or no run that has both.
    """
    from probes.figures.sweep import sweep_figure

    rows: list[Row] = []
    for event in reporting(sweep, [y]):
        yield Event(event.stage, event.done, event.total)
        rows = event.result["rows"] if event.result else rows
    varied = dict.fromkeys(name for row in rows for name in row["settings"])
    for name in (x, *([by] if by else [])):
        if name not in varied:
            raise unknown("setting of the sweep", name, varied)
    lines: dict[str, dict[Any, list[float]]] = {}
    for row in rows:
        at, line = row["settings"].get(x), _text(row["settings"].get(by)) if by else ""
        if y in row["measures"] and at is not None:
            number = isinstance(at, int | float) and not isinstance(at, bool)
            lines.setdefault(line, {}).setdefault(at if number else _text(at), []).extend(row["measures"][y]["runs"])
    if not lines:
        raise InputError(f"no run of {sweep} that is done has {y} and a setting {x}")
    yield Event(result=sweep_figure({name: list(points.items()) for name, points in lines.items()}, x, y, path, by))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
