"""`apm bench scaling`: one picture's columns, and samples, over two processes; and time against the number of columns.

Two processes of one thread each stay up throughout and are asked in turn: one alone, both sharing one picture's
columns, both with work of their own. The last is what the machine lets two processes do at best (they share its
memory and its clock), and stands beside every speed-up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from experiments.bench.adaptation import random_case
from experiments.bench.apart import Apart
from experiments.bench.going import SILENT, Going
from experiments.bench.settings import ScalingSettings
from experiments.bench.steps import Step
from experiments.bench.timing import interleave, line, ratios, spread
from glom.adaptation.settings import ttt_preset
from glom.adaptation.ttt import adapt
from glom.allocator import keep_freed_memory
from glom.apm import preset
from glom.columns import grid_queries

RANKS = 2
SHORT = 56  # side of the largest grid whose steps are short: a round to warm up is worth what it costs


def make_rank(rank: int, folder: str, settings: ScalingSettings) -> Callable[[str, int], float]:
    """In a process of its own, one thread: (what, side or samples) -> 0, or the largest difference for "compare"."""
    torch.set_num_threads(1)
    keep_freed_memory()
    # The loopback address serves as the host's name everywhere.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(f"{folder}/store", RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=300))
    config = preset(settings.apm, features=settings.features, rgb=None)
    alone, shared = Step(config, settings.seed), Step(config, settings.seed)
    presets = {
        "published": ttt_preset("published", apm=settings.apm, iterations=settings.iterations),
        "fast": ttt_preset("fast", apm=settings.apm, iterations=settings.fast_iterations),
    }
    case, head = random_case(presets["published"], settings.features, settings.seed)

    def run(what: str, size: int) -> float:
        if what == "sharded":
            shared("sharded", grid_queries(size, size))
        elif what == "alone":
            alone("folded", grid_queries(size, size))
        elif what in presets:
            for _ in range(size):
                adapt(case, presets[what], head, settings.seed)
        elif what == "compare":
            # As many steps on both, of which a rank that never ran alone has none.
            for mine, other in zip(shared.apm.parameters(), alone.apm.parameters(), strict=True):
                mine.data.copy_(other.data)
            alone("folded", grid_queries(size, size))
            shared("sharded", grid_queries(size, size))
            pairs = zip(shared.apm.parameters(), alone.apm.parameters(), strict=True)
            return max(
                float((a.grad - b.grad).abs().max()) for a, b in pairs if a.grad is not None and b.grad is not None
            )
        return 0.0

    return run


def _all(ranks: Sequence[Apart], what: str, size: int) -> list[float]:
    for rank in ranks:
        rank.begin(what, size)
    return [rank.answer() for rank in ranks]


def two_processes(settings: ScalingSettings, tell: Going) -> dict[str, Any]:
    """Columns of one picture and samples over two processes, with the machine's own ceiling for either."""
    columns: list[dict[str, Any]] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ranks = [stack.enter_context(Apart(make_rank, r, folder, settings, wait=False)) for r in range(RANKS)]
        for rank in ranks:
            rank.answer()
        # Both ranks start from the same parameters here, before either has run alone.
        difference = max(_all(ranks, "compare", settings.sides[0]))
        for side in settings.sides:
            if columns and not tell.fits(longest(columns[-1], side)):
                tell.skip(f"{side} x {side} columns over {RANKS} processes", 3 * (settings.rounds + settings.warmup))
                continue
            tell(f"{side} x {side} columns over {RANKS} processes")
            work: dict[str, Callable[[], object]] = {
                "one": lambda n=side: ranks[0].ask("alone", n),  # type: ignore[misc]
                "sharded": lambda n=side: _all(ranks, "sharded", n),  # type: ignore[misc]
                "independent": lambda n=side: _all(ranks, "alone", n),  # type: ignore[misc]
            }
            about = f"{side} x {side} columns"
            seconds = interleave(work, settings.rounds, settings.warmup, tell=tell, about=about)
            columns.append(
                {
                    "side": side,
                    "columns": side**2,
                    "seconds": {name: spread(values) for name, values in seconds.items()},
                    "speedup": spread(ratios(seconds["one"], seconds["sharded"])),
                    "ceiling": spread([RANKS * r for r in ratios(seconds["one"], seconds["independent"])]),
                }
            )
        for name in ("published", "fast"):
            tell(f"samples over {RANKS} processes, as the {name} preset takes its steps")
            both: dict[str, Callable[[], object]] = {
                "one": lambda p=name: ranks[0].ask(p, RANKS),  # type: ignore[misc]
                "two": lambda p=name: _all(ranks, p, 1),  # type: ignore[misc]
            }
            seconds = interleave(both, settings.samples_rounds, warmup=0, tell=tell, about=f"samples, {name}")
            samples[name] = {
                "seconds": {key: spread(values) for key, values in seconds.items()},
                "speedup": spread(ratios(seconds["one"], seconds["two"])),
            }
    return {"columns": columns, "samples": samples, "max_gradient_difference": difference}


