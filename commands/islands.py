"""`apm islands`: a picture's islands layer by layer, islands scored against people, runs compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Out, Quiet, Resume, counted, emit_json, follow, number, say, table
from commands.ending import resumable
from commands.islands_emerge import ablate, emerge
from commands.options import options
from commands.study import study
from experiments.islands.settings import PatchSettings, ScoreSettings, ShowSettings

BASELINES = (("colour + position", "minus_pixels"), ("the untrained network", "minus_untrained"))

app = typer.Typer(
    help="Islands of agreement: shown, and measured against people's outlines.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("show")
@study(ShowSettings, "experiments.islands.show")
def show(result: Mapping[str, Any], out: str) -> None:
    """A sheet, a page and a figure a picture: each layer's islands, what agrees with a location, islands outlined."""
    rows = [(p["image"], p["sheet"], p["page"], p["figure"]) for p in result["pictures"]]
    table(["picture", "sheet", "page", "figure"], rows)
    for layer in result.get("finer", ()):
        finer_table(layer)
    say(f"in {out}; backbone {result['backbone']} ({result['what']}), {len(result['layers'])} layers")


def finer_table(layer: Mapping[str, Any]) -> None:
    """A layer's islands on finer grids, a row a way."""
    rows = []
    for way, found in layer["ways"].items():
        gain = layer["minus_bilinear"].get(way)
        over = "-" if gain is None else _gain(gain["covering"]["mean"], *gain["covering"]["ci95"])
        rows.append((way, *(number(found[key]) for key in ("covering", "mbo", "boundary_f")), over))
    title = f"layer {layer['layer']}, {counted(layer['n'], 'picture')} with outlines"
    table(["grid", "cover", "mBO", "bound F", "covering minus bilinear"], rows, title=title, right=range(1, 4))


@app.command("patch")
@study(PatchSettings, "experiments.islands.patch")
def patch(result: Mapping[str, Any], out: str) -> None:
    """A layer's features replaced at a region: what changes in the later layers' islands, and in the class."""
    rows = []
    for r in result["layers"]:
        cosines = [number(r[key]) for key in ("cosine", "cosine_inside", "cosine_outside", "ari")]
        rows.append((f"{r['layer']}: {r['name']}", *cosines, f"{r['islands_before']} to {r['islands_after']}"))
    count, total = result["locations"]
    title = f"layer {result['layer']} ({result['name']}), {count} of {total} locations replaced by {result['value']}"
    table(["layer", "cosine", "inside", "outside", "ARI", "islands"], rows, title=title, right=range(1, 6))
    for when, found in result.get("classes", {}).items():
        said = [f"{one['name']} {one['probability']:.2f}" for one in found]
        say(f"{when}: {', '.join(said)}")
    say(f"as a figure: {out}/patch.png")


