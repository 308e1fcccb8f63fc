"""`apm sweep`: one command over many settings, its runs in one table."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from commands.common import Json, Out, Quiet, Resume, caption, emit_json, follow, say, table
from commands.ending import guard, resumable
from commands.options import options
from experiments.sweep.settings import SweepSettings

if TYPE_CHECKING:
    from experiments.sweep.plan import Command


class Sweeps(TyperGroup):
    """`apm sweep FILE.toml` is `apm sweep run FILE.toml`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A word that is no command here is a file."""
        known = args[0] in self.commands or not args[0].endswith(".toml")
        return super().resolve_command(ctx, args if known else ["run", *args])


app = typer.Typer(
    help="Sweeps: one command over a grid, a list or a random sample of settings.", no_args_is_help=True,
    add_completion=False, cls=Sweeps,
)  # fmt: skip
Folder = Annotated[Path, typer.Argument(help="The sweep's --out.", metavar="DIR", show_default=False)]
Retry = Annotated[bool, typer.Option("--retry", help="Run again what failed; goes on with the rest as --resume does.")]


def begin(told: bool) -> None:
    """As the program begins; it knows this file, so that it is found by its name."""
    import_module("cli").begin(told)


def call(arguments: list[str]) -> int:
    """The whole program in this process."""
    return guard(import_module("cli").app, arguments)


@app.command("run")
@options(SweepSettings, reads=True)
def run(
    settings: SweepSettings,
    out: Out,
    resume: Resume = False,
    retry: Retry = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run a command over the settings of a file; done runs are never run again."""
    from experiments.sweep.plan import plan, read_sweep
    from experiments.sweep.run import run as run_sweep
    from glom.errors import RunError
    from glom.runs.notices import notice

    content = read_sweep(Path(settings.file))
    request = plan(settings, content, command_of(content["command"]))
    if "slurm" in content and settings.executor != "slurm":
        notice(f"[slurm] of {settings.file} is not used: `executor` is {settings.executor}", keep=False)
    with resumable("what is done is kept, and jobs in Slurm's queue go on"):
        result = follow(run_sweep(request, Path(out), resume=resume, retry=retry), quiet)
    _show(result, as_json, Path(out))
    if result["failed"]:
        raise RunError(f"{result['failed']} of {result['runs']} runs failed; `retry` runs them again")


def command_of(words: str) -> Command:
    """A command of the program by its words. Raises `InputError` where there is none, or none that fills a folder."""
    from experiments.sweep.plan import Command
    from glom.errors import InputError, unknown

    node: Any = typer.main.get_command(import_module("cli").app)
    for n, word in enumerate(words.split()):
        names = node.list_commands(None) if hasattr(node, "list_commands") else []
        if word not in names:
            raise unknown("command", words, [" ".join([*words.split()[:n], name]) for name in names])
        node = node.get_command(None, word)
    names = {param.name: param for param in node.params}
    cls = getattr(node.callback, "settings", None)
    if cls is None or cls is SweepSettings or not ("out" in names and names["out"].required):
        raise InputError(f"`apm {words}` cannot be swept: it fills no run folder from settings")
    words = " ".join(words.split())
    resumes, quiet, reads = (name in names for name in ("resume", "quiet", "on_dead_worker"))
    return Command(words, cls, node.callback.leave, resumes, quiet, reads, begin, call)


@app.command("report")
def report(
    folder: Folder,
    measure: Annotated[
        list[str] | None, typer.Option("--measure", help="One to show; may be repeated.", metavar="NAME")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One table over all runs: means over seeds, and differences from the base, paired."""
    from experiments.sweep.report import reporting

    _show(follow(reporting(folder, measure or ()), quiet), as_json, folder)


@app.command("figure")
def figure(
    folder: Folder,
    x: Annotated[str, typer.Option("--x", help="A setting that the sweep varies.", metavar="SETTING")],
    y: Annotated[str, typer.Option("--y", help="A measure: see `apm sweep report`.", metavar="MEASURE")],
    by: Annotated[str, typer.Option("--by", help="A line for each value of this setting.", metavar="SETTING")] = "",
    to: Annotated[str, typer.Option("--to", help="Default: figure.png in DIR.", metavar="FILE")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One measure against one setting."""
    from experiments.sweep.figure import draw
    from glom.runs.artifacts import check_target

    path = Path(to) if to else folder / "figure.png"
    check_target(path, "`to`")
    path = follow(draw(folder, x, y, by, path), quiet)
    if as_json:
        emit_json({"file": str(path)})
    else:
        say(f"figure: {path}")


def _show(result: Mapping[str, Any], as_json: bool, folder: Path) -> None:
    if as_json:
        emit_json(result)
        return
    from experiments.sweep.report import FIGURES

    names = list(dict.fromkeys(name for row in result["rows"] for name in row["measures"]))
    rows = []
    for row in result["rows"]:
        about = ", ".join(
            f"{k} {'+'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in row["settings"].items()
        )
        cells = [_cell(row["measures"].get(name)) for name in names[:FIGURES]]
        rows.append((about or "as it is", f"{row['done']}/{len(row['names'])}", *cells))
    title = f"apm {result['command']}: {result['runs']} runs, {result['done']} done, {result['failed']} failed"
    heads = ["settings", "runs", *names[:FIGURES]]
    table(heads, rows, title=title, right=range(1, len(heads)))
    if len(names) > FIGURES:
        caption(f"also measured: {', '.join(names[FIGURES:])} (--measure)")
    if names:
        caption("means over seeds, and the difference from the first or [base]; *: p < 0.05 over paired samples or "
                "seeds, Holm-corrected for the rows; intervals: --json")  # fmt: skip
    for row in result["rows"]:
        for name, error in row["errors"].items():
            say(f"failed: {name}: {error} ({folder}/logs/{name}.log)")


def _cell(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "-"
    star = "*" if value["p_holm"] is not None and value["p_holm"] < 0.05 else ""
    gain = "" if value["minus_base"] is None else f" ({value['minus_base']:+.3g}{star})"
    return f"{value['mean']:.4g}{gain}"
