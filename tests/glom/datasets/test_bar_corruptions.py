"""ImageNet-C-bar: the release's numbers where a few numbers are drawn, known statistics where noise is."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glom.datasets.bar_corruptions import KINDS, LEVELS
from glom.datasets.corruptions import BAR, KNOWN, Corruption, corrupt, parse_corruption
from glom.errors import InputError
from tests.conftest import make_image

GREY = np.full((64, 64, 3), 128.0)


class Given:
    """Draws that were written down, in their order."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)

    def _next(self, *_: Any) -> Any:
        return self.values.pop(0)

    uniform = integers = permutation = _next


# What the release makes of the picture below with these draws, at its third level: the mean value.
RELEASED = {
    "single_frequency_greyscale": ((2.0, 0.5, [1, 0], 1.0), 127.7585),
    "cocentric_sine_waves": ((np.array([10.0, 20.0]), 3.0, 2.0, 1.5), 127.1331),
    "plasma_noise": ((5.0, 5, 0.7, 0.1), 105.1488),
    "caustic_refraction": ((1.2, 0.9), 128.4232),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_same_draws_give_the_releases_pixels(name: str) -> None:
    x = np.random.default_rng(5).integers(0, 256, (32, 32, 3)).astype(float)
    given, mean = RELEASED[name]
    found = np.clip(KINDS[name](x, LEVELS[name][2], Given(*given)), 0, 255).astype(np.uint8)
    assert found.mean() == pytest.approx(mean, abs=1e-3)


def test_noises_have_their_strengths() -> None:
    rng = np.random.default_rng(0)
    for level in LEVELS["brownish_noise"]:
        assert KINDS["brownish_noise"](GREY, level, rng).std((0, 1)) == pytest.approx(6.4 * level)
    for level in LEVELS["blue_noise_sample"]:
        black = (KINDS["blue_noise_sample"](GREY, level, rng) == 0).mean()
        assert black == pytest.approx(NormalDist().cdf(0.3 * level - 2.5), abs=0.02)
    for level in LEVELS["checkerboard_cutout"]:
        hidden = np.mean([(KINDS["checkerboard_cutout"](0 * GREY, level, rng) == 128).mean() for _ in range(200)])
        assert hidden == pytest.approx(0.05 * level, abs=0.04)  # of half of the squares
    share = 0.05 * LEVELS["perlin_noise"][2]
    grey = KINDS["perlin_noise"](GREY, LEVELS["perlin_noise"][2], rng)
    assert grey.min() >= (1 - share) * 128 + 255 * share * 0.5 and grey.std() > 1
    assert (KINDS["sparkles"](GREY, 3.0, rng) >= GREY).all()
    inverse = KINDS["inverse_sparkles"](GREY, 10.0, rng)
    assert inverse.min() < 140 and inverse.max() > 230  # the picture in the middle of the star, white around it


@pytest.mark.parametrize("name", BAR)
def test_they_are_corruptions_as_the_others_are(name: str) -> None:
    assert name in KNOWN and set(BAR) == set(KINDS) == set(LEVELS)
    image = make_image(3, (48, 37))
    weak, strong = (parse_corruption(f"{name}:{severity}") for severity in (1, 5))
    assert weak.scale_for((32, 32)) == "imagenet-c"
    first = corrupt(image, strong, 1)
    assert (first.mode, first.size) == ("RGB", image.size)
    assert first.tobytes() == corrupt(image, strong, 1).tobytes() != corrupt(image, strong, 2).tobytes()

    def moved(kind: Corruption) -> float:
        pairs = [(np.asarray(corrupt(image, kind, seed), float), np.asarray(image, float)) for seed in range(6)]
        return float(np.mean([np.abs(a - b).mean() for a, b in pairs]))

    assert moved(strong) > moved(weak) > 0
    with pytest.raises(InputError, match=f"{name} has no strengths of cifar10-c; write {name}:2"):
        parse_corruption(f"{name}:2@cifar10-c")
    with pytest.raises(InputError, match="from 32x32 pixels on"):
        corrupt(Image.new("RGB", (31, 40)), weak, 0)
