"""`apm fold`: one picture folded, overfit and unfolded again."""

from __future__ import annotations

from pathlib import Path

from commands.common import (
    Json,
    Out,
    Quiet,
    emit_json,
    follow,
    for_adaptation,
    say,
    table,
)
from commands.options import options
from experiments.fields.settings import FoldRequest


@options(FoldRequest)
def fold(settings: FoldRequest, out: Out, as_json: Json = False, quiet: Quiet = False) -> None:
    """Fold, overfit, unfold: features as colours (PCA) and decoded colours, at any grid."""
    from experiments.fields.fold import run

    for_adaptation()
    result = follow(run(settings, Path(out)), quiet)
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
