"""The same function over many pieces of work, in several processes, with the same results in the same order."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from typing import TypeVar

import psutil

from glom.errors import InputError, RunError
from glom.lazy import libraries_later

Work = TypeVar("Work")
Found = TypeVar("Found")


GIB = 2**30
SMALL, LARGE = 2 * GIB, 8 * GIB  # memory that a process with a small network takes, and one with any other
FEW = 8  # pictures that a process has at least


def cores() -> int:
    """Those that this process may use; no more than the threads that it is told to have, where it is told."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(_here(), int(told))) if told.isdecimal() else _here()


def _here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(asked: int, pieces: int, least: int = 4) -> int:
    """How many processes are worth it: as many as asked for; for 0 the cores, but each with `least` pieces or more.

    Of several ranks on this machine each takes its share of the cores.
    """
    return asked or max(1, min(_here() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), pieces // least))


def shares(asked: str, pictures: int, small: bool, gpu: bool) -> int:
    """How many processes share out the pictures of a run.

    Products of a small network gain nothing from threads, and pictures do not wait for one another: a process a core,
    with one thread each, is best. Larger networks gain as much by either, and take memory for each process: as many as
    there is room for, with the cores divided among them. One alone beside a GPU.

    Args:
        asked: "auto", or a number.
        pictures: at most; 0 where nobody knows.
        small: whether the networks are those that ship.

    Raises:
        InputError: anything else asked for.
    """
    if asked != "auto":
        if not asked.isdecimal() or not 0 < int(asked) <= 1024:
            raise InputError(f"`jobs` is auto, or a number of processes from 1 to 1024, got '{asked}'")
        return int(asked)
    if gpu:
        return 1
    room = int(psutil.virtual_memory().available) // (SMALL if small else LARGE)
    return max(1, min(cores(), room, pictures // FEW if pictures else 1024))


def in_order(
    function: Callable[[Work], Found], work: Iterable[Work], jobs: int, needs: Sequence[str] = ()
) -> Iterator[Found]:
    """`function` of every piece, in the order of the pieces.

    Work is taken from its iterator as places become free, so that what makes it can be slow or large. Every process has
    one thread, this one too while it calls `function` itself, so that sums come out the same for any number of them.

    Args:
        function: of a module.
        work: what can be sent to another process.
        jobs: processes; 1 for this one alone.
        needs: modules that `function` computes by, besides torch and NumPy.

    Raises:
        RunError: a process died. Whatever `function` raised.
    """
    if jobs == 1:
        for piece in work:
            yield _alone(function, piece, needs)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin) as pool:
        waiting: deque[Future[Found]] = deque()
        try:
            for piece in work:
                waiting.append(pool.submit(_alone, function, piece, needs))
                if len(waiting) > jobs + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise RunError("a process died, perhaps for want of memory; go on with fewer `jobs`") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """First in a process; who started it ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libraries_later()


def _alone(function: Callable[[Work], Found], piece: Work, needs: Sequence[str]) -> Found:
    import torch
    from threadpoolctl import threadpool_limits

    for module in needs:  # a library's threads can be held from when it is loaded
        import_module(module)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            return function(piece)
    finally:
        torch.set_num_threads(before)
