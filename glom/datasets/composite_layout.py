"""Where everything in a composite lies and what it is: settings, and numbers drawn for each picture by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glom.datasets.composite_sources import SOURCES
from glom.datasets.textures import uniforms
from glom.errors import InputError, unknown

MEMBERS = 3  # at most, on one plate
MEMBER = (
    0.52  # half side of an object on a plate, and how far from the plate's centre it lies; of the plate's half side
)
CANDIDATES = 8  # places tried for an object before the one farthest from the others is taken
APART = 0.85  # distance of two objects' centres that is enough, in units of their half sides' sum
INSIDE = 0.7  # of an object's half side that keeps within the picture
# Streams of numbers, see `textures.uniforms`.
CLASS, PICTURE, PLACE, SIZE, COUNT, TEXTURE, PALETTE, CLOUD, FLIP, PLATE, PHASE, WEAVE = range(12)


@dataclass(frozen=True)
class CompositeSettings:
    """What decides every composite.

    Attributes:
        source: "fashion-mnist", "mnist" or "cifar10".
        size: S, side of a picture in pixels.
        objects: (least, most) wholes a picture.
        scale: (least, most) side of a whole, as a share of S.
        texture: strength of the textures at difficulty 1, in [0, 1]; 1 leaves no difference in mean colour.
        colour: strength of the clouds of colour, in [0, 1].
        fabrics: every class wears a weave of its own (`textures.class_weaves`) and the ground one that no class wears,
            in the same colours. Without it only the outline and the contrasts within tell a class. Photographs have
            textures of their own and keep them.
        grouped: a whole is a plate with two or three objects on it, each with a texture of its own.
        distinct: the objects of one picture are of different classes, as far as there are enough.
        classes: (name, labels of the source) each; () for the source's own. Labels in none of them are not used.
        seed: of everything.

    Raises:
        InputError: an unknown source, or numbers out of range.
    """

    source: str = "fashion-mnist"
    size: int = 48
    objects: tuple[int, int] = (1, 3)
    scale: tuple[float, float] = (0.42, 0.6)
    texture: float = 0.4
    colour: float = 0.8
    fabrics: bool = False
    grouped: bool = False
    distinct: bool = True
    classes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise unknown("source of composites", self.source, SOURCES)
        if self.size < 16:
            raise InputError(f"composites need a side of at least 16 pixels, got {self.size}")
        if not 1 <= self.objects[0] <= self.objects[1] <= 6:
            raise InputError(f"objects a picture: least and most, between 1 and 6, got {self.objects}")
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 1:
            raise InputError(f"scale: least and most, between 0.1 and 1, got {self.scale}")
        if not (0 <= self.texture <= 1 and 0 <= self.colour <= 1):
            raise InputError(f"texture and colour lie between 0 and 1, got {self.texture} and {self.colour}")
        used = [label for _, labels in self.classes for label in labels]
        if len(set(used)) != len(used) or any(not 0 <= x < len(SOURCES[self.source]) for x in used):
            raise InputError(f"classes must share out labels 0 to {len(SOURCES[self.source]) - 1}, each at most once")

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the columns of `CompositeBatch.labels` are."""
        return tuple(name for name, _ in self.classes) or SOURCES[self.source]


@dataclass(frozen=True)
class Shapes:
    """What is painted on B grounds, in this order.

    Attributes:
        active: (B, n) whether it is there at all.
        x, y, half: (B, n) centre and half side, in pixels.
        whole: (B, n) the whole it belongs to, from 1.
        kind: (B, n) class. picture: (B, n) which of the real objects. flip: (B, n) whether mirrored.
        plate: (n,) whether it is a plate and no object.
    """

    active: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    half: NDArray[np.float64]
    whole: NDArray[np.int64]
    kind: NDArray[np.int64]
    picture: NDArray[np.int64]
    flip: NDArray[np.bool_]
    plate: NDArray[np.bool_]


