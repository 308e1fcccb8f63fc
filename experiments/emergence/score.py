"""Islands of every layer against the masks of composites, beside colour + position, and what may be concluded.

Every grid is cut in two ways: as it is ("plain"), and after each location has taken the mean of its surroundings
("settled"). A unit that answers to a texture answers to one phase of it, so its features flicker from place to place
within one object; the mean over a window wider than the texture's period is what stays. Baselines are cut in the same
two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from experiments.emergence.data import HeldOut
from glom.colours import Array
from glom.runs.statistics import bootstrap_ci
from probes.agreement import neighbour_agreement, resize_grid, unit
from probes.metrics import adjusted_rand, fg_ari, nmi
from probes.partition import Labels, Partition, colour_position, count_islands, enlarge, partition

CUTS = ("plain", "settled")
MEASURES = ("ari", "fg_ari", "nmi")
WANTED = {"gain": 0.15, "pixels": 0.2, "accuracy": 0.9}
UNMASKED = 5  # clusters where nobody knows how many objects there are
SURROUNDINGS = 0.3  # side of the window, as a share of the picture's
Rows = dict[str, list[float]]  # measure -> one value a picture
Cuts = dict[str, Rows]


def settle(features: Array) -> Array:
    """Every location's vector becomes the mean over a square window around it: (h, w, F) -> the same shape.

    At the border the picture is mirrored, so that a border is no feature.
    """
    from scipy.ndimage import uniform_filter

    window = 2 * round(SURROUNDINGS * features.shape[0] / 2) + 1 if features.shape[0] > 3 else 1
    return uniform_filter(features, (window, window, 0), mode="reflect").astype(np.float32)


def cut(features: Array, clusters: int, seed: int) -> dict[str, Labels]:
    """k-means on the features as they are, and settled: (h, w, F) -> (h, w) labels for each of `CUTS`."""
    how = Partition("kmeans", clusters)
    return {
        "plain": partition(features, how, seed, cosine=False),
        "settled": partition(settle(features), how, seed, cosine=False),
    }


def directions(grid: Array, side: int) -> Array:
    """A layer's grid at one size for all layers, each feature vector of length 1: (h, w, F) -> (side, side, F)."""
    return unit(grid if grid.shape[:2] == (side, side) else resize_grid(grid, side, side))


def score_grids(grids: Tensor, held: HeldOut, side: int, seed: int) -> Cuts:
    """One layer over the first n held-out pictures, k = objects + 1 (the number is told to every method alike).

    Args:
        grids: (n, h, w, D).
        held: the pictures, at least n of them.
        side: of the grid that is cut, so that layers differ in features and not in fineness.
        seed: of k-means.

    Returns:
        For each of `CUTS`: `ari`, `fg_ari`, `nmi` where there are masks, else `neighbour_agreement` and `islands`; n
        values each.
    """
    found: list[dict[str, dict[str, float]]] = []
    for i, grid in enumerate(grids.numpy()):
        features = directions(grid, side)
        if held.masks is None or held.counts is None:
            labels = cut(features, UNMASKED, seed)
            agreement = {"plain": neighbour_agreement(features), "settled": neighbour_agreement(settle(features))}
            found.append(
                {c: {"neighbour_agreement": agreement[c], "islands": float(count_islands(labels[c]))} for c in CUTS}
            )
        else:
            labels = cut(features, int(held.counts[i]) + 1, seed)
            found.append({c: measures(held.masks[i].numpy(), labels[c]) for c in CUTS})
    return gather(found)


def gather(found: Sequence[dict[str, dict[str, float]]]) -> Cuts:
    """A dictionary a picture -> one of lists."""
    return {c: {m: [f[c][m] for f in found] for m in found[0][c]} for c in found[0]}


def measures(truth: NDArray[np.int64], labels: Labels) -> dict[str, float]:
    """A partition of a grid against a mask, at the mask's size."""
    found = enlarge(labels, *truth.shape)
    front = fg_ari(truth, found)
    return {"ari": adjusted_rand(truth, found), "fg_ari": 1.0 if front is None else front, "nmi": nmi(truth, found)}


def score_pixels(held: HeldOut, count: int, side: int, seed: int) -> dict[str, Cuts]:
    """Colour + position on the same pictures, every pixel by itself ("pixels") and at the grid's size ("cells")."""
    assert held.masks is not None and held.counts is not None
    result: dict[str, Cuts] = {}
    for name in ("pixels", "cells"):
        found = []
        for i in range(count):
            image = held.images[i].permute(1, 2, 0).contiguous().numpy()
            image = image if name == "pixels" else resize_grid(image, side, side)
            labels = cut(colour_position(image.clip(0, 1)), int(held.counts[i]) + 1, seed)
            found.append({c: measures(held.masks[i].numpy(), labels[c]) for c in CUTS})
        result[name] = gather(found)
    return result


def interval(values: Sequence[float]) -> list[float]:
    """[mean, low, high], 95 %."""
    return [round(float(x), 5) for x in (np.mean(values), *bootstrap_ci(values))]


def verdict(
    trained: dict[str, Cuts], untrained: dict[str, Cuts], pixels: dict[str, Cuts], accuracy: Sequence[float]
) -> dict[str, Any]:
    """Whether the islands of the trained network are more than those of both baselines.

    For each of the three, the best of its layers and cuts is chosen by ARI on the pictures of even number; everything
    reported is from those of odd number.

    Args:
        trained, untrained: by layer. pixels: see `score_pixels`.
        accuracy: one value a held-out picture.

    Returns:
        `trained`, `untrained`, `pixels`: `layer`, `cut`, and `ari`, `fg_ari`, `nmi` as [mean, low, high]; paired
        differences in ARI `minus_untrained`, `minus_pixels`; `accuracy`; and under `reached` each condition by itself.
    """
    result: dict[str, Any] = {}
    values: dict[str, list[float]] = {}
    for name, candidates in (("trained", trained), ("untrained", untrained), ("pixels", pixels)):
        every = [(layer, way) for layer, cuts in candidates.items() for way in cuts]
        layer, way = max(every, key=lambda at: float(np.mean(candidates[at[0]][at[1]]["ari"][::2])))
        rows = candidates[layer][way]
        result[name] = {"layer": layer, "cut": way, **{m: interval(rows[m][1::2]) for m in MEASURES}}
        values[name] = rows["ari"][1::2]
    result["n"] = len(values["trained"])
    for name in ("untrained", "pixels"):
        result[f"minus_{name}"] = interval(list(np.array(values["trained"]) - np.array(values[name])))
    result["accuracy"] = interval(accuracy)
    own = result["trained"]["ari"]
    reached = {
        f"{WANTED['gain']} above untrained": result["minus_untrained"][0] >= WANTED["gain"],
        f"{WANTED['gain']} above pixels": result["minus_pixels"][0] >= WANTED["gain"],
        "interval apart from untrained": own[1] > result["untrained"]["ari"][2],
        "interval apart from pixels": own[1] > result["pixels"]["ari"][2],
        f"pixels at most {WANTED['pixels']}": result["pixels"]["ari"][0] <= WANTED["pixels"],
        f"accuracy at least {WANTED['accuracy']}": result["accuracy"][0] >= WANTED["accuracy"],
    }
    result["reached"] = {**reached, "all": all(reached.values())}
    return result
