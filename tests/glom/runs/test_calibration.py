"""Measures of trust: their known values, scikit-learn's, and that a weight of two is a picture twice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from glom.runs.calibration import auroc, brier, calibration_error, draws, mean, percentiles

RNG = np.random.default_rng(0)


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


def test_a_calibrated_method_has_no_error_and_a_sure_wrong_one_all() -> None:
    right = np.array([1] * 8 + [0] * 2)
    assert calibration_error(ones(10), np.full(10, 0.8), right)[0] == pytest.approx(0)
    assert calibration_error(ones(10), np.ones(10), np.zeros(10))[0] == pytest.approx(1)
    # Two bins of five: |0.6 - 0.9| and |0.2 - 0.3|.
    p, hit = np.repeat([0.9, 0.3], 5), np.array([1, 1, 1, 0, 0, 1, 0, 0, 0, 0])
    assert calibration_error(ones(10), p, hit)[0] == pytest.approx((0.3 + 0.1) / 2)


def test_bins_are_closed_above() -> None:
    """1/15 belongs to the first bin and what is above it to the second: apart, their gaps do not cancel."""
    edge = 1 / 15
    together = calibration_error(ones(2), [edge, edge - 0.01], [1, 0])[0]
    apart = calibration_error(ones(2), [edge + 1e-6, edge - 0.01], [1, 0])[0]
    assert together == pytest.approx(abs((1 - edge) + (0 - edge + 0.01)) / 2)
    assert apart == pytest.approx((abs(1 - edge) + abs(edge - 0.01)) / 2, abs=1e-5)


def test_brier_is_scikit_learns_and_its_definition() -> None:
    p = RNG.dirichlet(np.ones(4), 50)
    labels = RNG.integers(0, 4, 50)
    found = brier((p**2).sum(1), p[np.arange(50), labels])
    np.testing.assert_allclose(found, ((p - np.eye(4)[labels]) ** 2).sum(1))
    two = RNG.random(30)
    right = RNG.integers(0, 2, 30)
    ours = brier(two**2 + (1 - two) ** 2, np.where(right, two, 1 - two)).mean()
    assert ours == pytest.approx(2 * brier_score_loss(right, two))  # two classes: both terms, hence twice


@pytest.mark.parametrize("digits", [1, 8])  # with many ties, and with none
def test_auroc_is_scikit_learns(digits: int) -> None:
    scores, positive = RNG.random(200).round(digits), RNG.random(200) < 0.3
    assert auroc(ones(200), scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores))
    weights = RNG.integers(0, 4, (5, 200)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(auroc(weights, scores, positive), expected)


def test_what_cannot_be_measured_is_no_number() -> None:
    assert np.isnan(auroc(ones(3), [0.1, 0.2, 0.3], [True] * 3)[0])
    assert np.isnan(mean(np.zeros((1, 3)), [1, 2, 3])[0])
    assert np.isnan(calibration_error(np.zeros((1, 2)), [0.5, 0.5], [1, 0])[0])


@pytest.mark.parametrize("measure", [calibration_error, auroc])
def test_a_weight_of_two_is_a_picture_twice(measure) -> None:
    p, right = RNG.random(40), RNG.random(40) < 0.5
    counts = RNG.integers(0, 3, 40)
    twice = np.repeat(np.arange(40), counts)
    assert measure(counts[None].astype(float), p, right)[0] == pytest.approx(
        measure(ones(len(twice)), p[twice], right[twice])[0]
    )


def test_draws_are_seeded_and_every_picture_is_drawn_once_on_average() -> None:
    first, again = (np.concatenate([w for [w] in draws(30, seed=1, resamples=500)]) for _ in range(2))
    assert (first == again).all()
    assert first.shape == (500, 30) and (first.sum(1) == 30).all()
    assert first.mean(0) == pytest.approx(np.ones(30), abs=0.25)
    big = list(draws(3_000_000, 20, 0, resamples=3))
    assert [[x.shape for x in block] for block in big] == [[(1, 3_000_000), (1, 20), (1, 0)]] * 3


def test_the_interval_of_a_mean_has_the_normal_width() -> None:
    values = RNG.standard_normal(400)
    low, high = percentiles(np.concatenate([mean(w, values) for [w] in draws(400)]), 400) or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert percentiles(np.zeros(10), 19) is None
    assert percentiles(np.array([np.nan] * 5 + [1.0] * 5), 100) is None
