"""How far probabilities can be trusted, with intervals over pictures.

Every measure takes weights (R, n), how often each picture was drawn in each of R resamples, and gives R values: with
weights of one it is the measure itself. So measures of several methods, and of several conditions of the same pictures,
are resampled together: what is drawn again is a picture, with all that was answered for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glom.runs.statistics import FEWEST

BINS = 15
RESAMPLES = 2_000
Values = NDArray[np.float64]


def draws(*n: int, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[list[Values]]:
    """Weights (r, n) of `resamples` bootstrap samples of each of several sets of `n` pictures, drawn independently.

    Some resamples at a time, so that memory stays small.
    """
    rng, block = np.random.default_rng(seed), max(1, 4_000_000 // max(1, *n))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        yield [
            rng.multinomial(k, np.full(k, 1 / k), size=size).astype(np.float64) if k else np.empty((size, 0)) for k in n
        ]


def mean(weights: Values, values: ArrayLike) -> Values:
    """(R,): the weighted mean of (n,) values, such as pictures' Brier scores; NaN where all weights are nought."""
    return _ratio(weights @ np.asarray(values, dtype=np.float64), weights.sum(1))


def brier(squares: ArrayLike, p_label: ArrayLike) -> Values:
    """(n,): sum over classes of (p - one where it is the label)^2 (Brier 1950), 0 to 2.

    Args:
        squares: (n,) sum of the squared probabilities. p_label: (n,) the label's probability.
    """
    return np.asarray(squares, dtype=np.float64) - 2 * np.asarray(p_label, dtype=np.float64) + 1


def calibration_error(weights: Values, p: ArrayLike, right: ArrayLike, bins: int = BINS) -> Values:
    """(R,): expected calibration error (Guo et al. 2017, equation 5): |accuracy - confidence| by bins of equal width.

    Args:
        p: (n,) the answer's probability. right: (n,) whether it is the label. bins: (0, 1/M], (1/M, 2/M], ...
    """
    confidence = np.asarray(p, dtype=np.float64)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), which] = np.asarray(right, dtype=np.float64) - confidence
    return _ratio(np.abs(weights @ gaps).sum(1), weights.sum(1))


def auroc(weights: Values, scores: ArrayLike, positive: ArrayLike) -> Values:
    """(R,): the probability that a positive scores above a negative, ties counting half (Hanley & McNeil 1982).

    Args:
        scores, positive: (n,). NaN where positives or negatives are missing.
    """
    values, groups = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(len(values)))
    yes = np.asarray(positive, dtype=bool)[order]
    drawn = weights[:, order]
    ups = np.add.reduceat(drawn * yes, starts, axis=1) if len(order) else drawn
    downs = np.add.reduceat(drawn * ~yes, starts, axis=1) if len(order) else drawn
    below = np.cumsum(downs, axis=1) - downs / 2
    return _ratio((ups * below).sum(1), ups.sum(1) * downs.sum(1))


def percentiles(values: Values, n: int) -> list[float] | None:
    """The 95 % interval of resampled values, to four places; None below `FEWEST` pictures, or where one is no number.

    A resample without a single wrong answer has no AUROC; such are passed over where they are few.
    """
    found = values[np.isfinite(values)]
    if n < FEWEST or len(found) < 0.9 * len(values):
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return [round(float(low), 4), round(float(high), 4)]


def resampled_p(difference: float, values: Values, n: int) -> float | None:
    """Two-sided p of a difference by its resampled standard error (Efron & Tibshirani 1993, section 12.4).

    Counting resamples beyond nought would end at 1 in R, which no correction for many comparisons survives. None where
    there is no interval.
    """
    found = values[np.isfinite(values)]
    if n < FEWEST or len(found) < 0.9 * len(values):
        return None
    error = float(found.std(ddof=1))
    return math.erfc(abs(difference) / error / math.sqrt(2)) if error > 0 else float(difference == 0)


def _ratio(above: Values, below: Values) -> Values:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
