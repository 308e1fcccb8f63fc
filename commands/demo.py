"""`apm demo`: the main job on what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Quiet, conditions_table, console, emit_json, follow, say
from commands.ending import Interrupted
from commands.options import options
from experiments.demo.settings import DemoSettings


@options(DemoSettings)
def demo(
    settings: DemoSettings,
    out: Annotated[str, typer.Option("--out", "-o", help="Where the report goes.", metavar="DIR")] = "runs/demo",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Honest test-time training on real pictures, offline, in about two minutes: one table, one HTML page."""
    from experiments.demo.run import SOURCE, run

    if not (quiet or as_json):
        console(stderr=True).print(SOURCE, markup=False)
    try:
        rows = follow(run(settings, Path(out)), quiet)["rows"]
    except KeyboardInterrupt as stop:
        raise Interrupted(f"interrupted; call it again to go on: apm demo --out {out}") from stop
    if as_json:
        emit_json({"rows": rows, "report": f"{out}/report.html"})
        return
    conditions_table(rows)
    say(f"open {out}/report.html in a browser and point at the cat's ear; Patched shows it with an eye replaced")
