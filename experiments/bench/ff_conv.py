"""A step of convolutional forward-forward layers beside the plain loop and backpropagation, and memory by depth."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.bench.going import SILENT, Going
from experiments.bench.memory import allocated_peak
from experiments.bench.settings import FFConvBench
from experiments.bench.timing import interleave, observed, ratios, spread
from glom.devices import chosen_precision
from glom.forward_forward import FFSettings, preset
from glom.forward_forward.conv import ConvLearner, ConvNet, drawn
from glom.forward_forward.networks import ConvTwin
from glom.forward_forward.objectives import LABELLED, grouped
from glom.forward_forward.samples import seen

CLASSES = 10
CPU = torch.device("cpu")
Step = Callable[[], object]


def batch_of(settings: FFConvBench, precision: str) -> tuple[Tensor, Tensor]:
    """A batch of noise, (B, 3, side, side) in the dtype of the products, and its labels."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(settings.batch, 3, settings.side, settings.side, generator=g)
    labels = torch.randint(0, CLASSES, (settings.batch,), generator=g)
    return x.bfloat16() if precision == "bf16" else x, labels


class PlainLoop:
    """The same layers, losses, read-outs and optimisers as most write them: BatchNorm and goodness by autograd."""

    def __init__(self, shape: tuple[int, int, int], asked: FFSettings) -> None:
        self.asked, self.net = asked, drawn(shape, CLASSES, asked, CPU)
        self.optimisers = [torch.optim.Adam(layer.parameters(), lr=asked.lr) for layer in self.net.layers]

    def learn(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """One step of every layer."""
        x = seen(images, self.asked, generator).contiguous(memory_format=torch.channels_last)
        for layer, optimiser in zip(self.net.layers, self.optimisers, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.asked.precision == "bf16"):
                y = layer(x)
                logits = layer.read(y.detach())  # type: ignore[operator]
            g = grouped(y.float(), CLASSES)
            loss = LABELLED[self.asked.objective](g, labels, generator) + F.cross_entropy(logits.float(), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            x = y.detach()


def operations(net: ConvNet, batch: int, side: int) -> int:
    """Of a step's convolutions, two a multiply-add: forward and the weights' gradient; none by the input."""
    done = 0
    for layer in net.layers:
        weight: Tensor = layer.conv.weight  # type: ignore[union-attr, assignment]
        done += 2 * 2 * batch * side * side * weight.numel()
        side = side // 2 if layer.pool else side
    return done


def memory(settings: FFConvBench, depth: int) -> dict[str, Any]:
    """MiB that a step of either network allocates at most, apart from what both keep between steps.

    Layers of equal width whose maps are not halved, so that depth alone differs.
    """
    asked = preset("conv", widths=(settings.channels,) * depth, jitter=0, batch=settings.batch)
    x, labels = batch_of(settings, "fp32")
    shape = (3, settings.side, settings.side)
    own, twin = ConvLearner(shape, CLASSES, asked, CPU), ConvTwin(shape, CLASSES, asked, CPU)
    row: dict[str, Any] = {"depth": depth}
    for name, network in (("forward_forward_mib", own), ("twin_mib", twin)):
        for layer in network.net.layers:
            layer.pool = False  # type: ignore[assignment]

        def step(network: ConvLearner | ConvTwin = network) -> None:
            network.learn(x, labels, 1.0, torch.Generator().manual_seed(0))

        step()  # the optimisers' state is there from here on
        row[name] = round(allocated_peak(step) / 2**20, 1)
    row["twin_over_forward_forward"] = round(row["twin_mib"] / row["forward_forward_mib"], 2)
    return row


def run_ff_conv(settings: FFConvBench, tell: Going = SILENT) -> dict[str, Any]:
    """Time all of it in turn, ratios round by round; then memory by depth.

    Times are processor time, which others on the machine disturb less than a clock.

    Returns:
        the headline figures and their `spread`, seconds a step by name, `others`, how many cores the rest of the
        machine had meanwhile, and `memory`, a row a depth; `flat` and `twin_flat` are its last peak over its first.
    """
    precision = chosen_precision(settings.precision, CPU)
    asked = preset("conv", widths=settings.widths, objective=settings.objective, precision=precision)
    shape = (3, settings.side, settings.side)
    x, labels = batch_of(settings, precision)
    g = torch.Generator().manual_seed(0)
    own, plain, twin = (
        ConvLearner(shape, CLASSES, asked, CPU),
        PlainLoop(shape, asked),
        ConvTwin(shape, CLASSES, asked, CPU),
    )
    a, b = (torch.randn(settings.large, settings.large, generator=g).to(x.dtype) for _ in range(2))
    work: dict[str, Step] = {
        "own": lambda: own.learn(x, labels, 1.0, g),
        "plain loop": lambda: plain.learn(x, labels, g),
        "backpropagation": lambda: twin.learn(x, labels, 1.0, g),
        "large product": lambda: a @ b,
    }
    seconds: dict[str, list[float]] = {}
    tell.expect(len(work) * (settings.rounds + 1) + len(settings.depths))
    meanwhile = observed(lambda: seconds.update(interleave(work, settings.rounds, tell=tell, watch=time.process_time)))
    done = operations(own.net, settings.batch, settings.side)
    rate = 2 * settings.large**3
    found = {
        "plain_over_own": ratios(seconds["plain loop"], seconds["own"]),
        "twin_over_own": ratios(seconds["backpropagation"], seconds["own"]),
        "large_share": [
            done / mine / (rate / big) for mine, big in zip(seconds["own"], seconds["large product"], strict=True)
        ],
    }
    # The profiler's library writes to standard error where there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    rows = []
    for depth in settings.depths:
        rows.append(memory(settings, depth))
        tell.row(f"memory of {depth} layers", **{name: rows[-1][name] for name in ("forward_forward_mib", "twin_mib")})
    return {
        **{name: statistics.median(values) for name, values in found.items()},
        "flat": round(rows[-1]["forward_forward_mib"] / rows[0]["forward_forward_mib"], 3),
        "twin_flat": round(rows[-1]["twin_mib"] / rows[0]["twin_mib"], 3),
        "memory": rows,
        "gflops": round(done / statistics.median(seconds["own"]) / 1e9, 1),
        "others": meanwhile.others,
        "spread": {name: spread(values) for name, values in found.items()},
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "asked": asdict(settings) | {"precision": precision},
    }
