"""Freed memory kept for the next step.

A test-time step allocates the same gradients again and again, 32 MiB and more each. The C library hands such blocks
back to the system and takes fresh pages, which it has to fill with zeros, every time: a tenth of a step's time.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""glibc's names, from malloc.h."""


def keep_freed_memory() -> bool:
    """Ask the C library to keep what the process frees, from now on. Results do not change; time does.

    The process then never gets smaller than its own peak, so this is for programs that adapt, not for import time.

    Returns:
        whether it was possible: glibc on Linux only.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28))
    done = [mallopt(name, value) == 1 for name, value in settings]  # every one, even after one that failed
    return all(done)
