"""Columns: the picture folded into one vector, and the places it can be asked about.

    T     = flatten(conv_{k, s=k, 3 -> c}(I))        fold: the whole picture in one trigger column
    p(q)  = [p_x(x), p_y(y)]                         a location q = (x, y) in [0, 1]^2, continuous
    z(q)  = [T, p(q)]  or  [T, p(q), I(q)]           the column at q: what the shared MLP reads

(Modi & Rawat, NeurIPS 2024, section 3: the column module, trigger column and location queries.)

A location query is a point, not an index: a grid of any size, a crop of it and a ragged set of points are the same
(N, 2) tensor of (x, y).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from glom.apm_config import LOCATION_CODES as LOCATION_CODES
from glom.errors import InputError, unknown
from glom.pictures import normalised

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def grid_queries(
    height: int,
    width: int,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Centres of an h x w grid's cells over `box`, row by row.

    Args:
        height: number of cells down, at least 1.
        width: number of cells across, at least 1.
        box: (x0, y0, x1, y1), the part of the picture the grid covers.
        device: where the result is to be. dtype: of what is returned.

    Returns:
        (height * width, 2): x and y of every centre.

    Raises:
        InputError: a size below one or an empty box.

    Example:
        >>> grid_queries(1, 2).tolist()
        [[0.25, 0.5], [0.75, 0.5]]
    """
    if height < 1 or width < 1:
        raise InputError(f"a grid needs at least one cell each way, got {height}x{width}")
    x0, y0, x1, y1 = box
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"the box {box} is empty; give (x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    # float64 first: the same location must give the same code from whichever grid it is asked.
    x = x0 + (torch.arange(width, dtype=torch.float64) + 0.5) * ((x1 - x0) / width)
    y = y0 + (torch.arange(height, dtype=torch.float64) + 0.5) * ((y1 - y0) / height)
    xy = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return rearrange(xy, "h w two -> (h w) two").to(device=device, dtype=dtype)


def sample_at(grid: Tensor, queries: Tensor) -> Tensor:
    """Read grids at continuous locations, bilinearly between cell centres.

    (S, h, w, C) and (N, 2), or (S, N, 2) with locations of its own for each, -> (S, N, C).
    """
    queries = queries[None] if queries.ndim == 2 else queries
    where = (2 * queries - 1).to(grid.dtype)[:, None].expand(len(grid), 1, *queries.shape[-2:])
    values = F.grid_sample(rearrange(grid, "s h w c -> s c h w"), where, padding_mode="border", align_corners=False)
    return rearrange(values, "s c 1 n -> s n c")


def check_queries(queries: Tensor) -> Tensor:
    """Return `queries` if they are (N >= 1, 2) points inside the picture; raise `InputError` otherwise.

    Looks at values: of queries on a device the host waits once. `glom.execution.locate` does it for all steps.
    """
    if queries.ndim != 2 or queries.shape[-1] != 2:
        raise InputError(f"location queries must be (N, 2), got {tuple(queries.shape)}")
    if len(queries) == 0:
        raise InputError("no location queries: ask for at least one point")
    outside = ~((queries >= 0) & (queries <= 1)).all(dim=-1)
    if outside.any():
        worst = queries[outside][0].tolist()
        raise InputError(
            f"{int(outside.sum())} of {len(queries)} location queries lie outside the picture's [0, 1] x [0, 1], "
            f"the first at ({worst[0]:g}, {worst[1]:g})"
        )
    return queries


def picture(image: Image.Image, size: int) -> Tensor:
    """What is folded: an RGB picture squeezed to size x size and normalised by ImageNet's mean and deviation.

    Returns (3, size, size), float32. The aspect ratio is given up, as published, so that [0, 1]^2 covers the picture.
    """
    resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return normalised(resized, IMAGENET_MEAN, IMAGENET_STD)


