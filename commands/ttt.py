"""`apm ttt`: test-time training over a data set, one picture's trace, and the table again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Out, Quiet, Resume, bounds, corruption_words, emit_json, follow, percent, say, table
from commands.ending import resumable
from commands.jobs import shared_out
from commands.options import options
from experiments.adaptation.settings import TraceSettings, TTTRun
from glom.teachers.registry import SHIPPED

app = typer.Typer(
    help="Test-time training: distil once, overfit, classify, reset.", no_args_is_help=True, add_completion=False
)


@app.command("run")
@options(TTTRun)
def run(settings: TTTRun, out: Out, resume: Resume = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Adapt to every sample, and set the APM's accuracy beside the teacher's on the same samples."""
    columns = settings.shard == "columns" or settings.ttt.execution == "sharded"
    if not columns and shared_out(settings.jobs, settings.device, settings.limit, settings.teacher in SHIPPED):
        return
    from experiments.adaptation.run import run as run_experiment
    from experiments.adaptation.summary import demand_results, summary
    from glom.devices import ranks

    folder = Path(out)
    first = ranks()[0] == 0
    quiet = quiet or not first

    def so_far() -> None:
        if first and list(folder.glob("results*.jsonl")):
            report_table(summary(folder), folder)

    with resumable(before=so_far):
        result = follow(run_experiment(settings, folder, resume=resume), quiet)
    if not first:
        return
    if as_json:
        emit_json(result)
    else:
        report_table(result, folder)
        say(f"results in {folder}; the table again: apm ttt report {folder}")
    demand_results(folder)


def report_table(result: Mapping[str, Any], folder: Path) -> None:
    """The run's table, as a person reads it."""
    difference = "-"
    if result["difference"] is not None:
        difference = f"{result['difference']:+.1f}{bounds(result['ci95'], '+')}"
    p = "-" if result["mcnemar_p"] is None else f"{result['mcnemar_p']:.3g}"
    counted = f"{result['n']} samples, {result['skipped']} skipped, {result['failed']} failed"
    rows = [
        (
            "teacher, zero-shot top-1 [95 %] (%)",
            percent(result["teacher_top1"]) + bounds(result["teacher_ci95"]),
        ),
        ("APM after the last iteration, top-1 [95 %] (%)", percent(result["apm_top1"]) + bounds(result["apm_ci95"])),
        ("paired difference [95 %] (points)", difference),
        ("exact McNemar p", p),
        ("agreement of APM and teacher (0-1)", "-" if result["agreement"] is None else f"{result['agreement']:.3f}"),
        ("iterations a sample", result["iterations"] if result["iterations"] is not None else "-"),
        ("seconds a sample", "-" if result["seconds_per_sample"] is None else f"{result['seconds_per_sample']:.3f}"),
        ("diagnostic only: oracle, right at any iteration (%)", percent(result["oracle_top1"])),
    ]
    if result["corruption"]:
        counted += f"\n{corruption_words(result, result['corruption'])}"
    table([f"{folder}", ""], rows, title=counted, right=(1,))


@app.command("report")
def report(
    folder: Annotated[str, typer.Argument(help="A run folder.", metavar="DIR")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The table again, from the results alone."""
    from experiments.adaptation.summary import summarising
    from glom.errors import InputError

    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; give a run's --out")
    result = follow(summarising(path), quiet)
    if as_json:
        emit_json(result)
    else:
        report_table(result, path)


@app.command("trace")
@options(TraceSettings)
def trace(settings: TraceSettings, out: Out, as_json: Json = False, quiet: Quiet = False) -> None:
    """The prediction, loss and agreement at each iteration, as a table and a figure."""
    from experiments.adaptation.trace import run

    result = follow(run(settings, Path(out)), quiet)
    if as_json:
        emit_json(result)
        return
    steps = result["trace"]
    shown = sorted({*range(0, len(steps), max(1, len(steps) // 16)), len(steps) - 1})
    rows = []
    for i in shown:
        step = steps[i]
        loss = "-" if step["loss"] is None else f"{step['loss']:.3e}"
        same = "yes" if step["class"] == result["teacher_class"] else "no"
        said = result["names"][str(step["class"])], f"{100 * step['probability']:.0f} %"
        rows.append((step["iteration"], loss, f"{step['cosine']:.4f}", *said, same))
    sure = f"{100 * result['teacher_probability']:.0f} %"
    name = Path(settings.image).name
    title = f"{name}: the teacher says {result['teacher_name']}, {sure} among {result['classes']:,} classes"
    table(["iteration", "loss", "cosine", "prediction", "", "agrees"], rows, title=title, right=(0, 1, 2, 4))
    say(f"every iteration: {out}/trace.csv; figure: {out}/trace.png")
