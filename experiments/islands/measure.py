"""One picture measured: its grids cut and scored, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.islands.readings import Reading, layers_of, read
from glom.backbones.base import Backbone
from glom.backbones.video import clip_for, feature_grids
from glom.colours import Array
from glom.datasets.segmentation import CompositePicture, SegmentedPicture
from glom.errors import GlomError, lost
from glom.slots.trained import TrainedSlots
from probes.agreement import neighbour_agreement
from probes.metrics import Outlines, human_score, score
from probes.overlap import Cells, cover, mean_best_overlap
from probes.partition import Cutting, Labels, Partition, colour_position, count_islands, enlarge, parse_partition

NEEDS = ("sklearn.cluster", "skimage.measure", "scipy.ndimage")
PIXELS = "pixels"
CONTESTANTS = ("own", "untrained", PIXELS)
Score = dict[str, Any]
Choice = tuple[Reading | None, str]  # what is read (nothing of pixels), and how it is cut


@dataclass(frozen=True)
class Seen:
    """A picture, its truth and what both networks make of it.

    Attributes:
        pixels: (H, W, 3) uint8.
        truths: (annotators, H, W).
        classes: (H, W) the objects' classes, or None.
        background: labels that are no objects.
        grids: own and untrained: {layer: (h, w, F)}.
        side: that grids are brought to before they are cut.
        seed: of the cuts.
        seconds: that it took to see it.
        slots: (H, W), whose pixel each one is, where trained slots looked too.
    """

    pixels: NDArray[np.uint8]
    truths: NDArray[np.integer]
    classes: NDArray[np.integer] | None
    background: Any
    grids: Mapping[str, Mapping[int, Array]]
    side: int
    seed: int
    seconds: float
    slots: Labels | None = None

    def cutting(self, contestant: str, reading: Reading | None) -> Cutting | None:
        """What is to be cut; None where a layer is not finite."""
        if reading is None:
            small = Image.fromarray(self.pixels).resize((self.side, self.side), Image.Resampling.BOX)
            colours = (np.asarray(small, dtype=np.float32) / 255).astype(np.float32)
            return Cutting(colour_position(colours), self.seed, cosine=False)
        grid = read(self.grids[contestant], reading, self.side)
        return None if grid is None else Cutting(grid, self.seed)


@dataclass(frozen=True)
class Asked:
    """What is measured of every picture: `readings` of both networks cut in one way, and what was chosen elsewhere."""

    readings: tuple[Reading, ...]
    partition: str
    chosen: Mapping[str, Choice]
    one_to_one: bool = False


Read = tuple[Image.Image, NDArray[np.integer], NDArray[np.integer] | None, float]
"""A picture, its (annotators, H, W) label maps, its objects' classes or None, and the seconds of reading them."""


def read_item(item: SegmentedPicture | CompositePicture) -> Read:
    """Raises `GlomError` for a faulty pair."""
    begun = time.perf_counter()
    image, maps = item.read()
    return image, maps, item.classes(image.width, image.height), time.perf_counter() - begun


def see(
    item: SegmentedPicture | CompositePicture,
    found: Read,
    networks: Mapping[str, Backbone],
    readings: Sequence[Reading],
    view: tuple[int, int],
    side: int,
    seed: int,
    slots: TrainedSlots | None = None,
) -> Seen:
    """Show a picture that was read to the networks, once each. Raises `GlomError` for one that they cannot take."""
    begun = time.perf_counter()
    image, maps, classes, reading = found
    layers = layers_of(readings)
    grids = {}
    for name, network in networks.items():
        watched = feature_grids(network, clip_for(network, image, *view), layers, "mean", finite=False)
        grids[name] = {layer: grid[0].numpy() for layer, grid in watched.items()}
    pixels = np.asarray(image.convert("RGB"))
    masks = slots.masks(image, seed) if slots else None
    seconds = reading + time.perf_counter() - begun
    return Seen(pixels, maps, classes, item.background, grids, side, seed, seconds, masks)


