"""`apm bench ttt`: teacher and APM on a data set, clean and corrupted, as one recorded table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, Record, conditions_table, emit_json, follow, keep_record, say
from commands.options import options
from experiments.adaptation.settings import ConditionsSettings


@options(ConditionsSettings, leave=("corruption",))
def ttt(
    settings: ConditionsSettings,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the runs.", metavar="DIR")],
    save: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Test-time training clean and under each corruption: paired differences, and the oracle as a diagnostic."""
    from experiments.adaptation.conditions import Row, about, run_conditions

    rows: list[Row] = []

    def events() -> Any:
        rows.extend((yield from run_conditions(settings, settings.corruptions, Path(out))))

    follow(events(), quiet)
    keep_record(save, about(settings, rows))
    if as_json:
        emit_json({"rows": rows})
        return
    conditions_table(rows)
    say(f"runs in {out}")
