"""ImageNet-C-bar's ten corruptions, unlike ImageNet-C's by design, and of the ten kept for pictures of any size.

Mintun, Kirillov & Xie 2021, "On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness"
(NeurIPS), section 5 and the authors' release, whose levels `LEVELS` holds. Lengths go by the picture's shorter side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Values = NDArray[np.float64]
"""(h, w, 3), or (h, w) of one channel, in [0, 255]."""

LEVELS = {
    "blue_noise_sample": (0.8, 1.6, 2.4, 4.0, 5.6),
    "brownish_noise": (1.0, 2.0, 3.0, 4.0, 5.0),
    "caustic_refraction": (2.35, 3.2, 4.9, 6.6, 9.15),
    "checkerboard_cutout": (2.0, 3.0, 4.0, 5.0, 6.0),
    "cocentric_sine_waves": (3.0, 5.0, 8.0, 9.0, 10.0),
    "inverse_sparkles": (1.0, 2.0, 4.0, 9.0, 10.0),
    "perlin_noise": (4.6, 5.2, 5.8, 7.6, 8.8),
    "plasma_noise": (4.75, 7.0, 8.5, 9.25, 10.0),
    "single_frequency_greyscale": (1.0, 1.5, 2.0, 4.5, 5.0),
    "sparkles": (1.0, 2.0, 3.0, 5.0, 6.0),
}


def corrupt_bar(image: Image.Image, name: str, severity: int, rng: Generator) -> Image.Image:
    """The corrupted twin of an RGB picture, of the same size."""
    found = KINDS[name](np.asarray(image, dtype=np.float64), LEVELS[name][severity - 1], rng)
    return Image.fromarray(np.clip(found, 0, 255).astype(np.uint8))


def single_frequency_greyscale(x: Values, level: float, rng: Generator) -> Values:
    """A plane wave of any direction and length."""
    most = rng.uniform(-np.pi, np.pi)
    first, second = np.array([most, rng.uniform(-abs(most), abs(most))])[rng.permutation(2)]
    rows, columns = _places(x)
    return x + 19.6 * level * np.sin(columns * first + rows * second + rng.uniform(0, 2 * np.pi))[..., None]


def cocentric_sine_waves(x: Values, level: float, rng: Generator) -> Values:
    """Rings around a point, bent by a wave of the angle; a ring rises from black to white."""
    side, (rows, columns) = min(x.shape[:2]), _places(x)
    left, top = rng.uniform(0, side, 2)
    often, bent, width = rng.uniform(0, 10), rng.uniform(0, side / 10), rng.uniform(0, side / 10)
    far = np.hypot(columns - left, rows - top) + bent * np.sin(often * np.arctan2(columns - left, rows - top))
    return x + 12.8 * level * (far % width / width - 0.5)[..., None]


def plasma_noise(x: Values, level: float, rng: Generator) -> Values:
    """Places bent by sines of ever shorter length, then read as colours."""
    side = min(x.shape[:2])
    time, rounds = rng.uniform(0, 6 * np.pi), int(rng.integers(4, 7))
    sharpness, scale = rng.uniform(0.5, 1), rng.uniform(0.075, 0.2) * side
    down, across = (place / scale for place in _places(x))
    often, slow, small, late = 1.0, 1.0, 1.0, 0.0
    for _ in range(rounds):
        turn = np.cos(down * often - late + time / slow) / small, np.sin(across * often - late + time / slow) / small
        across, down = across + turn[0] - 0.3 * turn[1], down + turn[1] + 0.3 * turn[0]
        often, slow, small, late = often * 1.93, slow * 1.15, small * (2.25 - sharpness), late * time * slow
    colours = np.sin(across - time), np.sin((across + down + np.sin(time)) / 2), np.sin(down + time)
    strength = 6.4 * level
    return (1 - strength / 255) * x + strength * np.stack(colours, axis=-1)


def sparkles(x: Values, level: float, rng: Generator) -> Values:
    """Five stars of 50 to 199 white rays, anywhere."""
    side = min(x.shape[:2])
    centres, counts = rng.uniform(0, side, (5, 2)), rng.integers(50, 200, 5)
    for centre, count in zip(centres, counts, strict=True):
        radius = 0.01 * level * side
        rays = np.maximum(1, radius * (1 + 0.25 * rng.normal(size=count)))
        x = x + _star(x, centre, rays, 1.0)[..., None] * (255 - x)
    return x


def inverse_sparkles(x: Values, level: float, rng: Generator) -> Values:
    """White but for a star of rays about the middle, through which the picture is seen."""
    side = min(x.shape[:2])
    centre, count = rng.uniform(0.25, 0.75, 2) * side, int(rng.integers(50, 200))
    rays = 0.25 * side * (1 + 0.25 * rng.normal(size=count))
    return 255 + _star(x, centre, rays, 0.13 * level)[..., None] * (x - 255)


def perlin_noise(x: Values, level: float, rng: Generator) -> Values:
    """Mixed with five octaves of Perlin's noise, in grey."""
    slopes = rng.integers(-256, 256, (256, 2)) / 256
    order = rng.permutation(256)
    rows, columns = (place / (32 * min(x.shape[:2]) / 224) for place in _places(x))
    waves = sum(np.abs(_perlin(rows * f, columns * f, slopes, order)) / f for f in (1, 2, 4, 8, 16))
    share = 0.05 * level
    return (1 - share) * x + 255 * share * np.clip(0.5 * waves + 0.5, 0, 1)[..., None]