def score_picture(work: tuple[Seen | dict[str, str], Asked]) -> tuple[dict[str, Any], float]:
    """A picture's record, without its name, and the seconds that it took altogether.

    `layers` and `baselines` hold a score for every reading, None where a layer is not finite; `chosen` one for each
    contestant. A picture that could not be read is its own record.
    """
    seen, asked = work
    return _recorded(seen, lambda seen: _measure(seen, asked))


def _recorded(seen: Seen | dict[str, str], measured: Callable[[Seen], dict[str, Any]]) -> tuple[dict[str, Any], float]:
    if not isinstance(seen, Seen):
        return dict(seen), 0.0
    begun = time.perf_counter()
    try:
        record = {"status": "ok", **measured(seen)}
    except GlomError as error:
        record = lost(error)
    return record, seen.seconds + time.perf_counter() - begun


def _measure(seen: Seen, asked: Asked) -> dict[str, Any]:
    truths = list(seen.truths)
    outlines, how = Outlines(truths), parse_partition(asked.partition)

    def one(contestant: str, reading: Reading | None, how: Partition) -> Score | None:
        cutting = seen.cutting(contestant, reading)
        return None if cutting is None else score_cut(cutting, how, seen, outlines, asked.one_to_one)

    def every(contestant: str) -> list[Score | None]:
        return [one(contestant, reading, how) for reading in asked.readings]

    record: dict[str, Any] = {
        "mask_size": list(seen.truths.shape[:0:-1]),
        "layers": every("own"),
        "baselines": {PIXELS: one(PIXELS, None, how), "untrained": every("untrained")},
        "human": human_score(truths, outlines, seen.background, asked.one_to_one),
    }
    if asked.chosen:
        record["chosen"] = {name: one(name, at, parse_partition(cut)) for name, (at, cut) in asked.chosen.items()}
    if seen.slots is not None:
        record["slot_attention"] = score(truths, seen.slots, outlines, seen.background, None, seen.classes)
    return record


def score_cut(cutting: Cutting, how: Partition, seen: Seen, outlines: Outlines, one_to_one: bool = False) -> Score:
    """One cut by every measure; a tree also at each of its heights, by covering."""
    truths = list(seen.truths)
    labels = cutting.labels(how)
    large = enlarge(labels, *truths[0].shape)
    found: Score = {
        **score(truths, large, outlines, seen.background, None, seen.classes, one_to_one),
        "neighbour_agreement": neighbour_agreement(cutting.grid),
        "islands": float(count_islands(labels)),
    }
    if how.method == "tree":
        cells = Cells(truths, cutting.shape)
        found["heights"] = {
            str(n): covering_and_mbo(cells, cut, None)[0] for n, cut in cutting.heights(how.settled).items()
        }
        found["oracle_covering"] = max(found["heights"].values())
    return found


def weigh_picture(work: tuple[Seen | dict[str, str], Mapping[str, Sequence[Choice]]]) -> tuple[dict[str, Any], float]:
    """As `score_picture`, of many candidates: `weights` holds [covering, mBO] of each, by contestant."""
    seen, candidates = work
    return _recorded(seen, lambda seen: {"weights": _weights(seen, candidates)})


def _weights(seen: Seen, candidates: Mapping[str, Sequence[Choice]]) -> dict[str, list[list[float | None] | None]]:
    cells = Cells(list(seen.truths), (seen.side, seen.side))
    weights: dict[str, list[list[float | None] | None]] = {}
    for name, choices in candidates.items():
        cuttings = {reading: seen.cutting(name, reading) for reading, _ in choices}
        weights[name] = [
            None if cutting is None else covering_and_mbo(cells, cutting.labels(parse_partition(cut)), seen.background)
            for cutting, cut in ((cuttings[reading], cut) for reading, cut in choices)
        ]
    return weights


def covering_and_mbo(cells: Cells, labels: Labels, background: Any) -> list[float | None]:
    """Both as `score` has them, means over the annotators."""
    tables = cells.overlaps(labels)
    overlaps = [value for table in tables if (value := mean_best_overlap(table, background)) is not None]
    return [float(np.mean([cover(table) for table in tables])), float(np.mean(overlaps)) if overlaps else None]
