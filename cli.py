"""`apm`: the command line, put together. Every command lives in `commands/` and is loaded when it is called."""

from __future__ import annotations

import gc
import os
import signal
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ROOMS = ("commands", "experiments", "probes", "glom")

# name: (where it is, what it does)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("commands.demo:demo", "The main job on what ships: a table and one HTML page."),
    "explore": ("commands.explore:explore", "A page to look at runs and pictures with."),
    "doctor": ("commands.doctor:doctor", "Versions, device, what can be loaded here."),
    "fold": ("commands.fold:fold", "Fold one picture, overfit, unfold: features and colours at any grid."),
    "ttt": ("commands.ttt:app", "Test-time training: run, trace, report."),
    "islands": ("commands.islands:app", "Islands of agreement: show, score, patch, emerge, ablate, compare."),
    "glom": ("commands.glom:app", "Hinton's GLOM: train it, see its islands level by level."),
    "slots": ("commands.slots:app", "Slot attention, a baseline made for objects: train, score."),
    "grid": ("commands.grid:app", "Feature grids: layer skipping, pre-training, decoding, interpolation."),
    "ff": ("commands.ff:app", "Forward-forward networks: train, eval, goodness maps."),
    "figures": ("commands.figures:figures", "A run's figures drawn again, PNG and SVG, from what it saved."),
    "benchmark": ("commands.benchmark:benchmark", "Methods side by side on the same pictures, paired."),
    "reproduce": ("commands.reproduce:reproduce", "The poster's tables and figures: published beside measured."),
    "claims": ("commands.claims:claims", "The poster's claims, each with a verdict from result files."),
    "docs": ("commands.docs:docs", "Figures of README and docs against the records that hold them."),
    "methods": ("commands.methods:app", "Methods: what can be compared, and where each comes from."),
    "ablate": ("commands.ablate:app", "Ablations: what each part of folding buys."),
    "sweep": ("commands.sweep:app", "One command over many settings: run, report, figure."),
    "teachers": ("commands.teachers:app", "Teachers: what can be named, and how good they are."),
    "datasets": ("commands.datasets:app", "Data sets: what can be named, and fetching them."),
    "train": ("commands.train:app", "Train what ships, from scratch."),
    "convert": ("commands.convert:app", "Checkpoints of other programs: the official release's."),
    "export": ("commands.export:export", "A machine as one file for onnxruntime, or for torch alone."),
    "bench": ("commands.bench:app", "Benchmarks: ratios measured side by side."),
    "completion": ("commands.completion:app", "A script for bash, zsh or fish: what TAB offers."),
}


class Root(TyperGroup):
    """The first level: commands by name, loaded when called, so that `apm --help` costs what Typer costs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build one command; None where there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        from commands.examples import give_examples

        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        target = getattr(import_module(module), attribute)
        group = target if isinstance(target, typer.Typer) else typer.Typer(add_completion=False)
        if group is not target:
            group.command(cmd_name)(target)
        command = typer.main.get_command(group)
        command.name = cmd_name
        command.context_settings["help_option_names"] = ["-h", "--help"]
        give_examples(command, [cmd_name])
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As Typer's, but an unknown name is compared with all the names there are."""
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The first page, drawn by hand: rich, and the Markdown parser of Typer's own, cost as much as all else."""
        echo = partial(typer.echo, color=False if os.environ.get("NO_COLOR") else None)  # None: as the terminal is
        wide, column = get_terminal_size().columns, max(map(len, COMMANDS)) + 4
        usage = f"{typer.style('Usage:', bold=True)} {ctx.command_path} COMMAND [OPTIONS] ..."
        echo(f"{usage}\n\n{fill(self.help or '', wide)}\n")
        for name, (_, what) in COMMANDS.items():
            told = fill(what, max(wide - column, 20)).replace("\n", "\n" + " " * column)
            echo(f"  {typer.style(name, fg='cyan')}{' ' * (column - 2 - len(name))}{told}")
        echo(f"\n{fill('COMMAND --help says more. --version; --debug, after any command, shows tracebacks.', wide)}")


app = typer.Typer(
    name="apm",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


def ours_first() -> None:
    """See that rooms are imported from beside this file, whatever is called `experiments` or `probes` where one stands.

    `python -m cli`, and a PYTHONPATH with an empty entry, look in the current directory first.
    """
    here = Path(__file__).resolve().parent
    found = (find_spec(name) for name in ROOMS)
    if any(spec is None or not spec.origin or Path(spec.origin).resolve().parent.parent != here for spec in found):
        sys.path.insert(0, str(here))


def in_utf8() -> None:
    """Where a locale has file names in another encoding (`LC_ALL=C`), start again in Python's UTF-8 mode.

    A sample's id is its file's name: it is the same in every locale, so that a run goes on in any.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def begin(told: bool = True) -> None:
    """What a process of the program's own does before any library loads.

    Args:
        told: to end by, whoever sends it SIGTERM.
    """
    from commands.ranks import end_when_told
    from glom.allocator import keep_freed_memory
    from glom.lazy import libraries_later

    # Threads that wait by spinning take the processor from whoever else uses it: two programs side by side then take
    # thirty times as long. Threads that sleep at once cost a fifth where products are short. A few microseconds of
    # spinning, then sleep, has neither fault. Only read when the first library loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "500")
    keep_freed_memory()
    libraries_later()
    if told:
        end_when_told()
    # Libraries make hundreds of thousands of objects while they load, none of which is rubbish: looking for some after
    # every 700 takes a fifth of the time that they need.
    gc.set_threshold(10_000, 20, 50)


def main() -> None:
    """Entry point of `apm`; never returns."""
    in_utf8()
    ours_first()
    from commands.ending import guard
    from commands.ranks import take_place

    if not take_place(sys.argv[1:]):
        sys.exit(0)
    begin()
    code = guard(app, sys.argv[1:])
    for number in (signal.SIGTERM, signal.SIGINT):  # nothing is left to say
        signal.signal(number, signal.SIG_DFL)
    sys.exit(code)


if __name__ == "__main__":
    main()
