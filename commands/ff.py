"""`apm ff`: forward-forward networks trained, evaluated, and their goodness drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Device,
    Json,
    Out,
    Quiet,
    Record,
    Resume,
    Seed,
    emit_json,
    follow,
    for_adaptation,
    keep_record,
    percent,
    refuse_idle,
    resumable,
    say,
    table,
)
from commands.glom import HeldOut, Images, SheetsOut, Source, Threshold, score_table, show_sheets
from commands.paths import one_picture

app = typer.Typer(
    help="Forward-forward networks: train, eval, goodness maps, islands.", no_args_is_help=True, add_completion=False
)

DataRoot = Annotated[
    str | None,
    typer.Option("--data-root", help="Folder that holds the data; otherwise the cache.", metavar="DIR"),
]
Data = Annotated[
    str, typer.Option("--data", "-d", help="mnist, fashion-mnist, cifar10, or a folder with train/ and test/.")
]


def numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """Comma-separated whole numbers; None stays None."""
    from glom.errors import InputError

    if text is None:
        return None
    try:
        return tuple(int(x) for x in text.split(","))
    except ValueError as error:
        raise InputError(f"--{name} takes whole numbers with commas between, got '{text}'") from error


# Options that mean something in some modes only.
ONLY: dict[str, tuple[str, ...]] = {
    "negatives": ("supervised", "recurrent", "local"),
    "blur": ("unsupervised",),
    "field": ("local",),
    "iterations": ("recurrent", "local"),
    "damping": ("recurrent", "local"),
    "read": ("recurrent", "local"),
}


@app.command("train")
def train(
    out: Out,
    data: Data = "",
    mode: Annotated[
        str, typer.Option("--mode", "-m", help="supervised, unsupervised, recurrent or local.")
    ] = "supervised",
    preset: Annotated[str, typer.Option("--preset", help="paper or quick.")] = "quick",
    baseline: Annotated[bool, typer.Option("--baseline", help="Train the backpropagation twin too.")] = False,
    widths: Annotated[
        str | None, typer.Option("--widths", help="Units of the hidden layers, e.g. 1000,1000,1000.", metavar="N,N,...")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the pictures.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pictures a step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of the layers.")] = None,
    decay: Annotated[float | None, typer.Option("--decay", help="Weight cost of the layers.")] = None,
    negatives: Annotated[str | None, typer.Option("--negatives", help="Wrong labels: hard or uniform.")] = None,
    jitter: Annotated[
        int | None, typer.Option("--jitter", help="Shift pictures by up to N pixels.", metavar="N")
    ] = None,
    goodness: Annotated[str | None, typer.Option("--goodness", help="sum or mean of squares.")] = None,
    sign: Annotated[str | None, typer.Option("--sign", help="max or min: high goodness for positives, or low.")] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Of goodness, for each unit.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Of the logistic.")] = None,
    peer: Annotated[float | None, typer.Option("--peer", help="Strength of peer normalisation.")] = None,
    blur: Annotated[int | None, typer.Option("--blur", help="Times a hybrid mask is blurred.")] = None,
    field: Annotated[int | None, typer.Option("--field", help="Side of the receptive fields.")] = None,
    iterations: Annotated[int | None, typer.Option("--iterations", help="Of the recurrent network.")] = None,
    damping: Annotated[float | None, typer.Option("--damping", help="Share of the old state.")] = None,
    read: Annotated[str | None, typer.Option("--read", help="Iterations whose goodness counts.", metavar="I,J")] = None,
    baseline_epochs: Annotated[int | None, typer.Option("--baseline-epochs", help="Of the twin.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, or bf16 matrix products.")] = None,
    holdout: Annotated[int | None, typer.Option("--holdout", help="Keep N training pictures for validation.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most N training pictures.", min=1)] = None,
    data_root: DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data set where it is missing.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="PyTorch's choice otherwise.", min=1)] = None,
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train layers by their own goodness; errors on the test set are the last thing computed."""
    import torch

    from experiments.forward_forward.train import FFRequest, run
    from glom.errors import InputError
    from glom.forward_forward import preset as settings_of

    for_adaptation()
    if threads is not None:
        torch.set_num_threads(threads)
    read_at = numbers("read", read)
    if read_at is not None and len(read_at) != 2:
        raise InputError(f"--read takes the first and the last iteration, e.g. 3,5, got '{read}'")
    changes: dict[str, Any] = {
        "widths": numbers("widths", widths), "epochs": epochs, "batch": batch, "lr": lr, "decay": decay,
        "negatives": negatives, "jitter": jitter, "goodness": goodness, "sign": sign, "threshold": threshold,
        "temperature": temperature, "peer": peer, "blur": blur, "field": field, "iterations": iterations,
        "damping": damping, "read": read_at, "baseline_epochs": baseline_epochs, "precision": precision,
        "holdout": holdout,
    }  # fmt: skip
    settings = settings_of(mode, preset, seed=seed, baseline=baseline, **changes)
    refuse_idle(f"{mode} mode", mode, ONLY, changes)
    where = Path(data_root).expanduser() if data_root else None
    named = data or ("cifar10" if mode == "local" else "mnist")
    request = FFRequest(named, settings, limit, where, device, download)
    with resumable("complete epochs are kept"):
        result = follow(run(request, Path(out), resume), quiet)
    finish(result, Path(out), record, as_json)


