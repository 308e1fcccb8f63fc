"""Photographs that may be shown: they ship with scikit-image, which the toolkit stands on."""

from __future__ import annotations

from PIL import Image

SAID = (
    "Chelsea the cat (Stefan van der Walt, CC0), coffee (Rachel Michetti, CC0) and the astronaut Eileen Collins (NASA, "
    "public domain) ship with scikit-image."
)
NAMES = ("chelsea", "coffee", "astronaut")


def photographs() -> list[tuple[str, Image.Image]]:
    """Their names and the pictures, RGB."""
    from skimage import data

    return [(name, Image.fromarray(getattr(data, name)())) for name in NAMES]
