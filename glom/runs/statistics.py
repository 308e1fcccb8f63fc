"""Paired statistics: the same samples seen by two methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

FEWEST = 20  # samples below which no table prints an interval


def bootstrap_ci(values: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron & Tibshirani 1993, chapter 13).

    For a paired difference give each sample's difference: pairs are then resampled together.

    Args:
        values: (n,) one number a sample.
        level: coverage.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        (low, high), in the units of `values`; (nan, nan) for no values.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks, so that memory stays small for 50,000 samples.
    block = max(1, 4_000_000 // x.size)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        means[start : start + count] = x[rng.integers(0, x.size, (count, x.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval(values: ArrayLike) -> list[float] | None:
    """`bootstrap_ci` of a table's cell, to four places; None below `FEWEST` values, where there is none to speak of.

    Of two pictures the interval would be their own two scores.

    Example:
        >>> interval([0.0, 100.0]) is None
        True
    """
    if np.size(values) < FEWEST:
        return None
    low, high = bootstrap_ci(values)
    return [round(low, 4), round(high, 4)]


def mcnemar_exact(first: ArrayLike, second: ArrayLike) -> float:
    """Exact two-sided McNemar p-value: a binomial test on the discordant pairs (McNemar 1947; Edwards 1948).

    Args:
        first, second: (n,) booleans, whether each method was right on each sample.

    Returns:
        p in [0, 1]; 1.0 where the two never differ.

    Example:
        >>> round(mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]), 4)
        0.0625
    """
    from scipy.special import bdtr  # a tenth of what scipy.stats takes to load

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    if only_first + only_second == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def holm(p_values: ArrayLike) -> list[float]:
    """Holm's step-down correction for the number of comparisons (Holm 1979). Same order as given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order])
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1.0)
    return [float(x) for x in result]
