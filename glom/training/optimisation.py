"""Groups of parameters and rates of learning, each once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

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
