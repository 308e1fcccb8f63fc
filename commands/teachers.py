"""`apm teachers`: what can be named, and how good it is on a data set, zero-shot."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.common import (
    Classes,
    Corrupt,
    Device,
    Json,
    Nameable,
    Quiet,
    Record,
    Seed,
    Superclasses,
    bounds,
    corruption_words,
    emit_json,
    follow,
    keep_record,
    percent,
    say,
    table,
)
from commands.paths import data_set

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
def score(
    teacher: Annotated[str, typer.Argument(help="A teacher.")],
    data: Annotated[str, typer.Argument(help="A data set.", callback=data_set)],
    templates: Annotated[
        str,
        typer.Option("--templates", help="Comma-separated: simple, imagenet, photo, seen, files; .json: descriptions."),
    ] = "simple",
    classes: Classes = None,
    superclasses: Superclasses = "",
    nameable: Nameable = False,
    split: Annotated[str, typer.Option("--split", help="Split of the data set.")] = "test",
    corruption: Annotated[
        str | None, typer.Option("--corruption", help="NAME:SEVERITY, or NAME:SEVERITY@SCALE.")
    ] = None,
    corrupt: Corrupt = "crop",
    limit: Annotated[int | None, typer.Option("--limit", help="At most N samples.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Zero-shot top-1 of a teacher on a data set, for each set of templates."""
    from experiments.adaptation.zero_shot import ZeroShotSettings, run
    from glom.datasets.remarks import remark

    sets = tuple(templates.split(","))
    settings = ZeroShotSettings(
        teacher, data, sets, split, corruption, corrupt, limit, classes, superclasses, nameable, seed
    )
    rows = follow(run(settings, device), quiet)["rows"]
    asked = {"teacher": teacher, "data": data, "corruption": corruption, "corrupt": corrupt}
    result = {**asked, "superclasses": superclasses, "rows": rows, "remark": remark(data)}
    keep_record(record, result)
    if as_json:
        emit_json(result)
        return
    if rows and rows[0]["scale"]:
        say(corruption_words({**rows[0], "corrupt": corrupt}, corruption or ""))
    shown = []
    for r in rows:
        shown.append((r["templates"], r["count"], percent(r["top1"]), bounds(r["ci95"]).strip(), r["n"], r["skipped"]))
    table(["templates", "how many", "top-1 (%)", "95 %", "images", "skipped"], shown, right=(1, 2, 4, 5))
