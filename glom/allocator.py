"""What the C library does with memory that is freed."""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt's parameter (malloc.h), the environment variable of the same meaning, and its value in bytes.
KEPT = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 1 << 30),  # blocks up to here come from the heap rather than each from the system
    (-1, "MALLOC_TRIM_THRESHOLD_", (1 << 31) - 1),  # the heap's end is given back above this
    (-2, "MALLOC_TOP_PAD_", 64 << 20),  # the heap grows by no less
)


def keep_freed_memory() -> bool:
    """Let the C library keep what layers free for the layers that come next, in this process and its children.

    glibc asks the system anew for every block above 32 MiB at most and gives it back at once (mallopt(3),
    `M_MMAP_THRESHOLD`). Each page of an activation is then cleared by the kernel at its first use, whenever a layer
    runs, which costs more than the layer's arithmetic where pages are costly, as in a virtual machine. What is kept
    is of use to this process alone: it stays as large as its peak. `benchmarks/allocator.py` measures both.

    The program does this; a notebook or script may, before its first large tensor. Nothing is changed where the
    environment already chooses (one of the `MALLOC_` variables above, or `GLIBC_TUNABLES`), or without glibc.

    Returns:
        whether it was done.
    """
    if sys.platform != "linux" or any(
        name in os.environ for name in ("GLIBC_TUNABLES", *(name for _, name, _ in KEPT))
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not all(mallopt(parameter, value) for parameter, _, value in KEPT):
        return False
    os.environ.update({name: str(value) for _, name, value in KEPT})  # of processes that begin anew
    return True
