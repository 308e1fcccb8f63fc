"""One test-time-training run for each condition: the pictures clean, and under each of several corruptions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.adaptation.run import run, summary
from experiments.adaptation.settings import TTTRun
from glom.adaptation.settings import settings_dict
from glom.datasets.corruptions import parse_corruption
from glom.datasets.remarks import remark
from glom.errors import InputError
from glom.runs.artifacts import command_line, machine, public_command, versions, write_json


def run_conditions(
    base: TTTRun, corruptions: Sequence[str], out: Path
) -> Generator[dict[str, Any], None, list[dict[str, Any]]]:
    """Run `base` clean and under each corruption, each in a folder of its own under `out`; always resumes.

    Yields:
        `{"stage", "done", "total"}`.

    Returns:
        A row a condition: its name and `summary`.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    for corruption in corruptions:
        parse_corruption(corruption)  # all of them before the first hour is spent
    rows = []
    for name in (None, *corruptions):
        title = name or "clean"
        folder = out / title.replace(":", "-")
        for event in run(replace(base, corruption=name), folder, resume=True, command=command_line()):
            yield {"stage": title, "done": event.done, "total": event.total}
        rows.append({"name": title, **summary(folder)})
    return rows


def record(base: TTTRun, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows with all that made them, so that a table can be redrawn and a run repeated."""
    request = {k: v for k, v in asdict(base).items() if k not in ("ttt", "data")}
    write_json(
        path,
        {
            "command": public_command(),
            "data": Path(base.data).name,
            "request": request,
            "settings": settings_dict(base.ttt),
            "machine": machine(),
            "versions": versions(),
            "remark": remark(base.data),
            "rows": list(rows),
        },
    )
