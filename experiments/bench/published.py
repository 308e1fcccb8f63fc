"""The published test-time loop, at the settings its release runs with, in plain code.

    8 identical copies of the picture in the batch     the loss is their mean, so one copy has the same gradient
    16 rows at a time, concatenated                    one graph over 512 chunks
    the colour head computed                           though no loss reads it
    Adam, one parameter and one operation at a time    foreach=False, fused=False
    normal(0, 0.01) for every parameter

The release also encodes the picture by its teacher in every iteration; that is left out here, on both sides of every
ratio. The parameters and the formula are `glom.apm`'s.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm

COPIES = 8
CHUNK = 16
ITERATIONS = 1200
"""Iterations a test image, as published."""


def published_apm(config: APMConfig, seed: int = 0) -> AsynchronousPerceptionMachine:
    """An APM with the release's initialisation."""
    apm = blank_apm(config)
    apm.reset(torch.Generator().manual_seed(seed), "published")
    return apm


def published_optimiser(apm: AsynchronousPerceptionMachine, lr: float = 1e-4) -> torch.optim.Optimizer:
    """Adam without fusing, as PyTorch ran it on a CPU by default."""
    return torch.optim.Adam(apm.parameters(), lr=lr, foreach=False, fused=False)


def published_forward(
    apm: AsynchronousPerceptionMachine, image: Tensor, copies: int = COPIES, chunk: int = CHUNK, chunks: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Token (copies, F) and colours (copies, N, 3) of one picture (1, 3, S, S), chunk by chunk on the whole grid.

    `chunks`: only so many of them, by the first locations alone, as a benchmark does that has no time; 0 for all.
    """
    images = image.expand(copies, -1, -1, -1).contiguous()
    queries = apm.default_queries(images)[: chunks * chunk // copies or None]
    # The release flattens copies and locations into rows before it cuts: 8 x 1,024 rows make 512 chunks of 16.
    rows = apm.columns(apm.fold(images), queries, images).flatten(0, 1)
    features, colours = [], []
    for z in rows.split(chunk):
        h = z
        for layer in apm.trunk:
            h = apm.activation(layer(h))
        f = apm.feature_head(h)
        features.append(f)
        if apm.rgb_head is not None:
            colours.append(apm.colours(f, z))
    shape = (copies, len(queries), -1)
    token = apm.read(torch.cat(features).reshape(shape), queries)
    return token, torch.cat(colours).reshape(shape) if colours else None


def published_step(
    apm: AsynchronousPerceptionMachine,
    optimiser: torch.optim.Optimizer,
    image: Tensor,
    target: Tensor,
    copies: int = COPIES,
    chunk: int = CHUNK,
    chunks: int = 0,
) -> float:
    """One full iteration, forward, backward and step; the loss before it.

    Args:
        image: (1, 3, S, S). target: (1, F), the teacher's token. chunks: see `published_forward`.
    """
    optimiser.zero_grad()
    token, _ = published_forward(apm, image, copies, chunk, chunks)
    loss = F.mse_loss(token, target.expand(copies, -1))
    loss.backward()
    optimiser.step()
    return float(loss.detach())
