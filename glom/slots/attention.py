"""Slot attention: a few vectors that compete for the locations of a grid, each becoming one object's.

Locatello et al. 2020, "Object-centric learning with slot attention" (arXiv 2006.15055), algorithm 1. In each round

    A = softmax over slots of  k(x) q(LN(s)) / sqrt(D)        every location shares itself out among the slots
    u = W^T v(x),  W = (A + eps) / sum over locations          every slot takes the mean of what it was given
    s = GRU(u, s);  s = s + MLP(LN(s))

No location belongs to a slot beforehand, and slots of one distribution are exchangeable: permuted beginnings give
permuted answers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPSILON = 1e-8


class SlotAttention(nn.Module):
    """(B, N, F) locations -> (B, K, D) slots and how the locations were shared out, (B, K, N).

    Args:
        features: F. slots: K. dim: D. hidden: width of the MLP.
        iterations: rounds.
        beginning: slots are "drawn" from one normal distribution whose mean and deviations are learned, as published;
            or K beginnings are "learned", which tells slots apart from the start (Jia et al. 2023, section 3).
    """

    def __init__(
        self, features: int, slots: int, dim: int, hidden: int, iterations: int = 3, beginning: str = "drawn"
    ) -> None:
        super().__init__()
        self.slots, self.dim, self.iterations, self.beginning = slots, dim, iterations, beginning
        self.norm_inputs, self.norm_slots, self.norm_mlp = nn.LayerNorm(features), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries = nn.Linear(dim, dim, bias=False)
        self.keys, self.values = nn.Linear(features, dim, bias=False), nn.Linear(features, dim, bias=False)
        self.cell = nn.GRUCell(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        rows = slots if beginning == "learned" else 1
        self.mean = nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, dim)))
        if beginning == "drawn":
            self.log_deviation = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, dim)))

    def begin(self, batch: int, noise: Tensor | None) -> Tensor:
        """(B, K, D): the slots before the first round. `noise` (B, K, D) is standard normal; learned ones take none."""
        if self.beginning == "learned":
            return self.mean.expand(batch, -1, -1)
        assert noise is not None, "slots that are drawn need their noise"
        return self.mean + self.log_deviation.exp() * noise

    def forward(self, inputs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See the class."""
        inputs = self.norm_inputs(inputs)
        keys, values = self.keys(inputs) * self.dim**-0.5, self.values(inputs)
        slots = self.begin(len(inputs), noise)
        for _ in range(self.iterations):
            shares = (self.queries(self.norm_slots(slots)) @ keys.transpose(1, 2)).softmax(1)
            weights = shares + EPSILON
            updates = (weights / weights.sum(-1, keepdim=True)) @ values
            slots = self.cell(updates.flatten(0, 1), slots.flatten(0, 1)).unflatten(0, slots.shape[:2])
            slots = slots + self.mlp(self.norm_mlp(slots))
        return slots, shares
