"""GLOM beside glom-pytorch (Wang 2021): seconds of equal sizes in turn, and an update that is the same for both.

A figure is how many times as long glom-pytorch takes, round by round, in processor seconds of one thread, so that what
else the machine does is not in it. In bf16 (autocast) ours stands beside both precisions of theirs.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bench.glom_settings import GlomBenchSettings
from experiments.bench.going import SILENT, Going
from experiments.bench.timing import interleave, precisions_here, ratios, spread
from glom.consensus import Glom, GlomConfig
from glom.consensus.columns import Places
from glom.errors import InputError
from glom.runs.seeds import fixed_seed
from glom.runs.statistics import interval

PATCH, WIDER = 14, 4
DIFFERENCES = (
    "nets: ours read their input layer-normalised, theirs as it is",
    "keys: ours are the embeddings, theirs the embeddings at length one",
    "place: ours a code of the coordinates, read beside the embedding; theirs learned, added to it",
    "start: ours zeros, theirs a learned vector a level",
    "self: ours attends to itself, theirs by default hardly (a score of -0.0005)",
)


def peer(**sizes: Any) -> Any:
    """glom-pytorch's network. Raises `InputError` where it is not installed."""
    try:
        from glom_pytorch import Glom as Peer
    except ImportError as error:
        raise InputError("this needs the package glom-pytorch: pip install 'glom-apm[bench]'") from error
    with fixed_seed():
        return Peer(**sizes)


def pair(dim: int, levels: int, side: int, consensus_self: bool = False) -> tuple[Glom, Any]:
    """Ours and theirs of one size. Ours is as cold as theirs: beta is 1 / dim on embeddings at unit scale."""
    theirs = peer(dim=dim, levels=levels, image_size=PATCH * side, patch_size=PATCH, consensus_self=consensus_self)
    config = GlomConfig(
        levels=levels, dim=dim, hidden=WIDER * dim, patch=PATCH, margin=0, cells=side, temperature=math.sqrt(dim)
    )
    with fixed_seed():
        return Glom(config), theirs


def parity(dim: int = 32, levels: int = 4, side: int = 3) -> float:
    """The largest difference between one update of each, weights and places copied over.

    Taken where the definitions agree: on embeddings of mean 0 and deviation 1, which layer normalisation leaves as they
    are and whose length is the same for all; the place added to an input arrives at the hidden layer as a product.
    """
    ours, theirs = pair(dim, levels, side, consensus_self=True)
    with torch.no_grad():
        for mine, net in ((ours.up, theirs.bottom_up.net), (ours.down, theirs.top_down.net)):
            groups = len(mine.first)
            for weight, bias, conv in ((mine.first, mine.first_bias, net[1]), (mine.second, mine.second_bias, net[3])):
                weight.copy_(conv.weight.view(groups, weight.shape[2], weight.shape[1]).mT)
                bias.copy_(conv.bias.view(groups, 1, -1))
        generator = torch.Generator().manual_seed(0)
        draw = torch.randn(2, side * side, levels + 1, dim, generator=generator)
        draw = nn.functional.layer_norm(draw, (dim,))
        seen, state = draw[:, :, 0], draw[:, :, 1:]
        plain = ours.places((side, side))
        told = (ours.down.first_bias + theirs.pos_emb.weight @ ours.down.first)[:, None]
        places = Places(plain.queries, plain.cells, plain.regular, told, plain.allowed)
        settled = next(ours.iterate(seen, places, state.permute(2, 0, 1, 3))).permute(1, 2, 0, 3)
        theirs.image_to_tokens = nn.Identity()
        return float((settled - theirs(seen, iters=1, levels=state)).abs().max())


def run_glom(asked: GlomBenchSettings, tell: Going = SILENT) -> dict[str, Any]:
    """`forward` and `forward_backward`, a row a batch and number of updates; `parity`; `differences`.

    Raises:
        InputError: glom-pytorch is not installed.
    """
    networks = pair(asked.dim, asked.levels, asked.side)
    found: dict[str, Any] = {"forward": [], "forward_backward": []}
    tell.expect(2 * 2 * len(precisions_here()) * len(asked.batches) * len(asked.updates) * (asked.rounds + 1))
    for batch in asked.batches:
        side = PATCH * asked.side
        images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))
        for updates in asked.updates:
            for what in found:
                name = f"batch {batch}, {updates} updates, {what.replace('_', ' + ')}"
                work = {
                    f"{who} {precision}": _timed(network, images, updates, what == "forward_backward", precision)
                    for precision in precisions_here()
                    for who, network in zip(("ours", "theirs"), networks, strict=True)
                }
                seconds = interleave(work, asked.rounds, watch=time.process_time, tell=tell, about=name)
                found[what].append({"batch": batch, "updates": updates, **_row(seconds)})
    return {**found, "parity": parity(), "differences": list(DIFFERENCES), "asked": asdict(asked)}


def _row(seconds: dict[str, list[float]]) -> dict[str, Any]:
    pairs = {"fp32": ("fp32", "fp32"), "bf16": ("fp32", "bf16"), "bf16_both": ("bf16", "bf16")}
    row: dict[str, Any] = {}
    for name, (theirs, ours) in pairs.items():
        if not {f"theirs {theirs}", f"ours {ours}"} <= set(seconds):
            row[name] = None
            continue
        found = ratios(seconds[f"theirs {theirs}"], seconds[f"ours {ours}"])
        row[name] = {"times": round(statistics.median(found), 4), "ci95": interval(found), "spread": spread(found)}
    return row | {"seconds": {name: spread(values) for name, values in seconds.items()}}


def _timed(network: nn.Module, images: Tensor, updates: int, backward: bool, precision: str) -> Callable[[], None]:
    def run() -> None:
        with torch.set_grad_enabled(backward), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            state = network(images, updates)
            loss = state.square().mean() if backward else None
        if loss is not None:
            loss.backward()
            network.zero_grad(set_to_none=True)

    return run
