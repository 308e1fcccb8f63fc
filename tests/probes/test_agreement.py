"""Islands as colour: reductions, their cache, agreement, and what the page is given."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glom.colours import pca_rgb
from glom.errors import InputError
from probes import reduction
from probes.agreement import at_most, cosine_to, neighbour_agreement, resize_grid, unit
from probes.figures.islands import island_sheet
from tests.conftest import make_image
from tests.glom.test_compiler import ran


def blobs(side: int = 20, width: int = 16, seed: int = 0) -> np.ndarray:
    """Four quadrants of features around four centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 3, (4, width))
    quadrant = (np.arange(side)[:, None] >= side // 2) * 2 + (np.arange(side) >= side // 2)
    return (centres[quadrant] + rng.normal(0, 0.5, (side, side, width))).astype(np.float32)


def on_the_cube(method: str, side: int) -> None:
    """A reduction keeps to the RGB cube, and to its seed."""
    grid = blobs(side)
    [rgb] = reduction.reduce_rgb([grid], method, seed=1)
    assert rgb.shape == (side, side, 3) and rgb.dtype == np.float32
    assert np.isfinite(rgb).all() and rgb.min() >= 0 and rgb.max() <= 1
    assert np.array_equal(rgb, reduction.reduce_rgb([grid], method, seed=1)[0])


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_every_reduction_keeps_to_the_cube_and_to_its_seed(method):
    on_the_cube(method, 12)


def test_umap_keeps_to_the_cube_and_to_its_seed(monkeypatch):
    """Not compiled: that takes a minute, three times as long as the few points."""
    pytest.importorskip("umap")
    code = "from tests.probes.test_agreement import on_the_cube; on_the_cube('umap', 4)"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert (done := ran(code)).returncode == 0, done.stderr


def test_umap_leaves_torchs_threads_alone(monkeypatch):
    """Its numba sets those of the OpenMP that torch uses too."""

    class UMAP:
        def __init__(self, **settings: object) -> None:
            assert settings["n_components"] == 3

        def fit_transform(self, x: np.ndarray) -> np.ndarray:
            torch.set_num_threads(3)
            return x[:, :3]

    threads = torch.get_num_threads()
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=UMAP))
    assert reduction.reduce_rgb([blobs(4)], "umap")[0].shape == (4, 4, 3)
    assert torch.get_num_threads() == threads != 3


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (3, 3), (6, 6)])
def test_constant_and_tiny_grids(method, shape):
    [flat] = reduction.reduce_rgb([np.full((*shape, 5), 2.5, np.float32)], method)
    assert np.array_equal(flat, np.full((*shape, 3), 0.5, np.float32))
    tiny = np.random.default_rng(0).normal(size=(*shape, 5)).astype(np.float32)
    [rgb] = reduction.reduce_rgb([tiny], method)  # fewer points than the perplexity
    assert np.isfinite(rgb).all() and rgb.shape == (*shape, 3)


def test_repeated_points_do_not_upset_the_affinities():
    points = np.repeat(np.eye(4), 30, axis=0)
    p = reduction.affinities(points, 10.0)
    assert np.isfinite(p.data).all() and p.sum() == pytest.approx(1)
    assert np.isfinite(reduction.fast_tsne(points - points.mean(0), perplexity=10.0)).all()


def test_neighbours_are_the_nearest_others():
    points = np.random.default_rng(0).normal(size=(60, 5))
    apart = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(apart, np.inf)
    neighbour, distance = reduction.nearest(points, 7)
    assert np.array_equal(neighbour, np.argsort(apart, 1)[:, :7])
    assert np.allclose(distance, np.sort(apart, 1)[:, :7])


def test_fast_tsne_is_as_trustworthy_as_scikit_learns():
    x = blobs(22).reshape(-1, 16)
    fast = reduction.trustworthiness(x, reduction.embed(x, "tsne"))
    exact = reduction.trustworthiness(x, reduction.embed(x, "tsne", exact=True))
    assert fast >= exact - 0.005


def test_joint_colours_mean_the_same_in_every_grid():
    grid = blobs(10)
    first, second = reduction.reduce_rgb([grid, grid[::-1].copy()], "pca", joint=True)
    assert np.allclose(first, second[::-1], atol=1e-5)
    with pytest.raises(InputError, match="one width"):
        reduction.reduce_rgb([grid, grid[..., :4]], "pca", joint=True)


