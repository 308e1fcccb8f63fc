"""Operations as torch counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def countable() -> Iterator[None]:
    """Attention as plain products: the counter does not know the fused kernels of every device."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def counted_madds(action: Callable[[], object]) -> int:
    """Multiply-adds that `torch.utils.flop_counter` sees in `action`: half of its operations."""
    with countable(), FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops() // 2
