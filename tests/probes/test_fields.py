"""Percepts as fields: paths between columns, running read-outs, orders, grids compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glom.apm import APM, preset
from glom.columns import grid_queries
from glom.errors import InputError
from probes.fields import (
    ORDERS,
    column_path,
    counts_for,
    grid_scores,
    order_locations,
    path_numbers,
    running_tokens,
    unfold_columns,
)


def machine(**changes: object) -> APM:
    return APM(preset("apm-tiny", features=16, trunk=(32, 16), rgb=(8,), **changes)).eval()


@pytest.mark.parametrize("readout", ["attention", "mean", "location"])
def test_a_column_says_what_its_picture_says(readout):
    apm, images, queries = machine(readout=readout), torch.randn(2, 3, 32, 32), grid_queries(5, 7)
    whole = apm(images, queries, ("features", "rgb", "token"))
    found = unfold_columns(apm, apm.fold(images), queries)
    for one, other in ((whole.features, found.features), (whole.rgb, found.rgb), (whole.token, found.token)):
        torch.testing.assert_close(one, other)


def test_a_machine_with_the_local_patch_wants_the_pictures():
    apm, images, queries = machine(local_patch=3), torch.randn(1, 3, 32, 32), grid_queries(3, 3)
    with pytest.raises(InputError, match="local patch"):
        unfold_columns(apm, apm.fold(images), queries)
    found = unfold_columns(apm, apm.fold(images), queries, images)
    torch.testing.assert_close(found.features, apm(images, queries).features)


def test_paths_keep_their_ends_and_the_sphere_its_length():
    a, b = torch.randn(2, 12)
    b = b * a.norm() / b.norm()
    straight, round_ = column_path(a, b, 5), column_path(a, b, 5, "spherical")
    for path in (straight, round_):
        assert torch.equal(path[0], a) and torch.equal(path[-1], b)
    torch.testing.assert_close(straight[2], (a + b) / 2)
    torch.testing.assert_close(round_.norm(dim=-1), a.norm().expand(5))
    angles = torch.arccos(torch.nn.functional.cosine_similarity(round_[1:], round_[:-1], dim=-1))
    torch.testing.assert_close(angles, angles[0].expand(4), atol=1e-4, rtol=1e-3)


def test_paths_that_have_no_arc_or_no_length():
    a = torch.randn(6)
    with pytest.raises(InputError, match="opposite"):
        column_path(a, -2 * a, 3, "spherical")
    torch.testing.assert_close(column_path(a, 3 * a, 3, "spherical")[1], 2 * a)
    torch.testing.assert_close(column_path(torch.zeros(6), a, 3, "spherical")[1], a / 2)
    for steps, path in ((1, "linear"), (3, "liner")):
        with pytest.raises(InputError):
            column_path(a, a, steps, path)


def test_numbers_of_a_straight_and_of_a_resting_path():
    T = column_path(torch.zeros(4), torch.ones(4), 5)
    numbers = path_numbers(T, 3 * T[:, None].expand(5, 7, 4))
    assert numbers["lipschitz"] == pytest.approx(3) == numbers["lipschitz_mean"]
    assert numbers["length"] == pytest.approx(1) and numbers["largest_step"] == pytest.approx(0.25)
    assert numbers["from_first"] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert numbers["from_last"] == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    still = path_numbers(T[:1].expand(5, 4), torch.ones(5, 7, 4))
    assert still["lipschitz"] is None and still["length"] is None


def test_grids_compared():
    truth = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    assert grid_scores(truth, truth) == pytest.approx({"cosine": 1, "r2": 1})
    mean = np.broadcast_to(truth.mean((0, 1)), truth.shape).copy()
    assert grid_scores(mean, truth)["r2"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError):
        grid_scores(truth[:2], truth)


@pytest.mark.parametrize("readout", ["attention", "mean"])
def test_running_tokens_equal_the_readout_of_every_prefix(readout):
    apm, queries = machine(readout=readout), grid_queries(3, 4)
    f = torch.randn(12, 16)
    with torch.no_grad():
        wanted = [apm.read(f[None, :n], queries[:n])[0] for n in range(1, 13)]
    torch.testing.assert_close(running_tokens(apm, f, queries), torch.stack(wanted), atol=1e-5, rtol=1e-5)


def test_orders_are_permutations_with_their_character():
    queries = grid_queries(5, 5)
    for order in ORDERS:
        places = order_locations(queries, order, torch.Generator().manual_seed(0))
        assert sorted(places.tolist()) == list(range(25))
    assert order_locations(queries, "centre")[0] == 12
    spread = order_locations(queries, "spread")[:5]
    assert spread[0] == 12 and set(spread[1:].tolist()) == {0, 4, 20, 24}
    with pytest.raises(InputError, match="random"):
        order_locations(queries, "randon")
    with pytest.raises(InputError, match="location"):
        running_tokens(machine(readout="location"), torch.randn(4, 16), grid_queries(2, 2))


def test_shares_become_counts():
    assert counts_for([0.001, 0.26, 1.0], 64) == [1, 17, 64]
    for shares in ([], [0.0], [1.1]):
        with pytest.raises(InputError):
            counts_for(shares, 64)
