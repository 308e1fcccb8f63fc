"""The benchmarks' figures beside what is wanted of them, as rows and as Markdown, from saved records alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glom.runs.artifacts import read_json

BENCHES = ("execution", "memory", "scaling")

# (bench, key, what it is, wanted); ratios unless the name says otherwise.
FIGURES: tuple[tuple[str, str, str, str], ...] = (
    ("execution", "folded_over_published", "one iteration, as published / folded, fp32", ">= 50"),
    ("execution", "folded_over_published_memory_kept", "the same, the allocator tuned on both sides", ""),
    ("execution", "folded_over_best_plain", "one iteration, best plain / folded, fp32", ">= 1.6"),
    ("execution", "bf16_over_best_plain", "one iteration, best plain fp32 / folded bf16", ">= 3"),
    ("execution", "matmul_share", "share of the matrix-product rate, folded fp32", ">= 0.88"),
    ("execution", "matmul_share_bf16", "share of the matrix-product rate, folded bf16", ""),
    ("execution", "fast_over_published_per_image", "a picture, published (extrapolated) / fast fp32", ">= 10000"),
    ("execution", "fast_bf16_over_published_per_image", "a picture, published (extrapolated) / fast bf16", ">= 10000"),
    ("execution", "max_output_difference", "largest output difference from plain, fp32", ""),
    ("execution", "max_gradient_difference", "largest gradient difference from plain, fp32", ""),
    ("memory", "ratio_224_over_7", "peak memory, 224 x 224 / 7 x 7 columns, streamed", "<= 1.15"),
    ("memory", "activation_ratio", "its part beyond weights, gradients, optimiser", ""),
    ("scaling", "columns_speedup", "one picture's columns over two processes", ">= 1.8"),
    ("scaling", "columns_ceiling", "what the machine allows two processes there", ""),
    ("scaling", "samples_speedup", "samples over two processes, whole grid", ">= 1.9"),
    ("scaling", "samples_speedup_fast", "samples over two processes, fast preset", ""),
)


def shown(value: float) -> str:
    """A figure as a person reads it.

    Example:
        >>> shown(12345.6), shown(1.98765), shown(5.6e-7)
        ('12,346', '1.99', '5.6e-07')
    """
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"


def figures(records: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(what, measured, spread, wanted) of every figure that these records, by bench, hold."""
    rows = []
    for bench, key, what, wanted in FIGURES:
        value = records.get(bench, {}).get(key)
        if value is None:
            continue
        if key == "ratio_224_over_7" and "streamed_sides" in records[bench]:
            small, large = records[bench]["streamed_sides"]
            what = f"peak memory, {large} x {large} / {small} x {small} columns, streamed"
        between = records[bench].get("spread", {}).get(key)
        about = f"{shown(between['min'])} to {shown(between['max'])}" if between else ""
        rows.append((what, shown(value), about, wanted))
    return rows


def load(folder: Path) -> dict[str, Any]:
    """Whatever records of `BENCHES` the folder holds."""
    return {name: read_json(folder / f"{name}.json") for name in BENCHES if (folder / f"{name}.json").exists()}


def markdown(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The table that docs/measured.md quotes, with the machine it belongs to."""
    lines = ["| what | measured | min to max | wanted |", "|---|--:|---|---|"]
    lines += [f"| {what} | {value} | {about} | {wanted} |" for what, value, about, wanted in figures(records)]
    machines = {str(record["machine"]) for record in records.values()}
    if machines:
        parts = [", ".join(f"{k} {v}" for k, v in r["machine"].items()) for r in records.values()]
        lines += ["", f"Machine: {'; '.join(sorted(set(parts)))}. Ratios are medians over rounds of one run."]
    return "\n".join(lines) + "\n"
