"""`apm teachers`: what can be named, and how good it is on a data set, zero-shot."""

from __future__ import annotations

import typer

from commands.common import (
    Json,
    Quiet,
    Record,
    bounds,
    corruption_words,
    emit_json,
    follow,
    keep_record,
    percent,
    say,
    table,
)
from commands.options import options
from experiments.adaptation.settings import ZeroShotSettings

app = typer.Typer(
    help="Teachers: what can be named, and their zero-shot accuracy.", invoke_without_command=True, add_completion=False
)


@app.callback()
def teachers(context: typer.Context, as_json: Json = False) -> None:
    """List the teachers that can be named, and whether they load here."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from glom.teachers.registry import teacher_names

    rows = [asdict(row) for row in teacher_names()]
    if as_json:
        emit_json({"teachers": rows})
        return
    table(["name", "what", "here"], [(r["name"], r["what"], "yes" if r["loadable"] else "no") for r in rows])
    for hint in dict.fromkeys(r["hint"] for r in rows if r["hint"]):
        names = ", ".join(r["name"] for r in rows if r["hint"] == hint)
        say(f"{names}: {hint}")


@app.command("score")
@options(ZeroShotSettings)
def score(
    settings: ZeroShotSettings,
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Zero-shot top-1 of a teacher on a data set, for each set of templates."""
    from experiments.adaptation.zero_shot import run
    from glom.datasets.remarks import remark
    from glom.devices import ranks

    found = follow(run(settings), quiet or ranks()[0] > 0)
    if found is None:  # not the first of several processes
        return
    rows = found["rows"]
    asked = {k: getattr(settings, k) for k in ("teacher", "data", "corruption", "corrupt", "superclasses")}
    result = {**asked, "rows": rows, "remark": remark(settings.data)}
    keep_record(record, result)
    if as_json:
        emit_json(result)
        return
    if rows and rows[0]["scale"]:
        say(corruption_words({**rows[0], "corrupt": settings.corrupt}, settings.corruption or ""))
    shown = []
    for r in rows:
        shown.append((r["templates"], r["count"], percent(r["top1"]), bounds(r["ci95"]).strip(), r["n"], r["skipped"]))
    table(["templates", "how many", "top-1 (%)", "95 %", "images", "skipped"], shown, right=(1, 2, 4, 5))
