"""`apm bench host-reads|device`: how often a step waits for a device, and a device against the CPU."""

from __future__ import annotations

from typing import Any

from commands.bench_common import OutFolder, hand_out, measured
from commands.common import Json, Quiet, table
from commands.options import options
from experiments.bench.settings import DeviceSettings


def host_reads(out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Reads of the device by the host, a step of each model; counted without a device."""
    from experiments.bench.host_reads import run_host_reads

    hand_out(measured("host-reads", run_host_reads, out, quiet), out, as_json, quiet, _show)


def _show(value: dict[str, Any]) -> None:
    rows = [(r["what"], f"{r['in_loop']:g}", r["around"], r["why"]) for r in value["rows"]]
    table(["loop", "reads a step", "before and after", "why"], rows, right=(1, 2))
    print(f"\nat most {value['most_unsaid']:g} a step where nothing is said of reading")


@options(DeviceSettings)
def device(settings: DeviceSettings, out: OutFolder = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """A device against the CPU: equal results, adapted pictures a second, share of the matrix rate, peak memory."""
    from experiments.bench.device import run_device

    value = measured("device", lambda tell: run_device(settings, tell), out, quiet, settings.seconds)
    hand_out(value, out, as_json, quiet, _show_device)


def _show_device(value: dict[str, Any]) -> None:
    rows = []
    for r in value["rows"]:
        share = f"{r['matmul_share']['median']:.2f}" if r["matmul_share"] else ""
        graphs = "on" if r["graphs"] else "off"
        rate, times = f"{r['pictures_per_s']:.4g}", f"{r['over_plain']['median']:.1f}"
        rows.append((r["stack"], r["precision"], graphs, rate, times, share, r["peak_mib"]))
    heads = ["stack", "products", "graphs", "pictures/s", "x plain", "of the matrix rate", "peak MiB"]
    table(heads, rows, title=value["device"], right=(0, 3, 4, 5, 6))
    print(f"\nlargest difference from the CPU, relative: {value['largest_difference']:.1e}")
