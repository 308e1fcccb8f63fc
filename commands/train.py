"""`apm train`: the recipes of what ships."""

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
    resumable,
    say,
    table,
)

app = typer.Typer(help="Train what ships, from scratch.", no_args_is_help=True, add_completion=False)


@app.command("glom-tiny")
def glom_tiny(
    out: Out,
    data: Annotated[
        str, typer.Option("--data", help="CIFAR-10: `cifar10` (torchvision), or a folder with train/ and test/.")
    ] = "cifar10",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training images.", min=1)] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most N training images.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")] = False,
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small CLIP on CIFAR-10's class names in sentences; about 25 minutes on two cores."""
    from dataclasses import replace

    from experiments.recipes.tiny_clip import TinyClipSettings, run_training

    settings = TinyClipSettings(seed=seed)
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    with resumable("every finished epoch is kept"):
        events = run_training(data, settings, Path(out), resume, limit, download)
        result = follow(events, quiet, "loss", "accuracy")["result"]
    if as_json:
        emit_json(result)
    say(f"weights: {out}/open_clip_model.safetensors; a folder open_clip loads as local-dir:{out}")


@app.command("mvit-v2-tiny")
def mvit_v2_tiny(
    out: Out,
    data: Annotated[
        str, typer.Option("--data", help="`cifar10` (torchvision), or a folder with train/CLASS and test/CLASS.")
    ] = "cifar10",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training pictures.", min=1)] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most N pictures of either split; 0: all.", min=0)] = 0,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")] = False,
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small MViTv2 on boring videos, by classification alone; about an hour on one core."""
    from dataclasses import replace

    from experiments.recipes.mvit_tiny import MViTTinySettings, run_training

    settings = MViTTinySettings(seed=seed, limit=limit)
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    with resumable("every finished epoch is kept"):
        events = run_training(data, settings, Path(out), resume, download)
        result = follow(events, quiet, "loss", "accuracy")["result"]
    if as_json:
        emit_json(result)
        return
    low, high = result["ci95"]
    print(f"test accuracy {result['test_accuracy']:.2f} % [{low:.2f}, {high:.2f}] on {result['n']:,} pictures")
    say(f"weights, configuration and model card in {out}; a backbone: mvit-v2-tiny@{out}")


@app.command("mae-tiny")
def mae_tiny(
    out: Out,
    data: Annotated[
        str, typer.Argument(help="`cifar10` (torchvision), or a folder with train/CLASS and test/CLASS.")
    ] = "cifar10",
    stage: Annotated[
        str, typer.Option("--stage", help="pretrain, probe, adapt, fine-tune, joint, or all.", metavar="STAGE")
    ] = "all",
    limit: Annotated[int, typer.Option("--limit", help="At most N pictures of either split; 0: all.", min=0)] = 0,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")] = False,
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small masked autoencoder and its class heads, the corruption table's baselines; an hour on one core."""
    from experiments.recipes.mae_run import run_training
    from experiments.recipes.mae_settings import MAETinySettings
    from glom.runs.artifacts import write_record

    settings = MAETinySettings(limit=limit, seed=seed)
    with resumable("every finished epoch is kept"):
        events = run_training(data, settings, Path(out), stage, resume, download, device)
        result = follow(events, quiet, "loss", "accuracy")["result"]
    if record:
        write_record(Path(record), result)
    if as_json:
        emit_json(result)
        return
    show_stages_of_mae(result["stages"])
    say(f"in {out}" + (f"; recorded in {record}" if record else "") + f"; to compare: apm benchmark --mae {out}")


def show_stages_of_mae(stages: dict[str, Any]) -> None:
    """A row a stage that is done."""
    rows = []
    for name, r in stages.items():
        span = f"{r['ci95'][0]:.2f}-{r['ci95'][1]:.2f}" if "ci95" in r else ""
        accuracy = f"{r['test_accuracy']:.2f}" if "test_accuracy" in r else ""
        loss = f"{r['loss']:.3f}" if "loss" in r else ""
        rows.append((name, loss, accuracy, span, r.get("n", ""), f"{r['seconds'] / 60:.1f}"))
    table(["stage", "last loss", "test top-1", "95 %", "pictures", "minutes"], rows, right=range(1, 6))
