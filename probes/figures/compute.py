"""The figure of cost against the number of patches, from saved results alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probes.figures.base import APM, GREY, TEACHER, new_figure, plain, plain_all, save


def compute_figure(figure: Mapping[str, Any], path: Path) -> Path:
    """GFLOPs (left) and time (right) of one forward pass against patches a side.

    Args:
        figure: the "figure" of `experiments.bench.compute`: sides; gflops by model; time by model as
            `{"side", "ratio", "measured", "minimum", "maximum"}`, in units of CLIP at 14 x 14 patches. Filled marks are
            measured, hollow ones arithmetic.
        path: PNG to write.
    """
    sides = figure["sides"]
    canvas, axes = new_figure(9.2, 4.1, 1, 2)
    left, right = axes[0]
    curves = figure["gflops"]
    left.plot(sides, curves["clip"], "o-", color=TEACHER, label="CLIP ViT-B/16, image")
    left.plot(sides, curves["apm_plain"], "D--", color=APM, alpha=0.55, ms=5, label="APM, plain")
    left.plot(sides, curves["apm_folded"], "s-", color=APM, label="APM, folded or streamed")
    left.set_ylabel("GFLOPs, one forward pass")
    left.set_title("Operations (arithmetic)", fontsize=10.5, loc="left")
    for model, colour, mark, label in (
        ("clip", TEACHER, "o", "CLIP ViT-B/16, image"),
        ("apm", APM, "s", "APM, streamed"),
    ):
        points = figure["time"][model]
        measured = [p for p in points if p["measured"]]
        beyond = [p for p in points if p["side"] >= measured[-1]["side"]]
        x, y = [p["side"] for p in measured], [p["ratio"] for p in measured]
        spread = [
            [p["ratio"] - p["minimum"] for p in measured],
            [p["maximum"] - p["ratio"] for p in measured],
        ]
        right.errorbar(x, y, yerr=spread, fmt=mark + "-", color=colour, capsize=2, label=plain(label))
        if len(beyond) > 1:
            right.plot([p["side"] for p in beyond], [p["ratio"] for p in beyond], ":", color=colour)
            rest = beyond[1:]
            right.plot([p["side"] for p in rest], [p["ratio"] for p in rest], mark, color=colour, mfc="white")
    right.axhline(1, color=GREY, lw=0.8, ls=(0, (4, 4)), zorder=0)
    right.plot([], [], "o:", color=GREY, mfc="white", label="arithmetic at the last measured rate")
    right.set_ylabel("time / CLIP at 14 × 14 patches")
    unit = figure["time"]["unit_seconds"]
    right.set_title(f"Time (measured, median; 1 = {1000 * unit:.0f} ms)", fontsize=10.5, loc="left")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(sides, plain_all([str(s) for s in sides]))
        axis.minorticks_off()
        axis.set_xlabel("patches or columns a side")
        axis.grid(axis="y", color="#e6e6e6", lw=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        handles, labels = axis.get_legend_handles_labels()
        # Error bars list themselves after lines: the models come first all the same.
        order = sorted(zip(labels, handles, strict=True), key=lambda pair: pair[0].startswith("arithmetic"))
        chosen = [handle for _, handle in order], [label for label, _ in order]
        axis.legend(*chosen, fontsize=8.5, frameon=False, loc="upper left")
    return save(canvas, path)
