"""`apm bench ff`: a forward-forward epoch against the machine's matrix products and against plain loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.bench_common import OutFolder, Threads, figures_table, hand_out, measured, use_threads
from commands.common import Json, Quiet, say, table
from commands.options import options
from experiments.bench.settings import FFBench, FFConvBench

FIGURES = (
    ("trained_model_share", "published work / large product's rate", 2, ">= 0.85"),
    ("model_share", "the same, every row in its gradient", 2, ">= 0.85"),
    ("large_share", "work done, every row / large product's", 2, ">= 0.85"),
    ("matmul_share", "share of its products' rate, fp32", 2, ">= 0.85"),
    ("matmul_share_bf16", "share of its products' rate, bf16", 2, ""),
    ("every_row_over_trained", "every row / as trained", 2, ""),
    ("over_autograd", "autograd on tensors / own fp32", 2, ""),
    ("over_per_sample", "loading by sample / own fp32", 2, ""),
    ("trained_over_per_sample", "loading by sample / own fp32, as trained", 2, ""),
    ("bf16_over_per_sample", "loading by sample / own bf16", 2, ""),
)
CONV_FIGURES = (
    ("plain_over_own", "plain loop / own, processor time", 2, ""),
    ("twin_over_own", "backpropagation / own, processor time", 2, ""),
    ("large_share", "convolutions' rate / large product's", 2, ""),
    ("flat", "memory, most layers / fewest", 2, "1"),
    ("twin_flat", "the same of backpropagation", 2, ""),
)


@options(FFBench)
def ff(
    settings: FFBench,
    out: OutFolder = None,
    data_root: Annotated[
        str | None,
        typer.Option("--data-root", help="MNIST's folder; scikit-learn's digits otherwise.", metavar="DIR"),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One forward-forward epoch (3 x 1000, batch 100): matrix-product share, and plain loops beside it."""
    use_threads(threads)
    mnist = Path(data_root).expanduser() if data_root else None
    hand_out(measure_ff(settings, out, quiet, mnist), out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    figures_table(value, FIGURES)
    felt = ", ".join(f"{v:.2f}" for v in value["felt"])
    say(f"rows that the layers' gradients feel, as trained: {felt}")
    if value["others"] > 0.1:
        say(f"the rest of the machine had {value['others']:.1f} cores meanwhile: shares and ratios suffer from that")
    print()
    table(["seconds an epoch of 60,000", ""], list(value["epoch_seconds"].items()), right=(1,))


def measure_ff(settings: FFBench, out: str | None, quiet: bool, mnist: Path | None = None) -> dict[str, Any]:
    """Run the benchmark and return its record."""
    from experiments.bench.ff import run_ff

    asked = replace(settings, pictures="mnist" if mnist else "digits")
    return measured("ff", lambda tell: run_ff(asked, tell, mnist), out, quiet, settings.seconds)


@options(FFConvBench)
def ff_conv(
    settings: FFConvBench,
    out: OutFolder = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """A step of convolutional layers beside a plain loop and backpropagation; memory by depth, drawn in DIR."""
    from experiments.bench.ff_conv import run_ff_conv
    from probes.figures.layers import depth_figure

    use_threads(threads)
    value = measured("ff-conv", lambda tell: run_ff_conv(settings, tell), out, quiet, settings.seconds)
    hand_out(value, out, as_json, quiet, _show_conv)
    if out is not None:
        depth_figure(value["memory"], Path(out) / "ff-conv-memory.png")


def _show_conv(value: dict[str, Any]) -> None:
    figures_table(value, CONV_FIGURES)
    print()
    rows = [(r["depth"], r["forward_forward_mib"], r["twin_mib"]) for r in value["memory"]]
    table(["layers", "forward-forward (MiB)", "backpropagation (MiB)"], rows, right=(0, 1, 2))
