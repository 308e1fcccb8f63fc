"""Levels measured on held-out composites, whatever network they are of: how many islands, and ARI against the masks.

A GLOM has levels, a forward-forward network with local fields has layers; either is a function from pictures to states
at places, (T, B, h, w, L, d): iterations, pictures, rows, columns, levels, width. Beside every figure stand the same
network untrained and, where there is a truth, colour + position of the pixels averaged to the same grid. All intervals
are 95 % bootstrap over pictures, all differences paired.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glom.colours import Array
from glom.datasets.composites import CompositeBatch, Composites
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from probes.agreement import neighbour_agreement, resize_grid
from probes.levels import both_ari, centred, island_counts
from probes.partition import colour_position

BATCH = 16
OTHERS = (0.7, 0.8, 0.9, 0.95)  # thresholds the count is also given at
MEASURES = ("islands", "islands_raw", "neighbour_agreement", "ari_wholes", "ari_parts")
ARIS = ("ari_wholes", "ari_parts")

Look = Callable[[Tensor], NDArray[np.float32]]
Rows = list[list[dict[str, float]]]  # a picture, a level


class Levels(TypedDict):
    """What `score_levels` finds: a row a level by every measure, with its intervals, and what it stands beside."""

    levels: list[dict[str, Any]]
    untrained: list[dict[str, Any]]
    pixels: dict[str, Any]
    differences: dict[str, list[dict[str, list[float]]]]
    iterations: list[list[dict[str, Any]]]
    thresholds: dict[str, dict[str, list[float]]]


def score_levels(
    networks: Mapping[str, Look],
    made: Composites,
    total: int,
    folder: RunFolder,
    threshold: float,
    seed: int,
    read: int = -1,
    show: Callable[[Tensor], Tensor] | None = None,
) -> Generator[Event[Any], None, tuple[Levels, Tensor]]:
    """Score the first composites, a line a picture in `folder`, yielding events.

    Args:
        networks: `trained` and `untrained`: pictures (B, 3, S, S) in [0, 1] -> states (T, B, h, w, L, d).
        made: the composites, side S.
        total: how many pictures.
        threshold: cosine from which neighbours are one island.
        seed: of k-means.
        read: the iteration whose levels are scored, counted from 0, the last one at -1.
        show: what a network is given of pictures, the same shape, where that is not all; the pixels that stand beside
            it are these.

    Returns:
        `levels`, `untrained`, `pixels`, `differences`, `iterations` and `thresholds` of a summary, and the pictures
        shown, (total, 3, S, S).
    """
    states: dict[str, list[Array]] = {n: [] for n in networks}
    early: list[NDArray[np.float32]] = []
    truths: list[CompositeBatch] = []
    shown: list[Tensor] = []
    for begin in range(0, total, BATCH):
        batch = made.batch(range(begin, min(begin + BATCH, total)))
        truths.append(batch)
        shown.append(show(batch.images) if show else batch.images)
        for which, look in networks.items():
            found = look(shown[-1])
            states[which].append(found[read])
            if which == "trained":
                early.append(found)
        yield Event("looking", min(begin + BATCH, total), total)
    whole = {which: np.concatenate(parts) for which, parts in states.items()}
    flat = {which: centred(x) for which, x in whole.items()}
    wholes, parts = (torch.cat([getattr(t, k) for t in truths]).numpy() for k in ("masks", "parts"))
    images = torch.cat(shown)
    rows: dict[str, Rows] = {which: [] for which in networks}
    pixels: list[dict[str, float]] = []
    for i in range(total):
        for which in networks:
            rows[which].append(measure(whole[which][i], flat[which][i], wholes[i], parts[i], threshold, seed))
        small = resize_grid(images[i].permute(1, 2, 0).numpy(), *whole["trained"].shape[1:3])
        pixels.append(both_ari(colour_position(small.clip(0, 1)), wholes[i], parts[i], seed, False))
        folder.append({"id": str(i), "index": i, **{w: rows[w][i] for w in networks}, "pixels": pixels[i]})
        yield Event("scoring", i + 1, total)
    return {
        "levels": summarise(rows["trained"]),
        "untrained": summarise(rows["untrained"]),
        "pixels": mean_and_interval(pixels, ARIS),
        "differences": differences(rows, pixels),
        "iterations": by_iteration(np.concatenate(early, 1), threshold),
        "thresholds": {str(t): _counts(flat, t) for t in OTHERS},
    }, images


def measure(
    state: Array,
    flat: Array,
    wholes: NDArray[np.int64],
    parts: NDArray[np.int64],
    threshold: float,
    seed: int,
) -> list[dict[str, float]]:
    """One picture's levels: (h, w, L, d), as they are and without the levels' means, against its masks (H, W)."""
    raw, own = np.moveaxis(state, 2, 0), np.moveaxis(flat, 2, 0)
    counts, raw_counts = island_counts(own, threshold), island_counts(raw, threshold)
    return [
        {
            "islands": float(counts[level]),
            "islands_raw": float(raw_counts[level]),
            "neighbour_agreement": neighbour_agreement(own[level]),
            **both_ari(own[level], wholes, parts, seed),
        }
        for level in range(len(own))
    ]


def mean_and_interval(rows: Sequence[dict[str, float]], measures: Sequence[str]) -> dict[str, Any]:
    """`{measure: mean, ..., "ci95": {measure: [low, high]}}`."""
    values = {m: [row[m] for row in rows] for m in measures}
    means: dict[str, Any] = {m: float(np.mean(v)) for m, v in values.items()}
    return means | {"ci95": {m: list(bootstrap_ci(v)) for m, v in values.items()}}


def summarise(rows: Rows) -> list[dict[str, Any]]:
    """Means over pictures, a row a level, numbered from 1."""
    return [
        {"level": level + 1, **mean_and_interval([row[level] for row in rows], MEASURES)}
        for level in range(len(rows[0]))
    ]


def differences(
    rows: Mapping[str, Rows], pixels: Sequence[dict[str, float]]
) -> dict[str, list[dict[str, list[float]]]]:
    """Paired differences, `[mean, low, high]` each.

    Returns:
        `fall`: islands of a level minus those of the next one up, for every level but the top;
        `untrained`: trained minus untrained, and `pixels`: trained minus pixels, for every level.
    """
    own, twin = rows["trained"], rows["untrained"]
    levels = range(len(own[0]))

    def paired(values: list[float]) -> list[float]:
        return [float(np.mean(values)), *bootstrap_ci(values)]

    fall = [{"islands": paired([r[k]["islands"] - r[k + 1]["islands"] for r in own])} for k in levels[:-1]]
    twins = [
        {m: paired([a[k][m] - b[k][m] for a, b in zip(own, twin, strict=True)]) for m in ("islands", *ARIS)}
        for k in levels
    ]
    plain = [{m: paired([a[k][m] - b[m] for a, b in zip(own, pixels, strict=True)]) for m in ARIS} for k in levels]
    return {"fall": fall, "untrained": twins, "pixels": plain}


def by_iteration(states: NDArray[np.float32], threshold: float) -> list[list[dict[str, Any]]]:
    """Islands after every iteration: (T, N, h, w, L, d) -> T rows of L `{"islands", "ci95"}`."""
    result = []
    for state in states:
        flat = np.moveaxis(centred(state), 3, 0)
        counts = [island_counts(level, threshold) for level in flat]
        result.append([{"islands": float(c.mean()), "ci95": list(bootstrap_ci(c))} for c in counts])
    return result


def _counts(flat: dict[str, Array], threshold: float) -> dict[str, list[float]]:
    return {w: [float(island_counts(x, threshold).mean()) for x in np.moveaxis(s, 3, 0)] for w, s in flat.items()}


def verdict(result: Mapping[str, Any], word: str = "level") -> list[str]:
    """What the figures say, in sentences: a claim only where an interval stands behind it.

    Args:
        result: with all that `score_levels` returns.
        word: what a level of this network is called.
    """
    lines = _falls(result, word) if len(result["levels"]) > 1 else []
    for measure, name in (("ari_wholes", "wholes"), ("ari_parts", "parts")):
        best = max(range(len(result["levels"])), key=lambda k: result["levels"][k][measure])
        claims = []
        for other in ("pixels", "untrained"):
            mean, low, high = result["differences"][other][best][measure]
            where = "above" if low > 0 else "below" if high < 0 else "not apart from"
            claims.append(f"{where} {other} ({mean:+.3f} [{low:+.3f}, {high:+.3f}])")
        value = result["levels"][best][measure]
        lines.append(f"{name}: best {word} {best + 1}, ARI {value:.3f}: {', '.join(claims)}")
    return lines


def _falls(result: Mapping[str, Any], word: str) -> list[str]:
    fall = [d["islands"] for d in result["differences"]["fall"]]
    twin = [u["islands"] for u in result["untrained"]]
    falls = [low > 0 for _, low, _ in fall]
    steps = ", ".join(f"{k + 1}->{k + 2} {m:+.1f} [{a:+.1f}, {b:+.1f}]" for k, (m, a, b) in enumerate(fall))
    state = f"fall at every {word}" if all(falls) else f"fall at some {word}s only" if any(falls) else "do not fall"
    lines = [f"islands {state} ({word} minus the next one up, 95 %: {steps})"]
    others = {t: all(a > b for a, b in pairwise(c["trained"])) for t, c in result["thresholds"].items()}
    agreeing = [t for t, falling in others.items() if falling]
    opposed = [t for t in others if t not in agreeing]
    lines.append(
        f"their number falls with every {word} at the thresholds {', '.join(agreeing) or 'none'}; "
        f"not at {', '.join(opposed) or 'none'}"
    )
    if all(a > b for a, b in pairwise(twin)):
        lines.append("the untrained network's fall as well: averaging alone does that")
    return lines
