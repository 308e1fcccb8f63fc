"""`apm ff`: forward-forward networks trained, evaluated, and their goodness drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Json,
    Out,
    Quiet,
    Record,
    Resume,
    emit_json,
    follow,
    keep_record,
    number,
    percent,
    say,
    table,
)
from commands.ending import resumable
from commands.glom import SheetsOut, score_table, show_sheets
from commands.options import options
from experiments.forward_forward.settings import EvalSettings, FFRun, GoodnessSettings, IslandSettings, ScoreSettings
from glom.errors import refuse_idle
from glom.forward_forward.settings import OF_MODES

app = typer.Typer(
    help="Forward-forward networks: train, eval, goodness maps, islands.", no_args_is_help=True, add_completion=False
)


@app.command("train")
@options(FFRun)
def train(
    settings: FFRun,
    given: Mapping[str, Any],
    out: Out,
    threads: Annotated[int | None, typer.Option("--threads", help="PyTorch's choice otherwise.", min=1)] = None,
    record: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train layers by their own goodness; errors on the test set are the last thing computed."""
    import torch

    from experiments.forward_forward.train import run

    if threads is not None:
        torch.set_num_threads(threads)
    refuse_idle(f"{settings.how.mode} mode", settings.how.mode, OF_MODES, given)
    with resumable("complete epochs are kept"):
        result = follow(run(settings, Path(out), resume=resume), quiet)
    finish(result, Path(out), record, as_json)


@app.command("eval")
@options(EvalSettings)
def evaluate(settings: EvalSettings, record: Record = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Errors on the test set of what a run folder holds, also in the middle of a training."""
    from experiments.forward_forward.evaluate import run

    finish(follow(run(settings), quiet), Path(settings.folder), record, as_json)


def finish(result: Mapping[str, Any], folder: Path, record: str | None, as_json: bool) -> None:
    """Record where asked to, print."""
    if record:
        from experiments.forward_forward.evaluate import about

        keep_record(record, about(folder, result), folder)
    if as_json:
        emit_json(result)
        return
    names = {"goodness": "goodness of every label", "softmax": "softmax in one pass"}
    trained = result["epochs"], percent(result["seconds_per_epoch"])
    rows = [(names[k], f"{v:.2f}", *trained) for k, v in result["readouts"].items()]
    if result["baseline_test_error"] is not None:
        twin = result["baseline_epochs"], percent(result["baseline_seconds_per_epoch"])
        rows.append(("backpropagation twin", f"{result['baseline_test_error']:.2f}", *twin))
    title = f"{folder}: {result['test_pictures']} test pictures"
    title += "" if result["complete"] else ", training not complete"
    table(["read-out", "error (%)", "epochs", "s an epoch"], rows, title=title, right=(1, 2, 3))
    if "layers" in result:
        heads = ["layer", "linear read-out (%)", "its goodness (%)", "summed (%)", "AUROC of goodness"]
        errors = ("readout_error", "goodness_error", "summed_error")
        shown = [
            (str(r["layer"]), *(percent(r[name]) for name in errors), number(r["goodness_auroc"]))
            for r in result["layers"]
        ]
        table(heads, shown, title="what is wrong after each layer", right=range(5))


@app.command("goodness")
@options(GoodnessSettings)
def goodness(
    settings: GoodnessSettings,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="A figure or a folder; goodness-NAME.png in DIR otherwise.", metavar="FILE"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A picture's goodness by label, layer and iteration, and where in the picture it comes from."""
    from experiments.forward_forward.goodness import run_goodness

    found = follow(run_goodness(settings, Path(out) if out else None), quiet)
    if as_json:
        emit_json(found)
        return
    layers = len(found["goodness"][0])
    labels = range(len(found["goodness"])) if len(found["goodness"]) > 1 else ["any"]
    rows = [(x, *(f"{v:.4g}" for v in values)) for x, values in zip(labels, found["goodness"], strict=True)]
    heads = ["label", *(f"layer {k + 1}" for k in range(layers))]
    sure = f"softmax {found['names']['softmax']}, {100 * found['softmax']:.0f} %"
    title = f"{Path(settings.image).name}: read as {found['class']}; {sure}, among {found['among']:,} classes"
    table(heads, rows, title=title, right=range(1, layers + 1))
    say(f"figure: {found['figure']}; numbers: {found['numbers']}")


@app.command("islands")
@options(IslandSettings)
def islands(settings: IslandSettings, out: SheetsOut = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A sheet of layers by iterations for each picture: a local network's states as colours, its islands counted."""
    from experiments.consensus.sheets import islands_folder
    from experiments.forward_forward.islands import run

    place = Path(out) if out else islands_folder(Path(settings.trained), settings.images)
    show_sheets(follow(run(settings, place), quiet), place, ("sheet",), as_json)


@app.command("score")
@options(ScoreSettings)
def score(
    settings: ScoreSettings,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run folder; a new score in DIR otherwise.", metavar="DIR")
    ] = None,
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A local network's islands a layer and ARI against parts and wholes on held-out composites, beside baselines."""
    from experiments.consensus.sheets import untaken
    from experiments.forward_forward.score import run

    place = Path(out) if out else untaken(Path(settings.trained) / "score")
    result = follow(run(settings, place), quiet)
    keep_record(record, result, place)
    if as_json:
        emit_json(result)
        return
    score_table(result, "layer")
    say(f"figure: {place}/layers.png; numbers: {place}/result.json")
