"""Frozen features settled: every location moves towards those near by that agree with it already, a few times.

The consensus of a GLOM's level (`glom.consensus.attention`) without its nets: bottom-up is the frozen feature itself,
and there is no level above.

    s_0 = x        s_(t+1) = unit(x + s_t + c(s_t))        c(s)_i = sum_j softmax_j(s_i . s_j / temperature) s_j
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from glom.colours import Array
from glom.consensus.attention import allowed_pairs, consensus
from probes.partition.forms import Settling

ITERATIONS = 4


def settle(x: Array, how: Settling, iterations: int = ITERATIONS) -> Array:
    """(h, w, F) vectors of length 1 -> the same shape and length, settled; j runs over the cells within the radius."""
    h, w, _ = x.shape
    rows, columns = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    places = torch.stack([columns, rows], -1).reshape(-1, 2)
    allowed = allowed_pairs(places, (h, w), how.radius if how.radius < max(h, w) - 1 else None)
    start = torch.from_numpy(x.reshape(h * w, -1))
    state = start
    with torch.inference_mode():
        for _ in range(iterations):
            moved = start + state + consensus(state[None, None], 1 / how.temperature, allowed)[0, 0]
            state = F.normalize(moved, dim=-1)
    return state.numpy().reshape(x.shape)
