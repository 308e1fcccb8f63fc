"""Networks around slots: what they give back, their masks of pictures of any size, and the file they are kept in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from glom import slots
from glom.errors import InputError
from glom.slots.config import SlotConfig
from glom.slots.model import FeatureSlots, PixelSlots
from glom.slots.trained import TrainedSlots, new_model, save

SMALL = {"slots": 3, "dim": 8, "hidden": 8, "width": 8}
PIXELS = SlotConfig(**SMALL, side=35)
GRIDS = SlotConfig(**SMALL, side=5, features=6)
FACTS = {"backbone": "", "layer": 0, "size": 0}


def noise(config: SlotConfig, batch: int) -> torch.Tensor:
    return torch.randn(batch, config.slots, config.dim, generator=torch.Generator().manual_seed(0))


def test_pixels_are_given_back_at_their_own_size_as_a_mean_under_the_masks():
    for side in (35, 64, 33):
        config = SlotConfig(**SMALL, side=side)
        seen = new_model(config, 0)(torch.rand(2, 3, side, side), noise(config, 2))
        assert seen.given.shape == seen.target.shape == (2, 3, side, side) and seen.masks.shape == (2, 3, side, side)
        torch.testing.assert_close(seen.masks.sum(1), torch.ones(2, side, side))


def test_a_few_locations_asked_are_those_of_all():
    """The decoder is asked location by location, as the APM is: nothing hangs on which others are asked."""
    model, grids = new_model(GRIDS, 0), torch.randn(2, 5, 5, 6)
    assert isinstance(model, FeatureSlots)
    model.centre += 0.5
    model.spread *= 3
    whole, some = model(grids, noise(GRIDS, 2)), model(grids, noise(GRIDS, 2), torch.tensor([3, 24, 0]))
    torch.testing.assert_close(some.given, whole.given[:, [3, 24, 0]])
    torch.testing.assert_close(some.masks, whole.masks[:, :, [3, 24, 0]])
    torch.testing.assert_close(whole.target[1, 7], (grids[1, 1, 2] - 0.5) / 3)
    assert torch.isclose(whole.loss(), ((whole.given - whole.target) ** 2).mean())


def test_masks_have_the_pictures_own_size_and_follow_from_the_seed():
    trained = TrainedSlots(new_model(PIXELS, 0).eval(), FACTS)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    labels = trained.masks(picture)
    assert labels.shape == (50, 70) and labels.dtype == np.int64 and set(np.unique(labels)) <= {0, 1, 2}
    assert np.array_equal(labels, trained.masks(picture)) and not np.array_equal(labels, trained.masks(picture, seed=1))
    assert not np.array_equal(labels, trained.untrained(1).masks(picture))


def test_masks_of_a_backbones_grid():
    model = new_model(SlotConfig(**SMALL, side=8, features=256), 0).eval()
    trained = TrainedSlots(model, {"backbone": "glom-tiny", "layer": 3, "size": 32})
    grid = trained.look(Image.new("RGB", (40, 30), "red"))
    assert grid.shape == (8, 8, 256)
    assert trained.masks(Image.new("RGB", (40, 30), "red")).shape == (30, 40)


@pytest.mark.parametrize("config", [PIXELS, GRIDS], ids=["pixels", "features"])
def test_what_is_kept_is_what_comes_back(config, tmp_path):
    model = new_model(config, 1)
    save(tmp_path, model, {**FACTS, "data": "here"})
    found = slots.load(tmp_path)
    assert found.model.config == config and found.facts["data"] == "here"
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), found.model.state_dict().values(), strict=True)
    )
    assert isinstance(found.model, FeatureSlots if config.features else PixelSlots) and not found.model.training


def test_what_is_no_slots_is_said(tmp_path):
    with pytest.raises(InputError, match="no trained slots"):
        slots.load(tmp_path)
    (tmp_path / "slots.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="no slots"):
        slots.load(tmp_path)
    path = save(tmp_path, new_model(PIXELS, 0), FACTS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"no slots|truncated"):
        slots.load(tmp_path)
