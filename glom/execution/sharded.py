"""Sharded execution: the columns of one image over the ranks of a process group. Columns do not talk to each other,
so rank r takes every R-th location, pools locally, and the ranks merge their sums, exactly:

    m = max_r m_r,    (weight, hidden, code) = sum_r e^(m_r - m) (weight, hidden, code)_r

Gradients. Every rank computes the same token and the same loss. The merged sums hand their gradient straight to the
rank's own sums, so what lies before the merge (fold, trunk, the heads' score vectors) gets on each rank the part of
its gradient that comes from the rank's own locations. What lies after it (W_F, W_V and the output projection on the
pooled vectors, and all of the "location" read-out) would be counted once a rank and is therefore divided by R. So
the gradient of every parameter is the plain sum over the ranks, which `sync_gradients` takes. A penalty on the
parameters themselves that is added to the loss has to be divided by R as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from glom.apm import AsynchronousPerceptionMachine, Percept
from glom.errors import InputError
from glom.execution.algebra import Weights
from glom.execution.folded import (
    check_outputs,
    columns,
    once,
    read,
    read_location,
    token_dtype,
    wanted,
)
from glom.execution.locations import Locations
from glom.execution.ranks import together
from glom.execution.streamed import stream


class _Merge(torch.autograd.Function):
    """The sum over ranks, whose gradient is every rank's own sums' gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        total = x.clone()
        together("merging the columns' sums", lambda: dist.all_reduce(total, group=group))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Gather(torch.autograd.Function):
    """(B, n_r, F) on each rank -> (B, N, F) on all, location i from rank i mod R; the gradient takes its own back."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, count: int, group: dist.ProcessGroup | None) -> Tensor:
        ctx.rank, ctx.ranks = dist.get_rank(group), dist.get_world_size(group)
        B, n, width = mine.shape
        padded = mine.new_zeros(B, -(-count // ctx.ranks), width)
        padded[:, :n] = mine
        pieces = [torch.empty_like(padded) for _ in range(ctx.ranks)]
        together("gathering the percept", lambda: dist.all_gather(pieces, padded, group=group))
        return torch.stack(pieces, dim=2).flatten(1, 2)[:, :count].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return g[:, ctx.rank :: ctx.ranks].contiguous(), None, None


class _Share(torch.autograd.Function):
    """x, with its gradient divided by R: for what every rank computes alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.ranks, None


def _share(x: Tensor, ranks: int) -> Tensor:
    return _Share.apply(x, ranks)  # type: ignore[no-untyped-call]


def _nothing(apm: AsynchronousPerceptionMachine, w: Weights, B: int, outputs: tuple[str, ...]) -> dict[str, Tensor]:
    """What a rank without locations adds: the neutral elements."""
    config = apm.config
    found: dict[str, Tensor] = {}
    if "token" in outputs and config.readout != "location":
        attention = config.readout == "attention"
        H = config.heads if attention else 1
        zeros = w["feature_head.weight"].new_zeros
        dtype = torch.promote_types(w["feature_head.weight"].dtype, torch.float32)
        found["maximum"] = zeros(B, H, dtype=dtype) - (torch.inf if attention else 0.0)
        found["weight"], found["hidden"] = zeros(B, H, dtype=dtype), zeros(B, H, config.trunk[-1], dtype=dtype)
        if attention:
            found["code"] = zeros(B, H, config.features, dtype=dtype)
    for key, width in (("features", config.features), ("rgb", 3)):
        if key in outputs:
            found[key] = w["feature_head.weight"].new_zeros(B, 0, width, dtype=w.dtype)
    return found


