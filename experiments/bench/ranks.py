"""`apm bench ranks`: where further ranks stop paying, by measured steps, exchanges and readings; see `ranks_model`.

Four processes of one thread each stay up and are asked in turn. Everything the model is made of is measured on one
process, but for the exchanges; its error is that of whole sharded steps, and of pictures shared out, on 2 and 4.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import timedelta
from statistics import median
from typing import Any

import psutil
import torch
import torch.distributed as dist

from experiments.bench.apart import Apart
from experiments.bench.going import SILENT, Going
from experiments.bench.ranks_model import Costs, fastest, fitted, pays_until, simulated
from experiments.bench.settings import RanksSettings
from experiments.bench.steps import Step
from experiments.bench.timing import line
from glom.adaptation.case import Case
from glom.adaptation.settings import ttt_preset
from glom.adaptation.ttt import adapt
from glom.allocator import keep_freed_memory
from glom.apm import preset
from glom.columns import grid_queries, picture
from glom.datasets.registry import open_dataset
from glom.execution import sync_gradients
from glom.teachers.registry import load_teacher

WORLDS = (2, 4)  # of real processes, beside one
MOST = max(WORLDS)
CHECKED = 64  # side of the largest grid whose steps are run


def make_rank(rank: int, folder: str, s: RanksSettings) -> Callable[[str, int, int], float]:
    """In a process of its own: (what, how many processes, side or pictures) -> its seconds; 0 where it has no part."""
    torch.set_num_threads(1)
    keep_freed_memory()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the loopback address serves as the host's name everywhere
    store = dist.FileStore(f"{folder}/store", MOST)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=MOST, timeout=timedelta(seconds=300))
    groups: dict[int, Any] = {world: dist.new_group(list(range(world))) for world in WORLDS}
    step = Step(preset(s.apm, features=s.features, rgb=None), s.seed)
    teacher, data = load_teacher(s.teacher), open_dataset(s.data)
    settings = ttt_preset("fast", apm=s.apm, iterations=s.iterations)
    size = settings.config(teacher.width).image_size
    head = teacher.zero_shot_head(teacher.classes or data.classes or ("a", "b"))

    def pictures(numbers: Sequence[int]) -> None:
        for number in numbers:
            sample = data.samples[number % len(data.samples)]
            image = sample.image()
            token = teacher.token(teacher.preprocess(image)[None])[0]
            adapt(Case(sample.id, None, picture(image, size), token), settings, head, s.seed)

    def work(what: str, world: int, count: int) -> None:
        group = groups.get(world)
        if what == "columns":
            step("sharded" if group else "folded", grid_queries(count, count), group=group)
        elif what == "gradients":
            sync_gradients(step.apm, group)
        elif what == "barrier":
            dist.barrier(group)
        else:
            pictures(range(rank, count, world))
            if group:
                dist.barrier(group)

    def run(what: str, world: int, count: int) -> float:
        if rank >= world:
            return 0.0
        begun = time.perf_counter()
        work(what, world, count)
        return time.perf_counter() - begun

    return run


class Processes:
    """The processes, asked together; every figure is the median of rounds of the slowest of them."""

    def __init__(self, ranks: Sequence[Apart], rounds: int, tell: Going) -> None:
        self.ranks, self.rounds, self.tell = ranks, rounds, tell

    def __call__(self, what: str, world: int, count: int = 0, least: int = 1) -> float:
        found = []
        for number in range(-1, max(self.rounds, least)):  # the first warms up
            for rank in self.ranks[:world]:
                rank.begin(what, world, count)
            taken = max(rank.answer() for rank in self.ranks[:world])
            found += [taken] if number >= 0 else []
            if found and not self.tell.fits(taken):
                break
        self.tell.row(f"{what}, {world} processes{f', {count}' if count else ''}", median(found), rounds=len(found))
        return median(found)


def run_ranks(s: RanksSettings, tell: Going = SILENT) -> dict[str, Any]:
    """Measure, put together, compare.

    Returns:
        columns_pay_until, samples_pay_until: ranks that still do half of what so many would at best, each with cores of
            its own; columns_fastest. columns_error, samples_error: the model's largest error on 2 and 4 real
            processes, which share this machine's cores, relative. `costs`: what was measured. `columns`, `samples`:
            rows a number of ranks. `checked`: measured beside modelled.
    """
    begun = time.perf_counter()
    cores = psutil.cpu_count(logical=False) or 1
    small = [n for n in s.sides if n <= CHECKED]
    tell.expect(len(s.step_sides) + 3 * len(WORLDS) + 1 + (1 + len(WORLDS)) * (len(small) + 1))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ranks = [stack.enter_context(Apart(make_rank, r, folder, s, wait=False)) for r in range(MOST)]
        for rank in ranks:
            rank.answer()
        start = (time.perf_counter() - begun) / max(1.0, MOST / cores)
        ask = Processes(ranks, s.rounds, tell)
        steps = {n: ask("columns", 1, n) for n in s.step_sides}
        found = line([float(n * n) for n in steps], list(steps.values()))
        exchanges, M = [], _gradient_bytes(s)
        for world in WORLDS:
            ask("columns", world, s.step_sides[0])  # leaves gradients on every rank
            exchanges += [(world, M, ask("gradients", world)), (world, 0, ask("barrier", world, least=20))]
        few = max(2 * MOST, s.pictures_here - s.pictures_here % MOST)
        picture = ask("pictures", 1, few) / few
        here = Costs(max(0.0, found["intercept"]), found["slope"], 0.0, 0.0, M, picture, 0.0, cores)
        byte, hop = fitted(exchanges, here.crowded)
        here = replace(here, byte=byte, hop=hop)
        checked = [_checked("columns", w, n * n, ask("columns", w, n), here.columns(n * n, w))
                   for n in small for w in (1, *WORLDS)]  # fmt: skip
        checked += [_checked("samples", w, few, ask("pictures", w, few), here.samples(few, 1, w)) for w in (1, *WORLDS)]
    own = replace(here, cores=0, start=start)
    if s.bandwidth:
        own = replace(own, byte=1 / (1e9 * s.bandwidth))
    if s.latency:
        own = replace(own, hop=1e-6 * s.latency)
    columns = {n: simulated(lambda r, n=n: own.columns(n * n, r)) for n in s.sides}  # type: ignore[misc]
    samples = simulated(lambda r: own.samples(s.pictures, s.block, r))
    errors = {what: max(abs(r["error"]) for r in checked if r["what"] == what) for what in ("columns", "samples")}
    return {
        "columns_pay_until": pays_until(columns[s.sides[-1]]),
        "columns_fastest": fastest(columns[s.sides[-1]]),
        "samples_pay_until": pays_until(samples),
        "columns_error": errors["columns"],
        "samples_error": errors["samples"],
        "costs": asdict(own),
        "checked": checked,
        "columns": [{"side": n, "columns": n * n, "pay_until": pays_until(rows), "fastest": fastest(rows), "rows": rows}
                    for n, rows in columns.items()],
        "samples": {"pictures": s.pictures, "rows": samples},
        "load": round(psutil.getloadavg()[0], 2),
        "cores": cores,
        "asked": asdict(s),
    }  # fmt: skip


def _gradient_bytes(s: RanksSettings) -> int:
    from glom.apm import blank_apm

    apm = blank_apm(preset(s.apm, features=s.features, rgb=None))
    return sum(p.numel() * p.element_size() for p in apm.parameters())


def _checked(what: str, world: int, count: int, measured: float, modelled: float) -> dict[str, Any]:
    return {"what": what, "processes": world, "count": count, "measured": round(measured, 5),
            "modelled": round(modelled, 5), "error": round(modelled / measured - 1, 4)}  # fmt: skip
