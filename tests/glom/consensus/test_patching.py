"""A level held to something else: what was put is there, and what equals what was there changes nothing."""

from __future__ import annotations

import pytest
import torch

from glom.backbones.patching import region_cells
from glom.consensus import Glom, GlomConfig
from glom.consensus.patching import patched_states
from glom.errors import InputError

PICTURES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
BOX = (0.0, 0.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def glom() -> Glom:
    torch.manual_seed(0)
    return Glom(GlomConfig(levels=3, dim=16, hidden=24, iterations=4)).eval()


@torch.inference_mode()
def test_a_pictures_own_states_change_nothing_and_anothers_do(glom):
    whole = torch.stack(list(glom.all_states(PICTURES)))
    torch.testing.assert_close(torch.stack(list(patched_states(glom, PICTURES, 2, BOX, PICTURES))), whole)
    other = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    theirs = torch.stack(list(glom.all_states(other)))
    found = torch.stack(list(patched_states(glom, PICTURES, 2, BOX, other)))
    cells = region_cells(BOX, *glom.grid(PICTURES)).ravel()
    torch.testing.assert_close(found[:, :, cells, 1], theirs[:, :, cells, 1].expand(-1, 2, -1, -1))
    assert torch.equal(found[0, :, ~cells], whole[0, :, ~cells])  # nobody has heard of it yet
    assert (found[2:] - whole[2:]).abs().amax((1, 2, 4)).gt(1e-3).all()  # a level has what is put, then every level


@torch.inference_mode()
def test_words_and_what_is_wrong(glom):
    for state in patched_states(glom, PICTURES, 3, "all", "mean", 2):
        assert state[:, :, 2].std(1).max() < 1e-6 and state[:, :, 1].std(1).max() > 1e-3
    for level, region, value in (
        (4, "all", "zero"),
        (1, "left", "zero"),
        (1, "all", "half"),
        (1, "all", PICTURES[..., :8]),
    ):
        with pytest.raises(InputError):
            next(patched_states(glom, PICTURES, level, region, value))
