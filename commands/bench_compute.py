"""`apm bench compute`: the poster's computational analysis, published values beside measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, emit_json, follow, say, table
from commands.options import options
from experiments.bench.settings import ComputeSettings


@options(ComputeSettings)
def compute(
    settings: ComputeSettings,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Run folder; never overwritten.", metavar="DIR")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Parameters, memory, GFLOPs: measured, from first principles, and as published."""
    from experiments.bench.compute import run

    result = follow(run(settings, Path(out) if out else None), quiet or as_json)
    if as_json:
        emit_json(result)
        return
    _print(result["rows"])
    if out:
        say(f"all numbers: {out}/result.json, figure: {out}/compute.png")


def _print(rows: list[dict[str, Any]]) -> None:
    from experiments.published import gigabytes

    measured = "measured" if rows[0]["memory_measured"] else "arithmetic"
    table(
        ("model", "t", "M param", "publ.", "GFLOP", "G madd", "publ.", "GB", "publ."),
        [
            (
                r["model"],
                r["t"],
                f"{r['params_m']:.1f}",
                f"{r['published']['params_m']:g}",
                _short(r["gflops"]),
                _short(r["gmadds"]),
                f"{r['published']['gflops_ideal']:g}",
                f"{r['memory_gb']:.2f}",
                f"{gigabytes(r['published']['memory_ideal_gb']):.1f}",
            )
            for r in rows
        ],
        right=(2, 3, 4, 5, 6, 7, 8),
    )
    print(
        f"\nGB: {measured}. G madd: multiply-adds, half of the GFLOPs. "
        "publ.: published,\nModi & Rawat, NeurIPS 2024, table 4, its ideal columns; not measured here.\n"
    )
    table(
        ("model", "t", "publ.", "nearest reading of the published GFLOPs", "off %", "of"),
        [
            (
                r["model"],
                r["t"],
                f"{near['published']:g}",
                near["reading"],
                f"{near['off_percent']:+.1f}",
                near["searched"],
            )
            for r in rows
            for near in [r["nearest"]["gflops_ideal"]]
        ],
        right=(2, 4, 5),
    )
    fired = rows[-1]["test_time"]
    print(
        "\nof: readings tried. APM: 512 columns, as the release counts. At the "
        f"{fired['columns']:,} that\nits test-time code fires, 20 steps take {fired['gmadds_plain']:,.0f} G madd, "
        f"in folded execution {fired['gmadds_folded']:,.0f}."
    )


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value / 1000:.0f}k"
