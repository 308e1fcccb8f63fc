"""The benchmark's 15 corruptions at severities 1-5 (Hendrycks & Dietterich, ICLR 2019, section 4), seeded per sample.

Its four extra ones, published to choose by and no part of its score (section 4.1), are there too, and the ten of
ImageNet-C-bar (Mintun et al. 2021), which have one set of strengths (`glom.datasets.bar_corruptions`).

The authors published them for three sizes, with other strengths for each: ImageNet-C at 224 pixels, Tiny ImageNet-C at
64, CIFAR-10-C at 32. A picture is given the strengths of the size that is nearest to its own (`scale_of`) unless one is
named. ImageNet-C's are the package imagecorruptions-imaug's, the maintained continuation of the authors' code; it draws
from NumPy's process-wide generator, and two corruptions from others. Here every picture has its own seed, and the
caller's generator is left as it was. The other two are `glom.datasets.small_corruptions`.
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
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
BAR = (
    "blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves",
    "inverse_sparkles", "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles",
)  # fmt: skip
KNOWN = (*CORRUPTIONS, *EXTRA, *BAR)
SEVERITIES = (1, 2, 3, 4, 5)
SCALES = {"cifar10-c": 32, "tiny-imagenet-c": 64, "imagenet-c": 224}  # the size they were published for, in pixels
LARGEST = {"cifar10-c": 45, "tiny-imagenet-c": 119}  # sides at which the next size is as near, by ratio
SMALLEST = {"cifar10-c": 16, "tiny-imagenet-c": 16, "imagenet-c": 32}
AUTO = "auto"

# These take a seed of their own and, without one, ask the operating system for it.
_OWN_SEED = ("impulse_noise", "glass_blur")
# The process-wide generator can serve only one picture at a time.
_DRAWING = threading.Lock()


@dataclass(frozen=True)
class Corruption:
    """One of `KNOWN` at one of `SEVERITIES`, with one of `SCALES`' strengths or the picture's size's.

    Raises `InputError` for any other.
    """

    name: str
    severity: int
    scale: str = AUTO

    def __post_init__(self) -> None:
        if self.name not in KNOWN:
            raise unknown("corruption", self.name, KNOWN)
        if isinstance(self.severity, bool) or self.severity not in SEVERITIES:
            raise InputError(f"unknown severity {self.severity} of {self.name}; valid: 1, 2, 3, 4, 5")
        if self.scale not in (AUTO, *SCALES):
            raise unknown("scale of corruptions", self.scale, SCALES, f"write {self.name}:{self.severity}@SCALE")
        if self.name in BAR and self.scale not in (AUTO, "imagenet-c"):
            raise InputError(f"{self.name} has no strengths of {self.scale}; write {self.name}:{self.severity}")

    def __str__(self) -> str:
        return f"{self.name}:{self.severity}" + ("" if self.scale == AUTO else f"@{self.scale}")

    def scale_for(self, size: tuple[int, int]) -> str:
        """The scale that a picture of (width, height) is corrupted at: the one that was named, or `scale_of` it.

        One of `BAR` has ImageNet-C's alone.
        """
        return self.scale if self.scale != AUTO else "imagenet-c" if self.name in BAR else scale_of(size)


def scale_of(size: tuple[int, int]) -> str:
    """The published set whose pictures are nearest in size to one of (width, height), by its shorter side's ratio.

    Example:
        >>> [scale_of((side, side)) for side in (32, 64, 224)]
        ['cifar10-c', 'tiny-imagenet-c', 'imagenet-c']
    """
    return next((scale for scale, most in LARGEST.items() if min(size) <= most), "imagenet-c")


def parse_corruption(text: str) -> Corruption:
    """NAME:SEVERITY or NAME:SEVERITY@SCALE -> `Corruption`.

    Raises:
        InputError: an unknown name (with the nearest valid ones), no severity, one outside 1-5, or an unknown scale.

    Example:
        >>> parse_corruption("gaussian_noise:3")
        Corruption(name='gaussian_noise', severity=3, scale='auto')
        >>> str(parse_corruption("fog:5@imagenet-c"))
        'fog:5@imagenet-c'
    """
    said, at, scale = (part.strip() for part in text.partition("@"))
    name, colon, severity = (part.strip() for part in said.partition(":"))
    if name not in KNOWN:
        raise unknown("corruption", name, KNOWN, "write NAME:SEVERITY, such as fog:3")
    if not colon or not severity:
        raise InputError(f"corruption '{name}' has no severity; write {name}:1 to {name}:5")
    if not (severity.isascii() and severity.isdigit()) or int(severity) not in SEVERITIES:
        raise InputError(f"unknown severity '{severity}' of {name}; valid: 1, 2, 3, 4, 5")
    if at and scale not in SCALES:
        raise unknown("scale of corruptions", scale, SCALES, f"write {name}:{severity}@SCALE")
    return Corruption(name, int(severity), scale or AUTO)


def corrupt(image: Image.Image, corruption: Corruption, seed: int) -> Image.Image:
    """The corrupted twin of a picture: a function of the picture, the corruption and the seed alone.

    The same seed draws the same noise at every severity, so severities differ in strength and not in luck. What a
    teacher is shown of a corrupted picture is `glom.teachers.corrupted`'s matter.

    Args:
        image: at least `SMALLEST` pixels each way, any mode (read as RGB).
        seed: any integer; a run uses `glom.runs.seeds.sample_seed(run_seed, sample.id, "corruption")`.

    Returns:
        An RGB picture of the same size.

    Raises:
        InputError: a smaller picture.
    """
    width, height = image.size
    scale = corruption.scale_for(image.size)
    if min(width, height) < SMALLEST[scale]:
        raise InputError(
            f"corruption '{corruption.name}' of {scale} is defined from {SMALLEST[scale]}x{SMALLEST[scale]} pixels on, "
            f"the picture has {width}x{height}; enlarge it first"
        )
    words = [int(word) for word in np.random.SeedSequence(seed % 2**64).generate_state(5)]
    picture = image.convert("RGB")
    if corruption.name in BAR:
        from glom.datasets.bar_corruptions import corrupt_bar

        return corrupt_bar(picture, corruption.name, corruption.severity, np.random.default_rng(words))
    if scale != "imagenet-c":
        from glom.datasets.small_corruptions import corrupt_small

        return corrupt_small(picture, corruption.name, corruption.severity, scale, np.random.default_rng(words))
    # The package takes seconds to import, and most runs corrupt nothing.
    from imagecorruptions import corrupt as apply

    own = {"seed": words[4] >> 1} if corruption.name in _OWN_SEED else {}
    with _DRAWING:
        state = np.random.get_state()
        try:
            np.random.seed(words[:4])
            # It prints remarks on some picture sizes; standard output belongs to results.
            with contextlib.redirect_stdout(io.StringIO()):
                result = apply(
                    np.asarray(picture), severity=corruption.severity, corruption_name=corruption.name, **own
                )
        finally:
            np.random.set_state(state)
    return Image.fromarray(result)
