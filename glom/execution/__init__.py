"""The same parameters, outputs and gradients as the plain forward, run faster or in less memory.

plain     `AsynchronousPerceptionMachine.forward`, the reference
folded    far fewer multiplications; everything at once
streamed  folded, a chunk of locations at a time: memory does not grow with their number
sharded   folded or streamed, every R-th location on each of R ranks
auto      one of these, and `choose` says why
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from glom.apm import OUTPUTS, AsynchronousPerceptionMachine, Percept
from glom.errors import InputError, unknown
from glom.execution.folded import folded as _folded
from glom.execution.graphed import Repeated, cuda_recorder
from glom.execution.locations import Locations, locate
from glom.execution.ranks import Ranks, init_group
from glom.execution.sharded import sharded as _sharded
from glom.execution.sharded import sync_gradients
from glom.execution.stacked import StackedAPM
from glom.execution.streamed import default_chunk, free_memory, halved, location_bytes
from glom.execution.streamed import streamed as _streamed

__all__ = [
    "EXECUTIONS",
    "Choice",
    "Locations",
    "Ranks",
    "Repeated",
    "StackedAPM",
    "ask",
    "choose",
    "cuda_recorder",
    "halved",
    "init_group",
    "locate",
    "run",
    "sync_gradients",
]

ASKED = 4096  # locations asked at a time
EXECUTIONS = ("auto", "plain", "folded", "streamed", "sharded")


@dataclass(frozen=True)
class Choice:
    """What "auto" picked: the execution, the chunk (None: everything at once), and why, in a sentence."""

    execution: str
    chunk: int | None
    reason: str


def choose(
    apm: AsynchronousPerceptionMachine,
    n_images: int,
    n_queries: int,
    outputs: tuple[str, ...] = ("token",),
    device: torch.device | str | None = None,
    group: dist.ProcessGroup | None = None,
) -> Choice:
    """Pick an execution by what there is: ranks, then memory.

    Args:
        device: whose memory counts; the APM's own if None.
        group: ranks to share the columns, if any.
    """
    device = torch.device(device) if device is not None else apm.feature_head.weight.device
    ranks = dist.get_world_size(group) if group is not None else 1
    if n_queries > 0 and ranks > 1:
        mine = choose(apm, n_images, -(-n_queries // ranks), outputs, device)
        return Choice("sharded", mine.chunk, f"sharded over {ranks} ranks; on each, {mine.reason}")
    need = n_images * n_queries * location_bytes(apm, outputs, torch.is_grad_enabled())
    have = free_memory(device)
    amount = f"{n_images * n_queries} columns need about {need / 2**30:.2g} GiB, {have / 2**30:.2g} GiB are free"
    if need <= have // 2:
        return Choice("folded", None, f"folded: {amount}")
    chunk = default_chunk(apm, n_images, outputs)
    return Choice("streamed", chunk, f"streamed, {chunk} locations at a time: {amount}")


def run(
    apm: AsynchronousPerceptionMachine,
    images: Tensor,
    queries: Tensor | Locations | None = None,
    outputs: tuple[str, ...] = ("token",),
    execution: str = "auto",
    *,
    chunk: int | None = None,
    group: dist.ProcessGroup | None = None,
    explain: Callable[[str], None] | None = None,
) -> Percept:
    """Fold, unfold and read out, by any execution: the contract of the APM's own forward.

    Args:
        images: (B, 3, image_size, image_size).
        queries: (N, 2) in [0, 1]^2, shared by the batch, or what `locate` made of them; the default grid if None.
        outputs: of "features", "rgb" and "token".
        execution: one of `EXECUTIONS`.
        chunk: locations at a time, for "streamed" and "sharded".
        group: the ranks of "sharded"; the default group if None.
        explain: called with one sentence that says what runs and why.

    Returns:
        features (B, N, F), rgb (B, N, 3), token (B, F), None where not asked for. Tokens have the parameters' dtype,
        under autocast too; under "sharded", `sync_gradients` completes the gradients after the backward pass.

    Raises:
        InputError: an unknown execution or output, no queries, queries outside the picture, pictures of another size.
        RunError: out of memory twice, or a rank that died.

    Example:
        >>> from glom.apm import APM, preset
        >>> apm = APM(preset("apm-tiny"))
        >>> tuple(run(apm, torch.zeros(1, 3, 32, 32), execution="folded").token.shape)
        (1, 128)
    """
    if execution not in EXECUTIONS:
        raise unknown("execution", execution, EXECUTIONS)
    for name in outputs:
        if name not in OUTPUTS:
            raise unknown("output", name, OUTPUTS)
    if chunk is not None and chunk < 1:
        raise InputError(f"a chunk needs at least one location, got {chunk}")
    # The default grid is made on the host: nothing has to be read back to know it.
    where = locate(apm.default_queries(images, "cpu") if queries is None else queries, images.device)
    reason = f"{execution}: as asked"
    if execution == "auto":
        choice = choose(apm, len(images), where.count, outputs, images.device, group)
        execution, chunk, reason = choice.execution, chunk or choice.chunk, choice.reason
    elif execution == "sharded" and chunk is None and dist.is_available() and dist.is_initialized():
        choice = choose(apm, len(images), -(-where.count // dist.get_world_size(group)), outputs, images.device)
        chunk, reason = choice.chunk, f"sharded: as asked; on each rank, {choice.reason}"
    if explain is not None:
        explain(reason)
    if execution == "plain":
        asked = queries if isinstance(queries, Tensor) and queries.device == images.device else where.points()
        return apm.asked(images, asked, outputs)
    if execution == "folded":
        return _folded(apm, images, where, outputs)
    if execution == "streamed":
        return _streamed(apm, images, where, outputs, chunk)
    return _sharded(apm, images, where, outputs, group, chunk)


@torch.no_grad()
def ask(
    apm: AsynchronousPerceptionMachine, images: Tensor, queries: Tensor, outputs: tuple[str, ...] = ("features",)
) -> Percept:
    """What is said at any number of locations, moved to the CPU part by part: memory on the device does not grow.

    Args:
        images: (B, 3, image_size, image_size). queries: (N, 2) in [0, 1]^2, at least one.
        outputs: "features", "rgb" or both; a token is of all locations together, `run` reads it.

    Returns:
        features (B, N, F) and rgb (B, N, 3), float32; None where not asked for.

    Raises:
        InputError: as `run`; a token.

    Example:
        >>> from glom.apm import APM, preset
        >>> from glom.columns import grid_queries
        >>> tuple(ask(APM(preset("apm-tiny")), torch.zeros(1, 3, 32, 32), grid_queries(50, 100)).features.shape)
        (1, 5000, 128)
    """
    if "token" in outputs:
        raise InputError("locations are asked part by part: no part has the token of all; `run` reads it")
    features: list[Tensor] = []
    rgb: list[Tensor] = []
    for chunk in queries.split(ASKED):
        found = run(apm, images, chunk, outputs)
        for parts, part in ((features, found.features), (rgb, found.rgb)):
            if part is not None:
                parts.append(part.float().cpu())
    return Percept(torch.cat(features, dim=1) if features else None, torch.cat(rgb, dim=1) if rgb else None)
