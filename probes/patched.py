"""What follows where a layer's features are replaced: the grids of the layers from there on, and the class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glom.backbones.base import Backbone
from glom.backbones.patching import ALL, VALUES, Region, layer_number, region_cells
from glom.backbones.video import feature_grids
from glom.colours import Array
from glom.datasets.label_maps import read_mask
from glom.errors import InputError, unknown
from glom.pictures import Picture

TOP = 5  # classes that are named
MOST = 8  # patches of a picture in a page
Intervention: TypeAlias = "tuple[int | str, Region, Picture]"
"""Layer, region and value, as `glom.backbones.patching.patch` takes them."""


class Said(TypedDict):
    """A class and its probability."""

    name: str
    probability: float


@dataclass(frozen=True)
class Patched:
    """A picture watched while one layer's features were replaced.

    Attributes:
        name: what was replaced, for people.
        cells: (h, w), the locations of the patched layer where they were.
        grids: {layer: (h, w, D)} of the layers read, from the patched one on.
        said: the most probable classes; none where the network ends in no classifier.
    """

    name: str
    cells: NDArray[np.bool_]
    grids: dict[int, Array]
    said: list[Said]


def watch(
    backbone: Backbone, clip: Tensor, layers: Sequence[int], classes: Sequence[str] = ()
) -> tuple[dict[int, Array], list[Said]]:
    """{layer: (h, w, D)} of a clip (3, T, H, W), and the `TOP` most probable classes.

    Args:
        classes: names to choose from, for a network that reads text.
    """
    grids = {layer: grid[0].numpy() for layer, grid in feature_grids(backbone, clip, layers, "mean").items()}
    found = backbone.classify(clip, classes)
    if found is None:
        return grids, []
    names, chances = found
    best = chances.topk(min(TOP, len(names)))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return grids, [{"name": names[index], "probability": chance} for index, chance in rows]


def watch_patched(
    backbone: Backbone,
    clip: Tensor,
    layers: Sequence[int],
    patch: Intervention,
    name: str = "",
    classes: Sequence[str] = (),
) -> Patched:
    """Watch a clip with a layer's features replaced.

    Args:
        clip: (3, T, H, W) that the backbone was fitted to.
        layers: that are read; those before the patched one stay as they are and are left out.
        patch: what is replaced by what.
        name: what it is called. classes: as `watch` takes them.

    Raises:
        InputError: a layer, region or value that is none; no layer to be read from the patched one on.
    """
    layer, region, value = patch
    number, view = layer_number(backbone, layer), (clip.shape[1], clip.shape[2])
    read = [other for other in layers if other >= number]
    if not read:
        raise InputError(f"no layer is read from the patched one on, {number}")
    with backbone.patch(number, region, value, *view):
        grids, said = watch(backbone, clip, sorted({number, *read}), classes)
    cells = region_cells(region, *grids[number].shape[:2])
    return Patched(name, cells, {other: grids[other] for other in read}, said)


def patch_name(layer: int | str, region: Region, value: Picture) -> str:
    """What was replaced, for people.

    Example:
        >>> patch_name(3, (0.5, 0.5), "zero")
        'layer 3, 0.5,0.5: zero'
    """
    if isinstance(region, str):
        where = region
    else:
        where = "a mask" if len(np.shape(region)) == 2 else ",".join(f"{float(number):g}" for number in region)
    given = "a picture" if isinstance(value, bytes | Image.Image) else "features"
    return f"layer {layer}, {where}: {Path(value).name if isinstance(value, str | Path) else given}"


def read_patches(text: str) -> list[tuple[str, str, str]]:
    """`LAYER REGION VALUE; ...` -> layer, region and value of each.

    Raises:
        InputError: fewer words, a value that is neither of `VALUES` nor a file, more than `MOST` of them.
    """
    asked = [part.split(None, 2) for part in text.split(";") if part.strip()]
    if len(asked) > MOST:
        raise InputError(f"`patch` takes at most {MOST}, so that a page stays small; got {len(asked)}")
    for parts in asked:
        if len(parts) < 3:
            raise InputError(f"`patch` takes LAYER REGION VALUE, such as '3 0.4,0.6 zero'; got '{' '.join(parts)}'")
        if parts[2].strip() not in VALUES and not Path(parts[2].strip()).is_file():
            raise unknown("value", parts[2], VALUES, "or a picture's file")
    return [(layer, region, value.strip()) for layer, region, value in asked]


def read_region(text: str, image: Image.Image) -> Region:
    """`all`, `x,y`, `x0,y0,x1,y1` in [0, 1], or a mask picture of the picture's size, whose labels above 0 are meant.

    Raises:
        InputError: anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if all(re.fullmatch(r"-?\d*\.?\d+", part) for part in parts):
        return tuple(map(float, parts))
    if text.strip() == ALL:
        return ALL
    if not Path(text).is_file():
        raise InputError(f"`region` takes x,y or x0,y0,x1,y1 in [0, 1], {ALL}, or a mask picture; got '{text}'")
    mask: NDArray[np.bool_] = read_mask(Path(text)) > 0
    if mask.shape != image.size[::-1]:
        (h, w), (width, height) = mask.shape, image.size
        raise InputError(f"`region` {Path(text).name} is {w}x{h}, the picture {width}x{height} pixels")
    return mask
