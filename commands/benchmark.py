"""`apm benchmark`: methods side by side on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    emit_json,
    follow,
    for_adaptation,
    keep_record,
    resumable,
    say,
)
from commands.paths import data_set, data_sets, some_data_sets


def benchmark(
    out: Out,
    sets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Data sets or folders; `apm datasets`.",
            metavar="[DATA]...",
            callback=some_data_sets,
            show_default=False,
        ),
    ] = None,
    methods: Annotated[
        str, typer.Option("--methods", "-m", help="Comma-separated; `apm methods list`. The first is the base.")
    ] = "zero-shot,ensemble,tpt,apm",
    data: Annotated[
        str,
        typer.Option(
            "--data", "-d", help="More of them, comma-separated.", callback=data_sets, show_default="cifar10-sample"
        ),
    ] = "",
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
    second: Annotated[
        str, typer.Option("--second-teacher", help="A stronger one, for zero2, rlcf, rlcf-prompt, second-zero-shot.")
    ] = "",
    views: Annotated[
        str,
        typer.Option("--views", help="crops, augmix, or released: what each method's release takes for such data."),
    ] = "crops",
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Folder for views' tokens and corrupted pictures, for later runs.", metavar="DIR"),
    ] = None,
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
    stream: Annotated[
        str,
        typer.Option(
            "--stream",
            help="What online methods see: shuffled, sorted, mixed (all conditions), few:K classes, or a seed.",
            metavar="ORDER",
        ),
    ] = "shuffled",
    batch: Annotated[
        int, typer.Option("--batch", help="Pictures online methods see at once; 0: each one's own.", min=0, metavar="N")
    ] = 0,
    carry: Annotated[
        bool, typer.Option("--carry", help="Online methods keep what they saw between conditions.")
    ] = False,
    out_set: Annotated[
        str,
        typer.Option(
            "--out-set", help="Data set of other classes: are they told apart?", callback=data_set, metavar="DATA"
        ),
    ] = "",
    budget: Annotated[
        float, typer.Option("--budget", help="Times the first method's seconds, for accuracy within it.", metavar="B")
    ] = 10.0,
    tables: Annotated[str, typer.Option("--table", help="What is shown: accuracy, trust, cost or all.")] = "accuracy",
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Methods x data sets x samples: one paired table, resumable; under torchrun the samples are shared out."""
    from commands.benchmark_tables import TABLES, show
    from experiments.comparison.run import BenchmarkSettings, run
    from experiments.comparison.table import demand_answers
    from glom.devices import ranks
    from glom.errors import InputError, unknown

    if not train and (shots is not None or transfer):
        raise InputError("--shots and --transfer say how labelled pictures are used; name these with --train DATA")
    if tables not in (*TABLES, "all"):
        raise unknown("table", tables, (*TABLES, "all"))
    for_adaptation()
    conditions = tuple("" if c == "clean" else c for c in _split(corruptions))
    settings = BenchmarkSettings(
        _split(methods),
        (*(sets or ()), *_split(data)) or ("cifar10-sample",),
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
        stream=stream,
        batch=batch,
        carry=carry,
        out_set=out_set,
        budget=budget,
        second=second,
        augment=views,
    )
    first = ranks()[0] == 0
    with resumable("everything computed is kept"):
        result = follow(run(settings, Path(out), resume, device, keep), quiet or not first)
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


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
