"""ImageNet-C's 15 corruptions at severities 1-5 (Hendrycks & Dietterich, ICLR 2019, section 4), seeded per sample.

The corruptions themselves are the package imagecorruptions-imaug's, the maintained continuation of the authors'
code. It draws from NumPy's process-wide generator, and two corruptions from others; here every picture has its own
seed, and the caller's generator is left as it was.
"""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass

import numpy as np
from PIL import Image

from glom.errors import InputError, unknown

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")
BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
WEATHERS = ("snow", "frost", "fog", "brightness")
DIGITALS = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")
CORRUPTIONS = (*NOISES, *BLURS, *WEATHERS, *DIGITALS)
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32

# These take a seed of their own and, without one, ask the operating system for it.
_OWN_SEED = ("impulse_noise", "glass_blur")
# The process-wide generator can serve only one picture at a time.
_DRAWING = threading.Lock()


@dataclass(frozen=True)
class Corruption:
    """One of `CORRUPTIONS` at one of `SEVERITIES`. Raises `InputError` for any other."""

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            raise unknown("corruption", self.name, CORRUPTIONS)
        if isinstance(self.severity, bool) or self.severity not in SEVERITIES:
            raise InputError(f"unknown severity {self.severity} of {self.name}; valid: 1, 2, 3, 4, 5")

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}"


def parse_corruption(text: str) -> Corruption:
    """NAME:SEVERITY -> `Corruption`.

    Raises:
        InputError: an unknown name (with the nearest valid ones), no severity, or one outside 1-5.

    Example:
        >>> parse_corruption("gaussian_noise:3")
        Corruption(name='gaussian_noise', severity=3)
    """
    name, colon, severity = (part.strip() for part in text.partition(":"))
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS, "write NAME:SEVERITY, such as fog:3")
    if not colon or not severity:
        raise InputError(f"corruption '{name}' has no severity; write {name}:1 to {name}:5")
    if not (severity.isascii() and severity.isdigit()) or int(severity) not in SEVERITIES:
        raise InputError(f"unknown severity '{severity}' of {name}; valid: 1, 2, 3, 4, 5")
    return Corruption(name, int(severity))


def corrupt(image: Image.Image, corruption: Corruption, seed: int) -> Image.Image:
    """The corrupted twin of a picture: a function of the picture, the corruption and the seed alone.

    The same seed draws the same noise at every severity, so severities differ in strength and not in luck.

    Args:
        image: at least 32 pixels each way, any mode (read as RGB).
        seed: any integer; a run uses `glom.seeds.sample_seed(run_seed, sample.id, "corruption")`.

    Returns:
        An RGB picture of the same size.

    Raises:
        InputError: a smaller picture.
    """
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise InputError(
            f"corruption '{corruption.name}' is defined from {SMALLEST}x{SMALLEST} pixels on, the picture has "
            f"{width}x{height}; enlarge it first"
        )
    # The package takes seconds to import, and most runs corrupt nothing.
    from imagecorruptions import corrupt as apply

    words = [int(word) for word in np.random.SeedSequence(seed % 2**64).generate_state(5)]
    own = {"seed": words[4] >> 1} if corruption.name in _OWN_SEED else {}
    pixels = np.asarray(image.convert("RGB"))
    with _DRAWING:
        state = np.random.get_state()
        try:
            np.random.seed(words[:4])
            # It prints remarks on some picture sizes; standard output belongs to results.
            with contextlib.redirect_stdout(io.StringIO()):
                result = apply(pixels, severity=corruption.severity, corruption_name=corruption.name, **own)
        finally:
            np.random.set_state(state)
    return Image.fromarray(result)
