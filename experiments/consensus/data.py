"""Pictures a GLOM is trained on: composites made as they are asked for, or a data set held as one tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glom.datasets.composites import Composites, CompositeSettings, open_source, resolve_source
from glom.datasets.reading import read_image
from glom.datasets.registry import open_dataset
from glom.errors import GlomError, InputError

OBJECTS, SCALE = (1, 2), (0.5, 0.7)  # wholes large enough that their parts span several columns
HELD_OUT_SEED = 1_000_003  # of the composites that only scoring sees
LIMIT = 20_000  # pictures of a data set that are kept in memory unless more are asked for

Batches = Callable[[int, torch.Generator], Tensor]


def composites(source: str, size: int, split: str, seed: int) -> tuple[Composites, str, str]:
    """Grouped composites: wholes are plates with two or three objects on them.

    Args:
        source: `NAME[:ROOT]` or "" (see `glom.datasets.composites.resolve_source`).
        size: side in pixels.
        split: "train" or "test": of the real objects.
        seed: of the composites.

    Returns:
        the composites, the source's name, and a note ("" where there is nothing to say).
    """
    name, root, note = resolve_source(source)
    images, labels = open_source(name, root, split)
    base = name.removesuffix("-sample")
    settings = CompositeSettings(base, size, OBJECTS, SCALE, grouped=True, seed=seed)
    return Composites(images, labels, settings), name, note


def batches(data: str, source: str, size: int, limit: int, seed: int) -> tuple[Batches, dict[str, Any], list[str]]:
    """Where training batches come from.

    Args:
        data: "composites", a name from `apm datasets` (`fashion-mnist`, `NAME:ROOT`), or a folder of pictures.
        source: of the composites.
        size: side the pictures are brought to, in pixels.
        limit: at most so many pictures of a data set; 0 for 20,000. Composites never repeat.
        seed: of the composites.

    Returns:
        `draw(count, generator) -> (count, 3, size, size)` in [0, 1]; what the data are; notes.

    Raises:
        InputError: no such data, not one picture that can be read, or a limit or a source that would do nothing.
    """
    if data == "composites":
        if limit:
            raise InputError("--limit is for a data set: composites are made as they are asked for, and never repeat")
        made, name, note = composites(source, size, "train", seed)

        def draw_composites(count: int, generator: torch.Generator) -> Tensor:
            indices = torch.randint(2**40, (count,), generator=generator)
            return made.batch(indices.tolist()).images

        return draw_composites, {"data": "composites", "source": name}, [note] if note else []
    if source:
        raise InputError("--source is for composites; name a data set's folder as NAME:ROOT in --data")
    dataset = open_dataset(data, split="train").limit(limit or LIMIT, seed)
    pictures, failed = [], []
    for sample in dataset.samples:
        try:
            pictures.append(_square(sample.image(), size))
        except GlomError as error:
            failed.append(str(error))
    if len(pictures) < 2:
        raise InputError(f"{data}: {len(pictures)} pictures can be read, training needs at least two")
    held = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()

    def draw(count: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(held), (count,), generator=generator)
        return held[chosen].float() / 255

    notes = [f"{len(failed)} pictures skipped, the first: {failed[0]}"] if failed else []
    return draw, {"data": dataset.name, "pictures": len(held), "fingerprint": dataset.fingerprint()}, notes


def _square(image: Image.Image, size: int) -> np.ndarray:
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def picture(path: str | Path, size: int, patch: int) -> tuple[Image.Image, Tensor]:
    """A picture and what a GLOM sees of it: squeezed to size x size, (1, 3, size, size) in [0, 1].

    Raises:
        InputError: it cannot be read, or is smaller than one patch.
    """
    image = read_image(path)
    if min(image.size) < patch:
        raise InputError(f"{path}: {image.width}x{image.height} pixels is smaller than one patch ({patch} px)")
    pixels = torch.from_numpy(np.array(_square(image, size)))
    return image, pixels.permute(2, 0, 1)[None].float() / 255
