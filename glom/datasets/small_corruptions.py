"""CIFAR-10-C's and Tiny ImageNet-C's 15 corruptions and four extra ones, for pictures of about 32 and 64 pixels.

Both are ImageNet-C's kinds with parameters of their own (Hendrycks & Dietterich, ICLR 2019; `make_cifar_c.py` and
`make_tinyimagenet_c.py` of the authors' release), which `PARAMETERS` holds. ImageNet-C's own, made for 224 pixels,
leave little of a small picture: gaussian noise of severity 5 has a deviation of 0.38 there and 0.10 in CIFAR-10-C.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Pixels = NDArray[np.float64]
"""(h, w, 3), or (h, w) of one channel, in [0, 1]."""

FROSTS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")

# scale -> corruption -> what is given at severities 1 to 5; the functions below say what each number is.
PARAMETERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cifar10-c": {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "shot_noise": (500, 250, 100, 75, 50),
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        "frost": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
        "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        "elastic_transform": (
            (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03),
        ),
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        "jpeg_compression": (80, 65, 58, 50, 40),
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
        "spatter": (
            (0.62, 0.1, 0.7, 0.7, 0.5, False), (0.65, 0.1, 0.8, 0.7, 0.5, False), (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True), (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
    "tiny-imagenet-c": {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "shot_noise": (250, 100, 50, 30, 15),
        "impulse_noise": (0.01, 0.02, 0.05, 0.08, 0.14),
        "defocus_blur": ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        "glass_blur": ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        "motion_blur": ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        "zoom_blur": (1.06, 1.11, 1.16, 1.21, 1.26),
        "snow": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ),
        "frost": ((1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)),
        "fog": ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "elastic_transform": (
            (0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02),
        ),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
        "speckle_noise": (0.15, 0.2, 0.25, 0.3, 0.35),
        "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
        "spatter": (
            (0.62, 0.1, 0.7, 0.7, 0.6, False), (0.65, 0.1, 0.8, 0.7, 0.6, False), (0.65, 0.3, 1, 0.69, 0.6, False),
            (0.65, 0.1, 0.7, 0.68, 0.6, True), (0.65, 0.1, 0.5, 0.67, 0.6, True),
        ),
        "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)),
    },
}  # fmt: skip


def corrupt_small(image: Image.Image, name: str, severity: int, scale: str, rng: Generator) -> Image.Image:
    """The corrupted twin of an RGB picture, of the same size; `scale` is one of `PARAMETERS`."""
    given = PARAMETERS[scale][name][severity - 1]
    if name == "jpeg_compression":
        return _jpeg(image, given)
    if name == "pixelate":
        return _pixelate(image, given)
    pixels = KINDS[name](np.asarray(image, dtype=np.float64) / 255, given, rng)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def gaussian_noise(x: Pixels, sigma: float, rng: Generator) -> Pixels:
    """Additive, of deviation `sigma`."""
    return x + rng.normal(0, sigma, x.shape)


def shot_noise(x: Pixels, photons: float, rng: Generator) -> Pixels:
    """Poisson counts of `photons` at white."""
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Pixels, share: float, rng: Generator) -> Pixels:
    """Salt and pepper, each in half of the `share` of all values, channels apart."""
    hit, white = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return np.where(hit, white.astype(float), x)


def defocus_blur(x: Pixels, given: tuple[float, float], rng: Generator) -> Pixels:
    """A disk of a radius in pixels, its edge softened by a 3 x 3 Gaussian of deviation `alias`."""
    del rng
    radius, alias = given
    across = np.arange(-8, 9)
    disk = (across[:, None] ** 2 + across[None] ** 2 <= radius**2).astype(float)
    soft = np.exp(-np.array([1, 0, 1]) / (2 * alias**2))
    disk = ndimage.convolve(disk / disk.sum(), np.outer(soft, soft) / soft.sum() ** 2)
    return np.stack([ndimage.convolve(channel, disk, mode="mirror") for channel in np.moveaxis(x, -1, 0)], axis=-1)


def glass_blur(x: Pixels, given: tuple[float, int, int], rng: Generator) -> Pixels:
    """Blurred, pixels overwritten by neighbours at most `reach` away, `rounds` times, and blurred again.

    The published code means to swap the two pixels, but assigns through views of the array, which copies one of them.
    """
    sigma, reach, rounds = given
    blurred = np.floor(_smooth(x, sigma) * 255)
    height, width = x.shape[:2]
    for _ in range(rounds):
        steps = rng.integers(-reach, reach, (height, width, 2)).tolist()
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                across, down = steps[row - 1][column - 1]
                blurred[row, column] = blurred[row + down, column + across]
    return _smooth(blurred / 255, sigma)


def motion_blur(x: Pixels, given: tuple[int, float], rng: Generator) -> Pixels:
    """Along a line that lies within 45 degrees of the horizontal; see `_smear`."""
    return _smear(x, *given, float(rng.uniform(-45, 45)))


def zoom_blur(x: Pixels, most: float, rng: Generator) -> Pixels:
    """The mean of the picture and its enlargements by 1.00, 1.01, ... to `most`."""
    del rng
    factors = np.arange(1, most, 0.01)
    return (x + sum(_enlarged(x, factor) for factor in factors)) / (len(factors) + 1)


def snow(x: Pixels, given: tuple[float, ...], rng: Generator) -> Pixels:
    """Flakes: normal noise (mean, deviation), enlarged, cut off below a threshold and smeared; the picture whitened."""
    mean, deviation, zoom, threshold, radius, sigma, kept = given
    flakes = _enlarged(rng.normal(mean, deviation, x.shape[:2])[..., None], zoom)[..., 0]
    flakes[flakes < threshold] = 0
    flakes = np.floor(np.clip(flakes, 0, 1) * 255) / 255
    flakes = _smear(flakes, int(radius), sigma, float(rng.uniform(-135, -45)))
    flakes = np.round(flakes * 255)[..., None] / 255
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    return kept * x + (1 - kept) * np.maximum(x, 1.5 * grey + 0.5) + flakes + np.rot90(flakes, 2)


def frost(x: Pixels, given: tuple[float, float, float], rng: Generator) -> Pixels:
    """A weighted sum of the picture and a part of a photograph of frost, shrunk to a share of its size."""
    import cv2

    own, ice, share = given
    texture: Any = _texture(FROSTS[int(rng.integers(len(FROSTS)))])
    height, width = x.shape[:2]
    share = max(share, (height + 1) / texture.shape[0], (width + 1) / texture.shape[1])
    texture = cv2.resize(texture, (0, 0), fx=share, fy=share)
    top, left = (int(rng.integers(t - s)) for t, s in zip(texture.shape, (height, width), strict=False))
    return own * x + ice * texture[top : top + height, left : left + width] / 255


def fog(x: Pixels, given: tuple[float, float], rng: Generator) -> Pixels:
    """A cloud of an amount in [0, 1] and upwards added; the brightest value stays what it was."""
    amount, decay = given
    side = 1 << (max(x.shape[:2]) - 1).bit_length()
    cloud = plasma(side, decay, rng)[: x.shape[0], : x.shape[1], None]
    brightest = x.max()
    return (x + amount * cloud) * brightest / (brightest + amount)


def brightness(x: Pixels, amount: float, rng: Generator) -> Pixels:
    """The value of HSV raised by `amount`, hue and saturation kept."""
    del rng
    value = x.max(-1, keepdims=True)
    raised = np.minimum(value + amount, 1)
    return np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised)


def contrast(x: Pixels, share: float, rng: Generator) -> Pixels:
    """`share` of each channel's deviation from its mean."""
    del rng
    means = x.mean((0, 1), keepdims=True)
    return (x - means) * share + means