def numbers(settings: CompositeSettings, stream: int, index: NDArray[np.int64], *shape: int) -> NDArray[np.float64]:
    """(B, *shape) in [0, 1), from seed, stream and index alone."""
    return uniforms(settings.seed, stream, index, int(np.prod(shape))).reshape(len(index), *shape)


def lay_out(s: CompositeSettings, pools: Sequence[NDArray[np.int64]], index: NDArray[np.int64]) -> Shapes:
    """The shapes of the composites `index`, (B,); `pools` are the numbers of each class's real objects."""
    b = len(index)
    least, most = s.objects
    counts = least + (numbers(s, COUNT, index, 1)[:, 0] * (most - least + 1)).astype(int)
    halves = s.size * (s.scale[0] + (s.scale[1] - s.scale[0]) * numbers(s, SIZE, index, most)) / 2
    x, y = _places(s, index, halves)
    each = 1 + MEMBERS if s.grouped else 1
    plate = np.tile(np.arange(each) == 0, most) if s.grouped else np.zeros(most, bool)
    whole = np.repeat(np.arange(1, most + 1), each)[None].repeat(b, 0)
    active = whole <= counts[:, None]
    x, y, half = (np.repeat(a, each, axis=1) for a in (x, y, halves))
    if s.grouped:
        u = numbers(s, PLATE, index, most, 2)
        members = 2 + (u[..., 0] * (MEMBERS - 1)).astype(int)
        around = 2 * np.pi * (np.arange(MEMBERS)[None, None] / members[..., None] + u[..., 1:])
        shift = np.zeros((b, most, each, 2))
        shift[:, :, 1:] = MEMBER * np.stack([np.cos(around), np.sin(around)], -1)
        x, y = x + half * shift[..., 0].reshape(b, -1), y + half * shift[..., 1].reshape(b, -1)
        half = np.where(plate, half, MEMBER * half)
        active &= (np.arange(each)[None, None] <= members[..., None]).reshape(b, -1)
    slots = whole.shape[1]
    kind = _kinds(s, len(pools), index, slots)
    sizes = np.array([len(p) for p in pools])
    chosen = (numbers(s, PICTURE, index, slots) * sizes[kind]).astype(int)
    picture = np.concatenate(list(pools))[(np.cumsum(sizes) - sizes)[kind] + chosen]
    flip = (numbers(s, FLIP, index, slots) < 0.5) & (s.source != "mnist")
    return Shapes(active, x, y, half, whole, kind, picture, flip, plate)


def _kinds(s: CompositeSettings, classes: int, index: NDArray[np.int64], slots: int) -> NDArray[np.int64]:
    if not s.distinct:
        return (numbers(s, CLASS, index, slots) * classes).astype(np.int64)
    order = np.argsort(numbers(s, CLASS, index, classes), axis=1)
    # Plates take no class: they are left out of the numbering.
    number = np.arange(slots)
    if s.grouped:
        number = number - number // (1 + MEMBERS) - 1
    return order[:, number % classes].astype(np.int64)


def _places(
    s: CompositeSettings, index: NDArray[np.int64], halves: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres, (B, most) each, uniform over the picture; one candidate after another until objects lie apart."""
    b, most = halves.shape
    u = numbers(s, PLACE, index, most, CANDIDATES, 2)
    margin = INSIDE * halves
    spots = margin[..., None, None] + u * (s.size - 2 * margin)[..., None, None]
    taken = np.zeros((b, most, 2))
    for n in range(most):
        gaps = np.full((b, CANDIDATES), np.inf)
        for m in range(n):
            apart = np.linalg.norm(spots[:, n] - taken[:, None, m], axis=-1)
            gaps = np.minimum(gaps, apart / (halves[:, n] + halves[:, m])[:, None])
        good = gaps >= APART
        best = np.where(good.any(1), good.argmax(1), gaps.argmax(1))
        taken[:, n] = spots[np.arange(b), n, best]
    return taken[..., 0], taken[..., 1]
