"""Composites: several real objects at random places and sizes on textured ground, with masks that only scoring reads.

Made so that no part gives itself away. Every picture has two colours; ground, objects and plates are all patterns of
these two, different in orientation, wavelength and phase alone, and slow clouds of colour pass over everything. An
object's own grey values become the contrast of its texture. Places are drawn afresh for every picture. With
`difficulty` 0 the same objects lie plain and bright on plain ground: the beginning of a curriculum.

Photographs (CIFAR-10) keep their pixels inside a rounded window; the ground is then a texture with their own colours
and spectrum (`textures.random_phase`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glom.datasets.composite_layout import (
    CLOUD,
    PALETTE,
    PHASE,
    TEXTURE,
    WEAVE,
    CompositeSettings,
    Shapes,
    lay_out,
    numbers,
)
from glom.datasets.composite_sources import GARMENTS, SAMPLE, SOURCES, open_source, resolve_source, silhouettes
from glom.datasets.textures import class_weaves, clouds, ground_weaves, random_phase, tile, waves
from glom.errors import InputError

__all__ = [
    "GARMENTS",
    "SAMPLE",
    "SOURCES",
    "CompositeBatch",
    "CompositeSettings",
    "Composites",
    "open_source",
    "resolve_source",
]


@dataclass(frozen=True)
class CompositeBatch:
    """Pictures and what is in them.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1].
        masks: (B, S, S) int64: 0 the ground, 1, 2, ... the wholes.
        parts: (B, S, S) int64: as `masks`; in grouped composites plates and objects are numbered separately.
        labels: (B, classes) float32, 1 for the classes present.
        counts: (B,) int64, wholes in each picture.
    """

    images: Tensor
    masks: Tensor
    parts: Tensor
    labels: Tensor
    counts: Tensor


class Composites:
    """As many composites as there are numbers, each a function of (settings, its number): no state, no order.

    Args:
        images: (N, h, w) or (N, h, w, 3) uint8, the real objects.
        labels: (N,) integers into the source's classes.
        settings: see `CompositeSettings`.

    Raises:
        InputError: arrays of another shape, or a class without a single image.

    Example:
        >>> images, labels = open_source("fashion-mnist-sample", None, "test")
        >>> batch = Composites(images, labels, CompositeSettings(objects=(2, 2))).batch(range(4))
        >>> batch.images.shape, batch.masks.unique().tolist()
        (torch.Size([4, 3, 48, 48]), [0, 1, 2])
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.integer], settings: CompositeSettings) -> None:
        self.settings = settings
        self.photos = settings.source == "cifar10"
        if images.ndim != (4 if self.photos else 3) or len(images) != len(labels) or images.dtype != np.uint8:
            wanted = "(N, h, w, 3)" if self.photos else "(N, h, w)"
            raise InputError(f"{settings.source} takes {wanted} uint8 and N labels, got {images.dtype} {images.shape}")
        self._images = torch.from_numpy(np.require(images, requirements=("C", "W")))
        merged = settings.classes or tuple((name, (i,)) for i, name in enumerate(SOURCES[settings.source]))
        self._pools = [np.flatnonzero(np.isin(labels, members)) for _, members in merged]
        for (name, _), pool in zip(merged, self._pools, strict=True):
            if not len(pool):
                raise InputError(f"{settings.source}: not one image of the class '{name}'")

    def batch(self, indices: Sequence[int], difficulty: float = 1.0) -> CompositeBatch:
        """The composites of these numbers.

        Args:
            indices: at least 0; equal numbers give equal pictures.
            difficulty: 0 plain objects on plain ground, 1 the data set proper; places and objects are the same.

        Raises:
            InputError: a difficulty outside [0, 1], no index, or one below 0.
        """
        if not 0 <= difficulty <= 1:
            raise InputError(f"difficulty lies between 0 and 1, got {difficulty}")
        index = np.asarray(list(indices), dtype=np.int64)
        if not index.size or index.min() < 0:
            raise InputError("composites are numbered from 0; give at least one number")
        shapes = lay_out(self.settings, self._pools, index)
        content, inside = self._draw(shapes, len(index))
        values = self._textured(index, shapes, content, difficulty)
        ground, values = values[:, 0], values[:, 1:]
        canvas = ground.clone()
        masks = torch.zeros(len(index), *canvas.shape[-2:], dtype=torch.int64)
        parts = masks.clone()
        for n in range(inside.shape[1]):
            covered = inside[:, n]
            canvas = torch.where(covered[:, None], values[:, n], canvas)
            masks = torch.where(covered, torch.from_numpy(shapes.whole[:, n])[:, None, None], masks)
            number = torch.from_numpy(shapes.active[:, : n + 1].sum(1))
            parts = torch.where(covered, number[:, None, None], parts)
        images = self._coloured(index, canvas, difficulty)
        labels = torch.zeros(len(index), len(self._pools))
        rows, columns = np.nonzero(shapes.active & ~shapes.plate)
        labels[torch.from_numpy(rows), torch.from_numpy(shapes.kind[rows, columns])] = 1.0
        counts = torch.from_numpy(np.where(shapes.active, shapes.whole, 0).max(1))
        return CompositeBatch(images, masks, parts, labels, counts)

    def _numbers(self, stream: int, index: NDArray[np.int64], *shape: int) -> NDArray[np.float64]:
        return numbers(self.settings, stream, index, *shape)

    def _draw(self, shapes: Shapes, b: int) -> tuple[Tensor, Tensor]:
        """Every shape at its place: contents (B, n, C, S, S), C = 1, or 3 for photographs; and where it is."""
        size, n = self.settings.size, shapes.active.shape[1]
        centres = torch.arange(size, dtype=torch.float64) + 0.5
        x, y, half = (torch.from_numpy(a)[..., None] for a in (shapes.x, shapes.y, shapes.half))
        across, down = ((centres - c) / half for c in (x, y))  # (B, n, S): -1 to 1 within the shape
        across = torch.where(torch.from_numpy(shapes.flip)[..., None], -across, across)
        grid = torch.stack(torch.broadcast_tensors(across[:, :, None, :], down[:, :, :, None]), -1).float()
        window = (grid.abs() ** 4).sum(-1) <= 1
        channels = 3 if self.photos else 1
        content = torch.full((b, n, channels, size, size), 0.5)
        inside = torch.zeros(b, n, size, size, dtype=torch.bool)
        plates = torch.from_numpy(shapes.active & shapes.plate)
        inside[plates] = window[plates]
        objects = torch.from_numpy(shapes.active & ~shapes.plate)
        pictures = self._images[torch.from_numpy(shapes.picture)[objects]].float() / 255
        if self.photos:
            content[objects] = _sample(pictures.permute(0, 3, 1, 2), grid[objects], "border")
            inside[objects] = window[objects]
        else:
            grey, filled = silhouettes(pictures, self.settings.source)
            content[objects] = _sample(grey[:, None], grid[objects], "zeros")
            inside[objects] = _sample(filled[:, None], grid[objects], "zeros")[:, 0] > 0.5
        return content, inside

    def _textured(self, index: NDArray[np.int64], shapes: Shapes, content: Tensor, difficulty: float) -> Tensor:
        """Ground and shapes as they are painted: (B, 1 + n, C, S, S); C = 1 is the share of the second colour."""
        s, n = self.settings, shapes.active.shape[1]
        strength = difficulty * s.texture
        plates = torch.from_numpy(shapes.plate)[None, :, None, None, None]
        if self.photos:
            return self._scrambled(index, shapes, content, strength)
        pattern = waves(self._numbers(TEXTURE, index, 1 + n, 4), s.size, self._weaves(index, shapes))[:, :, None]
        ground = torch.full_like(content[:, :1], 0.1)
        plain = torch.cat([ground, torch.where(plates, 0.3, 0.35 + 0.65 * content)], 1)
        contrast = torch.cat([ground.fill_(0.75), torch.where(plates, 0.75, 0.5 + 0.5 * content)], 1)
        return (1 - strength) * plain + strength * (0.5 + 0.5 * contrast * pattern)

    def _scrambled(self, index: NDArray[np.int64], shapes: Shapes, content: Tensor, strength: float) -> Tensor:
        """Photographs on a ground, and plates, of their own spectra and colours: (B, 1 + n, 3, S, S)."""
        s, (b, n) = self.settings, shapes.active.shape
        plates = torch.from_numpy(shapes.plate)[None, :, None, None, None]
        noise = torch.from_numpy(self._numbers(PHASE, index, 1 + n, *self._images.shape[1:3])).float()
        offsets = self._numbers(TEXTURE, index, 1 + n, 2)
        members = self._images[torch.from_numpy(shapes.picture)].permute(0, 1, 4, 2, 3).float() / 255
        own = random_phase(members.flatten(0, 1), noise[:, 1:].flatten(0, 1))
        weights = torch.from_numpy(shapes.active & ~shapes.plate).float()
        weights = (weights / weights.sum(1, keepdim=True))[..., None, None, None]
        blend = random_phase((weights * members).sum(1), noise[:, 0])
        # The mean of k textures has a variance k times too small.
        mean = blend.mean((2, 3), keepdim=True)
        blend = mean + (blend - mean) * (1 / (weights**2).sum(1)).sqrt()
        ground = tile(blend, offsets[:, 0], s.size)[:, None]
        backing = tile(own, offsets[:, 1:].reshape(-1, 2), s.size).unflatten(0, (b, n))
        plain = torch.full_like(ground, 0.5)
        painted = torch.where(plates, (1 - strength) * 0.3 + strength * backing, content)
        return torch.cat([(1 - strength) * plain + strength * ground, painted], 1)

    def _weaves(self, index: NDArray[np.int64], shapes: Shapes) -> NDArray[np.float64] | None:
        """(B, 1 + n, 3) for `waves`, or None where classes have no weave of their own."""
        if not self.settings.fabrics:
            return None
        found = ground_weaves(self._numbers(WEAVE, index, 1 + shapes.active.shape[1], 2))
        worn = class_weaves(shapes.kind, len(self._pools))
        found[:, 1:] = np.where(shapes.plate[None, :, None], found[:, 1:], worn)
        return found

    def _coloured(self, index: NDArray[np.int64], canvas: Tensor, difficulty: float) -> Tensor:
        """(B, C, S, S) -> (B, 3, S, S) in [0, 1]: two colours a picture, and the clouds over all of it."""
        if not self.photos:
            u = self._numbers(PALETTE, index, 3, 3)
            middle = 0.4 + 0.2 * u[..., 0]
            away = (0.15 + 0.2 * u[..., 1]) * np.where(u[..., 2] < 0.5, -1, 1)
            centre, reach = (torch.tensor(a, dtype=torch.float32)[..., None, None] for a in (middle, away))
            canvas = centre + reach * (2 * canvas - 1)
        sky = clouds(self._numbers(CLOUD, index, 3, 2, 3), self.settings.size)
        return (canvas + 0.5 * self.settings.colour * difficulty * sky).clamp(0, 1)


def _sample(pictures: Tensor, grid: Tensor, padding: str) -> Tensor:
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode=padding, align_corners=False)
