"""`apm datasets`: what can be named."""

from __future__ import annotations

import typer

from commands.common import Json, emit_json, table

app = typer.Typer(help="Data sets: what can be named.", invoke_without_command=True)


@app.callback()
def datasets(context: typer.Context, as_json: Json = False) -> None:
    """List the data sets that can be named, and the corruptions that can be applied to any."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict, is_dataclass

    from glom.datasets.corruptions import CORRUPTIONS
    from glom.datasets.registry import dataset_names

    rows = [asdict(r) if is_dataclass(r) and not isinstance(r, type) else dict(r) for r in dataset_names()]
    if as_json:
        emit_json({"datasets": rows, "corruptions": list(CORRUPTIONS)})
        return
    table(list(rows[0]), [list(r.values()) for r in rows])
    table(["corruptions, each at severity 1 to 5: --corruption NAME:SEVERITY"], [[", ".join(CORRUPTIONS)]])
