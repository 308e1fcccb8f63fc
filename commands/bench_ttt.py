"""`apm bench ttt`: teacher and APM on a data set, clean and corrupted, as one recorded table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Corrupt,
    Device,
    Json,
    Quiet,
    Record,
    Seed,
    conditions_table,
    emit_json,
    for_adaptation,
    say,
    show_stages,
)
from commands.paths import data_set
from commands.ttt import Stop


def ttt(
    data: Annotated[str, typer.Argument(help="A data set, see `apm datasets`.", callback=data_set)],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the runs.", metavar="DIR")],
    teacher: Annotated[str, typer.Option("--teacher", "-t", help="See `apm teachers`.")] = "efficientnet-lite0",
    corruptions: Annotated[
        str, typer.Option("--corruptions", help="Comma-separated NAME:SEVERITY, or NAME:SEVERITY@SCALE; none if empty.")
    ] = "gaussian_noise:3,contrast:3,glass_blur:3",
    corrupt: Corrupt = "crop",
    preset: Annotated[str, typer.Option("--preset", help="published, fast, or exact.")] = "fast",
    stop: Stop = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most N samples.")] = None,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test-time training clean and under each corruption: paired differences, and the oracle as a diagnostic."""
    from experiments.adaptation.conditions import record, run_conditions
    from experiments.adaptation.run import TTTRun
    from glom.adaptation.settings import settings_for

    for_adaptation()
    how = settings_for(teacher, preset, stop=stop)
    base = TTTRun(data, teacher, how, limit=limit, seed=seed, device=device, corrupt=corrupt)
    rows: list[dict[str, Any]] = []

    def events() -> Any:
        rows.extend((yield from run_conditions(base, [c for c in corruptions.split(",") if c], Path(out))))

    show_stages(events(), quiet)
    if save:
        Path(save).parent.mkdir(parents=True, exist_ok=True)
        record(base, rows, Path(save))
    if as_json:
        emit_json({"rows": rows})
        return
    conditions_table(rows)
    say(f"runs in {out}" + (f"; table recorded in {save}" if save else ""))
