"""`apm bench`: ratios measured side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from commands.bench_common import OutFolder, Quick, Threads, hand_out, measured, save_record, use_threads
from commands.bench_compute import compute
from commands.bench_ff import ff, ff_conv, measure_ff
from commands.bench_glom import glom
from commands.bench_islands import islands, islands_score, measure_islands
from commands.bench_methods import methods
from commands.bench_reading import reading
from commands.bench_reads import device, host_reads
from commands.bench_scale import compiled, plan, ranks
from commands.bench_steps import steps
from commands.bench_ttt import ttt
from commands.common import Json, Quiet, emit_json, follow, number, say, table
from commands.options import options
from experiments.bench.settings import (
    QUICK,
    ComputeSettings,
    ExecutionSettings,
    FFBench,
    IslandsSettings,
    MemorySettings,
    ScalingSettings,
)

if TYPE_CHECKING:
    from experiments.bench.going import Going

Sized = ExecutionSettings | MemorySettings | ScalingSettings
SIZED: dict[str, type[Sized]] = {
    "execution": ExecutionSettings,
    "memory": MemorySettings,
    "scaling": ScalingSettings,
}
app = typer.Typer(
    help="Benchmarks: ratios measured side by side in one run.", no_args_is_help=True, add_completion=False
)
app.command("compile")(compiled)
app.command("compute")(compute)
app.command("device")(device)
app.command("ff")(ff)
app.command("ff-conv")(ff_conv)
app.command("glom")(glom)
app.command("host-reads")(host_reads)
app.command("islands")(islands)
app.command("islands-score")(islands_score)
app.command("methods")(methods)
app.command("plan")(plan)
app.command("ranks")(ranks)
app.command("reading")(reading)
app.command("steps")(steps)
app.command("ttt")(ttt)


def measure(bench: str, settings: Sized, threads: int | None, out: str | None, quiet: bool) -> dict[str, Any]:
    """Run one benchmark and return its record."""
    from dataclasses import replace

    import torch

    from experiments.bench.execution import run_execution
    from experiments.bench.memory import run_memory
    from experiments.bench.scaling import run_scaling

    use_threads(threads)

    def work(tell: Going) -> dict[str, Any]:
        if isinstance(settings, ExecutionSettings):
            return run_execution(settings, tell)
        if isinstance(settings, MemorySettings):
            return run_memory(replace(settings, threads=torch.get_num_threads()), tell)
        return run_scaling(settings, tell)

    return measured(bench, work, out, quiet, settings.seconds)


def report(bench: str, settings: Sized, threads: int | None, out: str | None, as_json: bool, quiet: bool) -> None:
    """Measure, save where asked to, print."""
    from experiments.bench.report import figures

    def show(value: dict[str, Any]) -> None:
        table(["what", "measured", "min to max", "wanted"], figures({bench: value}), right=(1,))
        details(value)

    hand_out(measure(bench, settings, threads, out, quiet), out, as_json, quiet, show)


def details(value: Mapping[str, Any]) -> None:
    """The rows under a benchmark's headline."""
    print()
    if value["bench"] == "execution":
        rows = [
            (row["apm"], row["name"], *(f"{1000 * row['seconds'][k]:.1f}" for k in ("median", "min", "max")))
            for row in value["rows"]
        ]
        table(["APM", "iteration", "ms a sample", "min", "max"], rows, right=(2, 3, 4))
        cases = [
            (c["case"], c["precision"], f"{c['seconds']['median']:.2f}", f"{c['cosine']:.5f}", c["same_class"])
            for c in value["adaptation"]["cases"]
        ]
        if cases:
            print()
            table(["adaptation to a", "", "s", "cosine", "same class"], cases, right=(2, 3))
    elif value["bench"] == "memory":
        rows = [
            (
                r["execution"],
                r["columns"],
                r["peak_mib"],
                r["import_mib"],
                r["persistent_mib"],
                number(r["activations_mib"], 1),
                number(r["processor_seconds"]),
            )
            for r in value["rows"]
        ]
        names = ["MiB", "columns", "peak", "libraries", "weights etc.", "activations", "processor s"]
        table(names, rows, right=range(1, 7))
        if value["time"] is not None:
            print(f"streamed: {1e6 * value['time']['slope']:.1f} us a column, R^2 {value['time']['r2']:.5f}")
    else:
        rows = [
            (r["columns"], *(f"{r['seconds'][k]['median']:.3f}" for k in ("one", "sharded")), *_speedups(r))
            for r in value["two_processes"]["columns"]
        ]
        table(["columns", "one (s)", "two (s)", "speed-up", "ceiling"], rows, right=(0, 1, 2, 3, 4))
        print()
        rows = [
            (r["columns"], *(f"{r['seconds'][k]['median']:.3f}" for k in ("folded", "streamed", "subset")))
            for r in value["growth"]["rows"]
        ]
        few = f"{value['growth']['subset_queries']} drawn (s)"
        table(["columns", "folded (s)", "streamed (s)", few], rows, right=(0, 1, 2, 3))
        for name, fit in value["growth"]["fit_seconds_per_column"].items():
            print(f"{name}: {1e6 * fit['slope']:.1f} us a column, R^2 {fit['r2']:.5f}")


