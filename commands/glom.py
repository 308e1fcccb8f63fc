"""`apm glom`: Hinton's GLOM trained, its islands shown level by level, and measured."""

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
    keep_record,
    refuse_idle,
    resumable,
    say,
    table,
)
from commands.paths import any_picture, data_set_or_composites

app = typer.Typer(
    help="Hinton's GLOM: train it, see its islands level by level.", no_args_is_help=True, add_completion=False
)

Trained = Annotated[str, typer.Argument(help="The --out of `apm glom train`.", metavar="DIR")]
Threshold = Annotated[float, typer.Option("--threshold", help="Cosine from which neighbours are one island.")]
Images = Annotated[list[str], typer.Argument(help="Pictures.", metavar="IMAGE...", callback=any_picture)]
SheetsOut = Annotated[
    str | None, typer.Option("--out", "-o", help="Run folder; a new islands-NAME in DIR otherwise.", metavar="DIR")
]
HeldOut = Annotated[int, typer.Option("--limit", help="Held-out composites.", min=2)]
Source = Annotated[
    str, typer.Option("--source", help="Objects of the composites, e.g. fashion-mnist:ROOT.", metavar="S")
]
Iterations = Annotated[int, typer.Option("--iterations", help="Updates; 0: as trained.", min=0)]

# Options that mean something for some objectives only.
ONLY: dict[str, tuple[str, ...]] = {
    "noise": ("denoise",),
    "masked": ("mask",),
    "crop": ("contrast",),
    "agreement": ("denoise", "mask", "contrast"),
    "negatives": ("forward-forward",),
}


