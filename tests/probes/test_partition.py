"""Cuts of a grid: every form against known answers, and those of others against a second writing-down."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.ndimage import label
from sklearn.metrics import adjusted_rand_score

from glom.errors import InputError
from probes.agreement import unit
from probes.overlap import Cells, overlap
from probes.partition import Cutting, colour_position, count_islands, enlarge, parse_partition, partition
from probes.partition.forms import Settling
from probes.partition.graph import maskcut, tokencut
from probes.partition.settling import settle

FORMS = (
    *("kmeans:2", "kmeans:auto", "ncut:2", "ncut:auto", "agglomerative:2", "agglomerative:0.5", "agglomerative-grid:2"),
    *("tree:2", "tree", "threshold:0.7", "tokencut", "tokencut:0.4", "maskcut", "maskcut:1"),
    *("kmeans:2+settled", "ncut:2+settled:2:0.05", "tree:2+settled+parts"),
)


def patches(count: int, noise: float = 0.0, size: int = 12, width: int = 16, seed: int = 0):
    """Upright stripes, each around a direction of its own: truth (size, size) and grid (size, size, width)."""
    rng = np.random.default_rng(seed)
    truth = np.broadcast_to(np.arange(size) * count // size, (size, size))
    directions = np.linalg.qr(rng.normal(size=(width, width)))[0][:count]
    grid = directions[truth] + rng.normal(0, noise, (size, size, width))
    return truth, (grid * rng.uniform(1, 4, (size, size, 1))).astype(np.float32)  # length plays no part


@pytest.mark.parametrize("text", FORMS)
def test_two_directions_are_two_islands(text):
    truth, grid = patches(2)
    found = partition(grid, parse_partition(text))
    assert adjusted_rand_score(truth.ravel(), found.ravel()) == 1.0
    assert found.dtype == np.int64 and set(np.unique(found)) == {0, 1}


@pytest.mark.parametrize("text", FORMS)
def test_where_nothing_varies_there_is_one_island(text):
    for value in (0.0, 3.0):
        assert count_islands(partition(np.full((5, 7, 4), value, np.float32), parse_partition(text))) == 1


@pytest.mark.parametrize("text", [*FORMS, "kmeans:500", "ncut:500", "tree:500", "maskcut:500"])
def test_more_islands_than_locations_are_no_more_than_there_are(text):
    grid = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    for cosine in (True, False):
        found = partition(grid, parse_partition(text), cosine=cosine)
        assert found.shape == (3, 4) and 0 <= found.min() <= found.max() < 12
    assert partition(grid[:1, :1], parse_partition(text)).tolist() == [[0]]


@pytest.mark.parametrize("text", FORMS)
def test_colour_and_position_can_be_cut_in_every_way(text):
    pixels = np.zeros((12, 12, 3), np.float32)
    pixels[:, :6] = (0.9, 0.2, 0.1)
    found = partition(colour_position(pixels), parse_partition(text), cosine=False)
    assert len(np.unique(found)) >= 2
    assert not np.intersect1d(found[:, 1], found[:, -2]).size or text.startswith("threshold")


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_eigengap_tells_how_many_there_are(count):
    truth, grid = patches(count, noise=0.05, size=16)
    for text in ("kmeans:auto", "ncut:auto"):
        found = partition(grid, parse_partition(text))
        assert adjusted_rand_score(truth.ravel(), found.ravel()) > 0.99


@pytest.mark.parametrize(
    "text",
    [
        *("kmeans:0.3", "kmeans", "ncut", "ncut:0.3", "tree:0.5", "tree:auto", "threshold", "threshold:3"),
        *("threshold:1.0", "tokencut:2", "maskcut:0", "maskcut:0.5", "agglomerative:auto", "agglomerative:2.5"),
        *("kmeans:2+settled:3", "kmeans:2+settled:0:0.1", "kmeans:2+settled:2:0", "kmeans:2+x", "kmeans:1001", ""),
    ],
)
def test_forms_that_are_none(text):
    with pytest.raises(InputError, match="`partition`"):
        parse_partition(text)


def random_objects(seed: int, size: int = 14):
    """Two blobs on a ground, with noise: (size, size, F)."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((size, size), int)
    truth[2:6, 2:7], truth[8:13, 6:12] = 1, 2
    grid = rng.normal(size=(3, 12))[truth] + rng.normal(0, 0.6, (size, size, 12))
    return unit(grid.astype(np.float32)).reshape(size * size, -1), (size, size)


