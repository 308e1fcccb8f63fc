"""`apm bench glom`: GLOM beside glom-pytorch."""

from __future__ import annotations

from typing import Any

from commands.bench_common import OutFolder, hand_out, measured, use_threads
from commands.common import Json, Quiet, say, table
from commands.options import options
from experiments.bench.glom_settings import GlomBenchSettings


@options(GlomBenchSettings)
def glom(settings: GlomBenchSettings, out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """How many times as long glom-pytorch takes at equal sizes, forward and with backward, in fp32 and bf16."""
    from experiments.bench.glom import run_glom

    use_threads(settings.threads)
    value = measured("glom", lambda tell: run_glom(settings, tell), out, quiet)
    hand_out(value, out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    rows = []
    for what in ("forward", "forward_backward"):
        for row in value[what]:
            cells = []
            for name in ("fp32", "bf16", "bf16_both"):
                if row[name] is None:  # a processor without bf16 products
                    cells.append("-")
                    continue
                between = row[name]["spread"]
                cells.append(f"{row[name]['times']:.2f}\n{between['min']:.2f} to {between['max']:.2f}")
            rows.append((what.replace("_", " + "), row["batch"], row["updates"], *cells))
    heads = ["", "batch", "updates", "both fp32", "ours bf16", "both bf16"]
    table(heads, rows, title="times as long as ours glom-pytorch takes; fp32 where nothing is said", right=range(1, 6))
    say(f"one update with equal weights: equal to {value['parity']:.1g}; they differ otherwise:")
    for line in value["differences"]:
        say(f"  {line}")
