"""Side by side: everything that is compared runs in turn, round after round, and ratios are taken round by round.

A shared machine speeds up and slows down over minutes; two things measured within one round see the same machine.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from experiments.bench.going import SILENT, Going
from glom.apm import APMConfig
from glom.errors import InputError
from glom.runs.artifacts import origin, public_name, write_record

Product = tuple[int, int, int, int]
"""A linear layer's work (n, i, o, k): n rows, i inputs, o outputs; k = 3 for y, dx and dW, 2 where dx is not needed."""


def clock(device: torch.device | None = None) -> float:
    """Seconds on a steady clock, after everything given to `device` is done."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def interleave(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    device: torch.device | None = None,
    tell: Going = SILENT,
    watch: Callable[[], float] | None = None,
    about: str = "",
) -> dict[str, list[float]]:
    """Run each of `work` once a round, in turn; seconds by name, one a round.

    Args:
        work: what to time, by name; ran in this order.
        rounds: that count, at least 1; where the time that `tell` knows of is over, they end after the first.
        warmup: rounds before them, whose times are thrown away; one of them counts where there is no time for more.
        device: waited for before the clock is read.
        watch: what is read instead of the clock: `time.process_time` where others keep the machine busy.
        tell: is told of every row. about: what the rows belong to.

    Raises:
        InputError: less than one round.

    Example:
        >>> sorted(interleave({"a": lambda: 1, "b": lambda: 2}, rounds=2))
        ['a', 'b']
    """
    if rounds < 1:
        raise InputError(f"a benchmark needs at least one round, got {rounds}")
    seconds: dict[str, list[float]] = {name: [] for name in work}
    now = watch or partial(clock, device)
    tell.expect((rounds + warmup) * len(work))
    for number in range(-warmup, rounds):
        if number > -warmup and not tell.fits(sum(taken[-1] for taken in seconds.values())):
            left = f"{about or 'the same again'}: round {max(number, 0) + 1} of {rounds} and on"
            tell.skip(left, (rounds - number) * len(work))
            break
        for name, run in work.items():
            start = now()
            run()
            seconds[name].append(now() - start)
            tell.row(f"{about}: {name}" if about else name, seconds[name][-1], round=number + 1)
    return {name: taken[warmup:] or taken[-1:] for name, taken in seconds.items()}


def precisions_here() -> tuple[str, ...]:
    """What is timed on this processor: without bf16 products in hardware one takes minutes, and says nothing."""
    from glom.devices import native_bf16

    return ("fp32", "bf16") if native_bf16(torch.device("cpu")) else ("fp32",)


@dataclass(frozen=True)
class Round:
    """One timed call: its seconds, and how many cores everything but this process had meanwhile, on average."""

    seconds: float
    others: float


def observed(run: Callable[[], object]) -> Round:
    """Time one call in this process, and what the rest of the machine did meanwhile."""

    def now() -> tuple[float, float]:
        times, mine = psutil.cpu_times(), psutil.Process().cpu_times()
        busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
        return busy, mine.user + mine.system

    (busy, mine), start = now(), clock()
    run()
    seconds = clock() - start
    busy_after, mine_after = now()
    return Round(seconds, max(0.0, round((busy_after - busy - (mine_after - mine)) / seconds, 3)))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Minimum, median and maximum to five digits, and how many there were.

    Example:
        >>> spread([3.0, 1.0, 2.0])
        {'min': 1.0, 'median': 2.0, 'max': 3.0, 'n': 3}
    """
    if not values:
        raise InputError("nothing was measured")
    short = lambda x: float(f"{x:.5g}")  # noqa: E731
    return {
        "min": short(min(values)),
        "median": short(statistics.median(values)),
        "max": short(max(values)),
        "n": len(values),
    }


