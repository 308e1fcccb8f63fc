"""`apm`: the command line, put together. Every group lives in `commands/`; nothing heavy is imported here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from commands import bench, bench_steps, bench_ttt, datasets, demo, doctor, fold, teachers, train, ttt
from commands.common import guard

app = typer.Typer(
    name="apm",
    help="GLOM-style machine perception: fold, unfold and adapt at test time, honestly.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("fold")(fold.fold)
app.add_typer(ttt.app, name="ttt")
app.add_typer(teachers.app, name="teachers")
app.add_typer(datasets.app, name="datasets")
app.add_typer(train.app, name="train")
bench.app.command("ttt")(bench_ttt.ttt)
bench.app.command("steps")(bench_steps.steps)
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("glom-apm"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (works after any command too).")] = False,
) -> None:
    """GLOM-style machine perception: fold, unfold and adapt at test time, honestly."""


def main() -> None:
    """Entry point of `apm`; never returns."""
    sys.exit(guard(app, sys.argv[1:]))


if __name__ == "__main__":
    main()
