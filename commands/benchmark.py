"""`apm benchmark`: methods side by side on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Out, Quiet, Record, Resume, emit_json, follow, keep_record, say
from commands.ending import resumable
from commands.jobs import shared_out
from commands.options import options
from experiments.comparison.settings import BenchmarkSettings
from glom.teachers.registry import SHIPPED


@options(BenchmarkSettings)
def benchmark(
    settings: BenchmarkSettings,
    given: dict[str, object],
    out: Out,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Folder for views' tokens and corrupted pictures, for later runs.", metavar="DIR"),
    ] = None,
    tables: Annotated[str, typer.Option("--table", help="What is shown: accuracy, trust, cost or all.")] = "accuracy",
    record: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Methods x data sets x samples: one paired table, resumable; under torchrun the samples are shared out."""
    small = {settings.teacher, settings.second or settings.teacher} <= set(SHIPPED)
    if shared_out(settings.jobs, settings.device, settings.limit, small):
        return
    from commands.benchmark_tables import TABLES, show
    from experiments.comparison.run import run
    from experiments.comparison.table import demand_answers
    from glom.devices import ranks
    from glom.errors import InputError, unknown

    if not settings.train and {"shots", "transfer"} & set(given):
        raise InputError("`shots` and `transfer` say how labelled pictures are used; name these with `train` DATA")
    if tables not in (*TABLES, "all"):
        raise unknown("table", tables, (*TABLES, "all"))
    first = ranks()[0] == 0
    with resumable("everything computed is kept"):
        result = follow(run(settings, Path(out), resume=resume, kept=keep), quiet or not first)
    if not first or result is None:
        return
    keep_record(record, result)
    if as_json:
        emit_json(result)
    else:
        show(result, TABLES if tables == "all" else (tables,))
        if result["shares pictures with"]:
            say(f"some of these pictures were used by: {', '.join(result['shares pictures with'])}")
        say(f"results in {out}")
    demand_answers(Path(out), result)
