"""What a teacher sees of a picture: its crop, as a picture again."""

from __future__ import annotations

import numpy as np
from PIL import Image

from glom.teachers.base import Teacher


def seen(teacher: Teacher, image: Image.Image) -> Image.Image:
    """The square the teacher's preprocessing leaves of `image`, as an RGB picture of its input size.

    Most teachers crop. A feature grid lies over the crop, so whoever asks for features at a place of the picture must
    fold the crop and not the whole. Preprocessing is a crop and then an affine map of each channel's values; what it
    makes of black and of white gives the map, whichever library made it.
    """
    black, white = (teacher.preprocess(Image.new("RGB", (8, 8), value)) for value in ((0, 0, 0), (255, 255, 255)))
    values = (teacher.preprocess(image) - black) / (white - black)
    pixels = (values.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(pixels)
