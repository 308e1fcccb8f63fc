"""Known answers for the paired statistics."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glom.runs.statistics import bootstrap_ci, holm, mcnemar_exact


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


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(0, 25), st.integers(0, 25))
def test_mcnemar_is_the_binomial_sum(b, c):
    a = [1] * b + [0] * c + [1]
    other = [0] * b + [1] * c + [1]
    tail = sum(comb(b + c, k) for k in range(min(b, c) + 1))
    assert mcnemar_exact(a, other) == pytest.approx(min(1.0, 2 * tail / 2 ** (b + c)), abs=1e-12)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_its_definition(p_values):
    """p_i corrected = the largest of (m - j + 1) p_(j) over all (j) up to i's place, at most 1."""
    m, ordered = len(p_values), sorted(p_values)
    expected = [min(1.0, max((m - j) * q for j, q in enumerate(ordered) if q <= p)) for p in p_values]
    assert holm(p_values) == pytest.approx(expected, abs=1e-12)
