"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

# mallopt's parameter (malloc.h), the environment variable of the same meaning, and its value in bytes.
KEPT = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 1 << 30),  # blocks up to here come from the heap rather than each from the system
    (-1, "MALLOC_TRIM_THRESHOLD_", (1 << 31) - 1),  # the heap's end is given back above this
    (-2, "MALLOC_TOP_PAD_", 64 << 20),  # the heap grows by no less
)


def keep_freed_memory() -> bool:
    """Let the C library keep what layers and steps free for those that come next. Results do not change; time does.

    glibc asks the system anew for every block above 32 MiB at most and gives it back at once (mallopt(3),
    `M_MMAP_THRESHOLD`). Each page of an activation or a gradient is then cleared by the kernel at its first use,
    whenever a layer or a step runs, which costs more than the layer's arithmetic where pages are costly, as in a
    virtual machine. What is kept is of use to this process alone, which stays as large as its peak: programs call this,
    importing does not. `benchmarks/allocator.py` measures both. Nothing is changed where the environment already
    chooses (one of the `MALLOC_` variables above, or `GLIBC_TUNABLES`).

    Returns:
        whether it was possible: with glibc alone, and where the environment leaves it open.
    """
    chosen = {"GLIBC_TUNABLES", *(name for _, name, _ in KEPT)} & set(os.environ)
    mallopt = _of_glibc("mallopt")
    if chosen or mallopt is None:
        return False
    done = [mallopt(parameter, value) == 1 for parameter, _, value in KEPT]  # every one, even after one that failed
    return all(done)


def release_freed_memory() -> bool:
    """Give the system back what `keep_freed_memory` kept: between parts of a program that need blocks of other sizes.

    Blocks of one method's sizes seldom serve the next, so that a process grows with each of them. Every page
    that nothing lives in goes back (malloc_trim(3)), also from the middle of the heap.

    Returns:
        whether anything went back; never without glibc.
    """
    trim = _of_glibc("malloc_trim")
    return trim is not None and trim(0) == 1


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
