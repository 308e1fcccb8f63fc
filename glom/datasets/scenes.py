"""Tetrominoes and Multi-dSprites, made from a seed: small scenes of objects on a plain ground, with instance masks.

Both follow what is published of the sets of that name (Kabra et al. 2019, `deepmind/multi_object_datasets`):

    Tetrominoes      35x35, always three pieces of four blocks of 5x5 pixels at any pixel, never overlapping, on black;
                     each of one of six colours, whatever the others have
    Multi-dSprites   64x64, "coloured on greyscale": two to five of dSprites' squares, ellipses and hearts, of any hue,
                     saturation and value, six sizes and forty orientations, the later over the earlier, on one grey

They are not those files. What is not published is set here: all 19 orientations of the seven pieces are drawn (the
published set has 17 and does not say which), the light on a block is read off the published figure, and the sizes of
sprites in pixels are read off it too. A picture is a function of (set, split, seed, number): nothing is stored, and no
two splits share a picture's seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glom.datasets.textures import uniforms
from glom.errors import InputError, unknown

SPLITS = ("train", "val", "test")
# Streams of numbers, see `uniforms`; attempts at placing pieces go on from the last.
KIND, COLOUR, GROUND, TURN, PLACE = range(5)
Numbers = NDArray[np.int64]
Values = NDArray[np.float32]
Masks = NDArray[np.int64]

BLOCK = 5  # pixels
LIGHT = np.array(
    [
        [0.75, 0.98, 0.98, 0.98, 0.88],
        [0.50, 0.62, 0.62, 0.62, 0.74],
        [0.50, 0.62, 0.62, 0.62, 0.74],
        [0.50, 0.60, 0.60, 0.60, 0.72],
        [0.38, 0.26, 0.26, 0.26, 0.50],
    ],
    np.float32,
)
RGB = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32)
# The seven pieces as rows of blocks; their rotations are the 19 shapes.
PIECES = ("1111", "11/11", "111/010", "110/011", "011/110", "111/100", "111/001")


@dataclass(frozen=True)
class SceneBatch:
    """Pictures and what is in them.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1].
        masks: (B, S, S) int64: 0 the ground, 1, 2, ... the objects where they are seen.
        counts: (B,) int64, objects in each picture, those that others cover among them.
    """

    images: Tensor
    masks: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Scenes(ABC):
    """As many pictures as there are numbers; no state, no order.

    Attributes:
        split: "train", "val" or "test". seed: of everything.

    Raises:
        InputError: an unknown split.
    """

    name: ClassVar[str]
    size: ClassVar[int]
    most: ClassVar[int]  # objects

    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise unknown(f"split of {self.name}", self.split, SPLITS)

    @property
    def settings(self) -> str:
        """All that decides a picture, but for its number."""
        return f"{self.name} {self.split} {self.seed}"

    def batch(self, indices: Sequence[int]) -> SceneBatch:
        """The pictures of these numbers. Raises `InputError` where there are none, or one is below 0."""
        index = np.asarray(list(indices), np.int64)
        if not index.size or index.min() < 0:
            raise InputError("pictures are numbered from 0; give at least one number")
        pixels, *others = (torch.from_numpy(made) for made in self._draw(index))
        return SceneBatch(pixels.permute(0, 3, 1, 2), *others)

    def _numbers(self, stream: int, index: Numbers, *shape: int) -> NDArray[np.float64]:
        own = self.seed * len(SPLITS) + SPLITS.index(self.split)
        return uniforms(own, stream, index, int(np.prod(shape))).reshape(len(index), *shape)

    @abstractmethod
    def _draw(self, index: Numbers) -> tuple[Values, Masks, Numbers]:
        """(B, S, S, 3), (B, S, S) and (B,)."""


@dataclass(frozen=True)
class Tetrominoes(Scenes):
    """See the module's text."""

    name: ClassVar[str] = "tetrominoes"
    size: ClassVar[int] = 35
    most: ClassVar[int] = 3

    def _draw(self, index: Numbers) -> tuple[Values, Masks, Numbers]:
        kinds = (self._numbers(KIND, index, 3) * len(SHAPES)).astype(int)
        colours = RGB[(self._numbers(COLOUR, index, 3) * len(RGB)).astype(int)]
        places = np.zeros((len(index), 3, 2), int)
        left, attempt = np.arange(len(index)), 0
        while left.size:  # whole arrangements are drawn until one fits: all that fit are equally likely
            free = self.size + 1 - np.array([shape.shape for shape in SHAPES])[kinds[left]]
            places[left] = self._numbers(PLACE + attempt, index[left], 3, 2) * free
            left, attempt = left[_overlap(places[left, :, None] + BLOCKS[kinds[left]])], attempt + 1
        images = np.zeros((len(index), self.size, self.size, 3), np.float32)
        masks = np.zeros((len(index), self.size, self.size), np.int64)
        for row, n in np.ndindex(len(index), 3):
            shape, (y, x) = SHAPES[kinds[row, n]], places[row, n]
            area = row, slice(y, y + shape.shape[0]), slice(x, x + shape.shape[1])
            images[area] += shape[..., None] * colours[row, n]
            masks[area] += (n + 1) * (shape > 0)
        return images, masks, np.full(len(index), 3)


