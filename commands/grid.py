"""`apm grid`: layer skipping, pre-training an APM on a teacher's grids, and asking one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands import grid_fields
from commands.common import (
    Device,
    Json,
    Out,
    Quiet,
    Record,
    Resume,
    Seed,
    caption,
    counted,
    emit_json,
    follow,
    keep_record,
    percent,
    resumable,
    say,
    table,
)
from commands.paths import data_set

app = typer.Typer(
    help="Feature grids: layer skipping, pre-training, decoding, interpolation.",
    no_args_is_help=True,
    add_completion=False,
)

Cache = Annotated[str | None, typer.Option("--cache", help="Where grids are kept; default: the user's cache.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute grids when they are needed; keep none.")]
Data = Annotated[str, typer.Argument(help="A folder, a manifest or a name: see `apm datasets`.", callback=data_set)]


@app.command("train")
def train(
    data: Data,
    out: Out,
    teacher: Annotated[str | None, typer.Option("--teacher", "-t", help="Whose grid; default: the preset's.")] = None,
    preset: Annotated[str, typer.Option("--preset", help="tiny (CIFAR-10) or coco (the poster's).")] = "tiny",
    size: Annotated[int | None, typer.Option("--size", help="Side of the teacher's picture; 0: its own.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training pictures.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Pictures a step, all ranks together.")] = None,
    accumulate: Annotated[int | None, typer.Option("--accumulate", help="Micro-batches a step on a rank.")] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", help="Locations a step, a square number; 0: the grid.")
    ] = None,
    anywhere: Annotated[float | None, typer.Option("--anywhere", help="Share of them between centres.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="AdamW's, on weights.")] = None,
    rgb_weight: Annotated[float | None, typer.Option("--rgb-weight", help="Of the colour loss; 0: none.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16 products.")] = None,
    views: Annotated[int | None, typer.Option("--views", help="Flipped and shifted versions, in turn.")] = None,
    patch: Annotated[int | None, typer.Option("--patch", help="Side of the fold's patches in pixels.")] = None,
    channels: Annotated[int | None, typer.Option("--channels", help="Numbers the fold keeps a patch.")] = None,
    local_patch: Annotated[int | None, typer.Option("--local-patch", help="Side of I(x, y); 0: none.")] = None,
    trunk: Annotated[str | None, typer.Option("--trunk", help="Widths of the shared MLP, e.g. 896,512.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Training pictures at most; 0: all.")] = None,
    held_out: Annotated[int | None, typer.Option("--held-out", help="Held-out pictures; 0: 1,000, or a fifth.")] = None,
    init: Annotated[str, typer.Option("--init", help="Checkpoint whose weights are the start.", metavar="C")] = "",
    half: Annotated[bool, typer.Option("--half", help="Write the machine in float16, half the size.")] = False,
    cache: Cache = None,
    no_cache: NoCache = False,
    cache_precision: Annotated[str | None, typer.Option("--cache-precision", help="fp16 or fp32 numbers.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pre-train an APM on a teacher's grids; also under torchrun. One forward pass then gives its features."""
    from experiments.pretraining.run import run
    from experiments.pretraining.settings import grid_settings
    from glom.devices import ranks

    check_cache(cache, no_cache)
    machine = {"patch": patch, "channels": channels, "local_patch": local_patch, "trunk": _widths(trunk)}
    settings = grid_settings(
        preset,
        data,
        machine,
        teacher=teacher,
        size=size,
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        queries=queries,
        anywhere=anywhere if queries != 0 or anywhere is not None else 0.0,
        lr=lr,
        weight_decay=weight_decay,
        rgb_weight=rgb_weight,
        precision=precision,
        views=views,
        limit=limit,
        held_out=held_out,
        cache_precision=cache_precision,
        seed=seed,
        init=init,
    )
    first, folder = ranks()[0] == 0, Path(out)
    events = run(settings, folder, resume, device, Path(cache) if cache else None, not no_cache, half)
    with resumable("the last state is kept"):
        result = follow(events, quiet or not first)
    if not first or result is None:
        return
    keep_record(record, {"results": result}, out)
    if as_json:
        emit_json(result)
        return
    quality_table(result, out)
    say(f"the machine: {out}/apm.safetensors; figures: {out}/grids.png, {out}/curve.png")


def check_cache(cache: str | None, no_cache: bool) -> None:
    """Raise `InputError` where a cache is named and none is wanted."""
    from glom.errors import InputError

    if cache is not None and no_cache:
        raise InputError("--cache says where grids are kept and --no-cache that none are; give one of them")