@app.command("train")
def train(
    out: Out,
    objective: Annotated[
        str, typer.Option("--objective", help="denoise, mask, contrast or forward-forward.", metavar="O")
    ] = "mask",
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="composites, fashion-mnist, cifar10, NAME:ROOT, or a folder.",
            metavar="D",
            callback=data_set_or_composites,
        ),
    ] = "composites",
    source: Source = "",
    limit: Annotated[int, typer.Option("--limit", help="At most N pictures of a data set; 0: 20,000.", min=0)] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures in pixels.")] = 48,
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps.")] = 1500,
    batch: Annotated[int, typer.Option("--batch", help="Pictures a step.")] = 16,
    lr: Annotated[float, typer.Option("--lr", help="AdamW's rate at its highest.")] = 2e-3,
    levels: Annotated[int, typer.Option("--levels", help="Levels of a column.")] = 4,
    dim: Annotated[int, typer.Option("--dim", help="Width of an embedding.")] = 64,
    hidden: Annotated[int, typer.Option("--hidden", help="Hidden width of the nets.")] = 128,
    patch: Annotated[int, typer.Option("--patch", help="Pixels a column stands on, each way.")] = 4,
    margin: Annotated[int, typer.Option("--margin", help="Pixels a column sees beyond its patch.")] = 2,
    iterations: Annotated[int, typer.Option("--iterations", help="Updates a picture.")] = 6,
    temperature: Annotated[float, typer.Option("--temperature", help="Of the agreement's exponent.")] = 1.0,
    radius: Annotated[
        str, typer.Option("--radius", help="Cells a column attends over: global, 2, or one a level: 1,2,4,global.")
    ] = "global",
    attend_self: Annotated[bool, typer.Option("--self/--no-self", help="Whether a column attends to itself.")] = True,
    weights: Annotated[
        str, typer.Option("--weights", help="Of bottom-up, top-down, previous, consensus.", metavar="W")
    ] = "1,1,1,1",
    agreement: Annotated[
        float | None, typer.Option("--agreement", help="Weight of the agreement terms: 0.2; not in forward-forward.")
    ] = None,
    noise: Annotated[
        float | None, typer.Option("--noise", help="denoise: deviation, pixels in [0, 1]; 0.2.", metavar="S")
    ] = None,
    masked: Annotated[float | None, typer.Option("--masked", help="mask: share taken away; 0.5.")] = None,
    crop: Annotated[float | None, typer.Option("--crop", help="contrast: smallest side of a crop; 0.6.")] = None,
    negatives: Annotated[
        str | None, typer.Option("--negatives", help="forward-forward: half, faded or blobs; half.", metavar="K")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16 products.")] = "auto",
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a GLOM; DIR then holds its weights, the log of the loss, and all that going on needs."""
    from experiments.consensus.train import run
    from glom.consensus.config import GlomConfig, parse_radius, parse_weights
    from glom.consensus.objectives import ObjectiveSettings, objective_of
    from glom.consensus.training import TrainSettings

    objective_of(objective)
    given: dict[str, Any] = {
        "agreement": agreement,
        "noise": noise,
        "masked": masked,
        "crop": crop,
        "negatives": negatives,
    }
    task = ObjectiveSettings(**{k: v for k, v in given.items() if v is not None})
    refuse_idle(f"the objective {objective}", objective, ONLY, given)
    config = GlomConfig(
        levels=levels,
        dim=dim,
        hidden=hidden,
        patch=patch,
        margin=margin,
        iterations=iterations,
        temperature=temperature,
        radius=parse_radius(radius),
        attend_self=attend_self,
        weights=parse_weights(weights),
    )
    settings = TrainSettings(
        objective, data, source, limit, size, steps, batch, lr, precision=precision, seed=seed, config=config, task=task
    )
    with resumable("the last checkpoint is kept"):
        result = follow(run(settings, Path(out), resume, device), quiet)
    if as_json:
        emit_json(result)
        return
    rows = [(f"{i + 1}", f"{value:.3f}") for i, value in enumerate(result["levels"])]
    title = f"{result['objective']}, {result['steps']} steps, {result['parameters']:,} parameters"
    table(["level", MEASURES[result["measure"]]], rows, title=title, right=(1,))
    say(f"in {out}; next: apm glom score {out} --out DIR, apm glom islands {out} IMAGE")


MEASURES = {
    "error": "variance left over (last batch)",
    "contrast": "contrast, nats (last batch)",
    "goodness": "real or hybrid, nats (last batch; chance 0.693)",
}


@app.command("islands")
def islands(
    trained: Trained,
    images: Images,
    out: SheetsOut = None,
    size: Annotated[int, typer.Option("--size", help="Side of what is seen, pixels; 0: as trained.", min=0)] = 0,
    iterations: Iterations = 0,
    threshold: Threshold = 0.9,
    untrained: Annotated[bool, typer.Option("--untrained", help="The same GLOM with random weights.")] = False,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A sheet of levels by iterations, a page to explore and a film of the islands forming, for each picture."""
    from experiments.consensus.islands import IslandSettings, run
    from experiments.consensus.sheets import islands_folder

    settings = IslandSettings(trained, tuple(images), size, iterations, threshold, untrained)
    folder = Path(out) if out else islands_folder(Path(trained), images)
    show_sheets(follow(run(settings, folder, device), quiet), folder, ("sheet", "page", "film"), as_json)


def show_sheets(result: dict[str, Any], folder: Path, kinds: tuple[str, ...], as_json: bool) -> None:
    """What was drawn of each picture and where it lies, and the pictures that were skipped."""
    if as_json:
        emit_json({**result, "folder": str(folder)})
        return
    table(["picture", *kinds], [(p["image"], *(p[kind] for kind in kinds)) for p in result["pictures"]])
    say(f"in {folder}")
    for skipped in result["skipped"]:
        image, reason = skipped["image"], skipped["reason"]
        say(f"skipped: {reason if image in reason else f'{image}: {reason}'}")


@app.command("score")
def score(
    trained: Trained,
    out: Out,
    source: Annotated[
        str, typer.Option("--source", help="Objects of the composites; default: the trained one's.", metavar="S")
    ] = "",
    limit: HeldOut = 200,
    iterations: Iterations = 0,
    threshold: Threshold = 0.9,
    record: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Islands a level and ARI against parts and wholes on held-out composites, beside both baselines."""
    from experiments.consensus.score import ScoreSettings, run

    settings = ScoreSettings(trained, source, limit, iterations, threshold, seed)
    result = follow(run(settings, Path(out), device), quiet)
    keep_record(record, result, out)
    if as_json:
        emit_json(result)
        return
    score_table(result)
    say(f"figure: {out}/levels.png; numbers: {out}/result.json")


def score_table(result: dict[str, Any], word: str = "level") -> None:
    """A row a level (or whatever `word` a network has for it), trained and untrained side by side, the pixels below,
    and the verdict in words."""
    rows = []
    for own, twin in zip(result["levels"], result["untrained"], strict=True):
        low, high = own["ci95"]["islands"]
        cells = [str(own["level"]), f"{own['islands']:.1f}", f"{low:.1f}-{high:.1f}", f"{twin['islands']:.1f}"]
        for measure in ("ari_wholes", "ari_parts"):
            cells += [f"{own[measure]:.3f}", f"{twin[measure]:.3f}"]
        rows.append(cells)
    pixels = result["pixels"]
    rows.append(["pixels", "-", "-", "-", f"{pixels['ari_wholes']:.3f}", "-", f"{pixels['ari_parts']:.3f}", "-"])
    heads = [word, "islands", "95 %", "untr.", "ARI wholes", "untr.", "ARI parts", "untr."]
    title = f"{result['trained']}: {result['n']} held-out composites; untr.: random weights"
    table(heads, rows, title=title, right=range(1, 8))
    for line in result["verdict"]:
        say(line)