@dataclass(frozen=True)
class MultiDSprites(Scenes):
    """See the module's text."""

    name: ClassVar[str] = "multi-dsprites"
    size: ClassVar[int] = 64
    most: ClassVar[int] = 5

    def _draw(self, index: Numbers) -> tuple[Values, Masks, Numbers]:
        drawn = self._numbers(KIND, index, self.most + 1)
        counts, kinds = 2 + (drawn[:, -1] * (self.most - 1)).astype(int), (drawn[:, :-1] * len(SPRITES)).astype(int)
        colours, grey = _rgb(self._numbers(COLOUR, index, self.most, 3)), self._numbers(GROUND, index, 1)
        turns = self._numbers(TURN, index, self.most, 2)
        scale, angle = 0.5 + np.floor(turns[..., 0] * 6) / 10, np.floor(turns[..., 1] * 40) * (2 * np.pi / 40)
        reach = REACH * scale[..., None]
        centre = reach + self._numbers(PLACE, index, self.most, 2) * (self.size - 2 * reach)
        images = np.tile(grey[:, :, None, None], (1, self.size, self.size, 3)).astype(np.float32)
        masks = np.zeros((len(index), self.size, self.size), np.int64)
        middle = np.arange(self.size) + 0.5
        for row, n in np.ndindex(kinds.shape):
            if n < counts[row]:
                across, down = ((middle - c) / scale[row, n] for c in centre[row, n])
                cos, sin = np.cos(angle[row, n]), np.sin(angle[row, n])
                x, y = cos * across[None] + sin * down[:, None], cos * down[:, None] - sin * across[None]
                inside = SPRITES[kinds[row, n]](x, y)
                masks[row][inside], images[row][inside] = n + 1, colours[row, n]
        return images, masks, counts


SCENES: dict[str, type[Scenes]] = {kind.name: kind for kind in (Tetrominoes, MultiDSprites)}


def open_scenes(spec: str, split: str, seed: int = 0) -> tuple[Scenes, int]:
    """`tetrominoes[:N]` or `multi-dsprites[:N]` -> the set, and N, or 0 where none is given.

    Raises:
        InputError: another name, an N that is no number above 0, or an unknown split.
    """
    name, colon, count = spec.partition(":")
    if name not in SCENES:
        raise unknown("made set", name, SCENES)
    if colon and not (count.isdecimal() and int(count)):
        raise InputError(f"{name}:N takes a number of pictures, got '{count}'")
    return SCENES[name](split, seed), int(count or 0)


def _overlap(blocks: Numbers) -> NDArray[np.bool_]:
    """(B, 3, 4, 2), the corners of three pieces' blocks -> (B,) whether two pieces share a pixel."""
    pairs = [abs(blocks[:, i, :, None] - blocks[:, j, None]).max(-1) for i, j in ((0, 1), (0, 2), (1, 2))]
    close: NDArray[np.bool_] = np.any(np.stack(pairs) < BLOCK, axis=(0, 2, 3))
    return close


def _shapes() -> Iterator[Values]:
    """Every orientation of every piece once, lit: (h, w), 0 where there is no block."""
    known = set()
    for piece in PIECES:
        blocks = np.array([[int(c) for c in row] for row in piece.split("/")])
        for turn in range(4):
            turned = np.rot90(blocks, turn)
            key = (turned.shape, turned.tobytes())
            if key not in known:
                known.add(key)
                yield np.kron(turned, LIGHT).astype(np.float32)


SHAPES = tuple(_shapes())
BLOCKS = np.stack([np.argwhere(shape[::BLOCK, ::BLOCK]) * BLOCK for shape in SHAPES])  # (19, 4, 2)


REACH = 11.0  # pixels from a sprite's centre to its farthest point, at scale 1
Plane = NDArray[np.float64]


def _heart(x: Plane, y: Plane) -> NDArray[np.bool_]:
    u, v = (x / 8) ** 2, -y / 8
    round_ = u + v * v - 1
    return round_ * round_ * round_ <= u * v * v * v


SPRITES: tuple[Callable[[Plane, Plane], NDArray[np.bool_]], ...] = (
    lambda x, y: np.maximum(abs(x), abs(y)) <= 7.75,
    lambda x, y: (x / REACH) ** 2 + (y / 6.5) ** 2 <= 1,
    _heart,
)


def _rgb(hsv: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 3) hue, saturation, value in [0, 1] -> red, green, blue."""
    h, s, v = np.moveaxis(hsv, -1, 0)
    sector = (np.array([5, 3, 1]) + h[..., None] * 6) % 6
    return v[..., None] * (1 - s[..., None] * np.clip(np.minimum(sector, 4 - sector), 0, 1))
