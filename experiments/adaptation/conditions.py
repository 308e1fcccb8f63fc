"""One test-time-training run for each condition: the pictures clean, and under each of several corruptions."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from experiments.adaptation.run import run
from experiments.adaptation.settings import TTTRun
from experiments.adaptation.summary import Summary
from glom.adaptation.settings import settings_dict
from glom.datasets.corruptions import parse_corruption
from glom.datasets.remarks import remark
from glom.errors import InputError
from glom.runs.events import Event


class Row(Summary):
    """What the run under one condition found, by the condition's name."""

    name: str


def run_conditions(base: TTTRun, corruptions: Sequence[str], out: Path) -> Generator[Event[Any], None, list[Row]]:
    """Run `base` clean and under each corruption, each in a folder of its own under `out`; always resumes.

    Returns:
        A row a condition: its name and what its run found.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    for corruption in corruptions:
        parse_corruption(corruption)  # all of them before the first hour is spent
    rows: list[Row] = []
    for name in (None, *corruptions):
        title = name or "clean"
        folder = out / title.replace(":", "-")
        found: Summary | None = None
        for event in run(replace(base, corruption=name), folder, resume=True):
            found = event.result or found
            if event.stage:  # the last one only brings the result
                yield replace(event, stage=title, message="", values={}, result=None)
        assert found is not None
        rows.append(Row(name=title, **found))
    return rows


def about(base: TTTRun, rows: Sequence[Row]) -> dict[str, Any]:
    """What a record holds: the rows with all that made them, so that a table can be redrawn and a run repeated."""
    request = {k: v for k, v in asdict(base).items() if k not in ("ttt", "data")}
    return {
        "data": Path(base.data).name,
        "request": request,
        "settings": settings_dict(base.ttt),
        "remark": remark(base.data),
        "rows": list(rows),
    }
