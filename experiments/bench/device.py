"""`apm bench device`: a device against the CPU, first in what it computes, then in how fast.

    equality    every model's step (`experiments.bench.host_reads`) on the device and on the CPU
    pictures    whole adaptations, S samples at once, against plain ones one by one: by S, precision, graphs on and off
    share       what is reached of the rate at which the device makes the step's own matrix products

Rows come as they are measured; what the time did not allow is named. Without a GPU it rehearses itself on the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, TypedDict

import torch

from experiments.bench.going import SILENT, Going
from experiments.bench.host_reads import draw, reads
from experiments.bench.memory import peak_resident
from experiments.bench.settings import DeviceSettings
from experiments.bench.timing import Products, interleave, precisions_here, products, ratios, spread
from glom.adaptation.case import Case
from glom.adaptation.settings import TTTSettings, ttt_preset
from glom.adaptation.ttt import adapt_group
from glom.devices import PRODUCTS, now, resolve_device, tf32
from glom.teachers.heads import ZeroShotHead


class Equal(TypedDict):
    """A loop on both: the largest difference of what it found, relative to the largest number in it."""

    what: str
    difference: float


class Speed(TypedDict):
    """One way to adapt; times and ratios as minimum, median, maximum. `matmul_share`: None where it was not asked."""

    stack: int
    precision: str
    graphs: bool
    seconds: dict[str, Any]
    pictures_per_s: float
    over_plain: dict[str, Any]
    matmul_share: dict[str, Any] | None
    peak_mib: float


class DeviceResult(TypedDict):
    """`over_plain` and `matmul_share` are the best rows'."""

    device: str
    equality: list[Equal]
    largest_difference: float
    rows: list[Speed]
    over_plain: float | None
    matmul_share: float | None
    seconds: float
    asked: dict[str, Any]


def flat(found: Any) -> torch.Tensor:
    """Everything in lists, tensors and numbers, in one vector on the CPU, in float64."""
    if isinstance(found, list | tuple):
        return torch.cat([flat(x) for x in found])
    return torch.as_tensor(found).detach().cpu().double().reshape(-1)


def equality(device: torch.device, names: tuple[str, ...]) -> Iterator[Equal]:
    """Every loop, or those of these names."""
    for name, read in reads().items():
        if names and name not in names:
            continue
        with tf32(False, device):
            here, there = flat(read.loop(torch.device("cpu"), 2)), flat(read.loop(device, 2))
        yield Equal(what=name, difference=float((there - here).abs().max() / here.abs().max().clamp_min(1e-12)))


class Adapting:
    """`adapt_group` of S random cases whenever it is called."""

    def __init__(self, settings: TTTSettings, features: int, samples: int, device: torch.device) -> None:
        size = settings.config(features).image_size
        self.cases = [Case(f"{s}", None, draw(3, size, size, seed=s), draw(features, seed=s)) for s in range(samples)]
        self.settings, self.device = settings, device
        self.head = ZeroShotHead(tuple("abcde"), draw(5, features), 10.0, None)

    def __call__(self) -> None:
        adapt_group(self.cases, self.settings, self.head, 0, self.device)


def ways(settings: DeviceSettings, device: torch.device) -> Iterator[tuple[int, str, bool]]:
    """Stack, precision, graphs: the widest stack in every precision first, which is what is asked for most."""
    precisions = PRODUCTS if device.type == "cuda" else precisions_here()
    switches = (True, False) if device.type == "cuda" else (False,)
    for stack in sorted(settings.stacks, reverse=True):
        for graphs in switches:
            yield from ((stack, precision, graphs) for precision in precisions)


def speed(settings: DeviceSettings, device: torch.device, way: tuple[int, str, bool], plain: Adapting) -> Speed:
    """One way, in turn with plain adaptations and with the products alone."""
    stack, precision, graphs = way
    how = replace(plain.settings, execution="auto", precision=precision, graphs=graphs, queries=None)
    config, steps = how.config(settings.features), how.iterations
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    roof = Products(products(config, config.cells**2, folded=True), dtype, device, stack)

    def products_alone() -> None:
        with tf32(precision == "tf32", device):
            for _ in range(steps):
                roof()

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work: dict[str, Callable[[], object]] = {
        "plain": plain, "this": Adapting(how, settings.features, stack, device), "products": products_alone,
    }  # fmt: skip
    seconds = interleave(work, settings.rounds, 1, device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident()
    return {
        "stack": stack,
        "precision": precision,
        "graphs": graphs,
        "seconds": spread(seconds["this"]),
        "pictures_per_s": float(f"{stack / spread(seconds['this'])['median']:.5g}"),
        "over_plain": spread([stack * r for r in ratios(seconds["plain"], seconds["this"])]),
        "matmul_share": spread(ratios(seconds["products"], seconds["this"])),
        "peak_mib": round(peak / 2**20, 1),
    }


def run_device(settings: DeviceSettings, tell: Going = SILENT) -> DeviceResult:
    """Measure everything that the time allows.

    Raises:
        InputError: a device this machine does not have.
    """
    device, begun = resolve_device(settings.device), time.monotonic()
    equal, rows = list[Equal](), list[Speed]()
    every = list(ways(settings, device))
    tell.expect((len(settings.loops) or len(reads())) + len(every))
    for found in equality(device, settings.loops):
        equal.append(found)
        tell.row(found["what"], difference=f"{found['difference']:.1e}")
    base = ttt_preset("fast", apm=settings.apm, iterations=settings.iterations, precision="fp32")
    plain = Adapting(replace(base, execution="plain", graphs=False, queries=None), settings.features, 1, device)
    for way in every:
        named = f"stack of {way[0]}, {way[1]}, graphs {'on' if way[2] else 'off'}"
        if not tell.fits():
            tell.skip(named)
            continue
        rows.append(speed(settings, device, way, plain))
        now(device)
        told = rows[-1]
        tell.row(named, pictures_per_s=told["pictures_per_s"], over_plain=told["over_plain"]["median"])
    shares = [row["matmul_share"]["median"] for row in rows if row["matmul_share"]]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "equality": equal,
        "largest_difference": max((e["difference"] for e in equal), default=0.0),
        "rows": rows,
        "over_plain": max((row["over_plain"]["median"] for row in rows), default=None),
        "matmul_share": max(shares, default=None),
        "seconds": round(time.monotonic() - begun, 1),
        "asked": asdict(settings),
    }
