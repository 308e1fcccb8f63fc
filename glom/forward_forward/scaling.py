"""How pixels become inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """How pixels become inputs: grey ones / 255, so that nothing stays zero; colours standardised by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> Scaling:
        """For training pictures (N, C, H, W) uint8."""
        if images.shape[1] == 1:
            return cls((0.0,), (1.0,))
        x = images[:10_000].float() / 255
        mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3)).clamp(min=1e-3)
        return cls(tuple(round(float(v), 6) for v in mean), tuple(round(float(v), 6) for v in std))

    def __call__(self, images: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """uint8 -> `dtype` on `device`, in blocks so that memory stays small."""
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        out = torch.empty(images.shape, dtype=dtype, device=device)
        for start in range(0, len(images), 10_000):
            block = images[start : start + 10_000].float().div_(255)
            out[start : start + 10_000] = block.sub_(mean).div_(std).to(dtype)
        return out
