"""`apm islands emerge`: a network learns to classify; its islands are scored while it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Out, Quiet, Record, Resume, console, emit_json, follow, keep_record, say, table
from commands.ending import resumable
from commands.options import options
from commands.study import study
from experiments.emergence.settings import AblateSettings, EmergeSettings


@options(EmergeSettings)
def emerge(
    settings: EmergeSettings,
    out: Out,
    record: Record = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the source where it is missing.")] = False,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train from scratch with classification alone; score every layer's islands on the way; give a verdict."""
    from experiments.emergence.run import run, seconds_training

    folder = Path(out)
    with resumable("all up to the last look is kept"):
        result = follow(run(settings, folder, resume=resume, download=download), quiet)
    if record:
        keep_record(record, {"seconds_training": seconds_training(folder), **result}, folder)
    if as_json:
        emit_json(result)
        return
    layer_table(result, folder)
    say(f"in {folder}: result.json, curve.png, islands.{settings.film}, model.safetensors")


@study(AblateSettings, "experiments.emergence.ablate", resume="what was trained is kept")
def ablate(result: Mapping[str, Any], out: str) -> None:
    """What makes islands: a training with one thing changed at a time, beside both baselines."""
    rows = []
    for r in result["rows"]:
        own = r["trained"]
        gains = [_signed(r[f"minus_{name}"]) for name in ("untrained", "pixels")]
        place = f"{own['layer']}, {own['cut']}"
        rows.append((r["change"], f"{100 * r['accuracy'][0]:.1f}", f"{own['ari'][0]:.3f}", place, *gains))
    heads = ["change", "accuracy", "ARI", "best", "minus untrained", "minus colour + position"]
    title = f"{result['data']}, recipe {result['recipe']}, {result['rows'][0]['n']} held-out pictures"
    table(heads, rows, title=title, right=(1, 2))
    say(f"in {out}: a folder a training")


def layer_table(result: Mapping[str, Any], folder: Path) -> None:
    """A row a layer, cut in both ways, beside both baselines; then the verdict."""
    masks = "verdict" in result
    first, *others = ("ari", "fg_ari", "nmi") if masks else ("neighbour_agreement", "islands")
    heads = ["", "ARI", "settled", "95 %", "FG-ARI", "NMI"] if masks else ["", "agree", "settled", "95 %", "islands"]
    both: dict[str, dict[str, Any]] = {}
    untrained = [{**r, "layer": f"untrained, {r['layer']}"} for r in _best(result["baselines"]["untrained"], first)]
    pixels = [{**r, "layer": f"colour + position, {r['layer']}"} for r in result["baselines"].get("pixels", [])]
    for r in [*result["layers"], *untrained, *_best(pixels, first)]:
        both.setdefault(r["layer"], {})[r["cut"]] = r
    rows = []
    for name, cuts in both.items():
        plain, settled = cuts["plain"], cuts["settled"]
        span = f"{settled[first][1]:.2f}-{settled[first][2]:.2f}"
        rest = [f"{settled[m][0]:.3f}" if m != "islands" else f"{settled[m][0]:.1f}" for m in others]
        rows.append((name, f"{plain[first][0]:.3f}", f"{settled[first][0]:.3f}", span, *rest))
    title = f"{folder}: {result['data']}, {result['n']} held-out pictures, {result['steps']} steps"
    table(heads, rows, title=title, right=range(1, len(heads)))
    low, high = (100 * x for x in result["accuracy"][1:])
    accuracy = f"accuracy {100 * result['accuracy'][0]:.1f} % [{low:.1f}, {high:.1f}], held out"
    if not masks:
        console().print(f"\n{accuracy}. No masks here: whether islands are objects is not measured.", highlight=False)
        return
    v = result["verdict"]

    def place(name: str) -> str:
        return f"{v[name]['layer']}, {v[name]['cut']}"

    lines = [
        f"\n{accuracy}",
        f"best, chosen on half of the pictures: {place('trained')}; on the other {v['n']}:",
        f"   {v['trained']['ari'][0]:.3f} [{v['trained']['ari'][1]:.3f}, {v['trained']['ari'][2]:.3f}]  ARI",
        f"  {_signed(v['minus_untrained'])}  minus untrained ({place('untrained')})",
        f"  {_signed(v['minus_pixels'])}  minus colour + position ({place('pixels')})",
    ]
    lines += [f"  {'yes' if met else 'no '}  {what}" for what, met in v["reached"].items() if what != "all"]
    console().print("\n".join(lines), highlight=False, markup=False)


def _signed(values: list[float]) -> str:
    return f"{values[0]:+.3f} [{values[1]:+.3f}, {values[2]:+.3f}]"


def _best(rows: list[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    """Both cuts of the layer that comes highest in either."""
    if not rows:
        return []
    top = max(rows, key=lambda r: float(r[measure][0]))["layer"]
    return [r for r in rows if r["layer"] == top]