def test_relative_features_do_not_know_a_rotation():
    grid = blobs(16)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0].astype(np.float32)
    a, b, small = reduction.relative([grid, grid @ turn, blobs(4, 7)])
    assert a.shape == (16, 16, 64) and small.shape == (4, 4, 64)
    assert np.allclose(a, b, atol=1e-3)


def test_the_cache_is_used_and_a_damaged_entry_is_not(tmp_path, monkeypatch):
    grid = blobs(8)
    [rgb] = reduction.reduce_rgb([grid], "tsne", cache_dir=tmp_path)
    [entry] = tmp_path.iterdir()
    kept = entry.read_bytes()
    monkeypatch.setattr(reduction, "embed", lambda *a, **k: pytest.fail("computed again"))
    assert np.array_equal(reduction.reduce_rgb([grid], "tsne", cache_dir=tmp_path)[0], rgb)
    monkeypatch.undo()
    for damage in (b"", b"no archive", kept[:200], kept[: len(kept) // 2] + b"x" * (len(kept) // 2)):
        entry.write_bytes(damage)
        assert np.array_equal(reduction.reduce_rgb([grid], "tsne", cache_dir=tmp_path)[0], rgb)
    assert len(list(tmp_path.iterdir())) == 1
    reduction.reduce_rgb([grid], "tsne", seed=5, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(reduction, "CACHE_FORMAT", reduction.CACHE_FORMAT + 1)
    reduction.reduce_rgb([grid], "tsne", cache_dir=tmp_path)  # what another version kept is not this one's
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.undo()
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert np.array_equal(reduction.reduce_rgb([grid], "tsne", cache_dir=blocked)[0], rgb)


def test_requests_that_cannot_be_met(monkeypatch):
    with pytest.raises(InputError, match="tsne"):
        reduction.reduce_rgb([blobs(4)], "tsn")
    with pytest.raises(InputError, match="finite"):
        reduction.reduce_rgb([np.full((2, 2, 3), np.nan, np.float32)])
    with pytest.raises(InputError, match="perplexity"):
        reduction.reduce_rgb([blobs(4)], perplexity=0.5)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=r"glom-apm\[umap\]"):
        reduction.reduce_rgb([blobs(8)], "umap")


def test_progress_is_told():
    seen = []
    reduction.reduce_rgb([blobs(4), blobs(5)], "pca", progress=lambda a, b: seen.append((a, b)))
    assert seen == [(1, 2), (2, 2)]


def test_pca_as_before():
    [flat] = pca_rgb(np.zeros((2, 2, 8), np.float32))
    assert (flat == 0.5).all()
    a, b = pca_rgb(blobs(6), blobs(8, seed=1))
    assert a.shape == (6, 6, 3) and b.shape == (8, 8, 3) and a.dtype == np.float32


def test_agreement():
    grid = np.array([[[1, 0], [0, 2]], [[3, 0], [0, 0]]], np.float32)
    assert np.array_equal(unit(grid)[1, 1], [0, 0])
    assert cosine_to(grid, np.array([[5, 0]], np.float32))[..., 0].tolist() == [[1, 0], [1, 0]]
    assert neighbour_agreement(np.ones((3, 3, 2), np.float32)) == pytest.approx(1)
    assert neighbour_agreement(np.ones((1, 1, 2), np.float32)) == 1
    assert neighbour_agreement(grid) == pytest.approx(0.25)


def test_resized_grids():
    grid = blobs(8)
    assert np.allclose(resize_grid(grid, 1, 1)[0, 0], grid.mean((0, 1)), atol=1e-5)
    assert resize_grid(grid, 16, 5).shape == (16, 5, 16)
    assert np.array_equal(resize_grid(grid, 8, 8), grid)
    assert at_most(grid, 56) is grid and at_most(grid, 4).shape == (4, 4, 16)


def test_the_sheet_is_drawn_whatever_it_is_called(tmp_path):
    path = island_sheet(make_image(0, (40, 20)), [("a", layer_colours()) for _ in range(8)], tmp_path / "s.png", "$x_")
    assert path.stat().st_size > 1000


def layer_colours() -> np.ndarray:
    return pca_rgb(blobs(4))[0]
