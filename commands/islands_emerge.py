"""`apm islands emerge`: a network learns to classify; its islands are scored while it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import (
    Device,
    Json,
    Out,
    Quiet,
    Resume,
    Seed,
    console,
    emit_json,
    follow,
    resumable,
    say,
    table,
)
from commands.paths import data_set_or_composites


def emerge(
    out: Out,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="composites, or a folder of class folders (no masks).",
            metavar="DATA",
            callback=data_set_or_composites,
        ),
    ] = "composites",
    source: Annotated[
        str,
        typer.Option("--source", help="fashion-mnist (-sample), mnist or cifar10.", metavar="NAME[:ROOT]"),
    ] = "",
    recipe: Annotated[
        str, typer.Option("--recipe", help="weave (-mean, -class), outline, quick.", metavar="R")
    ] = "weave",
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all; the recipe's if not given.")] = None,
    every: Annotated[int | None, typer.Option("--every", help="Steps from look to look; else a 16th of all.")] = None,
    watch: Annotated[int, typer.Option("--watch", help="Held-out pictures scored at each look.")] = 40,
    images: Annotated[int, typer.Option("--images", help="Held-out pictures the verdict is drawn from.")] = 200,
    film: Annotated[str, typer.Option("--film", help="gif or mp4.")] = "gif",
    record: Annotated[
        str, typer.Option("--record", help="Also write the summary, settings and machine here.", metavar="FILE")
    ] = "",
    download: Annotated[bool, typer.Option("--download", help="Fetch the source where it is missing.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train from scratch with classification alone; score every layer's islands on the way; give a verdict."""
    from experiments.emergence.run import run_emerge, write_record
    from experiments.emergence.settings import EmergeSettings
    from glom.errors import InputError

    for name, value in (("--steps", steps), ("--every", every)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    folder = Path(out)
    settings = EmergeSettings(data, source, recipe, steps or 0, every or 0, watch, images, film, seed)
    with resumable("all up to the last look is kept"):
        result = follow(run_emerge(settings, folder, resume, device, download), quiet, "note")["summary"]
    if record:
        write_record(folder, Path(record))
    if as_json:
        emit_json(result)
        return
    layer_table(result, folder)
    say(f"in {folder}: summary.json, curve.png, islands.{film}, model.safetensors")


def layer_table(result: dict[str, Any], folder: Path) -> None:
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

    def signed(values: list[float]) -> str:
        return f"{values[0]:+.3f} [{values[1]:+.3f}, {values[2]:+.3f}]"

    def place(name: str) -> str:
        return f"{v[name]['layer']}, {v[name]['cut']}"

    lines = [
        f"\n{accuracy}",
        f"best, chosen on half of the pictures: {place('trained')}; on the other {v['n']}:",
        f"   {v['trained']['ari'][0]:.3f} [{v['trained']['ari'][1]:.3f}, {v['trained']['ari'][2]:.3f}]  ARI",
        f"  {signed(v['minus_untrained'])}  minus untrained ({place('untrained')})",
        f"  {signed(v['minus_pixels'])}  minus colour + position ({place('pixels')})",
    ]
    lines += [f"  {'yes' if met else 'no '}  {what}" for what, met in v["reached"].items() if what != "all"]
    console().print("\n".join(lines), highlight=False, markup=False)


def _best(rows: list[dict[str, Any]], measure: str) -> list[dict[str, Any]]:
    """Both cuts of the layer that comes highest in either."""
    if not rows:
        return []
    top = max(rows, key=lambda r: float(r[measure][0]))["layer"]
    return [r for r in rows if r["layer"] == top]