def _speedups(row: Mapping[str, Any]) -> tuple[str, str]:
    return f"{row['speedup']['median']:.2f}", f"{row['ceiling']['median']:.2f}"


@app.command("execution")
@options(ExecutionSettings)
def execution(
    settings: ExecutionSettings,
    out: OutFolder = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One test-time iteration: as published, plain at its best, folded, streamed, bf16, stacked."""
    report("execution", settings, threads, out, as_json, quiet)


@app.command("memory")
@options(MemorySettings)
def memory(
    settings: MemorySettings,
    out: OutFolder = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Peak memory of a step against the number of columns."""
    report("memory", settings, threads, out, as_json, quiet)


@app.command("scaling")
@options(ScalingSettings)
def scaling(
    settings: ScalingSettings,
    out: OutFolder = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Columns and samples over two processes; time against the number of columns."""
    report("scaling", settings, threads, out, as_json, quiet)


@app.command("all")
def everything(
    out: OutFolder = "benchmarks/results",
    quick: Quick = False,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """All but ff-conv, steps, ttt and islands-score, as JSON with a Markdown table; some 30 minutes on two cores."""
    from experiments.bench.report import BENCHES, figures, load, markdown
    from glom.runs.files import write_text

    folder = Path(out or "benchmarks/results")
    preset = "quick" if quick else "full"
    begun = time.monotonic()

    def share(left: int) -> dict[str, int]:
        """Of the time of a look, what the next of so many benchmarks may take."""
        return {"seconds": max(1, int((begun + QUICK - time.monotonic()) / left))} if quick else {}

    for left, bench in zip((5, 4, 3), BENCHES, strict=True):
        settings = SIZED[bench].of(preset, **share(left))
        save_record(folder, measure(bench, settings, threads, str(folder), quiet), quiet)
    save_record(folder, measure_ff(FFBench.of(preset, **share(2)), str(folder), quiet), quiet)
    save_record(folder, measure_islands(IslandsSettings.of(preset, **share(1)), str(folder), quiet), quiet)
    save_compute(folder, preset, quiet)
    records = load(folder)
    write_text(folder / "table.md", markdown(records))
    if as_json:
        emit_json(records)
        return
    table(["what", "measured", "min to max", "wanted"], figures(records), right=(1,))
    say(f"saved: {folder}/table.md")


def save_compute(folder: Path, preset: str, quiet: bool) -> None:
    """The poster's computational analysis into the same folder: compute.json and compute.png."""
    from experiments.bench.compute import run
    from glom.runs.artifacts import write_record
    from probes.figures.compute import compute_figure

    found = follow(run(ComputeSettings.of(preset, device="cpu")), quiet)
    write_record(folder / "compute.json", found)
    compute_figure(found["figure"], folder / "compute.png")