class LocationCode(nn.Module):
    """p: [0, 1]^2 -> R^dim, split by axis: the first half codes x, the second y.

    For an axis with n cells, u = n x - 1/2 is the cell's index (0 at the first centre), and

        p_x(x) = [sin(u w_0), cos(u w_0), sin(u w_1), cos(u w_1), ...]

    sinusoidal: w_k = 10000^(-2k / (dim/2)), the published code, exact at the centres of an n x n grid;
    fourier:    w_k geometric from one turn over the picture to n/2 turns (Tancik et al. 2020, positional encoding);
    none:       zeros, the ablation.

    Args:
        dim: length of the code, a multiple of 4.
        cells: n.
        kind: one of `LOCATION_CODES`.
    """

    def __init__(self, dim: int, cells: int = 32, kind: str = "sinusoidal") -> None:
        super().__init__()
        if dim % 4:
            raise InputError(f"a location code's width must be a multiple of 4, got {dim}")
        if kind not in LOCATION_CODES:
            raise unknown("location code", kind, LOCATION_CODES)
        self.dim, self.cells, self.kind = dim, cells, kind

    def frequencies(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """w_k, (dim / 4,). Never below float32: a rounded frequency would move every location."""
        k = torch.arange(self.dim // 4, device=device, dtype=dtype)
        if self.kind == "fourier":
            turns = max(self.cells / 2, 1.0) ** (k / max(len(k) - 1, 1))
            return 2 * math.pi * turns / self.cells
        return 10000.0 ** (-k / len(k))

    def axis(self, x: Tensor) -> Tensor:
        """One coordinate: (...,) in [0, 1] -> (..., dim / 2)."""
        if self.kind == "none":
            return x.new_zeros(*x.shape, self.dim // 2)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        u = self.cells * x - 0.5
        angle = u[..., None] * self.frequencies(x.device, x.dtype)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)

    def forward(self, queries: Tensor) -> Tensor:
        """(N, 2) points (x, y) -> (N, dim)."""
        return torch.cat([self.axis(queries[..., 0]), self.axis(queries[..., 1])], dim=-1)


class Fold(nn.Module):
    """T = flatten(conv(I)): one scalar (or `channels`) a patch, all patches in one vector.

    Args:
        image_size: side of the square picture, in pixels.
        patch: kernel and stride; must divide `image_size`.
        channels: numbers kept a patch (published: 1).

    Attributes:
        dim: D = channels * (image_size / patch)^2, the column's width.
    """

    def __init__(self, image_size: int = 448, patch: int = 14, channels: int = 1) -> None:
        super().__init__()
        if patch < 1 or image_size % patch:
            raise InputError(f"the patch ({patch}) must divide the picture's side ({image_size})")
        self.image_size = image_size
        self.dim = channels * (image_size // patch) ** 2
        self.conv = nn.Conv2d(3, channels, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, image_size, image_size) -> (B, D)."""
        if images.shape[-3:] != (3, self.image_size, self.image_size):
            raise InputError(
                f"fold expects pictures of (3, {self.image_size}, {self.image_size}), got {tuple(images.shape[-3:])}"
            )
        # A convolution whose stride is its kernel is a matrix product over patches: faster, and the same numbers.
        patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=self.conv.stride[0], q=self.conv.stride[1])
        columns = F.linear(patches, self.conv.weight.flatten(1), self.conv.bias)
        return rearrange(columns, "b n c -> b (c n)")


class Patch(nn.Module):
    """I(x, y): the small square of the picture around a location, read by bilinear interpolation.

    Args:
        size: points a side; the patch spans `size / cells` of the picture.
        cells: cells of the grid whose spacing the points have.
    """

    def __init__(self, size: int, cells: int) -> None:
        super().__init__()
        self.size, self.cells, self.dim = size, cells, 3 * size * size

    def forward(self, images: Tensor, queries: Tensor) -> Tensor:
        """(B, 3, H, W) and (N, 2) -> (B, N, 3 * size^2); beyond the border the nearest pixel counts."""
        step = torch.arange(self.size, device=queries.device, dtype=queries.dtype) - (self.size - 1) / 2
        offsets = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1).flatten(0, 1) / self.cells
        points = queries[:, None, :] + offsets
        where = (2 * points - 1).expand(images.shape[0], *points.shape)
        values = F.grid_sample(images, where.to(images.dtype), padding_mode="border", align_corners=False)
        return rearrange(values, "b c n k -> b n (c k)")