@app.command("eval")
def evaluate(
    folder: Annotated[str, typer.Argument(help="A run folder.", metavar="DIR")],
    data: Annotated[str | None, typer.Option("--data", "-d", help="Another data set of the same shape.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most N test pictures.", min=1)] = None,
    data_root: DataRoot = None,
    record: Record = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Errors on the test set of what a run folder holds, also in the middle of a training."""
    from experiments.forward_forward.evaluate import data_of
    from experiments.forward_forward.evaluate import evaluate as run_evaluation

    path = Path(folder)
    where = Path(data_root).expanduser() if data_root else None
    result = run_evaluation(path, data or data_of(path, where), where, device, limit)
    finish(result, path, record, as_json)


def finish(result: dict[str, Any], folder: Path, record: str | None, as_json: bool) -> None:
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


@app.command("goodness")
def goodness(
    folder: Annotated[str, typer.Argument(help="A run folder.", metavar="DIR")],
    image: Annotated[str, typer.Argument(help="A picture.", metavar="IMAGE", callback=one_picture)],
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="A figure or a folder; goodness-NAME.png in DIR otherwise.", metavar="FILE"),
    ] = None,
    patch: Annotated[int, typer.Option("--patch", help="Side of the patches blanked, in pixels.")] = 4,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """A picture's goodness by label, layer and iteration, and where in the picture it comes from."""
    from experiments.forward_forward.goodness import run_goodness

    found = run_goodness(Path(folder), Path(image), Path(out) if out else None, device, patch)
    if as_json:
        emit_json(found)
        return
    layers = len(found["goodness"][0])
    labels = range(len(found["goodness"])) if len(found["goodness"]) > 1 else ["any"]
    rows = [(x, *(f"{v:.4g}" for v in values)) for x, values in zip(labels, found["goodness"], strict=True)]
    heads = ["label", *(f"layer {k + 1}" for k in range(layers))]
    sure = f"softmax {found['names']['softmax']}, {100 * found['softmax']:.0f} %"
    title = f"{Path(image).name}: read as {found['class']}; {sure}, among {found['among']:,} classes"
    table(heads, rows, title=title, right=range(1, layers + 1))
    say(f"figure: {found['figure']}; numbers: {found['numbers']}")


Local = Annotated[str, typer.Argument(help="A run folder of --mode local.", metavar="DIR")]


@app.command("islands")
def islands(
    folder: Local,
    images: Images,
    out: SheetsOut = None,
    threshold: Threshold = 0.9,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A sheet of layers by iterations for each picture: a local network's states as colours, its islands counted."""
    from experiments.consensus.sheets import islands_folder
    from experiments.forward_forward.islands import LayerSettings, run

    place = Path(out) if out else islands_folder(Path(folder), images)
    result = follow(run(LayerSettings(folder, tuple(images), threshold), place, device), quiet)
    show_sheets(result, place, ("sheet",), as_json)


@app.command("score")
def score(
    folder: Local,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run folder; a new score in DIR otherwise.", metavar="DIR")
    ] = None,
    limit: HeldOut = 200,
    source: Source = "",
    threshold: Threshold = 0.9,
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A local network's islands a layer and ARI against parts and wholes on held-out composites, beside baselines."""
    from experiments.consensus.sheets import untaken
    from experiments.forward_forward.score import LayerScoreSettings, run

    place = Path(out) if out else untaken(Path(folder) / "score")
    result = follow(run(LayerScoreSettings(folder, limit, source, threshold, seed), place, device), quiet)
    keep_record(record, result, place)
    if as_json:
        emit_json(result)
        return
    score_table(result, "layer")
    say(f"figure: {place}/layers.png; numbers: {place}/result.json")
