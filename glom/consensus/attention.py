"""Agreement within a level: every column moves towards those near by that are like it already.

    w_ij = exp(beta x_i . x_j) / sum_k exp(beta x_i . x_k)          c_i = sum_j w_ij x_j

Queries, keys and values are the embeddings themselves, X <- softmax(beta X X^T) X (Hinton 2021, section 1 and 4.4); k
runs over the columns that i may attend to. Two ways that give the same numbers: over all pairs of columns with a mask,
for columns anywhere, and over windows, for grids much larger than the radius.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Windows do (2r + 1)^2 products a column one shift at a time, pairs n in one product: worth it from this ratio on.
WINDOW_GAIN = 24
# Up to so many columns the weights are kept: two plain products beat the fused kernel, above all backwards.
FEW = 400


def allowed_pairs(
    queries: Tensor, cells: tuple[int, int], radius: int | None, attend_self: bool = True
) -> Tensor | None:
    """Which column may attend to which.

    Args:
        queries: (..., n, 2), the columns' places (x, y) in [0, 1]^2, in any order.
        cells: rows and columns of the grid whose spacing the radius counts in.
        radius: at most so many cells away along x and along y; None for everywhere.
        attend_self: whether a column attends to itself. One with nobody else attends to itself in any case.

    Returns:
        (..., n, n) booleans, or None where everything is allowed.
    """
    if radius is None and attend_self:
        return None
    n = queries.shape[-2]
    allowed = torch.ones(*queries.shape[:-1], n, dtype=torch.bool, device=queries.device)
    if radius is not None:
        apart = (queries[..., :, None, :] - queries[..., None, :, :]).abs() * queries.new_tensor([cells[1], cells[0]])
        allowed = (apart <= radius + 1e-3).all(-1)
    if not attend_self:
        allowed = allowed & ~torch.eye(n, dtype=torch.bool, device=queries.device)
        allowed = allowed | torch.diag_embed(~allowed.any(-1))
    return allowed


def consensus(x: Tensor, beta: float, allowed: Tensor | None = None) -> Tensor:
    """The agreement c over pairs of columns; above `FEW` columns without keeping the (n, n) weights.

    Args:
        x: (..., n, d).
        beta: inverse temperature.
        allowed: (n, n) booleans, or (..., n, n), or None for all pairs.

    Returns:
        (..., n, d).
    """
    if x.shape[-2] > FEW:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=allowed, scale=beta)
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):  # the softmax stays in the products' own precision, summed in float32
        return agreement_weights(x, beta, allowed) @ x


def agreement_weights(x: Tensor, beta: float, allowed: Tensor | None = None) -> Tensor:
    """The weights w themselves, (..., n, d) -> (..., n, n); each row sums to 1."""
    scores = beta * (x @ x.mT)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.softmax(-1)


def windowed_consensus(x: Tensor, beta: float, radius: int, attend_self: bool = True) -> Tensor:
    """The agreement c on a regular grid, over windows of (2 radius + 1)^2 cells.

    Work and memory grow with the number of columns and not with its square.

    Args:
        x: (B, h, w, d).
        beta: inverse temperature.
        radius: cells.
        attend_self: as in `allowed_pairs`.

    Returns:
        (B, h, w, d).
    """
    h, w = x.shape[1:3]
    lone = not attend_self and (radius == 0 or h * w == 1)
    reach_y, reach_x = min(radius, h - 1), min(radius, w - 1)
    padded = F.pad(x, (0, 0, reach_x, reach_x, reach_y, reach_y))
    inside = F.pad(x.new_ones(h, w, dtype=torch.bool), (reach_x, reach_x, reach_y, reach_y))
    shifts = [(i, j) for i in range(2 * reach_y + 1) for j in range(2 * reach_x + 1)]
    if not attend_self and not lone:
        shifts.remove((reach_y, reach_x))
    scores = []
    for i, j in shifts:
        score = beta * (x * padded[:, i : i + h, j : j + w]).sum(-1)
        scores.append(score.masked_fill(~inside[i : i + h, j : j + w], float("-inf")))
    weights = torch.stack(scores).softmax(0)
    total = torch.zeros_like(x)
    for weight, (i, j) in zip(weights, shifts, strict=True):
        total = total + weight[..., None] * padded[:, i : i + h, j : j + w]
    return total


def prefers_windows(columns: int, radius: int | None) -> bool:
    """Whether `windowed_consensus` is the cheaper way for so many columns on a grid."""
    return radius is not None and (2 * radius + 1) ** 2 * WINDOW_GAIN < columns
