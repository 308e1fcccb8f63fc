"""A level of a GLOM held to something else while it settles: what the levels around it make of that.

What `glom.backbones.patching` does to a layer of a network that is run once, here after every update.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from glom.backbones.patching import VALUES, Region, region_cells
from glom.consensus.model import Glom
from glom.errors import InputError, unknown


def patched_states(
    glom: Glom, images: Tensor, level: int, region: Region, value: str | Tensor, iterations: int | None = None
) -> Iterator[Tensor]:
    """`Glom.all_states` with one level's embeddings replaced at a region after every update.

    Args:
        images: (B, 3, H, W) in [0, 1].
        level: from 1, the lowest.
        region: see `glom.backbones.patching.region_cells`.
        value: "zero"; "mean", that of the level's own columns; or other pictures (1 or B, 3, H, W), whose embeddings
            at the same columns, level and update are put there.
        iterations: T; None for the settings'.

    Yields:
        (B, n, L, d), T times.

    Raises:
        InputError: no such level, region or value, or other pictures of another size.

    Example:
        >>> from glom.consensus.config import GlomConfig
        >>> glom = Glom(GlomConfig(levels=2, dim=8, hidden=8))
        >>> *_, last = patched_states(glom, torch.rand(1, 3, 16, 16), 2, "all", "zero")
        >>> bool(last[:, :, 1].any())
        False
    """
    if not 1 <= level <= glom.config.levels:
        raise InputError(f"there is no level {level}: this GLOM has levels 1 to {glom.config.levels}")
    if isinstance(value, str) and value not in VALUES:
        raise unknown("value", value, VALUES, "or a picture")
    if isinstance(value, Tensor) and value.shape[-2:] != images.shape[-2:]:
        raise InputError(f"the other picture must be {tuple(images.shape[-2:])} pixels, got {tuple(value.shape[-2:])}")
    cells = torch.from_numpy(region_cells(region, *glom.grid(images)).ravel()).to(images.device)
    count = glom.config.iterations if iterations is None else iterations
    others = glom.all_states(value, count) if isinstance(value, Tensor) else [None] * count
    state = None
    for other in others:
        state = next(glom.all_states(images, 1, state)).clone()
        own = state[:, :, level - 1]
        if other is not None:
            put = other[:, :, level - 1].expand_as(own)
        else:
            put = torch.zeros_like(own) if value == "zero" else own.mean(1, keepdim=True).expand_as(own)
        state[:, cells, level - 1] = put[:, cells]
        yield state
