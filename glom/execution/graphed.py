"""A step that is repeated: on a CUDA device recorded once as a graph and replayed, anywhere else simply called.

A small step is hundreds of short kernels, and the host takes longer to ask for them than the device to run them. A
graph (`torch.cuda.CUDAGraph`) asks for all of them at once. What it replays reads and writes the memory it was recorded
on, so that what changes from step to step is copied into place first.

This has never run on a device: it is held by tests with a recorder that is none.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from glom.execution.locations import Locations

WARM = 3
"""Calls before a recording, on a stream of their own: libraries and the optimiser make their buffers in them."""

Work = Callable[[Locations], Tensor]
Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Takes down what a call does without doing it: a function that does it, and where that leaves its result."""


class Repeated:
    """`work(where)`, again and again: the same operations on the same memory, but for the locations.

    Args:
        work: waits for nothing, and changes only memory that stays: parameters, the optimiser's capturable state.
        record: how calls are recorded, `cuda_recorder` on a GPU; None for not at all.
    """

    def __init__(self, work: Work, record: Recorder | None = None) -> None:
        self.work, self.record, self.calls = work, record, 0
        self.kept: Locations | None = None
        self.replay: Callable[[], None]
        self.found: Tensor

    def __call__(self, where: Locations) -> Tensor:
        """What `work` returns, in memory of its own."""
        if self.record is None:
            return self.work(where)
        if self.kept is not None:
            if not self.kept.take(where):
                return self.work(where)  # locations of another number or kind
            self.replay()
            return self.found.clone()
        self.calls += 1
        if self.calls <= WARM:
            return aside(lambda: self.work(where))
        kept = where.clone()
        try:
            self.replay, self.found = self.record(lambda: self.work(kept))
        except RuntimeError as error:
            self.record = None
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(
                f"steps are not replayed as a CUDA graph, which changes only the time: {reason}", stacklevel=2
            )
            return self.work(where)
        self.kept = kept
        self.replay()
        return self.found.clone()


def aside(work: Callable[[], Tensor]) -> Tensor:
    """`work()` on another stream than the device's own, which waits for it; without a device, just so."""
    if not torch.cuda.is_available():
        return work()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = work()
    torch.cuda.current_stream().wait_stream(stream)
    return found


def cuda_recorder(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A `Recorder` that keeps a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()
    return graph.replay, found
