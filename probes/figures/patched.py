"""What a patch changed, layer by layer: islands before and after it, and where they no longer agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.colours import Array
from probes.figures.base import Canvas, save
from probes.figures.outlined import draw_outlines

MOST = 4  # layers across


@dataclass(frozen=True)
class PatchedLayer:
    """A layer from the patched one on.

    Attributes:
        titles: over its three panels.
        before: (h, w, 3) in [0, 1].
        after: the same in the same colour code.
        agreement: (h, w) cosine of each location with itself before.
    """

    titles: tuple[str, str, str]
    before: Array
    after: Array
    agreement: Array


def patched_figure(
    image: Image.Image,
    region: NDArray[np.bool_],
    layers: Sequence[PatchedLayer],
    paths: Sequence[Path],
    caption: str = "",
) -> list[Path]:
    """The picture with the region outlined, then a column a layer: before, after, and the cosine between them.

    Args:
        image: the picture.
        region: (h, w), what was replaced.
        layers: those that are read; the first is the patched one.
        paths: a file each, its ending says what: .png, .svg, .pdf.
        caption: what is seen.
    """
    import matplotlib as mpl

    chosen = np.unique(np.linspace(0, len(layers) - 1, min(MOST, len(layers))).round().astype(int))
    small = image.copy()
    small.thumbnail((640, 640))
    panel = (2.2, min(2.2 * small.height / small.width, 4.0))
    across = len(chosen) + 1
    canvas = Canvas(panel, rows=3, across=across)
    place = canvas.draw(0, small, "picture, and what was replaced")
    draw_outlines(canvas.axis, region.astype(np.int64), *panel, place, numbered=False)
    for column, number in enumerate(chosen, 1):
        layer = layers[number]
        map_ = mpl.colormaps["viridis"](layer.agreement.clip(0, 1))[..., :3]
        for row, pixels in enumerate((layer.before, layer.after, map_)):
            canvas.draw(row * across + column, pixels, layer.titles[row], hard=True)
    ramp = mpl.colormaps["viridis"](np.linspace(0, 1, 128)[None].repeat(12, 0))[..., :3]
    canvas.draw(2 * across, ramp, "cosine with before, 0 to 1", part=0.12)
    canvas.caption(caption)
    return [save(canvas.figure, path) for path in paths]
