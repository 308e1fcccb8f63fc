"""Procedural textures and the random numbers behind them: all functions of (seed, index), none of which keeps a state.

    u = uniforms(seed, stream, indices, count)       (B, count), the same whatever the batch, order or machine
    waves(u, size, weaves)                            two crossed gratings a region, in [-1, 1], mean 0
    clouds(u, size)                                   slow colour that spans the picture and knows no object
    random_phase(pictures, noise)                     another picture of the same spectrum and colours

The last is the random phase noise of Galerne, Gousseau & Morel (2011, "Random phase textures: theory and synthesis",
section II): the modulus of a picture's Fourier transform with the phases of white noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
WAVELENGTHS = (3.0, 7.0)  # pixels: several periods on the smallest object
STRIPES, CHECKS = math.pi / 16, math.pi / 2  # angles at which two gratings cross


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele, Lea & Flood 2014, figure 15): neighbouring numbers become unrelated ones."""
    with np.errstate(over="ignore"):
        z = x + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(seed: int, stream: int, indices: Sequence[int] | NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """`count` numbers in [0, 1) for each index, from (seed, stream, index) alone.

    Args:
        seed: of the data set.
        stream: what the numbers are for; two streams are unrelated.
        indices: (B,) at least 0.
        count: numbers an index.

    Returns:
        (B, count).

    Example:
        >>> bool((uniforms(0, 1, [5, 7], 3)[1] == uniforms(0, 1, [7], 3)[0]).all())
        True
    """
    base = mix(mix(np.array([seed % 2**64], np.uint64)) ^ np.uint64(stream))
    with np.errstate(over="ignore"):
        rows = mix(base ^ mix(np.asarray(indices, dtype=np.int64).astype(np.uint64)))[:, None]
        numbers = mix(rows + np.arange(count, dtype=np.uint64)[None] * GOLDEN)
    return (numbers >> np.uint64(11)).astype(np.float64) / 2**53


def waves(u: NDArray[np.float64], size: int, weaves: NDArray[np.float64] | None = None) -> Tensor:
    """A texture for each region of each picture: two gratings that cross.

    Orientations advance from region to region by an irrational share of a half turn (a Kronecker sequence), so that the
    regions of one picture differ, whatever their number; the first is drawn at random. So do wavelengths, where no
    weave is given; the gratings then cross at a slight angle.

    Args:
        u: (B, R, 4) in [0, 1): of the first region the first two numbers place the sequences; of every region the last
            two are phases.
        size: S.
        weaves: (B, R, 3): wavelength in pixels, crossing angle and orientation in radians; instead of the sequences.

    Returns:
        (B, R, S, S) float32 in [-1, 1] with mean about 0: every region has the same distribution of values.
    """
    b, regions, _ = u.shape
    number = np.arange(regions)
    angle = np.pi * ((u[:, :1, 0] + number * (math.sqrt(5) - 1) / 2) % 1.0)
    if weaves is None:
        length = wavelength((u[:, :1, 1] + number * (math.sqrt(2) - 1)) % 1.0)
        cross = np.full_like(length, STRIPES)
    else:
        length, cross, angle = (weaves[..., k] for k in range(3))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    total = torch.zeros(b, regions, size, size)
    for sign, phase in ((-0.5, u[..., 2]), (0.5, u[..., 3])):
        a = angle + sign * cross
        fx, fy = (torch.tensor(2 * np.pi * f(a) / length, dtype=torch.float32) for f in (np.cos, np.sin))
        start = torch.tensor(2 * np.pi * phase, dtype=torch.float32)
        total += torch.sin(fx[..., None, None] * x + fy[..., None, None] * y + start[..., None, None])
    return total / 2


def wavelength(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """A share in [0, 1] of the way from the shortest to the longest, in ratios -> pixels."""
    low, high = WAVELENGTHS
    return low * (high / low) ** share


def class_weaves(kinds: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """The weave each class wears: stripes at an angle of its own; (...) -> (..., 3) as `waves` takes them.

    Neighbouring angles differ in wavelength too. Phases are free.
    """
    length = wavelength(np.where(kinds % 2 == 0, 0.2, 0.8))
    return np.stack([length, np.full_like(length, STRIPES), np.pi * (kinds + 0.5) / classes], -1)


def ground_weaves(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """A weave no class wears: checks of any wavelength at any angle; (..., 2) in [0, 1) -> (..., 3)."""
    return np.stack([wavelength(u[..., 0]), np.full_like(u[..., 0], CHECKS), np.pi * u[..., 1]], -1)


def clouds(u: NDArray[np.float64], size: int) -> Tensor:
    """Slow waves, one pair a channel: (B, 3, 2, 3) numbers in [0, 1) -> (B, 3, S, S) float32 in [-1, 1]."""
    angle, length, phase = 2 * np.pi * u[..., 0], size * (0.5 + 1.5 * u[..., 1]), 2 * np.pi * u[..., 2]
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    fx, fy = (torch.tensor(2 * np.pi * f(angle) / length, dtype=torch.float32) for f in (np.cos, np.sin))
    start = torch.tensor(phase, dtype=torch.float32)
    return torch.sin(fx[..., None, None] * x + fy[..., None, None] * y + start[..., None, None]).mean(2)


def random_phase(pictures: Tensor, noise: Tensor) -> Tensor:
    """Another picture with the same mean colour, colour covariance and spectrum.

    Args:
        pictures: (B, 3, h, w).
        noise: (B, h, w) white noise; one field for the three channels, which keeps them in step.

    Returns:
        (B, 3, h, w), periodic: it tiles without a seam.
    """
    own, other = torch.fft.rfft2(pictures), torch.fft.rfft2(noise)[:, None]
    turned = own * (other / other.abs().clamp(min=1e-12))
    turned[..., 0, 0] = own[..., 0, 0]
    return torch.fft.irfft2(turned, s=pictures.shape[-2:])


def tile(pictures: Tensor, offsets: NDArray[np.float64], size: int) -> Tensor:
    """(B, C, h, w) repeated from an offset (B, 2) in [0, 1) -> (B, C, S, S)."""
    b, _, h, w = pictures.shape
    start = torch.tensor(offsets * np.array([h, w])).long()
    rows = (start[:, :1] + torch.arange(size)) % h
    columns = (start[:, 1:] + torch.arange(size)) % w
    picked = pictures[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
