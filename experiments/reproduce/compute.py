"""Table 4 and the figure of computation: counts of the very architectures, so that printed and counted compare."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from experiments.bench.compute import run as run_compute
from experiments.bench.settings import ComputeSettings
from experiments.published import gigabytes
from experiments.reproduce.parts import Drawn, FigureSpec, once, row
from experiments.reproduce.settings import Request
from glom.runs.events import Event

CAPTION = (
    "Random weights, as cost depends on sizes alone. G: the printed GFLOPs are mostly multiply-adds (two operations "
    "each), so multiply-adds are what stands beside them. Memory: peak of a fresh process net of its imports; the "
    "printed memory is three to four copies of the weights. docs/compute.md holds definitions and the nearest reading "
    "of each printed number."
)
QUANTITIES = (  # (column, printed, measured, of what)
    ("parameters, millions", "params_m", "params_m", "counted"),
    ("G, ideal", "gflops_ideal", "gmadds", "counted"),
    ("G, measured", "gflops_measured", "gmadds", "counted"),
    ("memory, ideal, GB", "memory_ideal_gb", "memory_gb", "peak"),
    ("memory, measured, GB", "memory_measured_gb", "memory_gb", "peak"),
)


PICTURE = "GFLOPs and time against patches a side"


def computed(request: Request, out: Path) -> Generator[Event, None, Any]:
    """Run `apm bench compute`; returns its result. Small sizes and one round at home, everything at poster scale."""
    preset = "quick" if request.scale == "home" else "full"
    sizes = ComputeSettings.of(preset, memory=True, device=request.device)
    return (yield from once(out / "compute", partial(run_compute, sizes)))


def table4(request: Request, out: Path) -> Drawn:
    """Every printed number beside what is counted or measured here."""
    found = yield from computed(request, out)
    rows = []
    for r in found["rows"]:
        for title, printed, here, how in QUANTITIES:
            value = gigabytes(r["published"][printed])
            name = f"{r['model']}, t = {r['t']}"
            near = r["nearest"][printed]
            note = f"{how}; nearest reading of {value:g}: {near['reading']} ({near['off_percent']:+.1f} %)"
            made = {**row(name, title, r[here], title), "published": value, "note": note}
            made["difference"] = round(made["measured"] - value, 4)
            rows.append(made)
    return rows, [(PICTURE, out / "compute" / "compute.png")]


def figure(request: Request, out: Path) -> Drawn:
    """GFLOPs of one forward pass against patches a side."""
    found = yield from computed(request, out)
    drawn = found["figure"]
    rows = [
        row(name, f"{side} x {side} patches", value, "GFLOPs of a forward pass")
        for key, name in (("clip", "CLIP ViT-B/16"), ("apm_plain", "APM, plain"), ("apm_folded", "APM, folded"))
        for side, value in zip(drawn["sides"], drawn["gflops"][key], strict=True)
    ]
    return rows, [(PICTURE, out / "compute" / "compute.png")]


SIZES = ("the published architectures, small sizes of the timing", "the same, all sizes", 2)
FIGURES = {
    "table4": FigureSpec("Table 4: parameters, memory, GFLOPs", *SIZES, table4, CAPTION),
    "figure-compute": FigureSpec("GFLOPs against patches a side", *SIZES, figure, CAPTION),
}
