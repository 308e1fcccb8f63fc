"""`apm grid decode`, `overfit`, `interpolate`, `upsample`: a percept asked for colours, islands, points between."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from commands.common import (
    Device,
    Fit,
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
    for_adaptation,
    number,
    refuse_idle,
    resumable,
    say,
    table,
)
from commands.paths import data_set, every_picture, one_picture, picture_or_folder

Images = Annotated[list[str], Argument(help="Pictures.", metavar="IMAGE...", callback=every_picture)]
SHIPPED = "apm-cifar10"
Checkpoint = Annotated[
    str | None, Option("--checkpoint", "-c", help=f"A machine of `apm grid train`; default: {SHIPPED}.", metavar="C")
]
Overfit = Annotated[bool, Option("--overfit", help="Overfit a fresh machine instead.")]
Teacher = Annotated[str, Option("--teacher", "-t", help="See `apm teachers`; default: what suits.", metavar="T")]


def asked_machine(checkpoint: str | None, overfit: bool) -> str:
    """Which checkpoint is asked; "" for a machine that is overfit. Raises `InputError` where both are wanted."""
    from glom.errors import InputError

    if overfit and checkpoint is not None:
        raise InputError("--overfit takes a fresh machine and --checkpoint a trained one; give one of them")
    return "" if overfit else checkpoint or SHIPPED


def decode(
    images: Images,
    out: Out,
    checkpoint: Checkpoint = None,
    overfit: Overfit = False,
    size: Annotated[str, Option("--size", help="Grid that is asked: height x width.", metavar="HxW")] = "64x64",
    fit: Fit = "squeeze",
    iterations: Annotated[
        int | None, Option("--iterations", help="Steps of an overfit.", min=1, show_default="400")
    ] = None,
    lr: Annotated[float | None, Option("--lr", help="Of an overfit.", show_default="0.003")] = None,
    channels: Annotated[
        int | None, Option("--channels", help="Numbers an overfit machine's fold keeps.", min=1, show_default="1")
    ] = None,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode colours at any resolution: PSNR and SSIM against the picture resized to that grid."""
    from experiments.fields.decode import DecodeSettings, run_decode
    from experiments.fields.percepts import parse_size
    from glom.runs.artifacts import check_record

    check_record(save)
    machine = asked_machine(checkpoint, overfit)
    asked: dict[str, Any] = {"iterations": iterations, "lr": lr, "channels": channels}
    given = {name: value for name, value in asked.items() if value is not None}
    way = "--overfit" if overfit else "a trained machine"
    refuse_idle(way, way, dict.fromkeys(given, ("--overfit",)), given)
    for_adaptation()
    height, width = parse_size(size)
    settings = DecodeSettings(tuple(images), machine, height, width, seed=seed, fit=fit, **given)
    result = follow(run_decode(settings, Path(out), device), quiet)["summary"]
    record_result(save, result)
    if as_json:
        single = {k: result["images"][0][k] for k in ("psnr", "ssim", "seconds")} if len(images) == 1 else {}
        emit_json({**result, **single})
        return
    rows = []
    for r in result["images"]:
        similar = "-" if r["ssim"] is None else f"{r['ssim']:.3f}"
        rows.append((r["image"], f"{r['psnr']:.2f}", similar, f"{r['seconds']:.1f}"))
    table(
        ["picture", "PSNR (dB)", "SSIM", "seconds"], rows, title=f"decoded at {size} ({result['fit']})", right=(1, 2, 3)
    )
    say(f"pictures and sheets: {out}")


