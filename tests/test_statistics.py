"""Known answers for the paired statistics."""

from __future__ import annotations

import numpy as np
import pytest

from glom.statistics import bootstrap_ci, holm, mcnemar_exact


def test_interval_of_a_constant_is_the_constant():
    assert bootstrap_ci(np.full(20, 3.0)) == (3.0, 3.0)


def test_interval_has_the_normal_width():
    x = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_ci(x)
    assert high - low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.08)
    assert low < x.mean() < high


def test_interval_is_seeded():
    x = np.random.default_rng(1).normal(size=50)
    assert bootstrap_ci(x, seed=4) == bootstrap_ci(x, seed=4)


def test_empty_interval_is_nan():
    assert all(np.isnan(bootstrap_ci([])))


def test_mcnemar_counts_discordant_pairs_alone():
    # 5 against 1 of 6: 2 * (C(6,0) + C(6,1)) / 2^6
    a = np.array([1] * 5 + [0] * 1 + [1] * 50 + [0] * 30)
    b = np.array([0] * 5 + [1] * 1 + [1] * 50 + [0] * 30)
    assert mcnemar_exact(a, b) == pytest.approx(2 * 7 / 64)
    assert mcnemar_exact(a, b) == mcnemar_exact(b, a)


def test_mcnemar_of_equal_methods_is_one():
    assert mcnemar_exact([1, 0, 1], [1, 0, 1]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