def _merge(sums: dict[str, Tensor], attention: bool, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
    """The ranks' sums in two small messages: the maximum (attention only), and everything else in one vector."""
    maximum = sums["maximum"].detach().clone()
    keys = ["weight", "hidden"]
    if attention:
        together("merging the maximum", lambda: dist.all_reduce(maximum, dist.ReduceOp.MAX, group=group))
        keys.append("code")
    scale = torch.exp(sums["maximum"] - maximum)
    parts = [sums[key] * (scale if sums[key].ndim == 2 else scale[..., None]) for key in keys]
    packed = torch.cat([part.flatten() for part in parts])
    total = _Merge.apply(packed, group)  # type: ignore[no-untyped-call]
    pieces = total.split([part.numel() for part in parts])
    merged = {key: piece.view_as(part) for key, piece, part in zip(keys, pieces, parts, strict=True)}
    return {"maximum": maximum, **merged}


def sharded(
    apm: AsynchronousPerceptionMachine,
    images: Tensor,
    where: Locations,
    outputs: tuple[str, ...] = ("token",),
    group: dist.ProcessGroup | None = None,
    chunk: int | None = None,
) -> Percept:
    """Sharded execution: every rank calls this with the same APM, images and locations, and gets the same answer.

    After the backward pass `sync_gradients(apm, group)` makes the parameters' gradients those of one process.

    Args:
        images: (B, 3, image_size, image_size).
        where: all N locations; fewer than ranks is fine.
        group: the ranks; the default group if None.
        chunk: stream each rank's share, this many locations at a time; all at once if None.

    Returns:
        features (B, N, F), rgb (B, N, 3), token (B, F), where asked for, on every rank.

    Raises:
        InputError: no process group, colours asked of an APM without a colour head.
        RankLost: a rank died or did not answer within the group's timeout.
    """
    check_outputs(apm, outputs)
    if not (dist.is_available() and dist.is_initialized()):
        raise InputError("sharded execution needs a process group: start with torchrun and call init_group first")
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    w, T = Weights.of(apm), apm.fold(images)
    found: dict[str, Tensor] = {}
    with torch.autocast(images.device.type, enabled=False):
        if wanted(apm, outputs):
            mine = where.shard(rank, ranks)
            if mine is None:
                found = _nothing(apm, w, len(images), outputs)
            elif chunk is None:
                found = columns(apm, w, once(apm, w, T, outputs, ahead=False), mine, images, outputs)
            else:
                found = stream(apm, w, T, images, mine, outputs, chunk)
        for key in ("features", "rgb"):
            if key in outputs:
                found[key] = _Gather.apply(found[key], where.count, group)  # type: ignore[no-untyped-call]
        token = None
        if "token" in outputs:
            if apm.config.readout == "location":
                token = _share(read_location(apm, w, T, images, where.x), ranks)
            else:
                merged = _merge(found, apm.config.readout == "attention", group)
                token = read(apm, w.mapped(lambda x: _share(x, ranks)), merged)
            token = token.to(token_dtype(apm))
    return Percept(found.get("features"), found.get("rgb"), token)


def sync_gradients(
    module: torch.nn.Module, group: dist.ProcessGroup | None = None, extra: Iterable[Tensor] = ()
) -> None:
    """Sum the ranks' gradients, so that every rank holds those of one process. Call once after each backward pass.

    Args:
        module: the APM; its parameters' `grad` are summed. A gradient that no rank has stays None.
        extra: other leaves whose gradients are wanted, such as the images.

    Raises:
        RankLost: a rank died or did not answer within the group's timeout.
    """
    leaves = [leaf for leaf in (*module.parameters(), *extra) if leaf.requires_grad]
    if not leaves:
        return
    # A rank without locations has no gradient for the trunk; the others need its zero.
    some = torch.tensor([leaf.grad is not None for leaf in leaves], dtype=torch.int32, device=leaves[0].device)
    together("agreeing on gradients", lambda: dist.all_reduce(some, dist.ReduceOp.MAX, group=group))
    gradients = []
    for leaf, present in zip(leaves, some.tolist(), strict=True):
        if present:
            if leaf.grad is None:
                leaf.grad = torch.zeros_like(leaf)
            gradients.append(leaf.grad)

    def total() -> None:
        # All on their way before the first is waited for: sending one overlaps adding another.
        for work in [dist.all_reduce(gradient, group=group, async_op=True) for gradient in gradients]:
            work.wait()

    together("summing gradients", total)
