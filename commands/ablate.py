"""`apm ablate`: what each part of folding buys, and how much of a percept has to arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from commands.common import (
    caption,
    counted,
    say,
    table,
)
from commands.objective import app as objective_app
from commands.objective import prompts
from commands.study import study
from experiments.adaptation.settings import AsynchronySettings
from experiments.folding.settings import FoldingSettings

app = typer.Typer(help="Ablations: what each part of folding buys.", no_args_is_help=True, add_completion=False)
app.add_typer(objective_app, name="objective")
app.command("prompts")(prompts)


@app.command("folding")
@study(FoldingSettings, "experiments.folding.run", resume="everything so far is kept")
def folding(result: Mapping[str, Any], out: str) -> None:
    """One machine a setting, overfit on every picture; means, intervals and differences from the base."""
    folding_table(result)
    say(f"differences from the base and intervals: {out}/result.json; figure: {out}/folding.png")


def folding_table(result: Mapping[str, Any]) -> None:
    """A row a setting: means over pictures and seeds; * where the interval of the difference excludes zero.

    Of fewer than `FEW` pictures there is no star: a bootstrap over one is a point, and excludes everything else.
    """
    rows, starred = [], result["pictures"] >= FEW
    for r in result["rows"]:
        name = r["setting"] if r["axis"] in ("base", "product") else f"{r['axis']}: {r['setting']}"
        m = r["measures"]
        cells = [_cell(m["error"], starred, 1, 1000)]
        cells += [_cell(m[k], starred, d) for k, d in (("grid_r2", 2), ("psnr", 1), ("islands_teacher", 2))]
        right = [_cell(m[k], starred, 0, 100) for k in ("agrees", "correct")]
        size = f"{r['parameters'] / 1e6:.2f}"
        time = "-" if r["seconds"] is None else f"{1000 * r['seconds'] / result['iterations']:.0f}"
        rows.append((name, *cells, *right, size, time))
    title = ", ".join(counted(result[key], key[:-1]) for key in ("pictures", "seeds"))
    title += f", {counted(result['iterations'], 'step')} each"
    heads = ["setting", "err", "R²", "PSNR", "ARI", "same", "top1", "par.", "ms"]
    table(heads, rows, title=title, right=range(1, len(heads)))
    star = "differs from the base, paired over pictures (95 %)" if starred else f"not said of fewer than {FEW} pictures"
    caption(
        "err: of the token, relative, thousandths; R²: the grid's; ARI: islands, with the teacher's; same class as the "
        f"teacher, top1: %; par.: millions; ms: a step; *: {star}"
    )


FEW = 5  # pictures below which no difference is starred


def _cell(found: Mapping[str, Any] | None, starred: bool, digits: int, scale: float = 1.0) -> str:
    if found is None:
        return "-"
    gain = found["minus_base"]
    star = "*" if starred and gain is not None and (gain[1] > 0 or gain[2] < 0) else ""
    return f"{scale * found['mean']:.{digits}f}{star}"


@app.command("asynchrony")
@study(AsynchronySettings, "experiments.adaptation.asynchrony")
def asynchrony(result: Mapping[str, Any], out: str) -> None:
    """Columns that arrive in any order, stopped early: accuracy of the read-out against the share asked."""
    rows = []
    for i, count in enumerate(result["counts"]):
        cells = [f"{100 * curve['accuracy'][i]:.1f}" for curve in result["curves"]]
        rows.append((f"{count} of {result['locations']}", *cells))
    heads = ["columns", *(curve["order"] for curve in result["curves"])]
    title = f"{counted(result['n'], 'picture')}, top-1 (%); the teacher: {100 * result['teacher']:.1f}"
    table(heads, rows, title=title, right=range(1, len(heads)))
    say(f"as a curve: {out}/asynchrony.png")