def elastic_transform(x: Pixels, given: tuple[float, float, float], rng: Generator) -> Pixels:
    """An affine map that moves three points by up to `moved`, then a smooth displacement of every pixel.

    `given`: the displacement's size, its smoothness, and `moved`, each in sides of the picture.
    """
    import cv2

    height, width = x.shape[:2]
    size, smoothness, moved = (value * min(height, width) for value in given)
    centre, arm = np.array([width, height], dtype=np.float32) // 2, min(height, width) // 3
    before = np.stack([centre + arm, centre + np.array([arm, -arm]), centre - arm]).astype(np.float32)
    after = before + rng.uniform(-moved, moved, before.shape).astype(np.float32)
    affine = cv2.getAffineTransform(before, after)
    moved_over: Any = cv2.warpAffine(x, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    shift = [
        size * ndimage.gaussian_filter(rng.uniform(-1, 1, (height, width)), smoothness, mode="reflect", truncate=3)
        for _ in range(2)
    ]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    places = [rows + shift[1], columns + shift[0]]
    channels = [ndimage.map_coordinates(c, places, order=1, mode="reflect") for c in np.moveaxis(moved_over, -1, 0)]
    return np.stack(channels, axis=-1)


def speckle_noise(x: Pixels, sigma: float, rng: Generator) -> Pixels:
    """Additive, of deviation `sigma` times the value."""
    return x + x * rng.normal(0, sigma, x.shape)


def gaussian_blur(x: Pixels, sigma: float, rng: Generator) -> Pixels:
    """By `sigma` pixels."""
    del rng
    return _smooth(x, sigma)


def spatter(x: Pixels, given: tuple[float, float, float, float, float, bool], rng: Generator) -> Pixels:
    """Drops: smoothed normal noise (mean, deviation, smoothness) above a threshold, as water or as mud.

    `given` ends in the water's opacity, or the smoothness of the mud's edge, and whether it is mud.
    """
    import cv2

    mean, deviation, smoothness, threshold, last, mud = given
    noise = rng.normal(mean, deviation, x.shape[:2])
    liquid = ndimage.gaussian_filter(noise, smoothness, mode="nearest", truncate=4)
    liquid[liquid < threshold] = 0
    if mud:
        cover = ndimage.gaussian_filter((liquid > threshold).astype(float), last, mode="nearest", truncate=4)[..., None]
        cover[cover < 0.8] = 0
        return x * (1 - cover) + cover * np.array([63, 42, 20]) / 255
    drops: Any = (liquid * 255).astype(np.uint8)
    inside: Any = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    inside = cv2.equalizeHist(cv2.blur(np.minimum(inside, 20), (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(inside, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    shine = drops * cv2.blur(relief, (3, 3)).astype(np.float64)
    return x + last * (shine / (shine.max() or 1))[..., None] * np.array([175, 238, 238]) / 255


def saturate(x: Pixels, given: tuple[float, float], rng: Generator) -> Pixels:
    """HSV's saturation times the first number plus the second, hue and value kept; grey has the hue of red."""
    del rng
    value, least = x.max(-1, keepdims=True), x.min(-1, keepdims=True)
    spread = value - least
    away = np.where(spread > 0, (value - x) / np.where(spread > 0, spread, 1), np.array([0, 1, 1]))
    saturation = np.where(value > 0, spread / np.where(value > 0, value, 1), 0)
    return value * (1 - away * np.clip(saturation * given[0] + given[1], 0, 1))


KINDS: dict[str, Callable[[Pixels, Any, Generator], Pixels]] = {
    kind.__name__: kind
    for kind in (
        gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, frost, fog,
        brightness, contrast, elastic_transform, speckle_noise, gaussian_blur, spatter, saturate,
    )
}  # fmt: skip


def plasma(side: int, decay: float, rng: Generator) -> Pixels:
    """(side, side) in [0, 1]: a cloud by the diamond-square algorithm (Fournier et al. 1982) on a torus.

    Args:
        side: a power of two.
        decay: by how much the midpoints' displacement shrinks from one level to the next.
    """
    field = np.zeros((side, side))
    step, size = side, 100.0

    def displaced(total: Pixels) -> Pixels:
        return total / 4 + size * rng.uniform(-size, size, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        above = corners + np.roll(corners, -1, 0)
        field[half::step, half::step] = displaced(above + np.roll(above, -1, 1))
        centres = field[half::step, half::step]
        beside = corners + np.roll(corners, -1, 1) + centres + np.roll(centres, 1, 0)
        above = above + centres + np.roll(centres, 1, 1)
        field[::step, half::step] = displaced(beside)
        field[half::step, ::step] = displaced(above)
        step, size = half, size / decay
    field -= field.min()
    return field / field.max()


@cache
def _texture(name: str) -> NDArray[np.uint8]:
    with as_file(files("imagecorruptions") / "frost" / name) as path, Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def _smooth(x: Pixels, sigma: float) -> Pixels:
    return ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="nearest", truncate=4)


def _smear(x: Pixels, radius: int, sigma: float, angle: float) -> Pixels:
    """ImageMagick's motion blur: half a Gaussian of `sigma` pixels along a line at `angle` degrees, edges held."""
    height, width = x.shape[:2]
    along = np.arange(2 * radius + 1)
    weights = np.exp(-(along**2) / (2 * sigma**2))
    turned = np.deg2rad(angle)
    down, across = (np.ceil(along * part - 0.5).astype(int) for part in (np.sin(turned), np.cos(turned)))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    total = np.zeros_like(x)
    for weight, dy, dx in zip(weights / weights.sum(), down, across, strict=True):
        total += weight * x[(rows + dy).clip(0, height - 1), (columns + dx).clip(0, width - 1)]
    return total


def _enlarged(x: Pixels, factor: float) -> Pixels:
    """The middle of (h, w, c), enlarged to (h, w, c)."""
    height, width = x.shape[:2]
    cut = [int(np.ceil(side / factor)) for side in (height, width)]
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    large = ndimage.zoom(x[top : top + cut[0], left : left + cut[1]], (factor, factor, 1), order=1)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return large[top : top + height, left : left + width]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    held = io.BytesIO()
    image.save(held, "JPEG", quality=quality)
    with Image.open(held) as file:
        return file.convert("RGB")


def _pixelate(image: Image.Image, share: float) -> Image.Image:
    small = (max(1, int(image.width * share)), max(1, int(image.height * share)))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)
