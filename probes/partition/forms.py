"""How a cut is written: METHOD:NUMBER, then what is done before (`+settled`) and after (`+parts`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from glom.errors import InputError

MOST = 1000
AUTO = "auto"
FORMS = (
    "kmeans:K, ncut:K (normalised cut), either with auto for K by the eigengap; agglomerative:K or :0.3 (cosine "
    "distance), agglomerative-grid:K or :0.3; tree:K or tree (parts within wholes); threshold:0.7 (cosine); tokencut "
    "or tokencut:0.2 (cosine); maskcut or maskcut:N; each with +parts, +settled or +settled:RADIUS:TEMPERATURE"
)
# What may stand behind each method's colon: a count, a fraction, auto, nothing.
TAKES = {
    "kmeans": "count auto",
    "ncut": "count auto",
    "agglomerative": "count fraction",
    "agglomerative-grid": "count fraction",
    "tree": "count nothing",
    "threshold": "fraction",
    "tokencut": "fraction nothing",
    "maskcut": "count nothing",
}
NOTHING: dict[str, tuple[int | None, float | None]] = {
    "tree": (None, None),
    "tokencut": (None, 0.2),  # both as published: Wang et al. 2022, and Wang et al. 2023 with three masks
    "maskcut": (3, None),
}


@dataclass(frozen=True)
class Settling:
    """Agreement attention before the cut; see `probes.partition.settling`.

    Attributes:
        radius: cells that a location attends over, along either axis.
        temperature: of the softmax over cosines.
    """

    radius: int = 3
    temperature: float = 0.1


@dataclass(frozen=True)
class Partition:
    """How a grid is cut.

    Attributes:
        method: one of `TAKES`.
        count: number of clusters (of maskcut: masks at most), or None where a threshold or the grid decides.
        threshold: a fraction: the average cosine distance at which joining stops, in (0, 2); of `threshold` and
            tokencut the cosine from which two locations agree, in (-1, 1). None where a number or the grid decides.
        parts: whether clusters are split into their connected components.
        settled: what is done to the features first, or None.
    """

    method: str = "kmeans"
    count: int | None = 6
    threshold: float | None = None
    parts: bool = False
    settled: Settling | None = None


def parse_partition(text: str) -> Partition:
    """A `text` such as `kmeans:6`, `ncut:auto+settled` or `agglomerative:0.3+parts` -> `Partition`.

    Raises:
        InputError: anything else.

    Example:
        >>> parse_partition("agglomerative:0.3").threshold
        0.3
    """
    more = r"((?:\+parts|\+settled(?::\d{1,3}:(?:\d+|\d*\.\d+))?)*)"
    found = re.fullmatch(r"([a-z-]+)(?::(auto|\d+|\d*\.\d+))?" + more, text.strip())
    number = (found[2] or "nothing") if found else ""
    kind = number if number in (AUTO, "nothing") else "fraction" if "." in number else "count"
    if not found or kind not in TAKES.get(found[1], "").split():
        raise InputError(f"`partition` '{text}' is none of: {FORMS}")
    method, parts, settled = found[1], "+parts" in found[3], _settling(found[3], text)
    if kind == "nothing":
        return Partition(method, *NOTHING[method], parts, settled)
    if kind == "fraction":
        threshold, (low, high) = float(number), (0, 2) if method.startswith("agglomerative") else (-1, 1)
        if not low < threshold < high:
            what = "a cosine distance" if low == 0 else "a cosine"
            raise InputError(f"`partition` '{text}': {what} lies between {low} and {high}")
        return Partition(method, None, threshold, parts, settled)
    if kind == "count" and not 1 <= int(number) <= MOST:
        raise InputError(f"`partition` '{text}': the number of islands must be 1 to {MOST}")
    return Partition(method, int(number) if kind == "count" else None, None, parts, settled)


def _settling(modifiers: str, text: str) -> Settling | None:
    found = re.search(r"\+settled(?::(\d+):([\d.]+))?", modifiers)
    if found is None:
        return None
    if found[1] is None:
        return Settling()
    if int(found[1]) < 1 or float(found[2]) <= 0:
        raise InputError(f"`partition` '{text}': settling needs a radius of 1 cell or more and a temperature above 0")
    return Settling(int(found[1]), float(found[2]))
