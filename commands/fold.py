"""`apm fold`: one picture folded, overfit and unfolded again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import (
    Device,
    Fit,
    Json,
    Out,
    Quiet,
    Seed,
    emit_json,
    follow,
    for_adaptation,
    say,
    table,
)
from commands.paths import one_picture


def fold(
    image: Annotated[str, typer.Argument(help="A picture.", callback=one_picture)],
    out: Out,
    teacher: Annotated[str, typer.Option("--teacher", "-t", help="See `apm teachers`.", metavar="T")] = "glom-tiny",
    grid: Annotated[str | None, typer.Option("--grid", help="The grid to unfold, any size.", metavar="HxW")] = None,
    apm: Annotated[str, typer.Option("--apm", help="The APM's preset.", metavar="PRESET")] = "apm-tiny",
    fit: Fit = "squeeze",
    iterations: Annotated[int, typer.Option("--iterations", help="Optimiser steps.", metavar="K", min=1)] = 300,
    save_grid: Annotated[bool, typer.Option("--save-grid", help="Also write the arrays, grids.npz.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fold, overfit, unfold: features as colours (PCA) and decoded colours, at any grid."""
    from experiments.fields.fold import FoldRequest, run, with_grid
    from glom.adaptation.overfit import OverfitSettings

    for_adaptation()
    request = FoldRequest(
        image,
        teacher,
        apm=apm,
        overfit=OverfitSettings(iterations),
        seed=seed,
        save_grids=save_grid,
        fit=fit,
    )
    result = follow(run(with_grid(request, grid), Path(out), device), quiet)
    if as_json:
        emit_json(result)
        return
    r2 = "-" if result["grid_r2"] is None else f"{result['grid_r2']:.3f}"
    rows = [
        ("cosine of token with the teacher's", f"{result['cosine']:.4f}"),
        ("R² of the feature grid, at the teacher's cells", r2),
        (f"PSNR of colours at {result['grid'][0]}x{result['grid'][1]} (dB)", f"{result['psnr']:.1f}"),
        ("parameters", f"{result['parameters']:,}"),
    ]
    table([f"{result['image']} ({result['fit']})", ""], rows, right=(1,))
    say(f"sheet: {out}/fold.png, features: {out}/features.png, colours: {out}/colours.png")
