"""The plain machine: known parameter counts, locations in any order, at any resolution."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glom.apm import APM, APMConfig, preset
from glom.columns import Fold, LocationCode, Patch, grid_queries, picture
from glom.errors import InputError
from tests.conftest import make_image


def linear(i: int, o: int) -> int:
    return i * o + o


def count(config: APMConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in APM(config).parameters())


def test_apm_ttt_has_the_published_parameters():
    # Released test-time model: fold, three trunk layers, 768-wide features, colours from [f, T, p], one query, 8 heads.
    # (It also declares a LayerNorm(1024) that its forward never calls: 2,048 dead parameters, left out here.)
    fold = 3 * 14 * 14 + 1
    trunk = linear(2048, 4096) + linear(4096, 2048) + linear(2048, 1024)
    features = linear(1024, 768)
    colours = linear(768 + 2048, 256) + linear(256, 256) + linear(256, 3)
    attention = 768 + linear(768, 3 * 768) + linear(768, 768)
    assert count(preset("apm-ttt")) == fold + trunk + features + colours + attention == 22_820_176


def test_apm_full_has_the_published_parameters():
    # Released grid model: five trunk layers, 1024-wide features, colours from [f, T, p] (1024 * 3), no attention.
    fold = 3 * 14 * 14 + 1
    trunk = linear(2048, 4096) + 2 * linear(4096, 4096) + linear(4096, 2048) + linear(2048, 1024)
    features = linear(1024, 1024)
    colours = linear(3 * 1024, 256) + linear(256, 256) + linear(256, 3)
    assert count(preset("apm-full")) == fold + trunk + features + colours == 54_347_600


def test_fold_is_the_convolution():
    fold = Fold(24, 4, channels=2).double()
    images = torch.randn(3, 3, 24, 24, dtype=torch.float64)
    torch.testing.assert_close(fold(images), fold.conv(images).flatten(1))


def test_location_code_equals_the_published_formula_on_its_own_grid():
    dim, n = 16, 8
    p = LocationCode(dim, n)(grid_queries(n, n)).reshape(n, n, dim)
    w = torch.exp(torch.arange(0.0, dim // 2, 2) * (-torch.log(torch.tensor(10000.0)) / (dim // 2)))
    for y in range(n):
        for x in range(n):
            wanted = torch.stack([torch.sin(x * w), torch.cos(x * w)], -1).flatten()
            torch.testing.assert_close(p[y, x, : dim // 2], wanted, atol=1e-5, rtol=0)
            wanted = torch.stack([torch.sin(y * w), torch.cos(y * w)], -1).flatten()
            torch.testing.assert_close(p[y, x, dim // 2 :], wanted, atol=1e-5, rtol=0)


SMALL = APMConfig(features=8, image_size=16, patch=4, cells=4, trunk=(24, 12), heads=2, rgb=(6,))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from(["mean", "attention", "location"]), st.sampled_from([0, 3]))
def test_order_of_queries_changes_nothing(seed, readout, local_patch):
    generator = torch.Generator().manual_seed(seed)
    apm = APM(APMConfig(**{**vars(SMALL), "readout": readout, "local_patch": local_patch}))
    apm.reset(generator, "default")
    images = torch.randn(2, 3, 16, 16, generator=generator)
    queries = torch.rand(9, 2, generator=generator)
    order = torch.randperm(9, generator=generator)
    a = apm(images, queries, ("features", "rgb", "token"))
    b = apm(images, queries[order], ("features", "rgb", "token"))
    torch.testing.assert_close(a.features[:, order], b.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.rgb[:, order], b.rgb, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.token, b.token, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("local_patch", [0, 3])
def test_unfolded_one_by_one_is_the_same(local_patch):
    apm = APM(APMConfig(**{**vars(SMALL), "local_patch": local_patch}))
    images, queries = torch.randn(1, 3, 16, 16), grid_queries(5, 7)
    T = apm.fold(images)
    whole = apm.unfold(T, queries, images)
    single = torch.cat([apm.unfold(T, q[None], images) for q in queries], dim=1)
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=1e-5)


def test_a_crop_is_part_of_the_grid():
    apm = APM(SMALL)
    T = apm.fold(torch.randn(1, 3, 16, 16))
    whole = apm.unfold(T, grid_queries(4, 4)).reshape(4, 4, -1)
    crop = apm.unfold(T, grid_queries(2, 2, box=(0.5, 0.0, 1.0, 0.5))).reshape(2, 2, -1)
    torch.testing.assert_close(whole[:2, 2:], crop, atol=1e-5, rtol=1e-5)


def test_local_patch_sees_only_its_neighbourhood():
    patch = Patch(3, cells=8)
    a = torch.zeros(1, 3, 64, 64)
    b = a.clone()
    b[..., 40:, 40:] = 1.0
    near, far = torch.tensor([[0.9, 0.9]]), torch.tensor([[0.1, 0.1]])
    assert torch.equal(patch(a, far), patch(b, far))
    assert not torch.equal(patch(a, near), patch(b, near))


def test_location_readout_is_the_feature_there():
    apm = APM(APMConfig(**{**vars(SMALL), "readout": "location", "location": (0.25, 0.75)}))
    images = torch.randn(2, 3, 16, 16)
    wanted = apm.unfold(apm.fold(images), torch.tensor([[0.25, 0.75]]))[:, 0]
    torch.testing.assert_close(apm(images, grid_queries(3, 3), ("token",)).token, wanted)


@pytest.mark.parametrize("initialisation", ["published", "default"])
def test_reset_depends_on_its_generator_alone(initialisation):
    first, second = APM(SMALL), APM(SMALL)
    first.reset(torch.Generator().manual_seed(3), initialisation)
    torch.rand(5)
    second.reset(torch.Generator().manual_seed(3), initialisation)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_published_initialisation_has_its_deviation():
    apm = APM(preset("apm-tiny"))
    apm.reset(torch.Generator().manual_seed(0), "published")
    everything = torch.cat([p.flatten() for p in apm.parameters()])
    assert abs(everything.std().item() - 0.01) < 1e-4
    assert abs(everything.mean().item()) < 1e-4


def test_picture_covers_the_whole_image():
    assert picture(make_image(size=(50, 20)), 32).shape == (3, 32, 32)
    assert picture(make_image(size=(1, 1)), 32).isfinite().all()


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (torch.zeros(0, 2), "no location queries"),
        (torch.tensor([[0.5, 1.5]]), "outside"),
        (torch.tensor([[0.5, float("nan")]]), "outside"),
        (torch.zeros(3, 3), r"\(N, 2\)"),
    ],
)
def test_bad_queries_are_named(queries, words):
    with pytest.raises(InputError, match=words):
        APM(SMALL)(torch.zeros(1, 3, 16, 16), queries)


def test_bad_settings_are_named():
    with pytest.raises(InputError, match="did you mean relu"):
        APMConfig(activation="rellu")
    with pytest.raises(InputError, match="did you mean attention"):
        APMConfig(readout="atention")
    with pytest.raises(InputError, match="did you mean apm-ttt"):
        preset("apm-tt")
    with pytest.raises(InputError, match="multiple"):
        APMConfig(features=30, heads=8)
    with pytest.raises(InputError, match="divide"):
        Fold(30, 14)
    with pytest.raises(InputError, match="fold expects"):
        APM(SMALL)(torch.zeros(1, 3, 8, 8))


def test_the_released_colour_head_ends_in_a_relu_and_ours_does_not():
    """The release's three layers, written down: a ReLU after each, the last one too."""
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    released = APM(replace(SMALL, rgb=(6, 5), rgb_relu=True))
    released.reset(torch.Generator().manual_seed(1), "default")
    plain = APM(replace(SMALL, rgb=(6, 5)))
    plain.load_state_dict(released.state_dict())
    queries = grid_queries(4, 4)
    features = released.unfold(released.fold(images), queries)
    c = torch.cat([features, released.columns(released.fold(images), queries)], dim=-1)
    assert released.rgb_head is not None
    for layer in released.rgb_head:
        c = torch.relu(layer(c))
    found, linear = (apm(images, queries, ("rgb",)).rgb for apm in (released, plain))
    torch.testing.assert_close(found, c)
    assert (linear < 0).any() and torch.equal(found, linear.relu())
