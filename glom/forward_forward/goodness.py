"""Goodness, one layer's loss, its closed-form gradient, and the two normalisations (Hinton 2022, sections 2 and 3).

With states s (n units), goodness g and threshold theta, a layer says "positive" with probability

    p = sigmoid(z),    z = sign (g - theta) / T,    g = sum s^2 or mean s^2            (equation 1, sign = +1)

and learns by -log p on positive rows, -log(1 - p) on negative ones. The derivative by the states needs no graph:

    -dloss/ds = slope * s,    slope = 2 sign c / T * {1 - p on positive rows, -p on negative},    c = 1 or 1/n
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-8
SPARSE = 0.6  # of the rows
Units = int | Tensor


@dataclass(frozen=True)
class Rule:
    """What a layer calls good.

    Attributes:
        goodness: `sum` or `mean` of the squared states.
        sign: +1 where positive data should be strongly active, -1 where weakly (section 4 found that slightly better).
        threshold: theta for each unit: the mean square of the states where p = 1/2.
        temperature: T.
        peer: strength of peer normalisation, see `peer_pull`; 0 for none.
    """

    goodness: str = "sum"
    sign: int = 1
    threshold: float = 1.0
    temperature: float = 1.0
    peer: float = 0.0

    def value(self, squares: Tensor, units: Units) -> Tensor:
        """Goodness from sums of squares, any shape; `units` is one number or a tensor that fits."""
        return squares if self.goodness == "sum" else squares / units

    def logit(self, squares: Tensor, units: Units) -> Tensor:
        """z: how sure a layer of so many units is that its input is positive data."""
        theta = self.threshold * units if self.goodness == "sum" else self.threshold
        return self.sign * (self.value(squares, units) - theta) / self.temperature

    def loss(self, squares: Tensor, units: Units, positive: bool) -> Tensor:
        """-log p on positive rows, -log(1 - p) on negative ones; the shape of `squares`."""
        z = self.logit(squares, units)
        return F.softplus(-z if positive else z)

    def slope(self, squares: Tensor, units: Units, side: Tensor | float) -> Tensor:
        """-dloss/ds divided by s: one number a row, the shape of `squares`.

        Args:
            side: +1 on positive rows, -1 on negative ones.
        """
        c = 1.0 if self.goodness == "sum" else 1.0 / units
        p = torch.sigmoid(self.logit(squares, units) * -side)  # of the wrong answer
        return p * (side * (2 * self.sign * c / self.temperature))

    def push(self, squares: Tensor, units: Units, side: Tensor | float) -> Tensor:
        """What a step multiplies the states by: the slope, without the 1/n of a mean.

        Mean and sum then begin with equal steps. Weight cost and peer normalisation have no 1/n to take away, so it is
        taken from the slope and not made up for in the learning rate, which multiplies all three.
        """
        slope = self.slope(squares, units, side)
        return slope if self.goodness == "sum" else slope * units


def active_rows(push: Tensor) -> Tensor | None:
    """Rows that a gradient can feel, (R,), in order; None where most can, and leaving out would not pay.

    A trained layer is sure of most rows, and what a row asks for falls as exp(-|z|). Left out are those whose part is,
    all of them together, less than what rounding takes from the largest row's. After two epochs on MNIST a network of
    3 x 1000 feels a fifth to a tenth of its rows.

    Args:
        push: (N,), see `Rule.push`.
    """
    size = push.abs()
    rows = (size > size.amax() * (torch.finfo(push.dtype).eps / len(push))).nonzero()[:, 0]
    return rows if len(rows) < SPARSE * len(push) else None


@functools.lru_cache(8)
def sides(rows: int, device: torch.device) -> Tensor:
    """(2 rows,): -1 for negative rows, which come first, +1 for positive ones."""
    return torch.tensor([-1.0, 1.0], device=device).repeat_interleave(rows)


def length_scale(squares: Tensor, units: int) -> Tensor:
    """What rows with these sums of squares are multiplied by to get a mean square of 1: sqrt(n) / (|x| + eps).

    Only the direction is handed to the next layer, so that it cannot read its predecessor's goodness off the length
    (section 2.1). A row of zeros stays one.
    """
    return units**0.5 / (squares.sqrt() + EPS)


def normalise(x: Tensor) -> Tensor:
    """Rows of x (..., n) brought to a mean square of 1; zeros stay zeros."""
    squares = sum_squares(x)
    return x * length_scale(squares, x.shape[-1]).unsqueeze(-1).to(x.dtype)


def sum_squares(x: Tensor) -> Tensor:
    """Sum of squares over the last dimension, accumulated in float32 at least."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    if x.stride(-1) == 1:
        return torch.linalg.vector_norm(x, dim=-1, dtype=kind).square()
    # Over strides the norm is five times slower than what it is made of.
    return x.to(kind, copy=True).square_().sum(-1)


def peer_pull(mean: Tensor, strength: float) -> Tensor:
    """Peer normalisation (section 3.2): what is added to -dloss/da of every positive row.

    A unit whose running mean activity is below its layer's average is pulled up, one above it down; also where the unit
    is off, which is what revives dead ones.

    Args:
        mean: (n,) running mean activity of each unit.
        strength: lambda.
    """
    return strength * (mean.mean() - mean)
