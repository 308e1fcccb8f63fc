"""`apm train`: the recipes of what ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Out, Quiet, Resume, Seed, emit_json, progress, say

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

    from experiments.tiny_clip import TinyClipSettings, run_training

    settings = TinyClipSettings(seed=seed)
    if epochs is not None:
        settings = replace(settings, epochs=epochs)
    last: dict[str, float] = {}
    events = run_training(data, settings, Path(out), resume, limit, download)
    with progress(quiet, "note") as bar:
        task = bar.add_task("training", total=settings.epochs, note="reading the images")
        for event in events:
            last = event
            note = f"loss {event['loss']:.3f}  train {event['train_accuracy']:.1f} %"
            bar.update(task, completed=event["epoch"], note=note)
    if as_json:
        emit_json(last)
    say(f"weights: {out}/open_clip_model.safetensors; a folder open_clip loads as local-dir:{out}")
