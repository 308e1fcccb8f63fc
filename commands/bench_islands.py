"""`apm bench islands` and `islands-score`: what islands cost to see, and a recorded table of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.bench_common import OutFolder, Quick, figures_table, hand_out, teller
from commands.common import (
    Device,
    Json,
    Quiet,
    Record,
    Resume,
    Seed,
    emit_json,
    follow,
    say,
    table,
)
from commands.paths import outlines

FIGURES = (
    ("tsne_speedup", "3-D t-SNE, scikit-learn's / ours", 2, ">= 4"),
    ("trustworthiness", "trustworthiness (12), ours", 3, ">= next - 0.005"),
    ("trustworthiness_sklearn", "trustworthiness (12), scikit-learn", 3, ""),
    ("hook_overhead", "all blocks' grids / bare forward", 3, "<= 1.1"),
)


def measure_islands(quick: bool, quiet: bool) -> dict[str, Any]:
    """Run the benchmark and return its record."""
    from experiments.bench.islands import QUICK, IslandsSettings, run_islands
    from experiments.bench.timing import record

    result = run_islands(QUICK if quick else IslandsSettings(), teller("islands", quiet))
    return record("islands", result.pop("asked"), result)


def islands(out: OutFolder = None, quick: Quick = False, as_json: Json = False, quiet: Quiet = False) -> None:
    """Fast 3-D t-SNE beside scikit-learn's, and what reading all blocks costs a forward pass."""
    hand_out(measure_islands(quick, quiet), out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    figures_table(value, FIGURES)
    print()
    seconds = [(k, *(f"{v[x]:.2f}" for x in ("median", "min", "max")), v["n"]) for k, v in value["seconds"].items()]
    table(["timed", "s", "min", "max", "rounds"], seconds, right=(1, 2, 3, 4))


def islands_score(
    data: Annotated[str, typer.Argument(help="As `apm islands score` takes it.", callback=outlines)],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the run.", metavar="DIR")],
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="See docs/islands.md.", metavar="B")] = "",
    partition: Annotated[str, typer.Option("--partition", help="See `apm islands score`.", metavar="P")] = "kmeans:6",
    size: Annotated[int, typer.Option("--size", help="Side in pixels; 0: the backbone's.", min=0)] = 0,
    split: Annotated[str, typer.Option("--split", help="Split of a bsds500 folder.")] = "val",
    limit: Annotated[int, typer.Option("--limit", help="At most N pictures; 0: all.", min=0)] = 100,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """`apm islands score` on 100 pictures, recorded as one file with its settings and machine."""
    from commands.islands import score_table
    from experiments.bench.islands import score_record
    from experiments.islands.score import ScoreSettings, run_score
    from glom.runs.artifacts import public_command, write_json

    settings = ScoreSettings(data, backbone, partition=partition, size=size, split=split, limit=limit, seed=seed)
    found = follow(run_score(settings, Path(out), resume, device), quiet)["summary"]
    if save:
        target = Path(save)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, score_record(Path(out), target.stem, public_command()))
    if as_json:
        emit_json(found)
        return
    score_table(found, Path(out))
    if save:
        say(f"recorded in {save}")
