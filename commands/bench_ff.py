"""`apm bench ff`: a forward-forward epoch against the machine's matrix products and against plain loops."""

from __future__ import annotations

from typing import Any

from commands.bench_common import OutFolder, Quick, Threads, figures_table, hand_out, teller, use_threads
from commands.common import Json, Quiet, for_adaptation, say, table

FIGURES = (
    ("model_share", "published work / large product's rate", 2, ">= 0.85"),
    ("large_share", "work done / large product's rate", 2, ">= 0.85"),
    ("matmul_share", "share of its products' rate, fp32", 2, ">= 0.85"),
    ("matmul_share_bf16", "share of its products' rate, bf16", 2, ""),
    ("over_autograd", "autograd on tensors / own fp32", 2, ""),
    ("over_per_sample", "loading by sample / own fp32", 2, ""),
    ("bf16_over_per_sample", "loading by sample / own bf16", 2, ""),
)


def ff(
    out: OutFolder = None,
    quick: Quick = False,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One forward-forward epoch (3 x 1000, batch 100): matrix-product share, and plain loops beside it."""
    use_threads(threads)
    hand_out(measure_ff(quick, quiet), out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    figures_table(value, FIGURES)
    if value["others"] > 0.1:
        say(f"the rest of the machine had {value['others']:.1f} cores meanwhile: shares and ratios suffer from that")
    print()
    table(["seconds an epoch of 60,000", ""], list(value["epoch_seconds"].items()), right=(1,))


def measure_ff(quick: bool, quiet: bool) -> dict[str, Any]:
    """Run the benchmark and return its record."""
    from experiments.bench.ff import QUICK, FFBench, run_ff
    from experiments.bench.timing import record

    for_adaptation()
    result = run_ff(QUICK if quick else FFBench(), teller("ff", quiet))
    return record("ff", result.pop("asked"), result)
