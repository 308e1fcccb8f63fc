"""`apm grid`: layer skipping, pre-training an APM on a teacher's grids, and asking one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from commands import grid_fields
from commands.common import (
    caption,
    counted,
    percent,
    say,
    table,
)
from commands.study import study
from experiments.pretraining.settings import EvalSettings, GridTrainSettings
from experiments.shortcut.settings import ShortcutSettings

app = typer.Typer(
    help="Feature grids: layer skipping, pre-training, decoding, interpolation.",
    no_args_is_help=True,
    add_completion=False,
)


@app.command("train")
@study(GridTrainSettings, "experiments.pretraining.run", resume="the last state is kept", nested=True)
def train(result: Mapping[str, Any], out: str) -> None:
    """Pre-train an APM on a teacher's grids; also under torchrun. One forward pass then gives its features."""
    quality_table(result, out)
    say(f"the machine: {out}/apm.safetensors; figures: {out}/grids.png, {out}/curve.png")


def quality_table(result: Mapping[str, Any], title: str) -> None:
    """A pre-trained machine beside its teacher."""
    low, high = result["r2_ci95"]
    rows = [
        ("R² over the mean grid [95 %]", f"{result['r2']:.3f} [{low:.3f}, {high:.3f}]"),
        ("cosine with the teacher's grid", f"{result['cosine']:.3f}"),
        ("cosine of the mean grid", f"{result['cosine_mean_grid']:.3f}"),
    ]
    if result["knn"] is not None:
        bank = result["knn"]["bank"]
        rows.append((f"k-NN accuracy, teacher (%; {bank} pictures in the bank)", percent(result["knn"]["teacher"])))
        rows.append(("k-NN accuracy, APM (%)", percent(result["knn"]["apm"])))
    colours = result["rgb"]
    if colours is None:
        rows.append(("PSNR of the colours (dB): no colour head", "-"))
    else:
        low, high = colours["psnr_ci95"]
        rows.append(("PSNR of the colours (dB) [95 %]", f"{colours['psnr']:.1f} [{low:.1f}, {high:.1f}]"))
        rows.append(("PSNR of each picture's mean colour (dB)", f"{colours['psnr_mean_colour']:.1f}"))
    table([f"{title}: {counted(result['n'], 'held-out picture')}", ""], rows, right=(1,))


def _one_kind(settings: ShortcutSettings, given: Mapping[str, Any]) -> None:
    from glom.errors import InputError

    if settings.matrix and given.keys() & {"from", "to"}:
        raise InputError("--matrix takes every pair of --layers; leave --from and --to out")
    if not settings.matrix and "layers" in given:
        raise InputError("--layers belongs to --matrix; one pair is --from A --to Z")


@app.command("shortcut")
@study(ShortcutSettings, "experiments.shortcut.run", check=_one_kind, nested=True)
def shortcut(result: Mapping[str, Any], out: str) -> None:
    """Skip layers: students from one layer's grid straight to a later one's, measured on held-out pictures."""
    if "pairs" in result:
        matrix_table(result)
        say(f"as a figure: {out}/matrix.png")
    else:
        shortcut_table(result)
        say(f"as a figure: {out}/students.png")


def shortcut_table(result: Mapping[str, Any]) -> None:
    """A row a student, the mean grid first."""
    rows = []
    for r in [result["baselines"]["mean_grid"], *result["students"]]:
        ratio = "-" if r.get("flops_ratio") is None else f"{r['flops_ratio']:.3f}"
        times = "-" if r.get("time_ratio") is None else f"{r['time_ratio']:.3f}"
        kept = [_share(r[key]) for key in ("accuracy_kept", "agreement", "islands_ari")]
        rows.append((r["name"].replace("_", " "), f"{r['r2']:.3f}", f"{r['cosine']:.3f}", *kept, ratio, times))
    grids = " -> ".join("x".join(map(str, g)) for g in result["grids"])
    title = f"{result['backbone']}, layer {result['from']} to {result['to']} ({grids})"
    title += f", {counted(result['n'], 'picture')}"
    heads = ["student", "R²", "cosine", "acc. kept", "agree", "islands", "FLOPs", "time"]
    table(heads, rows, title=title, right=range(1, 8))
    if result["model"]["accuracy"] is not None:
        own = percent(result["model"]["accuracy"])
        caption(f"the model's later layers on its own grid: {own} % right; FLOPs, time: over the skipped layers'")


def matrix_table(result: Mapping[str, Any]) -> None:
    """R² of the best student for every pair of layers; which one that is, the figure shows."""
    students = result["students"]
    best = {(p["from"], p["to"]): max(p[s]["r2"] for s in students) for p in result["pairs"]}
    layers = result["layers"]
    rows = []
    for a in layers[:-1]:
        cells = [f"{best[a, z]:.2f}" if (a, z) in best else "" for z in layers[1:]]
        rows.append((f"from {a}", *cells))
    whose = students[0] if len(students) == 1 else f"best of {', '.join(students)}"
    title = f"{result['backbone']}: R², {whose}; {counted(result['n'], 'held-out picture')}"
    table(["", *(f"to {z}" for z in layers[1:])], rows, title=title, right=range(1, len(layers)))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@app.command("eval")
@study(EvalSettings, "experiments.pretraining.evaluate", nested=True)
def evaluate(result: Mapping[str, Any], out: str) -> None:
    """A checkpoint beside its teacher on held-out pictures: R², cosine, k-NN accuracy, PCA colours side by side."""
    quality_table(result, result["checkpoint"])
    say(f"side by side: {out}/grids.png")


# A machine as a thing that is asked: a file of its own.
app.command("decode")(grid_fields.decode)
app.command("overfit")(grid_fields.overfit)
app.command("interpolate")(grid_fields.interpolate)
app.command("upsample")(grid_fields.upsample)
