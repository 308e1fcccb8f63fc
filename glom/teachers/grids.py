"""The teacher's side of pre-training: its grid at any picture size, and what it saw as pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glom.errors import InputError
from glom.runs.seeds import sample_seed
from glom.teachers.base import Teacher
from glom.teachers.registry import load_teacher

Look = tuple[torch.Tensor, NDArray[np.uint8]]
"""(3, S, S) as the teacher reads it, and (size, size, 3)."""

SHIFT = 8  # a view is shifted by at most an eighth of the picture's side


def grid_teacher(name: str, size: int = 0, device: str = "auto", precision: str = "fp32") -> Teacher:
    """A teacher with a grid, reading pictures of `size` px a side (0: its own size).

    At another size than its own the whole picture is squeezed onto the square, and position codes are interpolated by
    the architecture itself (`Teacher.resized`); transformers' models and convolutional networks can, others say that
    they cannot.

    Raises:
        InputError: no such teacher, one without a grid, a size its architecture cannot read.
    """
    teacher = load_teacher(name, device, precision)
    if not teacher.has_grid:
        raise InputError(f"{name} has no feature grid to learn from; choose another `teacher`")
    if size < 0:
        raise InputError(f"`size` must be at least 1 px, got {size}")
    return teacher.resized(size or teacher.image_size)


def grid_shape(teacher: Teacher) -> tuple[int, int, int]:
    """(h, w, F) of a teacher's grid."""
    h, w, f = teacher.grid(teacher.preprocess(Image.new("RGB", (64, 64)))[None].to(teacher.device)).shape[1:]
    return h, w, f


def view_of(image: Image.Image, view: int, seed: int, sample_id: str) -> Image.Image:
    """View 0 is the picture; any other is flipped or not and shifted, as `seed`, the sample and the view decide.

    Shifts are whole pixels up to an eighth of the side, the border reflected: what glom-tiny itself was trained on.
    """
    if view == 0:
        return image
    rng = np.random.default_rng(sample_seed(seed, sample_id, f"view {view}"))
    pixels = np.asarray(image.convert("RGB"))
    h, w = pixels.shape[:2]
    if rng.integers(2):
        pixels = pixels[:, ::-1]
    reach_y, reach_x = h // SHIFT, w // SHIFT
    dy, dx = int(rng.integers(2 * reach_y + 1)), int(rng.integers(2 * reach_x + 1))
    padded = np.pad(pixels, ((reach_y, reach_y), (reach_x, reach_x), (0, 0)), mode="reflect")
    return Image.fromarray(np.ascontiguousarray(padded[dy : dy + h, dx : dx + w]))


class Encoder:
    """Pictures -> the teacher's grids and what it saw, as the APM folds it."""

    def __init__(self, teacher: Teacher, size: int) -> None:
        """`size`: side of the APM's picture, in pixels."""
        self.teacher, self.size = teacher, size
        # Preprocessing is a crop, then an affine map a channel: black and white give the map.
        self._black, self._white = (teacher.preprocess(Image.new("RGB", (8, 8), c)) for c in ((0,) * 3, (255,) * 3))

    def __call__(self, images: Sequence[Image.Image]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """n pictures -> (n, h, w, F) float32 and (n, size, size, 3) uint8."""
        return self.encode([self.look(image) for image in images])

    def look(self, image: Image.Image) -> Look:
        """What the teacher reads of a picture, and that as pixels."""
        view = self.teacher.preprocess(image)
        pixels = (view - self._black) / (self._white - self._black)
        frame = (pixels.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        if len(frame) != self.size:
            square = (self.size, self.size)
            frame = np.asarray(Image.fromarray(frame).resize(square, Image.Resampling.BILINEAR))
        return view, frame

    def encode(self, looks: Sequence[Look]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """n of `look` -> as a call."""
        # Convolutions are faster on channels that lie together; everything else is as fast.
        batch = torch.stack([view for view, _ in looks]).to(self.teacher.device, memory_format=torch.channels_last)
        return self.teacher.grid(batch).cpu().numpy(), np.stack([frame for _, frame in looks])
