"""`apm slots`: slot attention, the baseline made for objects, trained and scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from commands.common import (
    number,
    say,
    table,
)
from commands.study import study
from experiments.slots.settings import ScoreSettings, TrainSettings
from glom.errors import refuse_idle

app = typer.Typer(
    help="Slot attention, a baseline made for objects: train it, score its masks.",
    no_args_is_help=True,
    add_completion=False,
)
# Options that mean something for a backbone's grids alone.
OF_GRIDS = dict.fromkeys(("layer", "size", "queries", "cache"), ("a backbone",))
MEASURES = {
    "fg_ari": "FG-ARI",
    "ari": "ARI",
    "mbo": "mBO",
    "miou": "mIoU",
    "panoptic_ari": "pan. ARI",
    "covering": "cover",
    "boundary_f": "bound F",
}


def _idle(settings: TrainSettings, given: Mapping[str, Any]) -> None:
    refuse_idle("slots on pixels", "a backbone" if settings.backbone else "", OF_GRIDS, given)


@app.command("train")
@study(TrainSettings, "experiments.slots.train", resume="the last state is kept", record=False, check=_idle)
def train(result: Mapping[str, Any], out: str) -> None:
    """Slots on a made set's pixels, or on a backbone's frozen features; they learn by giving back what they see."""
    how = f"{result['steps']:,} steps, {result['parameters']:,} parameters"
    say(f"{result['data']}: loss {result['loss']:.4g} after {how}")
    say(f"in {out}; next: apm slots score {out} DATA --out DIR")


@app.command("score")
@study(ScoreSettings, "experiments.slots.score", resume="everything above is kept")
def score(result: Mapping[str, Any], out: str) -> None:
    """The slots' masks by the measures that islands are scored by, beside random weights and colour + position."""
    shown = {key: head for key, head in MEASURES.items() if result["rows"][0].get(key)}
    names = {"pixels": "colour + position", "untrained": "random weights"}
    rows = [(names.get(r["name"], r["name"]), *(number(r[key]["mean"]) for key in shown)) for r in result["rows"]]
    title = f"{result['data']}: {result['n']} pictures, {result['skipped']} skipped"
    table(["", *shown.values()], rows, title=title, right=range(1, len(shown) + 1))
    say(f"in {out}")
