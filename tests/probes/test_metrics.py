"""Islands' measures: known answers, and equality with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from glom.errors import InputError
from probes import metrics
from probes.alike import psnr
from probes.partition import (
    colour_position,
    components,
    count_islands,
    enlarge,
    parse_partition,
    partition,
)


def halves(height: int = 20, width: int = 30, at: int = 15) -> np.ndarray:
    labels = np.zeros((height, width), np.int64)
    labels[:, at:] = 1
    return labels


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_ari_and_nmi_equal_scikit_learn(height, width, a, b, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, a, (height, width)), rng.integers(3, 3 + b, (height, width))
    assert metrics.adjusted_rand(x, y) == pytest.approx(adjusted_rand_score(x.ravel(), y.ravel()), abs=1e-12)
    assert metrics.nmi(x, y) == pytest.approx(normalized_mutual_info_score(x.ravel(), y.ravel()), abs=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 9), st.integers(2, 5), st.integers(1, 5), st.integers(0, 10_000))
def test_foreground_ari_is_scikit_learns_on_the_foreground(side, a, b, seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, a, (side, side)), rng.integers(0, b, (side, side))
    truth[0, 0] = 1
    seen = truth > 0
    assert metrics.fg_ari(truth, found) == pytest.approx(adjusted_rand_score(truth[seen], found[seen]), abs=1e-12)


def test_covering_by_hand_and_against_itself():
    truth = halves(10, 10, 5)
    assert metrics.covering(truth, truth) == 1.0
    assert metrics.covering(truth, np.zeros_like(truth)) == 0.5  # each half: 50 / 100
    quarters = truth * 2 + (np.arange(10) >= 5)[:, None]
    assert metrics.covering(truth, quarters) == 0.5  # the best quarter of a half: 25 / 50
    assert metrics.covering(quarters, truth) == 0.5
    moved = halves(10, 10, 6)
    assert metrics.covering(truth, moved) == pytest.approx(0.5 * 50 / 60 + 0.5 * 40 / 50)


def test_foreground_ari_leaves_the_background_out():
    truth = np.array([[0, 0, 1, 1, 2, 2]])
    found = np.array([[7, 8, 1, 1, 2, 2]])
    assert metrics.fg_ari(truth, found) == 1.0
    assert metrics.adjusted_rand(truth, found) < 1
    assert metrics.fg_ari(np.zeros((2, 2), int), np.ones((2, 2), int)) is None


def test_boundary_f_counts_within_the_tolerance():
    truth = halves(100, 100, 50)
    assert metrics.boundary_f(truth, truth) == 1.0
    assert metrics.boundary_f(truth, halves(100, 100, 51)) == 1.0  # 1 px of 1.06
    assert metrics.boundary_f(truth, halves(100, 100, 53)) == 0.0
    assert metrics.boundary_f(truth, halves(100, 100, 53), tolerance=0.03) == 1.0
    assert metrics.boundary_f(truth, np.zeros_like(truth)) == 0.0
    assert metrics.boundary_f(np.zeros_like(truth), np.zeros_like(truth)) == 1.0
    # Half of what is drawn is right, all of the truth is found.
    both = halves(100, 100, 50) + 2 * halves(100, 100, 80)
    assert metrics.boundary_f(truth, both) == pytest.approx(2 * 0.5 / 1.5)
    # Two annotators: anything near one of them is precise; recall asks for both.
    assert metrics.boundary_f([truth, halves(100, 100, 80)], truth) == pytest.approx(2 * 0.5 / 1.5)


def test_people_against_people():
    a, b = halves(40, 40, 20), halves(40, 40, 24)
    outlines = metrics.Outlines([a, a, b])
    same = metrics.human_score([a, a], metrics.Outlines([a, a]))
    assert same is not None
    assert same["covering"] == same["ari"] == same["nmi"] == same["boundary_f"] == 1.0
    assert same["fg_ari"] is None
    mixed = metrics.human_score([a, a, b], outlines)
    assert mixed is not None and 0.5 < mixed["covering"] < mixed["covering_best"] < 1
    assert metrics.human_score([a], metrics.Outlines([a])) is None
    assert metrics.score([a, b], a, metrics.Outlines([a, b]), background=0)["fg_ari"] is not None


def test_covering_is_the_mean_over_people_as_published_and_the_best_has_its_own_name():
    a, b = halves(40, 40, 20), halves(40, 40, 10)
    found = metrics.score([a, b], a, metrics.Outlines([a, b]))
    other = metrics.covering(b, a)
    assert other < 0.9
    assert found["covering"] == pytest.approx((1 + other) / 2)
    assert found["covering_best"] == 1.0


def test_partitions_of_two_shapes_are_refused():
    with pytest.raises(InputError, match="one shape"):
        metrics.covering(np.zeros((2, 2), int), np.zeros((2, 3), int))


# -- partitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["kmeans:2", "agglomerative:2", "agglomerative:0.5", "agglomerative-grid:2"])
def test_two_directions_are_two_islands(text):
    grid = np.where(halves(6, 8, 4)[..., None] == 1, [1.0, 0.0, 0.1], [0.0, 1.0, 0.1]).astype(np.float32)
    grid *= np.random.default_rng(0).uniform(1, 5, (6, 8, 1)).astype(np.float32)  # length plays no part
    found = partition(grid, parse_partition(text))
    assert metrics.adjusted_rand(halves(6, 8, 4), found) == 1.0


def test_one_colour_is_one_island():
    for text in ("kmeans:6", "agglomerative:6", "agglomerative:0.3+parts", "kmeans:1"):
        for value in (0.0, 3.0):
            labels = partition(np.full((5, 5, 4), value, np.float32), parse_partition(text))
            assert count_islands(labels) == 1
    assert np.isfinite(colour_position(np.full((4, 4, 3), 0.5, np.float32))).all()


def test_fewer_features_than_clusters():
    grid = np.zeros((1, 3, 2), np.float32)
    grid[0, 0], grid[0, 1], grid[0, 2] = (1, 0), (0, 1), (0, 0)
    assert len(np.unique(partition(grid, parse_partition("kmeans:6")))) <= 3
    assert len(np.unique(partition(grid, parse_partition("agglomerative:6")))) <= 3


def test_components_and_enlarging():
    labels = np.array([[0, 1, 0], [0, 1, 0]])
    assert count_islands(labels) == 3
    assert len(np.unique(components(labels))) == 3
    assert count_islands(labels, least=3) == 0
    assert enlarge(labels, 4, 6).tolist() == [[0, 0, 1, 1, 0, 0]] * 4
    assert enlarge(labels, 1, 1).tolist() == [[1]]


@pytest.mark.parametrize("text", ["kmeans", "kmeans:0.3", "kmeans:0", "agglomerative:2.5", "dbscan:3", "kmeans:6+x"])
def test_partitions_that_are_none(text):
    with pytest.raises(InputError, match="`partition`"):
        parse_partition(text)


def test_psnr_is_one_function_and_equals_scikit_images():
    rng = np.random.default_rng(0)
    truth = rng.random((9, 7, 3), dtype=np.float32)
    found = (truth + rng.normal(0, 0.3, truth.shape)).astype(np.float32)
    shown = found.clip(0, 1)
    assert psnr(found, truth) == pytest.approx(peak_signal_noise_ratio(truth, shown, data_range=1.0), rel=1e-6)
    assert psnr(found, truth) == psnr(shown, truth) > -10 * np.log10(np.mean((found - truth) ** 2))
    assert psnr(truth, truth) == 120
    sources = [
        p for d in ("probes", "experiments", "commands", "glom") for p in (Path(__file__).parents[2] / d).rglob("*.py")
    ]
    assert [p.name for p in sources if "10 * np.log10" in p.read_text(encoding="utf-8")] == ["alike.py"]
