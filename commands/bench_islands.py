"""`apm bench islands` and `islands-score`: what islands cost to see, and a recorded table of their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.bench_common import OutFolder, figures_table, hand_out, measured
from commands.common import Json, Quiet, Record, Resume, emit_json, follow, keep_record, table
from commands.options import options
from experiments.bench.settings import IslandsSettings
from experiments.islands.settings import RecordedScoreSettings

FIGURES = (
    ("tsne_speedup", "3-D t-SNE, scikit-learn's / ours", 2, ">= 4"),
    ("tsne_speedup_opentsne", "3-D t-SNE, openTSNE's / ours", 2, ">= 1"),
    ("trustworthiness", "trustworthiness (12), ours", 3, ">= next - 0.005"),
    ("trustworthiness_sklearn", "trustworthiness (12), scikit-learn", 3, ""),
    ("trustworthiness_opentsne", "trustworthiness (12), openTSNE", 3, ""),
    ("hook_overhead", "all blocks' grids / bare forward", 3, "<= 1.1"),
)


def measure_islands(settings: IslandsSettings, out: str | None, quiet: bool) -> dict[str, Any]:
    """Run the benchmark and return its record."""
    from experiments.bench.islands import run_islands

    return measured("islands", lambda tell: run_islands(settings, tell), out, quiet, settings.seconds)


@options(IslandsSettings)
def islands(
    settings: IslandsSettings,
    out: OutFolder = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fast 3-D t-SNE beside scikit-learn's and openTSNE's; what reading all blocks costs a forward pass."""
    hand_out(measure_islands(settings, out, quiet), out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    figures_table(value, FIGURES)
    print()
    seconds = [(k, *(f"{v[x]:.2f}" for x in ("median", "min", "max")), v["n"]) for k, v in value["seconds"].items()]
    table(["timed", "s", "min", "max", "rounds"], seconds, right=(1, 2, 3, 4))


@options(RecordedScoreSettings)
def islands_score(
    settings: RecordedScoreSettings,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder of the run.", metavar="DIR")],
    save: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """`apm islands score` on 100 pictures, recorded as one file with its settings and machine."""
    from commands.islands import scores
    from experiments.bench.islands import costing, score_record
    from experiments.islands.score import run

    begun = resume and Path(out).exists()
    found, cost = costing(lambda: follow(run(settings, Path(out), resume=resume), quiet))
    if save:
        keep_record(save, score_record(Path(out), Path(save).stem, None if begun else cost), out)
    if as_json:
        emit_json(found)
        return
    scores(found, Path(out))
