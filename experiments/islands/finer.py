"""Islands on grids finer than the network's: an APM's field beside three ways without one, outlined and scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from experiments.islands.drawn import SCORES, Drawn, Truth, draw
from experiments.islands.score import differences, means
from experiments.islands.settings import ShowSettings
from glom.backbones.base import Backbone
from glom.colours import Array
from glom.errors import InputError
from glom.runs.artifacts import disk_error
from probes.finer import WAYS, finer_grids
from probes.partition import Partition, parse_partition
from probes.partition.cuts import SIDE

FINER = "finer"  # the figures' folder in a run's
NETWORK = "network"
FINE = ("kmeans", "agglomerative-grid", "threshold")  # cuts that look at every location, and can at so many


class DrawnFiner(Drawn):
    """One layer's islands on a grid that was made finer in one `way`, or the network's own."""

    way: str


class FinerScores(TypedDict):
    """A layer's means over the `n` pictures with outlines beside them, by way, and paired differences from bilinear."""

    layer: int
    n: int
    ways: dict[str, dict[str, Any]]
    minus_bilinear: dict[str, dict[str, Any]]


def check_finer(times: int, how: Partition, text: str) -> None:
    """Raises `InputError` for a grid that is not finer, or a cut that would not see that it is."""
    if times == 1:
        raise InputError("`finer` is 2 or more times the network's grid, or 0 for none; got 1")
    if times and (how.method not in FINE or how.settled is not None):
        raise InputError(
            f"`finer` does nothing for `partition` '{text}', which looks at {SIDE} x {SIDE} locations or at all pairs; "
            "take kmeans:K, agglomerative-grid:K or threshold:C"
        )


def draw_finer(
    image: Image.Image,
    backbone: Backbone,
    chosen: Sequence[tuple[int, str, Array]],
    settings: ShowSettings,
    truth: Truth | None,
    folder: Path,
) -> Iterator[list[DrawnFiner]]:
    """A figure a layer, PNG and SVG: the picture, the network's own grid, then every way; yields the layers' rows.

    Args:
        chosen: (layer, its name, its grid (h, w, F)) each.
        truth: outlines of the picture, or None.
        folder: for the figures, called as the picture is.
    """
    how = (settings.partition, parse_partition(settings.partition), settings.seed)
    own = {layer: (place, grid) for layer, place, grid in chosen}
    view: dict[str, Any] = {"frames": settings.frames or None, "size": settings.size or None}
    view |= {"most": settings.grid, "seed": settings.seed}
    for layer, found in finer_grids(backbone, image, list(own), settings.finer, **view):
        place, grid = own[layer]
        grids = [(layer, place, grid), *((layer, way, found[way]) for way in WAYS)]
        try:
            rows = draw(image, grids, how, truth, folder / f"layer-{layer}.npz", (folder.name, backbone.name), across=3)
        except OSError as error:
            raise disk_error(error, folder) from error
        yield [{**row, "way": way} for row, way in zip(rows, (NETWORK, *WAYS), strict=True)]


def summarise_finer(rows: Sequence[DrawnFiner]) -> list[FinerScores]:
    """Of pictures with outlines; empty where there are none. A picture's rows stand in the same order for each way."""
    found: list[FinerScores] = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        scored = [row for row in rows if row["layer"] == layer and row["covering"] is not None]
        by_way: dict[str, list[dict[str, Any]]] = {
            way: [{key: row[key] for key in SCORES} for row in scored if row["way"] == way] for way in (NETWORK, *WAYS)
        }
        if scored:
            against = {way: differences(of, by_way["bilinear"]) for way, of in by_way.items() if way != "bilinear"}
            ways = {way: means(of) for way, of in by_way.items()}
            found.append({"layer": layer, "n": len(by_way[NETWORK]), "ways": ways, "minus_bilinear": against})
    return found