def _widths(text: str | None) -> tuple[int, ...] | None:
    from glom.errors import InputError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--trunk takes widths such as 896,512, got '{text}'")
    return tuple(int(part) for part in parts)


def quality_table(result: dict[str, Any], title: str) -> None:
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


@app.command("shortcut")
def shortcut(
    data: Data,
    out: Out,
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="As in `apm islands`.", metavar="B")] = "",
    early: Annotated[
        int | None, typer.Option("--from", help="Layer whose grid is read; default: 0.", metavar="A")
    ] = None,
    late: Annotated[
        int | None, typer.Option("--to", help="Later layer; negative: from the end, default: -1.", metavar="Z")
    ] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Every pair of --layers, as a figure.")] = False,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Of the matrix: all (the default), or numbers such as 0,3,7.")
    ] = None,
    students: Annotated[str, typer.Option("--students", help="Of linear,mlp,apm,conv.")] = "linear,mlp,apm,conv",
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the training pictures.")] = 20,
    batch: Annotated[int, typer.Option("--batch", help="Pictures a step.")] = 32,
    lr: Annotated[float, typer.Option("--lr", help="AdamW's rate.")] = 1e-3,
    partition: Annotated[str, typer.Option("--partition", help="How islands are cut.")] = "kmeans:4",
    size: Annotated[int, typer.Option("--size", help="Side of the pictures; 0: the backbone's.", min=0)] = 0,
    views: Annotated[int, typer.Option("--views", help="Random crops of each training picture and itself.")] = 1,
    limit: Annotated[int, typer.Option("--limit", help="Training pictures at most; 0: all.", min=0)] = 0,
    held_out: Annotated[int, typer.Option("--held-out", help="0: 1,000, or a fifth.", min=0)] = 0,
    cache: Cache = None,
    no_cache: NoCache = False,
    cache_precision: Annotated[str, typer.Option("--cache-precision", help="fp16 or fp32 numbers.")] = "fp16",
    seed: Seed = 0,
    device: Device = "auto",
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Skip layers: students from one layer's grid straight to a later one's, measured on held-out pictures."""
    from experiments.shortcut.run import ShortcutSettings, run
    from glom.errors import InputError

    check_cache(cache, no_cache)
    if matrix and (early is not None or late is not None):
        raise InputError("--matrix takes every pair of --layers; leave --from and --to out")
    if not matrix and layers is not None:
        raise InputError("--layers belongs to --matrix; one pair is --from A --to Z")
    settings = ShortcutSettings(
        data,
        backbone,
        0 if early is None else early,
        -1 if late is None else late,
        matrix,
        layers or "all",
        tuple(name.strip() for name in students.split(",")),
        epochs,
        batch,
        lr,
        partition,
        size,
        views,
        limit,
        held_out,
        cache_precision,
        seed,
    )
    events = run(settings, Path(out), device, Path(cache) if cache else None, not no_cache)
    result = follow(events, quiet)
    keep_record(record, {"results": result}, out)
    if as_json:
        emit_json(result)
    elif matrix:
        matrix_table(result)
        say(f"as a figure: {out}/matrix.png")
    else:
        shortcut_table(result)
        say(f"as a figure: {out}/students.png")


def shortcut_table(result: dict[str, Any]) -> None:
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


def matrix_table(result: dict[str, Any]) -> None:
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
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of `apm grid train`, or apm-cifar10.")],
    data: Data,
    out: Out,
    limit: Annotated[int, typer.Option("--limit", help="Held-out pictures; 0: 1,000, or a fifth.", min=0)] = 0,
    bank: Annotated[int, typer.Option("--bank", help="Training pictures k-NN compares with.", min=1)] = 5000,
    size: Annotated[int, typer.Option("--size", help="Side of the teacher's picture; 0: as trained.", min=0)] = 0,
    seed: Seed = 0,
    device: Device = "auto",
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A checkpoint beside its teacher on held-out pictures: R², cosine, k-NN accuracy, PCA colours side by side."""
    from experiments.pretraining.evaluate import EvalSettings, run

    result = follow(run(EvalSettings(checkpoint, data, limit, bank, size, seed), Path(out), device), quiet)
    keep_record(record, {"results": result}, out)
    if as_json:
        emit_json(result)
        return
    quality_table(result, result["checkpoint"])
    say(f"side by side: {out}/grids.png")


# A machine as a thing that is asked: a file of its own.
app.command("decode")(grid_fields.decode)
app.command("overfit")(grid_fields.overfit)
app.command("interpolate")(grid_fields.interpolate)
app.command("upsample")(grid_fields.upsample)
