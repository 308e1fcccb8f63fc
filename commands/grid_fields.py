"""`apm grid decode`, `overfit`, `interpolate`, `upsample`: a percept asked for colours, islands, points between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.common import (
    Json,
    Out,
    Quiet,
    Record,
    Resume,
    caption,
    counted,
    emit_json,
    follow,
    keep_record,
    number,
    say,
    table,
)
from commands.ending import resumable
from commands.options import options
from commands.study import study
from experiments.fields.settings import DecodeSettings, InterpolateSettings, OverfitOne, UpsampleSettings
from glom.errors import refuse_idle

if TYPE_CHECKING:
    from experiments.fields.overfit_study import Study


@options(DecodeSettings)
def decode(
    settings: DecodeSettings,
    given: Mapping[str, Any],
    out: Out,
    record: Record = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode colours at any resolution: PSNR and SSIM against the picture resized to that grid."""
    from experiments.fields.decode import run

    way = "--overfit" if settings.overfit else "a trained machine"
    refuse_idle(way, way, dict.fromkeys(("iterations", "lr", "channels"), ("--overfit",)), given)
    result = follow(run(settings, Path(out)), quiet)
    keep_record(record, result, out)
    if as_json:
        alone = len(settings.images) == 1
        single = {k: result["images"][0][k] for k in ("psnr", "ssim", "seconds")} if alone else {}
        emit_json({**result, **single})
        return
    rows = []
    for r in result["images"]:
        similar = "-" if r["ssim"] is None else f"{r['ssim']:.3f}"
        rows.append((r["image"], f"{r['psnr']:.2f}", similar, f"{r['seconds']:.1f}"))
    title = f"decoded at {'x'.join(map(str, settings.size))} ({result['fit']})"
    table(["picture", "PSNR (dB)", "SSIM", "seconds"], rows, title=title, right=(1, 2, 3))
    say(f"pictures and sheets: {out}")


@options(OverfitOne)
def overfit(
    settings: OverfitOne,
    given: Mapping[str, Any],
    out: Out,
    record: Record = None,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One picture, one token, random weights: the islands that appear. A folder: whether they follow the picture."""
    from glom.errors import InputError

    if Path(settings.image).is_dir():
        from experiments.fields.overfit_study import run as run_study

        with resumable("whole pictures are kept"):
            found = follow(run_study(settings, Path(out), resume=resume), quiet)
        keep_record(record, found, out)
        if as_json:
            emit_json(found)
        else:
            study_table(found)
            say(f"as a figure: {out}/study.png")
        return
    from experiments.fields.overfit import run

    if resume or "limit" in given or "split" in given:
        raise InputError("--resume, --limit and --split belong to a study; give a folder with outlines")
    result = follow(run(settings, Path(out)), quiet)
    keep_record(record, result, out)
    if as_json:
        emit_json(result)
        return
    rows = []
    for name, scores in result["islands"].items():
        cells = [f"{scores[k]:.3f}" if k in scores else "-" for k in ("ari", "nmi", "covering", "boundary_f")]
        rows.append((name, *cells, f"{scores['same_as_picture']:.3f}"))
    heads = ["islands of", "ARI", "NMI", "cover", "bound F", "same as picture's"]
    title = f"{result['image']}, {result['condition']}: cosine {result['cosine']:.4f}"
    table(heads, rows, title=title, right=range(1, 6))
    say(f"sheet: {out}/sheet.png, curve: {out}/curve.png" + (f", film: {out}/film.gif" if settings.film else ""))


def study_table(result: Study) -> None:
    """A row a way of overfitting, then the baselines."""
    rows = []
    for r in result["rows"]:
        noise = number(r["same_as_noise"]["mean"] if "same_as_noise" in r else None)
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


@study(InterpolateSettings, "experiments.fields.interpolate")
def interpolate(result: Mapping[str, Any], out: str) -> None:
    """Between two pictures: their columns interpolated, unfolded at each step, as a strip, films and numbers."""
    rows = []
    for i in range(result["steps"]):
        apart = (result["from_first"][i], result["from_last"][i])
        said = f"{result['classes'][i]}, {100 * result['probabilities'][i]:.0f} %"
        rows.append((f"{i / (result['steps'] - 1):.2f}", *(f"{d:.3f}" for d in apart), said))
    title = f"{result['images'][0]} to {result['images'][1]}, {result['path']} ({result['fit']})"
    table(
        ["t", "from first", "from last", f"likeliest of {result['among']:,} classes"],
        rows,
        title=title,
        right=(0, 1, 2),
    )
    say(f"Lipschitz estimate {number(result['lipschitz'])}; length over distance {number(result['length'])}")
    say(f"strip: {out}/strip.png; films: {out}/colours.gif, {out}/features.gif; path: {out}/path.png")


@study(UpsampleSettings, "experiments.fields.upsample")
def upsample(result: Mapping[str, Any], out: str) -> None:
    """Between locations: finer grids than the teacher's, beside bilinear and the views' average."""
    rows = []
    scales: Sequence[Mapping[str, Any]] = result["scales"]
    for r in scales:
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
