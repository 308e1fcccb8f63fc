"""What the commands that ask a percept share: pictures, the machine that is asked, sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from experiments.fields.settings import FITS
from glom.apm import AsynchronousPerceptionMachine
from glom.errors import InputError, unknown

Array = NDArray[np.float32]


def check_fit(fit: str) -> str:
    """`fit` itself. Raises `InputError` for none of `FITS`."""
    if fit not in FITS:
        raise unknown("--fit", fit, FITS)
    return fit


def fitted(image: Image.Image, fit: str) -> Image.Image:
    """What is laid onto the square: all of the picture ("squeeze"), or the largest square in its middle ("crop")."""
    if check_fit(fit) == "squeeze":
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def area(image: Image.Image, height: int, width: int) -> Array:
    """The picture resized by area means: (height, width, 3) float32 in [0, 1]."""
    small = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
    return (np.asarray(small, dtype=np.float32) / 255).astype(np.float32)


def machine_from(checkpoint: str, device: torch.device) -> tuple[AsynchronousPerceptionMachine, dict[str, Any]]:
    """A pre-trained machine with a colour head, and what is known about it. Raises `InputError`."""
    from glom.checkpoints import load_apm

    apm, meta = load_apm(checkpoint, device)
    if apm.rgb_head is None:
        raise InputError(f"{checkpoint} has no colour head: it cannot be decoded; train one with colours")
    return apm.requires_grad_(False), meta


def digest(paths: Sequence[str]) -> str:
    """sha256 over the contents of some files: what a run over them must match. Raises `InputError` for a lost one."""
    total = hashlib.sha256()
    for path in paths:
        try:
            total.update(hashlib.sha256(Path(path).read_bytes()).digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return total.hexdigest()


def every(iterations: int, frames: int) -> Iterator[int]:
    """Which iterations are looked at: 0, the last, and about `frames` spread between, denser at the start."""
    marks = {round(iterations * (i / max(frames - 1, 1)) ** 2) for i in range(frames)}
    yield from sorted(marks | {0, iterations})
