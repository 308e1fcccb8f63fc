"""Groups of parameters and rates of learning, each once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float, never: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Two groups for AdamW (Loshchilov & Hutter 2019): matrices and kernels decay; gains, biases and vectors do not.

    Args:
        named: `model.named_parameters()`, or some of them.
        never: parts of names; parameters called so do not decay, whatever their shape (embeddings, tokens).
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named:
        groups[parameter.ndim > 1 and not any(part in name for part in never)].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


def warmup_cosine(step: int, total: int, rise: int) -> float:
    """The share of the rate at step 0, 1, ...: a linear rise over `rise` steps, then half a cosine to zero."""
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


@contextmanager
def flushed() -> Iterator[None]:
    """For this thread, numbers below the smallest normal one of float32, 1.2e-38, are zero.

    Adam's mean of a gradient that stays away (a unit that is off, a pixel that is never lit) falls below that and is
    kept there by rounding, and a processor may take a hundred times as long for each such number. To a step, which is
    divided by the root of the mean square plus 1e-8, they are nothing.
    """
    already = not float(torch.full((), 1e-39, dtype=torch.float32) * 1.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        if not already:
            torch.set_flush_denormal(False)
