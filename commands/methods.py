"""`apm methods`: what `apm benchmark` can compare."""

from __future__ import annotations

import re
from typing import Any

import typer

from commands.common import Json, emit_json, table

app = typer.Typer(
    help="Methods: what can be compared, and where each comes from.", no_args_is_help=True, add_completion=False
)


@app.callback()
def root() -> None:
    """Methods that classify a test picture."""


@app.command("list")
def list_methods(as_json: Json = False) -> None:
    """Every method, what it needs and where its settings are from."""
    from glom.methods_list import LISTED

    rows: list[dict[str, Any]] = []
    for name, entry in LISTED.items():
        asked = (("text", entry.needs_text), ("labels", entry.needs_shots), ("second", entry.needs_second))
        needs = [what for what, wanted in asked if wanted]
        row = {"name": name, "what": entry.what, "needs": needs, "stream": entry.stateful}
        rows.append({**row, "source": entry.source, "constants": entry.constants})
    if as_json:
        emit_json({"methods": rows})
        return
    shown = [(r["name"], r["what"], ", ".join(r["needs"]), publication(r["source"])) for r in rows]
    table(["method", "what it does", "needs", "source"], shown)


def publication(source: str) -> str:
    """The publication alone; its sections and settings are in `--json` and docs/methods.md."""
    return re.split(r" \(|[:;]|, (?=section|table|docs)", source)[0]