def longest(row: Mapping[str, Any], side: int) -> float:
    """Seconds that a round on side x side columns takes at most, by what the last size took."""
    return sum(s["max"] for s in row["seconds"].values()) * max(1.0, side**2 / row["columns"])


def growth(settings: ScalingSettings, tell: Going) -> dict[str, Any]:
    """Seconds a step against the number of columns, in this process: folded, streamed, and with a query subset."""
    step = Step(preset(settings.apm, features=settings.features, rgb=None), settings.seed)
    g = torch.Generator().manual_seed(settings.seed)
    step("folded", grid_queries(2, 2))
    rows: list[dict[str, Any]] = []
    for side in settings.growth_sides:
        if rows and not tell.fits(longest(rows[-1], side)):
            tell.skip(f"time of {side} x {side} columns", grown(settings, side))
            continue
        tell(f"time of {side} x {side} columns")
        everywhere = grid_queries(side, side)

        def some(everywhere: torch.Tensor) -> torch.Tensor:
            return everywhere[torch.randperm(len(everywhere), generator=g)[: settings.subset]]

        work: dict[str, Callable[[], object]] = {
            "folded": lambda q=everywhere: step("folded", q),  # type: ignore[misc]
            "streamed": lambda q=everywhere: step("streamed", q),  # type: ignore[misc]
        }
        subset: dict[str, Callable[[], object]] = {
            "subset": lambda q=everywhere: step("folded", some(q))  # type: ignore[misc]
        }
        rounds = settings.growth_rounds * (3 if side <= SHORT else 1)
        about = f"{side} x {side} columns, one process"
        seconds = interleave(work, rounds, warmup=int(side <= SHORT), tell=tell, about=about)
        seconds |= interleave(subset, 3 * settings.growth_rounds, warmup=2, tell=tell, about=about)
        rows.append({"side": side, "columns": side**2, "seconds": {k: spread(v) for k, v in seconds.items()}})
    x = [float(row["columns"]) for row in rows]
    fits = {name: line(x, [row["seconds"][name]["median"] for row in rows]) for name in ("folded", "streamed")}
    large = [row["seconds"]["subset"]["median"] for row in rows if row["columns"] >= settings.subset]
    return {
        "rows": rows,
        "fit_seconds_per_column": fits,
        "subset_queries": settings.subset,
        "subset_last_over_first": large[-1] / large[0] if large else None,
    }


def grown(s: ScalingSettings, side: int) -> int:
    """Rows of one size in one process."""
    return 2 * (3 * s.growth_rounds + 1 if side <= SHORT else s.growth_rounds) + 3 * s.growth_rounds + 2


def rows_to_come(s: ScalingSettings) -> int:
    """Of all of it."""
    shared = 3 * len(s.sides) * (s.rounds + s.warmup) + 2 * 2 * s.samples_rounds
    return shared + sum(grown(s, side) for side in s.growth_sides)


def run_scaling(settings: ScalingSettings, tell: Going = SILENT) -> dict[str, Any]:
    """Measure everything.

    Returns:
        columns_speedup: one process of one thread over two of one thread, same columns of one picture, at the largest
            of `sides`; columns_speedup_at: that number of columns. columns_ceiling: twice what two processes with
            work of their own reach of one alone's pace.
        samples_speedup: two samples in one process over one in each of two, whole grid in every iteration;
            samples_speedup_fast: the same with the `fast` preset.
        two_processes, growth: the details; growth's slope in seconds a column.
    """
    keep_freed_memory()
    tell.expect(rows_to_come(settings))
    shared = two_processes(settings, tell)
    last = shared["columns"][-1]
    return {
        "columns_speedup": last["speedup"]["median"],
        "samples_speedup": shared["samples"]["published"]["speedup"]["median"],
        "samples_speedup_fast": shared["samples"]["fast"]["speedup"]["median"],
        "columns_speedup_at": last["columns"],
        "columns_ceiling": last["ceiling"]["median"],
        "spread": {
            "columns_speedup": last["speedup"],
            "columns_ceiling": last["ceiling"],
            "samples_speedup": shared["samples"]["published"]["speedup"],
            "samples_speedup_fast": shared["samples"]["fast"]["speedup"],
        },
        "two_processes": shared,
        "growth": growth(settings, tell),
        "asked": asdict(settings),
    }
