"""`apm fold`: one picture folded, overfit and unfolded again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commands.common import (
    say,
    table,
)
from commands.study import study
from experiments.fields.settings import FoldRequest


@study(FoldRequest, "experiments.fields.fold", record=False)
def fold(result: Mapping[str, Any], out: str) -> None:
    """Fold, overfit, unfold: features as colours (PCA) and decoded colours, at any grid."""
    r2 = "-" if result["grid_r2"] is None else f"{result['grid_r2']:.3f}"
    rows = [
        ("cosine of token with the teacher's", f"{result['cosine']:.4f}"),
        ("R² of the feature grid, at the teacher's cells", r2),
        (f"PSNR of colours at {result['grid'][0]}x{result['grid'][1]} (dB)", f"{result['psnr']:.1f}"),
        ("parameters", f"{result['parameters']:,}"),
    ]
    table([f"{result['image']} ({result['fit']})", ""], rows, right=(1,))
    say(f"sheet: {out}/fold.png, features: {out}/features.png, colours: {out}/colours.png")
