"""`apm glom`: Hinton's GLOM trained, its islands shown level by level, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Json,
    Quiet,
    emit_json,
    follow,
    say,
    table,
)
from commands.options import options
from commands.study import study
from experiments.consensus.settings import IslandSettings, ScoreSettings
from glom.consensus.config import TrainSettings
from glom.errors import refuse_idle

app = typer.Typer(
    help="Hinton's GLOM: train it, see its islands level by level.", no_args_is_help=True, add_completion=False
)

SheetsOut = Annotated[
    str | None, typer.Option("--out", "-o", help="Run folder; a new islands-NAME in DIR otherwise.", metavar="DIR")
]

# Options that mean something for some objectives only.
ONLY: dict[str, tuple[str, ...]] = {
    "noise": ("denoise",),
    "masked": ("mask",),
    "crop": ("contrast",),
    "agreement": ("denoise", "mask", "contrast"),
    "negatives": ("forward-forward",),
}
WORLDS_ONLY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("data", "source", "limit", "size", "patch", "margin"), ("pictures",)),
    **dict.fromkeys(("classes", "objects", "turn", "jitter"), ("ellipses",)),
}


def _idle(settings: TrainSettings, given: Mapping[str, Any]) -> None:
    refuse_idle(f"the objective {settings.objective}", settings.objective, ONLY, given)
    refuse_idle(f"the world of {settings.world}", settings.world, WORLDS_ONLY, given)


@app.command("train")
@study(TrainSettings, "experiments.consensus.train", resume="the last checkpoint is kept", record=False, check=_idle)
def train(result: Mapping[str, Any], out: str) -> None:
    """Train a GLOM; DIR then holds its weights, the log of the loss, and all that going on needs."""
    rows = [(f"{i + 1}", f"{value:.3f}") for i, value in enumerate(result["levels"])]
    title = f"{result['objective']}, {result['steps']} steps, {result['parameters']:,} parameters"
    table(["level", MEASURES[result["measure"]]], rows, title=title, right=(1,))
    more = "" if result["measure"] == "nats" else f", apm glom islands {out} IMAGE"
    say(f"in {out}; next: apm glom score {out} --out DIR{more}")


MEASURES = {
    "error": "variance left over (last batch)",
    "contrast": "contrast, nats (last batch)",
    "goodness": "real or hybrid, nats (last batch; chance 0.693)",
    "nats": "nats: level 1 the part, above it the whole (last batch)",
}


@app.command("islands")
@options(IslandSettings)
def islands(
    settings: IslandSettings,
    out: SheetsOut = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A sheet of levels by iterations, a page to explore and a film of the islands forming, for each picture."""
    from experiments.consensus.islands import run
    from experiments.consensus.sheets import islands_folder

    folder = Path(out) if out else islands_folder(Path(settings.trained), settings.images)
    show_sheets(follow(run(settings, folder), quiet), folder, ("sheet", "page", "film"), as_json)


def show_sheets(result: Mapping[str, Any], folder: Path, kinds: tuple[str, ...], as_json: bool) -> None:
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
@study(ScoreSettings, "experiments.consensus.score")
def score(result: Mapping[str, Any], out: str) -> None:
    """Islands a level and ARI against parts and wholes on held-out composites, beside both baselines."""
    if "ellipses" in result:
        ellipses_table(result)
        say(f"figure: {out}/ellipses.png; numbers: {out}/result.json")
        return
    score_table(result)
    say(f"figure: {out}/levels.png; numbers: {out}/result.json")


def ellipses_table(result: Mapping[str, Any]) -> None:
    """A row an update, then one a condition: part and whole right, the pose's error, and the islands of the wholes."""
    rows: list[tuple[str, ...]] = []

    def add(name: str, row: Mapping[str, Any]) -> None:
        said = ("part", "whole", "pose_error", "cos_within", "cos_between", "ari", "islands")
        rows.append((name, *(f"{row[m]:.3f}" if m in row else "-" for m in said)))

    for row in result["iterations"]:
        add(f"update {row['iteration']}", row)
    for row in result["noise"]:
        add(f"noise {row['jitter']:g}", row)
    for row in result["turned"]:
        add("turned {:.0f}-{:.0f}".format(*row["degrees"]), row)
    for row in result["shaped"]:
        add("shape {:g}-{:g} x".format(*row["times"]), row)
    for name in ("untrained", "places", "chance"):
        add(name, result[name])
    heads = ["", "part", "whole", "pose err.", "cos in", "between", "ARI", "islands"]
    title = f"{result['trained']}: {result['n']} held-out pictures of {result['ellipses']['objects']} wholes"
    table(heads, rows, title=title, right=range(1, 8))


def score_table(result: Mapping[str, Any], word: str = "level") -> None:
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
