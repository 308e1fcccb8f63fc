"""A still picture as a boring video: one picture, repeated along time; `glom.backbones.video` is the way in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glom.errors import InputError


def boring_video(
    image: Image.Image,
    frames: int,
    size: int,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> Tensor:
    """One picture repeated along time.

    The whole picture is squeezed onto the square, not cropped: a grid then covers all of it, and a location's
    coordinates are those of the picture in [0, 1]².

    Args:
        image: a picture of any size and mode.
        frames: T.
        size: side of the square, in pixels.
        mean: of the normalisation, three numbers, for pixels in [0, 1].
        std: likewise.

    Returns:
        (3, T, size, size) float32; every frame the same memory (expanded), so T costs nothing until it is read.

    Raises:
        InputError: `frames` or `size` below 1.

    Example:
        >>> boring_video(Image.new("RGB", (8, 4)), frames=4, size=16).shape
        torch.Size([3, 4, 16, 16])
    """
    if frames < 1 or size < 1:
        raise InputError(f"a boring video needs at least 1 frame of 1 px, got {frames} of {size} px")
    small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(list(mean))[:, None, None]) / torch.tensor(list(std))[:, None, None]
    return pixels[:, None].expand(-1, frames, -1, -1)