def overfit(
    image: Annotated[
        str, Argument(help="A picture, or for the study a folder with outlines.", callback=picture_or_folder)
    ],
    out: Out,
    iterations: Annotated[int, Option("--iterations", help="Optimiser steps.", metavar="N", min=1)] = 80,
    targets: Annotated[
        str, Option("--targets", "--target", help="Parts of token,rgb,grid,fine,patch joined by +; a study: several.")
    ] = "",
    truth: Annotated[str, Option("--truth", help="People's outlines, npz or mask.", metavar="FILE")] = "",
    film: Annotated[bool, Option("--film", help="Also write film.gif.")] = False,
    teacher: Teacher = "",
    apm: Annotated[str, Option("--apm", help="The APM's preset.", metavar="PRESET")] = "apm-small",
    points: Annotated[int, Option("--points", help="Locations a step, points x points.", min=1)] = 16,
    lr: Annotated[float, Option("--lr", help="Learning rate.")] = 1e-3,
    grid: Annotated[int, Option("--grid", help="Side of the grids looked at.", metavar="N")] = 32,
    partition: Annotated[str, Option("--partition", help="How islands are cut.", metavar="P")] = "kmeans:6",
    limit: Annotated[int | None, Option("--limit", help="Of the study: pictures; default 10.", min=1)] = None,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One picture, one token, random weights: the islands that appear. A folder: whether they follow the picture."""
    from glom.errors import InputError
    from glom.runs.artifacts import check_record

    check_record(save)
    for_adaptation()
    if Path(image).is_dir():
        from experiments.fields.overfit_study import CONDITIONS, StudySettings, run_study

        if truth or film:
            raise InputError("--truth and --film belong to one picture; a folder brings its own outlines")
        names = tuple(x.strip() for x in (targets or CONDITIONS).split(","))
        study = StudySettings(
            image, names, teacher, apm, iterations, points, lr, grid, partition, limit or 10, seed=seed
        )  # fmt: skip
        with resumable("whole pictures are kept"):
            result = follow(run_study(study, Path(out), resume, device), quiet)["summary"]
        record_result(save, result)
        if as_json:
            emit_json(result)
        else:
            study_table(result)
            say(f"as a figure: {out}/study.png")
        return
    from experiments.fields.overfit import OverfitOne, run_overfit

    if resume or limit is not None:
        raise InputError("--resume and --limit belong to a study; give a folder with outlines")
    one = OverfitOne(
        image, targets or "token", truth, teacher, apm, iterations, points, lr, grid, partition, film, seed
    )  # fmt: skip
    result = follow(run_overfit(one, Path(out), device), quiet)["summary"]
    record_result(save, result)
    if as_json:
        emit_json(result)
        return
    rows = []
    for name, found in result["islands"].items():
        cells = [f"{found[k]:.3f}" if k in found else "-" for k in ("ari", "nmi", "covering", "boundary_f")]
        rows.append((name, *cells, f"{found['same_as_picture']:.3f}"))
    heads = ["islands of", "ARI", "NMI", "cover", "bound F", "same as picture's"]
    title = f"{result['image']}, {result['condition']}: cosine {result['cosine']:.4f}"
    table(heads, rows, title=title, right=range(1, 6))
    say(f"sheet: {out}/sheet.png, curve: {out}/curve.png" + (f", film: {out}/film.gif" if film else ""))


def study_table(result: dict[str, Any]) -> None:
    """A row a way of overfitting, then the baselines."""
    rows = []
    for r in result["rows"]:
        noise = number(r.get("same_as_noise", {}).get("mean"))
        gain, found = "-", r.get("minus_position_code")
        if found is not None and found["mean"] is not None:
            gain = f"[{found['ci95'][0]:+.2f},{found['ci95'][1]:+.2f}]"
        own, others = number(r["specific"]["mean"]), number(r["other_pictures"]["mean"])
        cells = (number(r["ari"]["mean"]), own, gain, noise, others)
        rows.append((r["name"], *cells, r.get("follows") or ""))
    heads = ["overfit on", "ARI", "own", "over position", "noise", "others", "follows"]
    table(heads, rows, title=f"{counted(result['n'], 'picture')}, {result['skipped']} skipped", right=range(1, 6))
    caption(
        "ARI: with people's outlines; own: minus that with other pictures' outlines; over position: 95 % of ARI minus "
        "position code's; noise, others: ARI with their islands"
    )


def interpolate(
    first: Annotated[str, Argument(help="A picture.", metavar="IMAGE", callback=one_picture)],
    last: Annotated[str, Argument(help="Another.", metavar="IMAGE", callback=one_picture)],
    out: Out,
    steps: Annotated[int, Option("--steps", help="Columns on the path, both ends included.", metavar="N")] = 9,
    path: Annotated[str, Option("--path", help="linear or spherical.")] = "linear",
    checkpoint: Checkpoint = None,
    overfit: Overfit = False,
    teacher: Teacher = "",
    classes: Annotated[
        str,
        Option(
            "--classes-of", help="Data set whose classes are named; default: what the teacher knows.", callback=data_set
        ),
    ] = "",
    size: Annotated[int, Option("--size", help="Side of the grid that is asked.", metavar="N")] = 64,
    iterations: Annotated[int, Option("--iterations", help="Steps of an overfit.", min=1)] = 600,
    fit: Fit = "squeeze",
    resize: Annotated[bool, Option("--resize", help="Take pictures of different sizes.")] = False,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Between two pictures: their columns interpolated, unfolded at each step, as a strip, films and numbers."""
    from experiments.fields.interpolate import InterpolateSettings, run_interpolate
    from glom.runs.artifacts import check_record

    check_record(save)
    machine = asked_machine(checkpoint, overfit)
    for_adaptation()
    settings = InterpolateSettings(
        first,
        last,
        steps,
        path,
        machine,
        teacher,
        classes,
        size,
        iterations,
        resize,
        seed,
        fit,
    )
    result = follow(run_interpolate(settings, Path(out), device), quiet)["summary"]
    record_result(save, result)
    if as_json:
        emit_json(result)
        return
    rows = []
    for i in range(result["steps"]):
        apart = (result["from_first"][i], result["from_last"][i])
        said = f"{result['classes'][i]}, {100 * result['probabilities'][i]:.0f} %"
        rows.append((f"{i / (result['steps'] - 1):.2f}", *(f"{d:.3f}" for d in apart), said))
    title = f"{result['images'][0]} to {result['images'][1]}, {path} ({result['fit']})"
    table(
        ["t", "from first", "from last", f"likeliest of {result['among']:,} classes"],
        rows,
        title=title,
        right=(0, 1, 2),
    )
    say(f"Lipschitz estimate {number(result['lipschitz'])}; length over distance {number(result['length'])}")
    say(f"strip: {out}/strip.png; films: {out}/colours.gif, {out}/features.gif; path: {out}/path.png")


def upsample(
    images: Images,
    out: Out,
    scale: Annotated[str, Option("--scale", help="How many times finer, comma-separated.")] = "2,4,8",
    teacher: Teacher = "",
    fit: Fit = "squeeze",
    views: Annotated[int, Option("--views", help="Further crops to learn from; 0: the grid alone.")] = 48,
    zoom: Annotated[float, Option("--zoom", help="Smallest crop's side, a share of the picture's.")] = 0.5,
    patch: Annotated[int, Option("--patch", help="Side of the local patch in the column; 0: none.")] = 5,
    iterations: Annotated[int, Option("--iterations", help="Steps of the fit.", min=1)] = 500,
    save: Record = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Between locations: finer grids than the teacher's, beside bilinear and the views' average."""
    from experiments.fields.upsample import UpsampleSettings, run_upsample
    from glom.errors import InputError
    from glom.runs.artifacts import check_record

    check_record(save)
    for_adaptation()
    parts = [x.strip() for x in scale.split(",")]
    if not all(x.isdecimal() for x in parts):
        raise InputError(f"--scale takes whole numbers such as 2,4,8, got '{scale}'")
    settings = UpsampleSettings(
        tuple(images), tuple(int(x) for x in parts), teacher, views, zoom, patch, iterations, seed=seed, fit=fit
    )
    result = follow(run_upsample(settings, Path(out), device), quiet)["summary"]
    record_result(save, result)
    if as_json:
        emit_json(result)
        return
    rows = []
    for r in result["scales"]:
        found = [number(r[f"{m}{kind}"]) for kind in ("", "_bilinear", "_average") for m in ("cosine", "r2")]
        grid = "x".join(map(str, r["grid"]))
        spans = (r["minus_bilinear"], r["minus_average"])
        # Of one picture there is no interval over pictures.
        over = [f"{m:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if result["n"] > 1 else "") for m, low, high in spans]
        rows.append((f"{r['scale']} ({grid})", *found, *over))
    heads = ["scale", "cosine", "R²", "bilin. cos", "R²", "average cos", "R²", "over bilinear", "over average"]
    title = (
        f"{result['teacher']}, {counted(result['n'], 'picture')}, {counted(result['views'], 'view')} ({result['fit']})"
    )
    table(heads, rows, title=title, right=range(1, len(heads)))
    caption("average: the same views, bilinear, averaged; over: the cosine minus the baseline's [95 % over pictures]")
    say(f"sheets: {out}")


def record_result(path: str | None, result: dict[str, Any]) -> None:
    """Write a result for the records, where that is asked for."""
    from glom.runs.artifacts import write_record

    if path is not None:
        write_record(Path(path), result)
        say(f"recorded in {path}")
