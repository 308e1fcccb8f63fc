"""Grids finer than a network's: the views that are learned from, and each way against a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import probes
from glom.backbones.base import Backbone
from glom.columns import grid_queries
from glom.errors import InputError
from probes.agreement import resize_grid
from probes.fields import grid_scores
from probes.finer import WAYS, Fitting, View, average, finer_grids, guided


class Colours(Backbone):
    """A network whose one layer is the mean colour, and its negative, of each eighth of the picture."""

    video = False

    def __init__(self) -> None:
        facts: dict[str, Any] = {"frames": 1, "size": 64, "patch": 1, "mean": (0.0,) * 3, "std": (1.0,) * 3}
        super().__init__("colours", "mean colours", nn.AdaptiveAvgPool2d(8), torch.device("cpu"), **facts)

    @property
    def layers(self) -> list[tuple[str, nn.Module]]:
        return [("pool", self.model)]

    def fit(self, frames: int, size: int) -> list[str]:
        return []

    def run(self, clip: Tensor) -> Tensor:
        return self.model(clip[:, :, 0])

    def grid(self, output: Tensor) -> Tensor:
        return torch.cat([output, -output], 1).permute(0, 2, 3, 1)

    def build(self) -> nn.Module:
        return nn.AdaptiveAvgPool2d(8)


def halves() -> Image.Image:
    """Two colours that meet along a slanted line."""
    y, x = np.mgrid[:64, :64]
    return Image.fromarray(np.where((x + y / 3 < 40)[..., None], (220, 60, 30), (20, 120, 200)).astype(np.uint8))


def test_the_average_reads_each_view_where_it_lies():
    ramp = grid_queries(8, 8)[:, :1].reshape(8, 8, 1)  # the feature is x itself
    half = grid_queries(8, 8, (0.25, 0.25, 0.75, 0.75))[:, :1].reshape(8, 8, 1)
    views = [View((0.0, 0.0, 1.0, 1.0), ramp), View((0.25, 0.25, 0.75, 0.75), half)]
    queries = torch.tensor([[0.5, 0.5], [0.4, 0.6], [0.1, 0.5]])
    torch.testing.assert_close(average(views, queries)[:, 0], queries[:, 0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(views[1].points()[:, 0], half.flatten())


def test_a_guided_grid_is_the_affine_map_that_the_colours_obey():
    rng = np.random.default_rng(0)
    guide = rng.random((32, 24, 3)).astype(np.float32)
    A, b = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    grid = resize_grid(guide, 8, 6) @ A + b
    np.testing.assert_allclose(guided(grid, guide, smooth=1e-9), guide @ A + b, atol=1e-3)
    # Without contrast against `smooth` the window's mean of means is left, interpolated: here a constant.
    flat = np.full((8, 6, 2), 3.0, np.float32)
    np.testing.assert_allclose(guided(flat, guide), np.full((32, 24, 2), 3.0), atol=1e-4)
    ramp = np.arange(8, dtype=np.float32)[:, None, None].repeat(6, 1)
    found = guided(ramp, guide, radius=1, smooth=1e9)
    np.testing.assert_allclose(found[14:18, :, 0].mean(), 3.5, atol=1e-3)


def test_a_field_finds_between_locations_what_the_grid_blurs():
    image, network = halves(), Colours()
    [(layer, found)] = finer_grids(network, image, [0], 4, how=Fitting(views=6, iterations=120))
    pixels = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    truth = np.concatenate([pixels, -pixels], -1)
    scores = {way: grid_scores(found[way], truth)["r2"] for way in WAYS}
    assert layer == 0 and all(found[way].shape == (32, 32, 6) for way in WAYS)
    assert min(scores["apm"], scores["guided"]) > scores["bilinear"] + 0.02, scores


def test_finer_grids_follow_from_the_seed_and_reach_the_library():
    few = Fitting(views=1, iterations=2)
    [(_, first)], [(_, again)], [(_, other)] = (
        list(finer_grids(Colours(), halves(), [0], 2, seed=seed, how=few)) for seed in (0, 0, 1)
    )
    assert np.array_equal(first["apm"], again["apm"]) and not np.array_equal(first["apm"], other["apm"])
    with pytest.raises(InputError, match="2 or more"):
        list(finer_grids(Colours(), halves(), [0], 1))


def test_islands_of_the_library_are_finer_on_request(monkeypatch):
    monkeypatch.setattr("probes.finer.Fitting", lambda: Fitting(views=1, iterations=2))
    found = probes.islands(halves(), Colours(), finer=2)
    assert found.grid().shape == (16, 16, 6) and "2 times finer" in found.notes[-1]
    assert found.labels("kmeans:2").shape == (16, 16)
