"""Islands drawn over the photograph they are of, with what can be counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.colours import Array
from glom.datasets.reading import one_line
from glom.datasets.segmented import SegmentedPicture
from glom.errors import InputError
from probes.agreement import border_agreement
from probes.figures.outlined import Outlined, keep_outlines
from probes.metrics import score
from probes.outlines import Outlines
from probes.partition import Labels, Partition, count_islands, enlarge, partition

SCORES: tuple[Literal["covering", "mbo", "boundary_f"], ...] = ("covering", "mbo", "boundary_f")
SHOWN = 3  # layers of a figure if nothing is said


class Drawn(TypedDict):
    """One layer's islands in a figure; scores are None where no outlines lie beside the picture."""

    layer: int
    islands: int
    agreement_inside: float | None
    agreement_across: float | None
    covering: float | None
    mbo: float | None
    boundary_f: float | None


@dataclass(frozen=True)
class Truth:
    """Outlines of a picture, fit to score by: the file's name, (H, W) a person, and the label of what is no object."""

    name: str
    maps: list[NDArray[np.int64]]
    outlines: Outlines
    background: int | None

    @classmethod
    def of(cls, picture: SegmentedPicture) -> Truth:
        """Raises `InputError` for outlines that cannot be read, do not fit, or are void everywhere."""
        maps = list(picture.read()[1])
        try:
            outlines = Outlines(maps)
        except InputError as error:
            raise InputError(f"{one_line(picture.truth.name)}: {error}") from None
        return cls(picture.truth.name, maps, outlines, 0 if picture.background == 0 else None)


def figure_layers(read: Sequence[int], asked: Sequence[int] | None) -> list[int]:
    """Those asked for, or up to `SHOWN` of those read, evenly from the first to the last. Raises `InputError`."""
    if asked is None:
        places = np.linspace(0, len(read) - 1, min(SHOWN, len(read))).round().astype(int)
        return [read[place] for place in places]
    lost = [layer for layer in asked if layer not in read]
    if lost:
        raise InputError(f"`figure` asks for layer {lost[0]}, which is not among the `layers` read: {list(read)}")
    return list(asked)


def draw(
    image: Image.Image,
    grids: Sequence[tuple[int, str, Array]],
    how: tuple[str, Partition, int],
    truth: Truth | None,
    file: Path,
    names: tuple[str, str],
    across: int = 4,
) -> list[Drawn]:
    """Cut, measure and draw.

    Args:
        image: the picture.
        grids: (layer, its name, (h, w, F)) each.
        how: the partition as it was written and as it was read, and the seed.
        truth: of the same picture, or None.
        file: what the figure is drawn from, NAME.npz; NAME.png and NAME.svg are written beside it.
        names: of the picture and of the backbone, for the caption.
        across: panels in a row, the picture's among them.
    """
    panels, found = [], []
    for layer, place, grid in grids:
        plain = bool((np.asarray(image) == np.asarray(image)[0, 0]).all())
        labels = np.zeros(grid.shape[:2], np.int64) if plain else partition(grid, how[1], how[2])
        row = _measure(layer, grid, labels, truth)
        title = [f"layer {layer}: {place}, {grid.shape[0]} x {grid.shape[1]}", _agreeing(row)]
        if row["covering"] is not None:
            title.append(f"covering {row['covering']:.2f}" + ("" if row["mbo"] is None else f", mBO {row['mbo']:.2f}"))
        panels.append(Outlined(tuple(title), labels))
        found.append(row)
    keep_outlines(file, image, panels, _caption(how[0], names, truth), across)
    return found


def _measure(layer: int, grid: Array, labels: Labels, truth: Truth | None) -> Drawn:
    inside, across = border_agreement(grid, labels)
    row: Drawn = {
        "layer": layer,
        "islands": count_islands(labels),
        "agreement_inside": inside,
        "agreement_across": across,
        "covering": None,
        "mbo": None,
        "boundary_f": None,
    }
    if truth is not None:
        large = enlarge(labels, *truth.maps[0].shape)
        scored = score(truth.maps, large, truth.outlines, truth.background)
        row["covering"], row["mbo"], row["boundary_f"] = (scored[key] for key in SCORES)
    return row


def _agreeing(row: Drawn) -> str:
    parts = [f"{row['islands']} island{'' if row['islands'] == 1 else 's'}"]
    for value, where in ((row["agreement_inside"], "inside"), (row["agreement_across"], "across")):
        parts += [] if value is None else [f"{value:.2f} {where}"]
    return ", ".join(parts)


def _caption(how: str, names: tuple[str, str], truth: Truth | None) -> str:
    text = (
        f"Islands of {names[1]} in {names[0]}, cut by {how}. Outlines lie between neighbouring locations of different "
        "islands; numbers count connected islands from the largest, where there is room for one. Inside and across: "
        "mean cosine of neighbouring locations of one island, and of two."
    )
    if truth is None:
        return text
    people = "one mask" if len(truth.maps) == 1 else f"{len(truth.maps)} people's outlines, their mean"
    return f"{text} Scores: against {truth.name}, {people}."
