"""Islands against people's outlines, in the field's own measures.

All take label maps of one shape, (H, W) integers; names of labels play no part, but that a negative label in the truth
is void. The measures of regions are `probes.overlap`'s, those of boundaries `probes.outlines`'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.outlines import TOLERANCE, Outlines, boundary_f
from probes.overlap import (
    Background,
    Map,
    Overlap,
    cover,
    information,
    matched_iou,
    mean_best_overlap,
    overlap,
    rand,
    rand_of_objects,
    rand_on_one_ground,
    ranks,
)

__all__ = [
    "TOLERANCE",
    "Background",
    "Map",
    "Outlines",
    "adjusted_rand",
    "boundary_f",
    "covering",
    "fg_ari",
    "human_score",
    "mbo",
    "miou",
    "nmi",
    "panoptic_ari",
    "score",
]


def adjusted_rand(truth: Map, found: Map) -> float:
    """Adjusted Rand index of `truth` and `found`, (H, W) (Hubert & Arabie 1985): scikit-learn's; 0 by chance."""
    return rand(overlap(truth, found))


def fg_ari(truth: Map, found: Map, background: Background = 0) -> float | None:
    """ARI of `found` where `truth` is not `background`, (H, W) (Greff et al. 2019); None where that is nowhere."""
    return rand_of_objects(overlap(truth, found), background)


def panoptic_ari(truth: Map, found: Map) -> float:
    """ARI of `truth` and `found`, (H, W), segments of the background too (P-ARI, Didolkar et al. 2025)."""
    return rand(overlap(truth, found))


def nmi(truth: Map, found: Map) -> float:
    """Mutual information of `truth` and `found`, (H, W), over the mean of both entropies, as scikit-learn's."""
    return information(overlap(truth, found))


def covering(truth: Map, found: Map) -> float:
    """Segmentation covering of the truth by what was found (Arbelaez et al. 2011, section 2.3.3), in (0, 1].

    (1/N) Σ_R |R| max_R' |R ∩ R'| / |R ∪ R'|, R over the truth's regions and R' over those found.
    """
    return cover(overlap(truth, found))


def mbo(truth: Map, found: Map, background: Background = None) -> float | None:
    """Mean best overlap (Pont-Tuset et al. 2017): the mean over true objects of the best IoU with a region found.

    Args:
        truth: instances give mBO_i, classes mBO_c (Seitzer et al. 2023).
        background: labels that are no objects.

    Returns:
        In (0, 1]; None without objects.
    """
    return mean_best_overlap(overlap(truth, found), background)


def miou(truth: Map, found: Map, background: Background = None) -> float | None:
    """Mean IoU of true objects and regions matched one to one so that it is greatest; one left over is 0 (Kuhn 1955).

    Args:
        truth: (H, W) labels; negative where void. found: (H, W).
        background: labels that are no objects.

    Returns:
        In [0, 1]; None without objects.
    """
    return matched_iou(overlap(truth, found), background)


def score(
    truths: Sequence[Map],
    found: Map,
    outlines: Outlines,
    background: Background = None,
    against: Sequence[int] | None = None,
    classes: Map | None = None,
    one_to_one: bool = False,
) -> dict[str, float | None]:
    """One partition against all annotators of a picture, at the masks' size.

    Args:
        truths: (H, W) each; negative where void.
        found: (H, W).
        outlines: of `truths`.
        background: the labels of what is no object, or None where the annotation has none.
        against: indices of the annotators asked (default: all).
        classes: (H, W), the objects' classes, 0 the background and negative where void; None where there are none.
        one_to_one: also measure `boundary_f_matched`, which takes ten times as long as all the others.

    Returns:
        Means over annotators. `ari`: all that is background as one region. `panoptic_ari`: every segment of it by
        itself. `fg_ari` (None without a background), `mbo` and `miou` (None without objects): of objects alone.
        `mbo_class`: mbo of the classes, None without. `nmi`. `covering`: over people as Arbelaez et al. 2011 (section
        2.3.3) average; `covering_best`: the annotator that fits best, which is higher and no published measure;
        `boundary_f`, `Outlines.f_measure`; `boundary_f_matched`, `Outlines.matched_f`, where it is asked for.
    """
    chosen = list(range(len(truths))) if against is None else list(against)
    ranked = ranks(found)[1]
    tables = [outlines.regions[i].overlap(found, ranked) for i in chosen]
    rows = [_of_regions(table, background) for table in tables]
    return {
        **{measure: _mean([row[measure] for row in rows]) for measure in rows[0]},
        "mbo_class": None if classes is None or not (classes > 0).any() else mbo(classes, found, 0),
        "covering_best": max(cover(table) for table in tables),
        "boundary_f": outlines.f_measure(found, chosen),
        **({"boundary_f_matched": outlines.matched_f(found, chosen)} if one_to_one else {}),
    }


def _of_regions(table: Overlap, background: Background) -> dict[str, float | None]:
    return {
        "ari": rand_on_one_ground(table, background),
        "fg_ari": None if background is None else rand_of_objects(table, background),
        "panoptic_ari": rand(table),
        "nmi": information(table),
        "covering": cover(table),
        "mbo": mean_best_overlap(table, background),
        "miou": matched_iou(table, background),
    }


def human_score(
    truths: Sequence[Map], outlines: Outlines, background: Background = None, one_to_one: bool = False
) -> dict[str, float | None] | None:
    """Each annotator as if a machine, against all the others, averaged; None for fewer than two annotators."""
    if len(truths) < 2:
        return None
    rows = []
    for i in range(len(truths)):
        others = [j for j in range(len(truths)) if j != i]
        rows.append(score(truths, truths[i], outlines, background, others, one_to_one=one_to_one))
    return {key: _mean([row[key] for row in rows]) for key in rows[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