@app.command("score")
@options(ScoreSettings)
def score(
    settings: ScoreSettings,
    out: Out,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Islands of every layer against people's outlines, beside both baselines and the people themselves."""
    from experiments.islands.score import load_summary, run
    from glom.devices import ranks

    folder = Path(out)

    def so_far() -> None:
        if ranks()[0] == 0 and list(folder.glob("results*.jsonl")) and not as_json:
            score_table(load_summary(folder), folder)

    with resumable(before=so_far):
        result = follow(run(settings, folder, resume=resume), quiet or ranks()[0] > 0)
    if result is None:  # not the first of several processes
        return
    if as_json:
        emit_json(result)
    else:
        scores(result, folder)


def scores(result: Mapping[str, Any], folder: Path) -> None:
    """Every layer; what was chosen on other pictures, and slot attention, where they were asked for."""
    score_table(result, folder)
    if "chosen" in result:
        chosen_table(result)
    if "slot_attention" in result:
        slots_lines(result["slot_attention"])


def score_table(result: Mapping[str, Any], folder: Path) -> None:
    """A row a layer, then the baselines and the people."""
    best = max(result["layers"], key=lambda r: r["covering"])
    rows = [_row(f"layer {r['layer']}{' *' if r is best else ''}", r) for r in result["layers"]]
    twins = result["baselines"]["untrained"]
    top = max(twins, key=lambda r: r["covering"])
    rows.append(_row("colour + position", result["baselines"]["pixels"]))
    rows.append(_row(f"untrained, layer {top['layer']}", top))
    if result["human"]:
        rows.append(_row("people", result["human"]))
    heads = ["", "cover", "95 %", "mBO", "ARI", "FG-ARI", "bound F", "islands"]
    if best["fg_ari"] is None:  # nothing is background here
        heads.pop(5)
        rows = [(*row[:5], *row[6:]) for row in rows]
    title = f"{folder}: {result['n']} pictures, {result['skipped']} skipped{_sizes(result.get('mask_size'))}"
    table(heads, rows, title=title, right=range(1, len(heads)))
    say("* best layer by covering on these very pictures, and so a little high")
    held = result["held_out"]
    if held is None:
        say("one picture alone: no layer can be chosen on others, so nothing is compared with the baselines")
        return
    picked = " and ".join(str(i) for i in dict.fromkeys(held["layers"]))
    say(f"layer chosen on the other half of the pictures ({picked}): covering {held['covering']:.3f}")
    for name, key in BASELINES:
        say(f"    minus {name}: {_gain(*held[key]['covering'])}")


def chosen_table(result: Mapping[str, Any]) -> None:
    """What was chosen on other pictures, beside both baselines that chose likewise."""
    chosen = result["chosen"]
    rows = []
    for name, r in (("network", chosen), ("colour + position", chosen["pixels"]), ("untrained", chosen["untrained"])):
        values = [number(r.get(key)) for key in ("covering", "mbo", "miou", "ari", "boundary_f")]
        rows.append((name, r.get("layer", "-"), r["partition"], *values))
    title = (
        f"chosen on {counted(chosen['on']['n'], 'picture')} of {chosen['on']['data']}, scored on {chosen['n']} others"
    )
    table(["", "layer", "cut", "cover", "mBO", "mIoU", "ARI", "bound F"], rows, title=title, right=range(3, 8))
    for name, key in BASELINES:
        for measure, title in (("covering", "covering"), ("mbo", "mBO")):
            if measure in chosen[key]:
                gain = chosen[key][measure]
                say(f"    {title} minus {name}: {_gain(gain['mean'], *gain['ci95'])}")


def slots_lines(slots: Mapping[str, Any]) -> None:
    """Slot attention on the same pictures."""
    figures = ", ".join(f"{title} {number(slots[key])}" for key, title in (("covering", "covering"), ("mbo", "mBO")))
    say(f"slot attention ({slots['trained']['backbone'] or 'pixels'}): {figures}")
    for measure, gain in slots.get("islands_minus", {}).items():
        if measure in ("covering", "mbo"):
            say(f"    {measure} of islands minus slots: {_gain(gain['mean'], *gain['ci95'])}")


def _gain(gain: float, low: float, high: float) -> str:
    word = "ahead" if low > 0 else "behind" if high < 0 else "undecided"
    return f"{gain:+.3f} [{low:+.3f}, {high:+.3f}], {word}"


def _sizes(smallest_and_largest: list[list[int]] | None) -> str:
    """ ", masks 321x481 to 481x321 pixels"."""
    if not smallest_and_largest:
        return ""
    sizes = dict.fromkeys(f"{width}x{height}" for width, height in smallest_and_largest)
    return f", masks {' to '.join(sizes)} pixels"


def _row(name: str, r: Mapping[str, Any]) -> tuple[str, ...]:
    interval = r["ci95"]["covering"]
    span = "-" if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"
    count = "-" if r.get("islands") is None else f"{r['islands']:.0f}"
    values = [number(r.get(key)) for key in ("covering", "mbo", "ari", "fg_ari", "boundary_f")]
    return name, values[0], span, *values[1:], count


app.command("emerge")(emerge)
app.command("ablate")(ablate)


@app.command("compare")
def compare(
    folders: Annotated[list[str], typer.Argument(help="Run folders of `apm islands score`.", metavar="DIR DIR...")],
    by: Annotated[str, typer.Option("--by", help="Measure a layer is chosen by, on other pictures.")] = "covering",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Two or more backbones or checkpoints on the same pictures, paired with the first."""
    from experiments.islands.score import compare as compare_runs

    result = follow(compare_runs([Path(f) for f in folders], by), quiet)
    if as_json:
        emit_json(result)
        return
    rows = []
    for r in result["runs"]:
        difference = "-"
        if "minus_first" in r:
            gain, low, high = r["minus_first"][by]
            difference = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        values = [number(r[k]) for k in ("covering", "ari", "nmi", "boundary_f")]
        picked = ", ".join(str(i) for i in dict.fromkeys(r["layers"]))
        rows.append((r["folder"], r["backbone"], picked, *values, difference))
    heads = ["run", "backbone", "layer", "covering", "ARI", "NMI", "boundary F", f"{by} minus first [95 %]"]
    title = f"{result['n']} pictures, layer chosen by {by} on the other half of them"
    table(heads, rows, title=title, right=range(2, 8))
    if not result["same_data"]:
        say("the runs' data sets differ; only the pictures they share, by name, are compared")