def published_cut(x, tau):
    """The second generalised eigenvector as both papers have it, its peak positive, and the side above its mean."""
    weights = np.where(x @ x.T > tau, 1.0, 1e-5)
    degrees = np.diag(weights.sum(1))
    y = eigh(degrees - weights, degrees, subset_by_index=[1, 1])[1][:, 0]
    y = y if y[np.abs(y).argmax()] > 0 else -y
    return y, y > y.mean()


@pytest.mark.parametrize("seed", range(4))
def test_tokencut_is_the_published_bipartition(seed):
    x, shape = random_objects(seed)
    y, side = published_cut(x, 0.2)
    objects, _ = label(side.reshape(shape))
    assert 0 < side.sum() < side.size
    np.testing.assert_array_equal(tokencut(x, shape, 0.2), objects == objects[np.unravel_index(y.argmax(), shape)])


@pytest.mark.parametrize("seed", range(4))
def test_maskcut_takes_the_published_masks_one_after_another(seed):
    x, (h, w) = random_objects(seed)
    expected, last, left = np.zeros((h, w), int), np.zeros((h, w), bool), x.copy()
    for number in (1, 2, 3):
        y, side = published_cut(left, 0.15)
        corners = side.reshape(h, w)
        if sum([corners[0, 0], corners[0, -1], corners[-1, 0], corners[-1, -1]]) >= 3:
            y, side = -y, ~side
        objects, _ = label(side.reshape(h, w))
        mask = objects == objects[np.unravel_index(y.argmax(), (h, w))]
        same = (mask & last).sum() / (mask | last).sum()
        if number > 1 and (same > 0.5 or mask.mean() <= 0.01):
            mask = np.zeros((h, w), bool)
        expected[mask & (expected == 0)] = number
        left[mask.ravel()], last = 0, mask
    found = maskcut(x, (h, w), 3)
    np.testing.assert_array_equal(found, expected)
    assert found.max() >= 1


def test_a_trees_parts_lie_within_its_wholes():
    _, grid = patches(4, noise=0.6)
    heights = Cutting(grid).heights()
    assert list(heights) == [2, 3, 4, 6, 8, 12, 16, 24, 32]
    for count, labels in heights.items():
        assert len(np.unique(labels)) == count == count_islands(labels)  # neighbours alone are joined
    for coarse, fine in zip(heights.values(), list(heights.values())[1:], strict=False):
        assert all(len(np.unique(coarse[fine == part])) == 1 for part in np.unique(fine))
    truth, grid = patches(4)
    assert adjusted_rand_score(truth.ravel(), partition(grid, parse_partition("tree")).ravel()) == 1.0


def test_settling_is_attention_of_agreement_on_frozen_features():
    x = unit(np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32))
    state = x.astype(np.float64)
    for _ in range(2):
        moved = np.empty_like(state)
        for i in range(3):
            for j in range(4):
                near = state[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].reshape(-1, 5)
                weights = np.exp(near @ state[i, j] / 0.2)
                moved[i, j] = x[i, j] + state[i, j] + weights @ near / weights.sum()
        state = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    np.testing.assert_allclose(settle(x, Settling(1, 0.2), 2), state, atol=1e-5)


def test_settling_brings_noisy_islands_out():
    truth, grid = patches(3, noise=0.35, size=16)
    ari = {
        text: adjusted_rand_score(truth.ravel(), partition(grid, parse_partition(text)).ravel())
        for text in ("kmeans:3", "kmeans:3+settled:3:0.2")
    }
    assert ari["kmeans:3+settled:3:0.2"] > ari["kmeans:3"] + 0.1


def test_what_several_cuts_share_changes_none_of_them():
    _, grid = patches(3, noise=0.5)
    together = Cutting(grid)
    for text in FORMS:
        how = parse_partition(text)
        np.testing.assert_array_equal(together.labels(how), partition(grid, how))


@pytest.mark.parametrize("size", [(40, 31), (5, 4)])  # larger and smaller than the grid
def test_cuts_are_measured_over_cells_as_over_pixels(size):
    rng = np.random.default_rng(0)
    truths = [rng.integers(-1, 5, size), rng.integers(0, 3, size).astype(np.uint8)]
    labels = rng.integers(0, 6, (9, 8))
    tables = Cells(truths, labels.shape).overlaps(labels)
    for truth, table in zip(truths, tables, strict=True):
        whole = overlap(truth, enlarge(labels, *size))
        for name in ("labels", "row", "column", "count"):
            np.testing.assert_array_equal(getattr(table, name), getattr(whole, name))