def beyond(one: tuple[float, float], other: tuple[float, float], x: float) -> float:
    """y at x on the line through two points; at least what the larger of them has.

    Example:
        >>> beyond((1, 3.0), (3, 5.0), 10)
        12.0
    """
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return max(one[1], other[1], other[1] + slope * (x - other[0]))


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least squares y = slope x + intercept, with the share of y's variance it explains.

    Example:
        >>> line([1.0, 2.0, 3.0], [3.0, 5.0, 7.0])
        {'slope': 2.0, 'intercept': 1.0, 'r2': 1.0}
    """
    n, mx, my = len(x), sum(x) / len(x), sum(y) / len(y)
    sxx = sum((a - mx) ** 2 for a in x)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sxx if n > 1 else 0.0
    intercept = my - slope * mx
    rest = sum((b - slope * a - intercept) ** 2 for a, b in zip(x, y, strict=True))
    total = sum((b - my) ** 2 for b in y)
    short = lambda v: float(f"{v:.6g}")  # noqa: E731
    return {"slope": short(slope), "intercept": short(intercept), "r2": short(1 - rest / total if total else 1.0)}


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """slow / fast, round by round; the shorter list says how many."""
    return [a / b for a, b in zip(slow, fast, strict=False)]


def record(bench: str, settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What is saved of a benchmark: command, machine and versions that it belongs to, its result, and the settings."""
    told = {key: public_name(value) if isinstance(value, str) else value for key, value in settings.items()}
    return {**origin(), "bench": bench, **result, "settings": told}


def save(folder: Path, value: Mapping[str, Any]) -> Path:
    """Write a benchmark's record as `folder/<bench>.json`; an earlier one is replaced.

    Raises:
        InputError: the folder cannot be made. RunError: the disk is full.
    """
    path = folder / f"{value['bench']}.json"
    write_record(path, value)
    return path


def products(config: APMConfig, columns: int, folded: bool) -> list[Product]:
    """The matrix products of one test-time step (token loss, one image) on a square grid of `columns` locations.

    Folded, the first layer meets the trigger once and one row a coordinate; features, keys and values meet one vector
    a head. Plain, every layer meets every location, and the fold being trained asks the first layer for dx as well.
    """
    D, F = (config.image_size // config.patch) ** 2 * config.channels, config.features
    side = round(columns**0.5)
    if side * side != columns:
        raise InputError(f"a square grid is needed, got {columns} columns")
    widths = list(config.trunk)
    inner = [(columns, i, o, 3) for i, o in itertools.pairwise(widths)]
    if not folded:
        attention = [(columns, F, 2 * F, 3), (1, F, F, 3), (1, F, F, 3)] if config.readout == "attention" else []
        return [(columns, 2 * D, widths[0], 3), *inner, (columns, widths[-1], F, 3), *attention]
    first = [(1, D, widths[0], 3), (side, D // 2, widths[0], 2), (side, D // 2, widths[0], 2)]
    return [*first, *inner]


def flops(work: Sequence[Product]) -> int:
    """Floating-point operations of these products, two a multiply-add."""
    return sum(2 * n * i * o * k for n, i, o, k in work)


class Products:
    """The very products of a step, forward and backward, and nothing else: what the machine can do on these shapes.

    Outputs are allocated once: neither activations, nor an optimiser, nor the allocator is in the time.

    Args:
        work: from `products`. dtype, device: what they run in and on. samples: so many at once, as batched products.
    """

    def __init__(
        self, work: Sequence[Product], dtype: torch.dtype, device: torch.device | None = None, samples: int = 1
    ) -> None:
        self.flops = samples * flops(work)
        g = torch.Generator().manual_seed(0)
        lead = () if samples == 1 else (samples,)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*lead, *shape, generator=g).to(device, dtype)

        self._tensors = [
            (draw(n, i), draw(o, i), draw(n, o), draw(n, o), draw(n, i), draw(o, i), k) for n, i, o, k in work
        ]

    @torch.no_grad()
    def __call__(self) -> None:
        for x, W, g, y, dx, dW, k in self._tensors:
            torch.matmul(x, W.mT, out=y)
            if k == 3:
                torch.matmul(g, W, out=dx)
            torch.matmul(g.mT, x, out=dW)
