"""AugMix views (Hendrycks et al. 2020, "AugMix", section 3), as MEMO's release draws them.

    view = m x + (1 - m) sum_k w_k chain_k(x),   x a random crop, w ~ Dirichlet(1, 1, 1), m ~ Beta(1, 1)

Each of the three chains is one to three operations drawn anew, at the release's severity 1 of 10.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from glom.runs.seeds import fixed_seed

CHAINS = 3
GREY = 128  # what moves into the picture, in its first channel: Pillow's reading of the release's plain number

Operation = Callable[[Image.Image, np.random.Generator, int], Image.Image]


def augmix(
    picture: Image.Image,
    read: Callable[[Image.Image], Tensor],
    crop: str,
    side: int,
    random: np.random.Generator,
    fill: int = GREY,
) -> Tensor:
    """One view of a picture.

    Args:
        read: a picture -> (3, S, S); the mixture is made of what it returns, as in the release.
        crop: "padded": a crop of the picture's own size after zeros an eighth of its side wide (4 of 32 pixels);
            "resized": torchvision's random resized crop of at least 0.08 of the area. Half of either are flipped.
        side: of the resized crop, in pixels.
        fill: what moves into the picture; 0, black, in TPT's and TDA's releases.

    Returns:
        (3, S, S).
    """
    x = _crop(picture.convert("RGB"), crop, side, random)
    weights = random.dirichlet([1.0] * CHAINS)
    plain = float(random.beta(1.0, 1.0))
    mixed = plain * read(x)
    for weight in weights:
        changed = x
        for _ in range(int(random.integers(1, 4))):
            changed = OPERATIONS[int(random.integers(len(OPERATIONS)))](changed, random, fill)
        mixed = mixed + (1 - plain) * float(weight) * read(changed)
    return mixed


def _crop(picture: Image.Image, crop: str, side: int, random: np.random.Generator) -> Image.Image:
    w, h = picture.size
    if crop == "padded":
        edge = max(1, min(w, h) // 8)
        padded = ImageOps.expand(picture, edge)
        x, y = (int(n) for n in random.integers(0, 2 * edge + 1, size=2))
        found = padded.crop((x, y, x + w, y + h))
    else:
        with fixed_seed(int(random.integers(2**31))):
            top, left, height, width = RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        found = TF.resized_crop(picture, top, left, height, width, [side, side])
    return ImageOps.mirror(found) if random.random() < 0.5 else found


# -- operations; `level` is drawn from [0.1, 1) where 10 is the strongest ----------------------------------------------


def autocontrast(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """The darkest value to 0, the brightest to 255, channel by channel."""
    return ImageOps.autocontrast(x)


def equalize(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """Flat histograms."""
    return ImageOps.equalize(x)


def posterize(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """Four bits a channel less a tenth of four times the level: four, at this severity."""
    return ImageOps.posterize(x, 4 - int(_level(random) * 4 / 10))


def solarize(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """Values above a threshold inverted: the brightest 2 to 25 of 256."""
    return ImageOps.solarize(x, 256 - int(_level(random) * 256 / 10))


def rotate(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """By up to two whole degrees either way."""
    return x.rotate(_sign(int(_level(random) * 30 / 10), random), Image.Resampling.BILINEAR, fillcolor=fill)


def shear_x(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """By up to 0.03 either way."""
    return _affine(x, (1, _sign(_level(random) * 0.3 / 10, random), 0, 0, 1, 0), fill)


def shear_y(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """By up to 0.03 either way."""
    return _affine(x, (1, 0, 0, _sign(_level(random) * 0.3 / 10, random), 1, 0), fill)


def translate_x(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """By up to a thirtieth of the width, in whole pixels."""
    return _affine(x, (1, 0, _sign(int(_level(random) * x.width / 30), random), 0, 1, 0), fill)


def translate_y(x: Image.Image, random: np.random.Generator, fill: int = GREY) -> Image.Image:
    """By up to a thirtieth of the height, in whole pixels."""
    return _affine(x, (1, 0, 0, 0, 1, _sign(int(_level(random) * x.height / 30), random)), fill)


OPERATIONS: tuple[Operation, ...] = (
    autocontrast,
    equalize,
    rotate,
    solarize,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    posterize,
)


def _level(random: np.random.Generator) -> float:
    return float(random.uniform(0.1, 1.0))


def _sign(value: float, random: np.random.Generator) -> float:
    return -value if random.uniform() > 0.5 else value


def _affine(x: Image.Image, matrix: tuple[float, ...], fill: int) -> Image.Image:
    return x.transform(x.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill)
