"""`apm train`: the recipes of what ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.common import Json, Out, Quiet, Record, Resume, emit_json, follow, keep_record, say, table
from commands.ending import resumable
from commands.options import options
from experiments.recipes.mae_settings import MAETinySettings
from experiments.recipes.settings import MViTPhotoSettings, MViTTinySettings, TinyClipSettings

if TYPE_CHECKING:
    from experiments.recipes.mvit_tiny_ship import Shipping
    from glom.runs.events import Event

app = typer.Typer(help="Train what ships, from scratch.", no_args_is_help=True, add_completion=False)


Download = Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 where it is missing.")]


@app.command("glom-tiny")
@options(TinyClipSettings)
def glom_tiny(
    settings: TinyClipSettings,
    out: Out,
    download: Download = False,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small CLIP on CIFAR-10's class names in sentences; about 25 minutes on two cores."""
    from experiments.recipes.tiny_clip import run

    with resumable("every finished epoch is kept"):
        result = follow(run(settings, Path(out), resume=resume, download=download), quiet)
    if as_json:
        emit_json(result)
    say(f"weights: {out}/open_clip_model.safetensors; a folder open_clip loads as local-dir:{out}")


@app.command("mvit-v2-tiny")
@options(MViTTinySettings)
def mvit_v2_tiny(
    settings: MViTTinySettings,
    out: Out,
    download: Download = False,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small MViTv2 on boring videos, by classification alone; about an hour on one core."""
    from experiments.recipes.mvit_tiny import run

    _follow_mvit("mvit-v2-tiny", run(settings, Path(out), resume=resume, download=download), out, as_json, quiet)


@app.command("mvit-v2-photo")
@options(MViTPhotoSettings)
def mvit_v2_photo(
    settings: MViTPhotoSettings,
    out: Out,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small MViTv2 further, on photographs, by classification alone; about an hour on one core."""
    from experiments.recipes.mvit_photo import run

    _follow_mvit("mvit-v2-photo", run(settings, Path(out), resume=resume), out, as_json, quiet)


def _follow_mvit(name: str, events: Iterator[Event[Shipping]], out: str, as_json: bool, quiet: bool) -> None:
    """A training to its end, and what came of it."""
    with resumable("every finished epoch is kept"):
        result = follow(events, quiet)
    if as_json:
        emit_json(result)
        return
    low, high = result["ci95"]
    print(f"test accuracy {result['test_accuracy']:.2f} % [{low:.2f}, {high:.2f}] on {result['n']:,} pictures")
    say(f"weights, configuration and model card in {out}; a backbone: {name}@{out}")


@app.command("mae-tiny")
@options(MAETinySettings)
def mae_tiny(
    settings: MAETinySettings,
    out: Out,
    stage: Annotated[
        str, typer.Option("--stage", help="pretrain, probe, adapt, fine-tune, joint, or all.", metavar="STAGE")
    ] = "all",
    download: Download = False,
    record: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the small masked autoencoder and its class heads, the corruption table's baselines; an hour on one core."""
    from experiments.recipes.mae_run import run

    with resumable("every finished epoch is kept"):
        events = run(settings, Path(out), stage=stage, resume=resume, download=download)
        result = follow(events, quiet)
    keep_record(record, result, out)
    if as_json:
        emit_json(result)
        return
    show_stages_of_mae(result["stages"])
    say(f"in {out}" + f"; to compare: apm benchmark --mae {out}")


def show_stages_of_mae(stages: Mapping[str, Any]) -> None:
    """A row a stage that is done."""
    rows = []
    for name, r in stages.items():
        span = f"{r['ci95'][0]:.2f}-{r['ci95'][1]:.2f}" if "ci95" in r else ""
        accuracy = f"{r['test_accuracy']:.2f}" if "test_accuracy" in r else ""
        loss = f"{r['loss']:.3f}" if "loss" in r else ""
        rows.append((name, loss, accuracy, span, r.get("n", ""), f"{r['seconds'] / 60:.1f}"))
    table(["stage", "last loss", "test top-1", "95 %", "pictures", "minutes"], rows, right=range(1, 6))
