"""`apm bench steps`: what it takes to reach the teacher's token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Json,
    Quiet,
    Record,
    Seed,
    emit_json,
    for_adaptation,
    progress,
    say,
    started,
    table,
)
from commands.paths import data_set


def steps(
    data: Annotated[str, typer.Argument(help="A data set.", callback=data_set)] = "cifar10-sample",
    teacher: Annotated[str, typer.Option("--teacher", "-t", help="See `apm teachers`.")] = "glom-tiny",
    apm: Annotated[str | None, typer.Option("--apm", help="APM preset; the teacher's own otherwise.")] = None,
    rates: Annotated[str, typer.Option("--rates", help="Comma-separated learning rates.")] = "1e-3,3e-3,6e-3",
    counts: Annotated[str, typer.Option("--steps", help="Comma-separated numbers of steps.")] = "15,30,60",
    queries: Annotated[str, typer.Option("--queries", help="Locations a step; 0 for all.")] = "0,32",
    limit: Annotated[int, typer.Option("--limit", help="Pictures.", min=1)] = 16,
    save: Record = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rates, steps and query subsets against the cosine reached, and the closed form as baseline."""
    from experiments.adaptation.steps import StepsSettings, run_steps
    from glom.errors import InputError
    from glom.runs.artifacts import write_record

    for_adaptation()
    try:
        grid = [float(x) for x in rates.split(",")], [int(x) for x in counts.split(",")]
        asked = [int(x) for x in queries.split(",")]
    except ValueError as error:
        raise InputError(f"--rates, --steps and --queries take comma-separated numbers: {error}") from error
    settings = StepsSettings(data, teacher, apm, *grid, asked, limit, seed)
    rows: list[dict[str, Any]] = []
    events = started(run_steps(settings))
    with progress(quiet) as bar:
        task = bar.add_task("adapting", total=len(grid[0]) * len(grid[1]) * len(asked) + 1)
        for row in events:
            rows.append(row)
            bar.update(task, completed=len(rows))
    if save:
        write_record(Path(save), {"rows": rows})
    if as_json:
        emit_json({"rows": rows})
        return
    shown = []
    for r in rows:
        cells = (r["apm"], r["start"], f"{r['rate']:g}", r["steps"], r["queries"] or "all", f"{r['cosine_min']:.4f}")
        shown.append((*cells, f"{r['cosine_median']:.4f}", f"{r['agreement']:.3f}", f"{r['seconds_per_sample']:.3f}"))
    heads = ["APM", "start", "rate", "steps", "asked", "cos min", "median", "agree", "s"]
    table(heads, shown, right=range(2, 9))
    if save:
        say(f"recorded in {save}")
