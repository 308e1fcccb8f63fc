"""Streamed execution: memory set by a chunk of locations, whatever their number.

Forward, over chunks c, with a running maximum m of the scores (Milakov & Gimelshein 2018):

    m' = max(m, m_c),   (weight, hidden, code)' = e^(m - m') (weight, hidden, code) + e^(m_c - m') (...)_c

Backward, each chunk is unfolded again (Chen et al. 2016) relative to the final m. Given m, the sums over all locations
are plain sums of the chunks' sums, so every chunk receives the same incoming gradient and none waits for another.
Weight gradients are added in place, chunk after chunk: no chunk holds one of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glom.apm import AsynchronousPerceptionMachine, Percept
from glom.errors import InputError, RunError
from glom.execution.algebra import Weights, compute_dtype
from glom.execution.folded import (
    SUMS,
    Once,
    check_outputs,
    columns,
    once,
    read,
    read_location,
    token_dtype,
    wanted,
)
from glom.execution.locations import Locations

LARGEST_CHUNK = {"cpu": 256}
"""Locations beyond which a CPU's products run no faster, while activations begin to show beside the weights."""
LARGEST_CHUNK_ELSEWHERE = 2048
"""The same for accelerators, which need larger products to be filled."""

Result = TypeVar("Result")
Item = TypeVar("Item")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def location_bytes(apm: AsynchronousPerceptionMachine, outputs: tuple[str, ...], gradients: bool) -> int:
    """About how much one location of one image holds while it is unfolded: activations, and as much for gradients."""
    config = apm.config
    widths = sum(config.trunk) + (config.features if "features" in outputs else 0)
    if "rgb" in outputs:
        widths += sum(config.rgb or ()) + 3
    size = compute_dtype(apm.feature_head.weight).itemsize
    return widths * size * (2 if gradients else 1)