def brownish_noise(x: Values, level: float, rng: Generator) -> Values:
    """Noise of a spectrum that falls with the square of the frequency, channels apart."""
    return x + 6.4 * level * np.stack([_spectral(x, lambda f: 1 / (f**2 + 1), rng) for _ in range(3)], axis=-1)


def blue_noise_sample(x: Values, level: float, rng: Generator) -> Values:
    """Black where noise, of a spectrum that rises with the frequency, is below a threshold."""
    return x * (_spectral(x, lambda f: f, rng) > 0.3 * level - 2.5)[..., None]


def checkerboard_cutout(x: Values, level: float, rng: Generator) -> Values:
    """Some of the black squares of a turned chessboard, in grey."""
    side, angle = min(x.shape[:2]), rng.uniform(0, 2 * np.pi)
    square = max(1.0, rng.uniform(0.1, 0.25) * side)
    count = int(4 * max(x.shape[:2]) // square)
    hidden = rng.uniform(size=(count, count)) < 0.1 * level
    rows, columns = _places(x)
    down = (np.cos(angle) * rows + np.sin(angle) * columns) / square
    across = (np.cos(angle) * columns - np.sin(angle) * rows) / square
    dark = (down % 2).astype(int) == (across % 2).astype(int)
    return np.where((dark & hidden[down.astype(int), across.astype(int)])[..., None], 128.0, x)


def caustic_refraction(x: Values, level: float, rng: Generator) -> Values:
    """Seen through moving water: light gathers in lines, whose slopes refract what is behind them."""
    side = min(x.shape[:2])
    light = ndimage.gaussian_filter(_caustics(x, rng.uniform(0.5, 2), rng.uniform(0.75, 1.25) * side), 1)
    padded = np.pad(light, 1)
    down, across = padded[2:, 1:-1] - padded[:-2, 1:-1], padded[1:-1, 2:] - padded[1:-1, :-2]
    length = np.sqrt(down**2 + across**2 + 1)
    ahead, aside = 1 / length, np.sqrt(down**2 + across**2) / length  # the normal's part along the view, and across it
    bent = np.arcsin(np.sin(np.arccos(ahead)) / 4)
    much = np.where(ahead < 1 - 1e-3, np.cos(bent) - np.sin(bent) * ahead / np.maximum(aside, 1e-12), 0)
    lens = 0.05 * level * side
    places = [p + np.round(s / length * much * lens, 3) for p, s in zip(_places(x), (down, across), strict=True)]
    seen = [ndimage.map_coordinates(c, places, order=1, mode="grid-constant") for c in np.moveaxis(x, -1, 0)]
    return np.stack(seen, axis=-1) + 255 * 0.2 * level * (down - across)[..., None]


KINDS: dict[str, Callable[[Values, float, Generator], Values]] = {
    kind.__name__: kind
    for kind in (
        blue_noise_sample, brownish_noise, caustic_refraction, checkerboard_cutout, cocentric_sine_waves,
        inverse_sparkles, perlin_noise, plasma_noise, single_frequency_greyscale, sparkles,
    )
}  # fmt: skip


def _places(x: Values) -> tuple[Values, Values]:
    """(h, w): each pixel's row, and its column."""
    places = np.indices(x.shape[:2], dtype=np.float64)
    return places[0], places[1]


def _star(x: Values, centre: Values, rays: Values, fall: float) -> Values:
    """(h, w) from 0 to 1: how much of a star's light reaches a pixel; `rays`: their lengths, all around."""
    down, across = (place - middle for place, middle in zip(_places(x), centre, strict=True))
    turn = (np.arctan2(across, down) + np.pi) / (2 * np.pi) * len(rays)
    which = turn.astype(int)
    part = turn - which
    near, next_one = rays[which % len(rays)], rays[(which + 1) % len(rays)]
    bright = ((near + part * (next_one - near)) ** 2 / (down**2 + across**2 + 1e-4)) ** fall
    return np.clip((1 - (part - 0.5) ** 2) * bright, 0, 1)


def _spectral(x: Values, power: Callable[[Values], Values], rng: Generator) -> Values:
    """(h, w) noise of deviation 1 over an even square: `power` of the frequency, phases drawn."""
    side = max(x.shape[:2]) + max(x.shape[:2]) % 2
    away = np.arange(side) - side / 2
    phases = rng.uniform(0, 2 * np.pi, (side, side // 2))
    phases = np.concatenate([phases, phases[::-1, ::-1]], axis=1)
    spectrum = power(np.hypot(away[:, None], away[None])) * np.exp(1j * phases)
    noise = np.real(np.fft.ifft2(np.roll(spectrum, side // 2, (0, 1))))
    return (noise / noise.std())[: x.shape[0], : x.shape[1]]


def _perlin(rows: Values, columns: Values, slopes: Values, order: NDArray[np.int64]) -> Values:
    """Perlin's gradient noise (1985) at places, by 256 slopes, made of length one, and an order of them."""
    slopes = slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-12)
    parts = [(place.astype(int), place % 1) for place in (rows, columns)]
    (top, down), (left, across) = parts

    def corner(i: int, j: int) -> Values:
        slope = slopes[order[(order[(top + i) % 256] + left + j) % 256]]
        return (down - i) * slope[..., 0] + (across - j) * slope[..., 1]

    ease, over = (t**2 * (3 - 2 * t) for t in (down, across))
    (a, b), (c, d) = (corner(0, 0), corner(1, 0)), (corner(0, 1), corner(1, 1))
    first, second = a + ease * (b - a), c + ease * (d - c)
    return 1.5 * (first + over * (second - first))


def _caustics(x: Values, time: float, size: float) -> Values:
    """(h, w): where light that waves have bent gathers, from 0 to 1."""
    p, q = (place / size % 1 * 2 * np.pi - 250 for place in _places(x))
    down, across, total = p, q, np.ones(x.shape[:2])
    for n in range(5):
        t = time * (1 - 3.5 / (n + 1))
        down, across = (
            p + np.cos(t - down) + np.sin(t + across),
            q + np.sin(t - across) + np.cos(t + down),
        )
        total += 1 / np.hypot(p * 0.005 / np.sin(down + t), q * 0.005 / np.cos(across + t))
    return np.clip(np.abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1)
