"""Pictures looked at and their islands coloured and counted, whatever network has the levels.

A network is a function from the path of a picture to its states at places, (T, h, w, L, d): iterations, rows, columns,
levels, width. A GLOM has levels, a forward-forward network with local fields has layers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.events import Event
from glom.runs.files import file_stem
from probes.levels import centred, island_counts
from probes.reduction import reduce_rgb


@dataclass
class Looked:
    """One picture: its path, name in the folder, pixels, states (T, h, w, L, d), and what its levels say.

    `decoded` is each level's words as pixels, (L, H, W, 3) in [0, 1], or None for a network that has none.
    """

    path: str
    stem: str
    image: Image.Image
    states: NDArray[np.float32]
    decoded: NDArray[np.float32] | None = None


class Drawn(TypedDict):
    """What was written of one picture, and its islands, an iteration, then a level."""

    image: str
    sheet: str
    islands: list[list[int]]


See = Callable[[str], tuple[Image.Image, NDArray[np.float32], NDArray[np.float32] | None]]


def look_at(paths: Sequence[str], see: See) -> Generator[Event, None, tuple[list[Looked], list[dict[str, str]]]]:
    """Look at every picture, yielding events.

    Args:
        paths: of the pictures.
        see: path -> picture, states and words of `Looked`; a `GlomError` skips it.

    Returns:
        the pictures seen, and `{"image", "status", "reason"}` of those that could not be.

    Raises:
        InputError: not one could be.
    """
    shown: list[Looked] = []
    failed: list[dict[str, str]] = []
    for done, path in enumerate(paths, 1):
        try:
            shown.append(Looked(path, file_stem(path, [s.stem for s in shown]), *see(path)))
        except GlomError as error:
            failed.append({"image": path, **lost(error)})
        yield Event("looking", done, len(paths))
    demand_some([*({"status": "ok"} for _ in shown), *failed], "pictures")
    return shown, failed


def islands_of(
    shown: Sequence[Looked], threshold: float
) -> Iterator[tuple[Looked, NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]]:
    """Every picture with its states without each level's mean over the pictures shown, (T, h, w, L, d), its colours
    (T, h, w, L, 3), and its islands (T, L) at a threshold of the cosine.
    """
    colours = colour_states([s.states for s in shown])
    steps = [centred(np.stack(step)) for step in zip(*(s.states for s in shown), strict=True)]
    for number, item in enumerate(shown):
        own = np.stack([step[number] for step in steps])
        counts = np.stack([island_counts(np.moveaxis(s, 2, 0), threshold) for s in own])
        yield item, own, colours[number], counts


def colour_states(states: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Joint PCA colours, one code a level for all iterations and pictures: (T, h, w, L, d) each -> (T, h, w, L, 3)."""
    levels = states[0].shape[3]
    coloured = [np.empty((*s.shape[:4], 3), np.float32) for s in states]
    for level in range(levels):
        grids = [step[:, :, level] for s in states for step in s]
        found = iter(reduce_rgb(grids, "pca", joint=True))
        for item in coloured:
            for step in item:
                step[:, :, level] = next(found)
    return coloured


def islands_folder(trained: Path, images: Sequence[str]) -> Path:
    """Where islands go that no folder was named for: a new one beside the weights, named after the pictures.

    Args:
        trained: a run folder, or the file of weights in it.

    Raises:
        InputError: that folder is there already.
    """
    more = f"-and-{len(images) - 1}-more" if len(images) > 1 else ""
    return untaken((trained if trained.is_dir() else trained.parent) / f"islands-{file_stem(images[0])}{more}")


def untaken(folder: Path) -> Path:
    """The folder itself. Raises `InputError` where it is there already."""
    if folder.exists():
        raise InputError(f"{folder} is there already and is not overwritten; move it away or choose an --out")
    return folder
