"""`apm bench memory`: the peak of a test-time step against the number of columns, each in a process of its own.

Two measurements a row. The process's peak resident memory, interpreter, libraries, weights, gradients and optimiser
included; and what PyTorch allocates during a step, from its profiler, which leaves the persistent tensors out.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.bench.apart import Apart
from experiments.bench.going import SILENT, Going
from experiments.bench.settings import MemorySettings
from experiments.bench.steps import Step
from experiments.bench.timing import line
from glom.apm import preset
from glom.columns import grid_queries


def peak_resident() -> int:
    """Bytes: the largest resident memory this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: a process started by a larger one inherits that one's size there.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def allocated_peak(step: Callable[[], None]) -> int:
    """Bytes: the most that PyTorch held at once on the CPU, during one step, of what the step itself allocated."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def make_step(
    apm: str, features: int, side: int, how: str, chunk: int | None, threads: int
) -> Callable[[], dict[str, Any]]:
    """In a fresh process: what a step on side x side columns needs, in bytes: its peak, then its profile."""
    torch.set_num_threads(threads)

    def run() -> dict[str, Any]:
        before = peak_resident()
        step = Step(preset(apm, features=features, rgb=None), 0)

        def at(n: int) -> None:
            step(how, grid_queries(n, n), chunk=chunk)

        parameters = sum(p.numel() * p.element_size() for p in step.apm.parameters())
        at(2)  # the optimiser's state is there from here on
        gc.collect()
        begun, worked = time.perf_counter(), time.process_time()
        at(side)
        took, worked = time.perf_counter() - begun, time.process_time() - worked
        found: dict[str, Any] = {"import": before, "parameters": parameters, "persistent": 4 * parameters}
        found |= {"peak": peak_resident(), "activations": None, "took": took, "worked": worked}
        step.optimiser.zero_grad(set_to_none=True)
        if side <= PROFILED_SIDE:
            # Gradients are allocated within the step too; they are not activations.
            found["activations"] = allocated_peak(lambda: at(side)) - parameters
        return found

    return run


def measure(settings: MemorySettings, side: int, how: str) -> tuple[dict[str, Any], float]:
    """Both measurements of one row in a fresh process, the peak first, bytes in MiB; and the seconds of its step."""
    # The profiler's library writes to standard error where there is no GPU; its processes inherit this.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with Apart(make_step, settings.apm, settings.features, side, how, settings.chunk, settings.threads) as process:
        row = process.ask()
    took, worked = float(row.pop("took")), float(f"{row.pop('worked'):.5g}")
    mib = {f"{name}_mib": None if value is None else round(value / 2**20, 1) for name, value in row.items()}
    return {"execution": how, "side": side, "columns": side**2, **mib, "processor_seconds": worked}, took


PROFILED_SIDE = 256  # beyond which the profile of a step would be larger than what it profiles
PROFILED = 3  # steps that a row takes: its own, and a profiled one, which is twice as slow


@dataclass(frozen=True)
class Took:
    """What a row took: its columns, its seconds in all, those of its step."""

    columns: int
    row: float
    step: float

    def at(self, side: int) -> float:
        """Seconds that a row of side x side columns takes, of which only the steps grow."""
        return self.row + PROFILED * self.step * (side**2 / self.columns - 1)


def affordable(how: str, side: int, last: Took | None, tell: Going) -> int:
    """The side that fits into the time that is left, by what the last row took: as asked, smaller, or 0 for none."""
    for smaller in [n for n in (side, 112, 64) if n <= side]:
        if last is None or tell.fits(last.at(smaller)):  # there has to be one
            if smaller < side:
                tell.skip(f"{how}, {side} x {side}; {smaller} x {smaller} instead", rows=0)
            return smaller
    tell.skip(f"{how}, {side} x {side}")
    return 0


def run_memory(settings: MemorySettings, tell: Going = SILENT) -> dict[str, Any]:
    """Measure every row.

    Returns:
        ratio_224_over_7: peak resident memory at the largest streamed size over that at the smallest, the whole
            process.
        ratio_without_import: the same after subtracting what the process had before the APM was made.
        activation_ratio: of what a step needs at most beyond weights, gradients and optimiser state.
        growth: the same whole and activation ratios of the other executions, from their smallest to largest size.
        time: processor seconds of a streamed step against its columns, a straight line through the rows; None for one.
        rows: MiB; `import` before the APM, `persistent` weights, gradients and both Adam moments, `activations` the
            rest (None where a profile would be too large), `peak` the process's; `processor_seconds` of a step.
    """
    asked = [("streamed", s) for s in settings.sides]
    asked += [("folded", s) for s in settings.folded_sides]
    asked += [("plain", s) for s in settings.plain_sides]
    rows = []
    last: Took | None = None
    tell.expect(len(asked))
    for how, side in asked:
        tell(f"{how}, {side} x {side} columns")
        side = affordable(how, side, last, tell)
        if not side:
            continue
        begun = time.monotonic()
        row, took = measure(settings, side, how)
        rows.append(row)
        last = Took(side**2, time.monotonic() - begun, took)
        tell.row(f"{how}, {side} x {side}", **{k: v for k, v in rows[-1].items() if k.endswith("_mib")})

    def ends(how: str) -> tuple[dict[str, Any], dict[str, Any]]:
        mine = [r for r in rows if r["execution"] == how]
        return mine[0], mine[-1]

    def ratio(pair: tuple[dict[str, Any], dict[str, Any]], key: str) -> float:
        if pair[1][key] is None:
            pair = pair[0], [r for r in rows if r["execution"] == pair[0]["execution"] and r[key] is not None][-1]
        return round(pair[1][key] / max(pair[0][key], 0.1), 4)

    streamed = ends("streamed")
    net = [row["peak_mib"] - row["import_mib"] for row in streamed]
    mine = [r for r in rows if r["execution"] == "streamed"]
    worked = [float(r["processor_seconds"]) for r in mine]
    return {
        "time": line([float(r["columns"]) for r in mine], worked) if len(mine) > 1 else None,
        "ratio_224_over_7": ratio(streamed, "peak_mib"),
        "activation_ratio": ratio(streamed, "activations_mib"),
        "ratio_without_import": round(net[1] / net[0], 4),
        "growth": {
            how: {
                "sides": [row["side"] for row in ends(how)],
                "peak": ratio(ends(how), "peak_mib"),
                "activations": ratio(ends(how), "activations_mib"),
            }
            for how in ("folded", "plain")
            if len({row["side"] for row in rows if row["execution"] == how}) > 1
        },
        "streamed_sides": [row["side"] for row in streamed],
        "rows": rows,
        "asked": asdict(settings),
    }