def default_chunk(apm: AsynchronousPerceptionMachine, images: int, outputs: tuple[str, ...]) -> int:
    """Locations a chunk: a quarter of the free memory, at most `LARGEST_CHUNK` columns over all images."""
    device = apm.feature_head.weight.device
    room = free_memory(device) // (4 * images * location_bytes(apm, outputs, True))
    largest = LARGEST_CHUNK.get(device.type, LARGEST_CHUNK_ELSEWHERE)
    return int(max(1, min(room, -(-largest // images))))


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: CUDA's own error, or the CPU's plain RuntimeError or MemoryError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def halved(work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], what: str) -> list[Result]:
    """`work(items)`; where memory runs out, `work` of either half, once, which is said.

    Raises:
        RunError: memory ran out again, or with one item.
    """

    def failed(count: int) -> RunError:
        named = f"{count} {what} at a time" if count > 1 else f"one of the {what} at a time"
        return RunError(f"out of memory with {named}; free some memory, or take smaller ones")

    try:
        return work(items)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or isinstance(error, RunError):
            raise
        if len(items) == 1:
            raise failed(1) from error
    # Outside the handler: the exception's frames held the tensors that did not fit.
    half = -(-len(items) // 2)
    warnings.warn(f"out of memory with {len(items)} {what} at a time; trying once more with {half}", stacklevel=3)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        return [*work(items[:half]), *work(items[half:])]
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or isinstance(error, RunError):
            raise
        raise failed(half) from error


@dataclass
class Plan:
    """How one call streams; `chunk` shrinks once when memory runs out.

    Attributes:
        where: all N locations.
        names: the parameters' names, in the order the autograd function gets them.
    """

    apm: AsynchronousPerceptionMachine
    where: Locations
    outputs: tuple[str, ...]
    chunk: int
    names: list[str]
    dtype: torch.dtype
    halved: bool = False

    def attempt(self, work: Callable[[int], Result]) -> Result:
        """`work(chunk)`; out of memory halves the chunk once and says so, and fails the second time.

        Raises:
            RunError: memory ran out again, or with one location a chunk.
        """
        try:
            return work(self.chunk)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if self.halved or self.chunk == 1:
                raise RunError(
                    f"out of memory with {self.chunk} locations at a time; free some memory, use fewer images at once "
                    "or a smaller APM"
                ) from error
        # Outside the handler: the exception's frames held the tensors that did not fit.
        self.halved, smaller = True, self.chunk // 2
        warnings.warn(
            f"out of memory with {self.chunk} locations at a time; trying once more with {smaller}", stacklevel=2
        )
        self.chunk = smaller
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.attempt(work)


class _Streamed(torch.autograd.Function):
    """(T, images, queries or None, *parameters) -> what `columns` finds, merged over chunks; see `keys`."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, T: Tensor, images: Tensor, queries: Tensor | None, *values: Tensor
    ) -> tuple[Tensor, ...]:
        w = Weights(dict(zip(plan.names, values, strict=True)), plan.dtype)
        found = plan.attempt(lambda chunk: _stream(plan, w, T, images, chunk))
        maximum = found.get("maximum")
        ctx.plan, ctx.has_queries, ctx.keys = plan, queries is not None, list(found)
        # The maximum only keeps exp in range: nothing depends on it.
        if maximum is not None:
            ctx.mark_non_differentiable(maximum)
        ctx.has_maximum = maximum is not None
        ctx.save_for_backward(
            T, images, *([queries] if queries is not None else []), *([maximum] if maximum is not None else []), *values
        )
        ctx.set_materialize_grads(False)
        return tuple(found.values())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        T, images, *saved = ctx.saved_tensors
        queries = saved.pop(0) if ctx.has_queries else None
        maximum = saved.pop(0) if ctx.has_maximum else None
        incoming = {key: g for key, g in zip(ctx.keys, gradients, strict=True) if g is not None}
        needs = list(ctx.needs_input_grad[1:])
        inputs: list[Tensor | None] = [T, images, queries, *saved]

        def again(chunk: int) -> tuple[Tensor | None, ...]:
            # New leaves a try: what a failed one had added is forgotten with its leaves.
            leaves = [None if x is None else x.detach().requires_grad_(n) for x, n in zip(inputs, needs, strict=True)]
            _stream_back(plan, leaves, maximum, incoming, chunk)
            return tuple(None if leaf is None else leaf.grad for leaf in leaves)

        return None, *plan.attempt(again)


def _stream(plan: Plan, w: Weights, T: Tensor, images: Tensor, chunk: int) -> dict[str, Tensor]:
    """`columns` over all chunks: sums merged, features and colours written where they belong."""
    # An accumulating `Weights` casts to autocast's dtype once for all chunks.
    w = w.mapped(Tensor.detach, accumulate=True)
    first = once(plan.apm, w, T, plan.outputs, ahead=True)
    total: dict[str, Tensor] = {}
    for place, where in plan.where.chunks(chunk):
        found = columns(plan.apm, w, first, where, images, plan.outputs)
        for key in ("features", "rgb"):
            if key in found:
                value = found.pop(key)
                if key not in total:
                    total[key] = value.new_empty(len(T), plan.where.count, value.shape[-1])
                target = plan.where.part(total[key], place)
                target.copy_(value.view_as(target))
        if found:
            total.update(merge({key: total[key] for key in SUMS if key in total}, found))
    return total


def merge(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums over both sets of locations, relative to the larger maximum; empty sums are neutral."""
    if not one:
        return other
    maximum = torch.maximum(one["maximum"], other["maximum"])
    left, right = (torch.exp(sums["maximum"] - maximum) for sums in (one, other))
    merged = {"maximum": maximum, "weight": left * one["weight"] + right * other["weight"]}
    for key in ("hidden", "code"):
        if key in one:
            merged[key] = left[..., None] * one[key] + right[..., None] * other[key]
    return merged


def _stream_back(
    plan: Plan,
    leaves: list[Tensor | None],
    maximum: Tensor | None,
    incoming: dict[str, Tensor],
    chunk: int,
) -> None:
    """Add every chunk's gradients into the leaves' `grad`."""
    T, images, queries, *values = leaves
    assert T is not None
    assert images is not None
    w = Weights(
        {name: value for name, value in zip(plan.names, values, strict=True) if value is not None}, plan.dtype, True
    )
    with torch.enable_grad():
        everywhere = plan.where
        if queries is not None and queries.requires_grad:
            everywhere = Locations("points", len(queries), queries[:, 0], queries[:, 1])
        graph = once(plan.apm, w, T, plan.outputs, ahead=True)
        made = {name: value for name, value in vars(graph).items() if value is not None and name != "T"}
        cut = {name: value.detach().requires_grad_(value.requires_grad) for name, value in made.items()}
        first = Once(T=T.detach(), **cut)
        for place, where in everywhere.chunks(chunk):
            found = columns(plan.apm, w, first, where, images, plan.outputs, maximum)
            ends, gradients = [], []
            for key, gradient in incoming.items():
                if key in ("features", "rgb"):
                    gradient = everywhere.part(gradient, place).reshape(found[key].shape)
                if found[key].requires_grad:
                    ends.append(found[key])
                    gradients.append(gradient)
            if ends:
                # Points taken from a leaf share its indexing, which every chunk goes back through.
                torch.autograd.backward(ends, gradients, retain_graph=everywhere is not plan.where)
            del found, ends
        back = [(value, cut[name].grad) for name, value in made.items() if cut[name].grad is not None]
        if back:
            torch.autograd.backward([value for value, _ in back], [gradient for _, gradient in back])


def _used(apm: AsynchronousPerceptionMachine, name: str, outputs: tuple[str, ...]) -> bool:
    """Whether the locations' part (not the read-out after it) meets this parameter."""
    attention = apm.config.readout == "attention" and "token" in outputs
    if name.startswith("trunk."):
        return True
    if name.startswith("feature_head."):
        return attention or "features" in outputs or "rgb" in outputs
    if name.startswith("rgb_head."):
        return "rgb" in outputs
    return attention and (name == "query" or name.startswith("attention.qk."))


def stream(
    apm: AsynchronousPerceptionMachine,
    w: Weights,
    T: Tensor,
    images: Tensor,
    where: Locations,
    outputs: tuple[str, ...],
    chunk: int,
) -> dict[str, Tensor]:
    """`glom.execution.folded.columns` of all locations, `chunk` at a time. Call with autocast off."""
    names = [name for name in w.values if _used(apm, name, outputs)]
    queries = where.points() if where.x.requires_grad or where.y.requires_grad else None
    plan = Plan(apm, where, outputs, chunk, names, w.dtype)
    # The order in which `_stream` fills its dictionary, which is that of `columns` with the sums last.
    keys: list[str] = [key for key in ("features", "rgb") if key in outputs]
    if "token" in outputs and apm.config.readout != "location":
        keys += [key for key in SUMS if key != "code" or apm.config.readout == "attention"]
    found = _Streamed.apply(plan, T, images, queries, *(w[name] for name in names))  # type: ignore[no-untyped-call]
    return dict(zip(keys, found, strict=True))


def streamed(
    apm: AsynchronousPerceptionMachine,
    images: Tensor,
    where: Locations,
    outputs: tuple[str, ...] = ("token",),
    chunk: int | None = None,
) -> Percept:
    """Streamed execution: as `glom.execution.folded.folded`, with at most `chunk` locations in memory at a time.

    Gradients are exact, to the pictures and the queries too; second derivatives are not available here.

    Args:
        images: (B, 3, image_size, image_size).
        where: N locations.
        chunk: locations at a time; chosen from the memory there is if None.

    Returns:
        features (B, N, F), rgb (B, N, 3), token (B, F), where asked for.

    Raises:
        InputError: a chunk below one, colours asked of an APM without a colour head.
        RunError: out of memory, and again with the chunk halved.
    """
    check_outputs(apm, outputs)
    if chunk is None:
        chunk = default_chunk(apm, len(images), outputs)
    if chunk < 1:
        raise InputError(f"a chunk needs at least one location, got {chunk}")
    w, T = Weights.of(apm), apm.fold(images)
    found: dict[str, Tensor] = {}
    with torch.autocast(images.device.type, enabled=False):
        if wanted(apm, outputs):
            found = stream(apm, w, T, images, where, outputs, chunk)
        token = None
        if "token" in outputs:
            if apm.config.readout == "location":
                token = read_location(apm, w, T, images, where.x)
            else:
                token = read(apm, w, found)
            token = token.to(token_dtype(apm))
    return Percept(found.get("features"), found.get("rgb"), token)
