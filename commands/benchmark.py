"""`apm benchmark`: methods side by side on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Classes,
    Corrupt,
    Device,
    Json,
    Nameable,
    Out,
    Quiet,
    Record,
    Resume,
    Seed,
    Superclasses,
    bounds,
    console,
    emit_json,
    follow,
    for_adaptation,
    keep_record,
    percent,
    resumable,
    say,
    table,
)
from commands.paths import data_set, data_sets


def benchmark(
    out: Out,
    methods: Annotated[
        str, typer.Option("--methods", "-m", help="Comma-separated; `apm methods list`. The first is the base.")
    ] = "zero-shot,ensemble,tpt,apm",
    data: Annotated[
        str, typer.Option("--data", "-d", help="Comma-separated data sets or folders.", callback=data_sets)
    ] = "cifar10-sample",
    corruptions: Annotated[
        str,
        typer.Option(
            "--corruptions", help="Comma-separated name:severity[@scale]; `clean` for the pictures as they are."
        ),
    ] = "clean",
    corrupt: Corrupt = "crop",
    pictures: Annotated[
        str, typer.Option("--pictures", help="all, or untouched: those that no study of this project used.")
    ] = "all",
    teacher: Annotated[str, typer.Option("--teacher", "-t", help="See `apm teachers`.")] = "glom-tiny",
    split: Annotated[str, typer.Option("--split", help="Of the data sets.")] = "test",
    classes: Classes = None,
    superclasses: Superclasses = "",
    nameable: Nameable = False,
    train: Annotated[
        str, typer.Option("--train", help="Data set with labelled pictures, for CoOp and its kin.", callback=data_set)
    ] = "",
    shots: Annotated[
        int | None, typer.Option("--shots", help="Labelled pictures a class of --train.", min=1, show_default="16")
    ] = None,
    mae: Annotated[
        str,
        typer.Option(
            "--mae", help="Masked autoencoder: mae-tiny, a folder, hf:MODEL or hf:FOLDER.", metavar="NAME_OR_FOLDER"
        ),
    ] = "mae-tiny",
    transfer: Annotated[
        bool, typer.Option("--transfer", help="Use prompts learned on --train's classes on other classes.")
    ] = False,
    preset: Annotated[
        str, typer.Option("--preset", help="Of the APM and of learned prompts: fast or published.")
    ] = "fast",
    limit: Annotated[int, typer.Option("--limit", help="Samples of each data set at most; 0: all.", min=0)] = 0,
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Methods x data sets x samples: one paired table, resumable; under torchrun the samples are shared out."""
    from experiments.comparison.run import BenchmarkSettings, run
    from experiments.comparison.table import demand_answers
    from glom.devices import ranks
    from glom.errors import InputError

    if not train and (shots is not None or transfer):
        raise InputError("--shots and --transfer say how labelled pictures are used; name these with --train DATA")
    for_adaptation()
    conditions = tuple("" if c == "clean" else c for c in _split(corruptions))
    settings = BenchmarkSettings(
        _split(methods),
        _split(data),
        conditions,
        teacher,
        split,
        train,
        shots or 16,
        limit,
        seed,
        mae,
        transfer,
        preset,
        corrupt,
        pictures,
        classes=classes or "",
        superclasses=superclasses,
        nameable=nameable,
    )
    first = ranks()[0] == 0
    with resumable("everything computed is kept"):
        result = follow(run(settings, Path(out), resume, device), quiet or not first)
    if not first or result is None:
        return
    keep_record(record, result)
    if as_json:
        emit_json(result)
    else:
        show(result)
        say(f"results in {out}")
    demand_answers(Path(out), result)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def show(result: dict[str, Any]) -> None:
    """A row a method, grouped by condition, as a person reads it."""
    from experiments.comparison.table import cannot_act

    rows = result["rows"]
    for condition in dict.fromkeys(r["dataset"] for r in rows):
        shown = []
        own = [r for r in rows if r["dataset"] == condition]
        for r in own:
            difference = p = ""
            if r.get("difference") is not None:
                difference, p = f"{r['difference']:+.1f}{bounds(r['difference_ci95'], '+')}", f"{r['p_holm']:.2g}"
            span = "-" if r["ci95"] is None else f"{r['ci95'][0]:.1f}-{r['ci95'][1]:.1f}"
            if r is not own[0] and cannot_act(r["changed"], r["moved"]):
                p = "cannot act"
            changed = "-" if r["changed"] is None else f"{r['changed']:.1f}"
            moved = "-" if r["moved"] is None else f"{r['moved']:.4f}"
            shown.append((r["method"], percent(r["measured"]), span, changed, moved, difference, p))
        title = f"{condition}: {own[0]['n']} pictures, {max(r['skipped'] for r in own)} skipped"
        title += f"; strengths of {' and '.join(own[0]['scale'])}" if own[0]["scale"] else ""
        heads = ["method", "top-1", "95 %", "changed %", "moved", f"minus {own[0]['method']} [95 %]", "p (Holm)"]
        table(heads, shown, title=title, right=range(1, 7))
        console().print()
    say(
        "changed, moved: the share of the first method's answers that become others, and the mean change of the "
        "answer's probability; a method that changes next to nothing cannot act"
    )
    if result["shares pictures with"]:
        say(f"some of these pictures were used by: {', '.join(result['shares pictures with'])}")
    if len({r["dataset"] for r in rows}) > 1:
        table(["method", "mean"], [(m, percent(v)) for m, v in result["averages"].items()], "mean over all", right=(1,))
