"""A layer's features replaced: at which locations, by what, and nothing else; the hook comes off however it ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glom.backbones.base import Backbone
from glom.backbones.patching import region_cells
from glom.backbones.video import clip_for, feature_grids, load_backbone
from glom.errors import InputError
from tests.conftest import make_image

PICTURE, OTHER = make_image(0, (60, 40)), make_image(1, (30, 90))


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("mvit-v2-tiny", "cpu")


def hooks(backbone: Backbone) -> int:
    return sum(len(module._forward_hooks) for module in backbone.model.modules())


def patched(backbone, *patch, clip=None):
    clip = clip_for(backbone, PICTURE, 2, 32) if clip is None else clip
    with backbone.patch(*patch):
        return feature_grids(backbone, clip)


def test_its_own_features_change_nothing_and_others_only_what_follows(tiny):
    clip = clip_for(tiny, PICTURE, 2, 32)
    plain = feature_grids(tiny, clip)
    same = patched(tiny, 2, "all", plain[2])
    assert all(torch.equal(same[layer], plain[layer]) for layer in plain)
    found = patched(tiny, "blocks.2", (0.4, 0.6), "zero")
    assert all(torch.equal(found[layer], plain[layer]) for layer in (0, 1))
    assert not any(torch.equal(found[layer], plain[layer]) for layer in (2, 3, 4, 5))
    changed = (found[2] != plain[2]).any(-1)[0]
    assert changed.sum() == 1 and changed[int(0.6 * 8), int(0.4 * 8)] and not found[2][0, 4, 3].any()
    assert tuple(changed.shape) == (8, 8) and hooks(tiny) == 0
    name, chances = tiny.classify(clip)
    with tiny.patch(4, "all", "zero"):
        assert not torch.equal(tiny.classify(clip)[1], chances)
    assert len(name) == len(chances) == 10 and float(chances.sum()) == pytest.approx(1)


def test_what_is_put_in(tiny):
    plain = feature_grids(tiny, clip_for(tiny, PICTURE, 2, 32))[3]
    other = feature_grids(tiny, clip_for(tiny, OTHER, 2, 32))[3]
    box = (0.0, 0.0, 0.5, 1.0)
    mean = patched(tiny, 3, box, "mean")[3]
    torch.testing.assert_close(mean[:, :, :4], plain.mean((1, 2), keepdim=True).expand_as(plain)[:, :, :4])
    with tiny.patch(3, box, OTHER, 2, 32):
        mixed = feature_grids(tiny, clip_for(tiny, PICTURE, 2, 32))[3]
    assert torch.equal(mixed[:, :, :4], other[:, :, :4]) and torch.equal(mixed[:, :, 4:], plain[:, :, 4:])
    vector = torch.arange(96.0)
    assert torch.equal(patched(tiny, -3, np.ones((5, 7), bool), vector)[3], vector.expand_as(plain))


def test_the_hook_comes_off_whatever_happens(tiny):
    with pytest.raises(KeyError), tiny.patch(0, "all", "zero"):
        raise KeyError("inside")
    clip = clip_for(tiny, PICTURE, 2, 32)
    for value, says in ((torch.zeros(5), "(D,)"), (torch.zeros(3, 3, 96), "(3, 3, 96)")):
        with pytest.raises(InputError, match=says.replace("(", r"\(").replace(")", r"\)")):
            patched(tiny, 2, "all", value, clip=clip)
    assert hooks(tiny) == 0
    with tiny.patch(1, "all", "zero"), tiny.patch(1, (0.5, 0.5), torch.ones(96)):
        both = feature_grids(tiny, clip)[1]
    assert both.sum() == 96 and hooks(tiny) == 0


@pytest.mark.parametrize(
    ("layer", "region", "value", "says"),
    [
        ("blocks.9", "all", "zero", "did you mean blocks."),
        (6, "all", "zero", "layers 0 to 5"),
        (0, (0.5, 1.2), "zero", "outside of the picture"),
        (0, (0.5, 0.5, 0.2, 0.9), "zero", "is empty"),
        (0, (0.5,), "zero", "a region is"),
        (0, "some", "zero", "unknown region"),
        (0, np.zeros((4, 4), bool), "zero", "marks no location"),
        (0, np.zeros((4, 4)), "zero", "booleans"),
        (0, "all", "zeros", "did you mean zero"),
    ],
)
def test_requests_that_are_wrong(tiny, layer, region, value, says):
    with pytest.raises(InputError, match=says), tiny.patch(layer, region, value):
        pass
    assert hooks(tiny) == 0


def test_cells_of_a_region():
    assert region_cells((1.0, 1.0), 3, 4).nonzero() == (2, 3)
    assert region_cells((0.49, 0.49, 0.51, 0.51), 4, 4).sum() == 1  # no centre inside: the cell of its middle
    mask = np.zeros((40, 40), bool)
    mask[:20, :10] = True
    assert region_cells(mask, 4, 4).nonzero()[0].tolist() == [0, 1] and region_cells(mask, 80, 80).sum() == 800
    mask[:] = False
    mask[0, 0] = True
    with pytest.raises(InputError, match="2 x 2 grid by half"):
        region_cells(mask, 2, 2)
