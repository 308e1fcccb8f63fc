"""`apm bench compile`: the repeated step of an adaptation as it is, and through `torch.compile` on the processor.

Forward and backward of drawn locations are compiled; the optimiser is PyTorch's own fused kernel on either side. Both
run in turn, in processor seconds; what compiling takes stands beside, and how many steps would have to save it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench.going import SILENT, Going
from experiments.bench.settings import CompileSettings
from experiments.bench.timing import interleave, ratios, spread
from glom import execution
from glom.apm import preset
from glom.columns import grid_queries
from glom.errors import InputError
from glom.execution import Locations, StackedAPM


class Steps:
    """Steps of one machine or a stack, each on locations drawn anew, always the same ones in the same order."""

    def __init__(self, apm: str, features: int, stack: int, queries: int, compiled: bool) -> None:
        config = preset(apm, features=features, rgb=None)
        g = torch.Generator().manual_seed(0)
        self.images = torch.randn(stack, 3, config.image_size, config.image_size, generator=g)
        self.target = torch.randn(stack, features, generator=g)
        self.machine = StackedAPM(config, stack)
        self.machine.reset([torch.Generator().manual_seed(n) for n in range(stack)], "default")
        self.optimiser = torch.optim.Adam(self.machine.parameters(), lr=1e-4, fused=True)
        self.everywhere, self.queries, self.g = grid_queries(config.cells, config.cells), queries, g
        self.loss: Callable[[Locations], Tensor] = torch.compile(self._loss, dynamic=False) if compiled else self._loss

    def _loss(self, where: Locations) -> Tensor:
        token = self.machine(self.images, where, ("token",)).token
        return F.mse_loss(token, self.target, reduction="none").mean(-1).sum()

    def __call__(self) -> float:
        picks = torch.stack(
            [torch.randperm(len(self.everywhere), generator=self.g)[: self.queries] for _ in self.images]
        )
        where = execution.locate(self.everywhere[picks], self.images.device)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(where)
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())


def several(steps: Steps, count: int) -> None:
    """So many steps."""
    for _ in range(count):
        steps()


def run_compiled(s: CompileSettings, tell: Going = SILENT) -> dict[str, Any]:
    """A row a machine.

    Returns:
        best_speedup: the largest of the rows' medians, plain over compiled. `rows`: `apm`, `stack`, seconds a step,
            `speedup`, `compile_seconds`, `pays_after` (steps; None where it never does), `difference` of the losses.

    Raises:
        InputError: no C++ compiler.
    """
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise InputError("torch.compile needs a C++ compiler on a CPU, and there is none; install g++ or clang")
    torch.set_num_threads(s.threads)
    rows: list[dict[str, Any]] = []
    tell.expect(2 * len(s.machines) * (s.rounds + 1))
    for apm, features, stack in s.machines:
        about = f"{apm}, {stack} at once"
        tell(f"{about}: compiling")
        plain, compiled = (Steps(apm, features, stack, s.queries, on) for on in (False, True))
        begun = time.perf_counter()
        losses = plain(), compiled()
        taken = time.perf_counter() - begun
        work = {"plain": partial(several, plain, s.steps), "compiled": partial(several, compiled, s.steps)}
        seconds = interleave(work, s.rounds, tell=tell, watch=time.process_time, about=about)
        a_step = {name: [x / s.steps for x in values] for name, values in seconds.items()}
        saved = spread(a_step["plain"])["median"] - spread(a_step["compiled"])["median"]
        rows.append({
            "apm": apm, "stack": stack, "seconds": {name: spread(values) for name, values in a_step.items()},
            "speedup": spread(ratios(a_step["plain"], a_step["compiled"])), "compile_seconds": round(taken, 1),
            "pays_after": round(taken / saved) if saved > 0 else None,
            "difference": abs(losses[0] - losses[1]) / abs(losses[0]),
        })  # fmt: skip
        torch.compiler.reset()
    return {"best_speedup": max(r["speedup"]["median"] for r in rows), "rows": rows, "asked": asdict(s)}
