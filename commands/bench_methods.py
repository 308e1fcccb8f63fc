"""`apm bench methods`: what one more method that trains nothing costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commands.bench_common import OutFolder, hand_out, measured
from commands.common import Json, Quiet, table
from commands.options import options
from experiments.bench.methods_settings import MethodsBenchSettings


@options(MethodsBenchSettings)
def methods(settings: MethodsBenchSettings, out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A benchmark's time with one more training-free method, as a multiple of the time without it."""
    from experiments.bench.methods import run_methods

    hand_out(measured("methods", lambda tell: run_methods(settings, tell), out, quiet), out, as_json, quiet, _show)


def _show(value: Mapping[str, Any]) -> None:
    times = value["times"]
    rows = [("one more method", times, f"<= {value['wanted']}")]
    rows += [(f"of these {name} / {value['settings']['methods'][0]}", x, "") for name, x in value["shares"].items()]
    cells = [(what, f"{x['median']:.4f}", f"{x['min']:.4f} to {x['max']:.4f}", wanted) for what, x, wanted in rows]
    table(["what", "times", "min to max", "wanted"], cells, right=(1,))
