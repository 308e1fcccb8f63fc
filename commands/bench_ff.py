"""`apm bench ff`: a forward-forward epoch against the machine's matrix products and against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, Quiet, emit_json, for_adaptation, say, table

FIGURES = (
    ("matmul_share", "share of its products' rate, fp32", ">= 0.85"),
    ("large_share", "share of a large product's rate, fp32", ""),
    ("matmul_share_bf16", "share of its products' rate, bf16", ""),
    ("over_autograd", "autograd on tensors / own fp32", ""),
    ("over_per_sample", "loading by sample / own fp32", ""),
    ("bf16_over_per_sample", "loading by sample / own bf16", ""),
)


def ff(
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Where ff.json goes; replaced there.", metavar="DIR")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and steps, for a look.")] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="PyTorch's choice otherwise.", min=1)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One forward-forward epoch (3 x 1000, batch 100): matrix-product share, and plain loops beside it."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    value = measure_ff(quick, quiet)
    if out is not None:
        from experiments.bench.timing import save

        path = save(Path(out), value)
        if not quiet:
            say(f"saved: {path}")
    if as_json:
        emit_json(value)
        return
    rows = []
    for key, what, wanted in FIGURES:
        between = value["spread"][key]
        rows.append((what, f"{value[key]:.2f}", f"{between['min']:.2f} to {between['max']:.2f}", wanted))
    table(["what", "measured", "min to max", "wanted"], rows, right=(1,))
    if value["others"] > 0.1:
        say(f"the rest of the machine had {value['others']:.1f} cores meanwhile: shares and ratios suffer from that")
    print()
    table(["seconds an epoch of 60,000", ""], list(value["epoch_seconds"].items()), right=(1,))


def measure_ff(quick: bool, quiet: bool) -> dict[str, Any]:
    """Run the benchmark and return its record."""
    from experiments.bench.ff import QUICK, FFBench, run_ff
    from experiments.bench.timing import record

    def tell(message: str) -> None:
        if not quiet:
            say(f"ff: {message}")

    for_adaptation()
    result = run_ff(QUICK if quick else FFBench(), tell)
    return record("ff", result.pop("asked"), result)


def save_ff(folder: Path, quick: bool, quiet: bool) -> None:
    """The benchmark's record as `ff.json` in the folder, for `apm bench all`."""
    from experiments.bench.timing import save

    path = save(folder, measure_ff(quick, quiet))
    if not quiet:
        say(f"saved: {path}")
