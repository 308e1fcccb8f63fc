"""Threads of a learning step: all for the products, one for what lies between.

Rectifying or measuring a hundred rows takes a few tens of microseconds, and waking a sleeping thread takes as long:
with two threads a step of 3 x 1000 units takes a fourteenth longer where every pass wakes the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGE = 1 << 17  # numbers
_given = 0  # threads while a step is narrow, otherwise 0


@contextmanager
def narrow() -> Iterator[None]:
    """One thread, but where `wide` says so. Without effect where there is one anyway."""
    global _given
    before = torch.get_num_threads()
    if _given or before == 1:
        yield
        return
    _given = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _given = 0
        torch.set_num_threads(before)


@contextmanager
def wide(size: int) -> Iterator[None]:
    """Within `narrow`, all threads again: around a product with weights of this size, or a pass over them."""
    if not _given or size < LARGE:
        yield
        return
    torch.set_num_threads(_given)
    try:
        yield
    finally:
        torch.set_num_threads(1)
