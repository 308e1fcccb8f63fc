"""Tetrominoes and Multi-dSprites: functions of (split, seed, number) with the statistics that are published."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from glom.datasets.scenes import RGB, SCENES, SHAPES, MultiDSprites, Tetrominoes, open_scenes
from glom.datasets.segmentation import open_segmentation
from glom.errors import InputError

BOTH = pytest.mark.parametrize("kind", SCENES.values(), ids=lambda kind: kind.name)


@BOTH
def test_a_scene_depends_on_its_number_alone(kind):
    together, alone = kind().batch([3, 11, 7]), kind().batch([7])
    for field in ("images", "masks", "counts"):
        assert torch.equal(getattr(together, field)[2:], getattr(alone, field))
    assert not torch.equal(together.masks[0], together.masks[1])


@BOTH
def test_splits_and_seeds_share_no_picture(kind):
    """Nor does a seed's training part repeat another seed's test part, as adding numbers to a seed would have it."""
    sets = [kind(split, seed) for split in ("train", "val", "test") for seed in range(-2, 4)]
    pictures = [picture.numpy().tobytes() for made in sets for picture in made.batch(range(20)).images]
    assert len(set(pictures)) == len(pictures)


@BOTH
def test_masks_are_where_the_picture_says(kind):
    """Every object differs from the ground exactly where its mask is, and is of one colour (of one hue, if lit)."""
    batch = kind().batch(range(200))
    assert batch.images.shape == (200, 3, kind.size, kind.size) and batch.images.dtype == torch.float32
    assert float(batch.images.min()) >= 0 and float(batch.images.max()) <= 1
    for picture, mask in zip(batch.images.numpy(), batch.masks.numpy(), strict=True):
        ground = picture[:, mask == 0]
        assert (ground == ground[:, :1]).all() and len(np.unique(ground)) == 1
        for number in range(1, mask.max() + 1):
            seen = picture[:, mask == number]
            if seen.size:
                colours = seen / seen.max(0) if kind is Tetrominoes else seen
                assert np.allclose(colours, colours[:, :1]) and (seen != ground[:, :1]).any(0).all()


def test_three_whole_pieces_that_never_overlap():
    batch = Tetrominoes().batch(range(400))
    assert batch.counts.tolist() == [3] * 400
    found = set()
    for picture, mask in zip(batch.images, batch.masks.numpy(), strict=True):
        assert set(np.unique(mask)) == {0, 1, 2, 3}
        for number in (1, 2, 3):
            own = mask == number
            assert own.sum() == 100 and label(own)[1] == 1  # four blocks of 5 x 5, none covered, all in one piece
            rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
            piece = own[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            colour = (picture[:, own] > 0).any(1).tolist()
            found.add((piece.shape, piece.tobytes(), *colour))
    assert len({f[:2] for f in found}) == len(SHAPES) == 19
    assert {f[2:] for f in found} == {tuple((c > 0).tolist()) for c in RGB}


def test_pieces_lie_anywhere_and_colours_do_not_depend_on_each_other():
    batch = Tetrominoes().batch(range(600))
    left = torch.stack([(batch.masks == n).any(1).int().argmax(1) for n in (1, 2, 3)])
    assert {int(x) % 5 for x in left.flatten()} == set(range(5))
    colours = [
        len({tuple((p[:, m == n] > 0).any(1).tolist()) for n in (1, 2, 3)})
        for p, m in zip(batch.images, batch.masks, strict=True)
    ]
    assert abs(np.mean(np.array(colours) == 3) - 5 / 9) < 0.07  # 6 * 5 * 4 / 6 ** 3


def test_two_to_five_sprites_and_the_later_cover_the_earlier():
    batch = MultiDSprites().batch(range(400))
    assert set(batch.counts.tolist()) == {2, 3, 4, 5}
    seen = torch.tensor([len(m.unique()) - 1 for m in batch.masks])
    assert (seen <= batch.counts).all() and float((seen == batch.counts).float().mean()) > 0.9
    areas = torch.stack([(batch.masks == n).sum((1, 2)) for n in range(1, 6)], 1)
    whole = areas[torch.arange(400), batch.counts - 1]  # nothing lies on the last one
    assert int(whole.min()) > 30 and int(whole.max()) < 300
    first = areas[:, 0][batch.counts == 5].float().mean()
    assert first < whole[batch.counts == 5].float().mean()


def test_they_open_as_pictures_with_masks():
    data = open_segmentation("tetrominoes:3", "test")
    assert data.name == "tetrominoes/test" and len(data.pictures) == 3 and data.pictures[0].background == 0
    image, maps = data.pictures[2].read()
    assert image.size == (35, 35) and torch.equal(torch.from_numpy(maps), Tetrominoes("test").batch([2]).masks)
    prints = {open_segmentation("multi-dsprites:2", *how).fingerprint() for how in (("val",), ("test",), ("val", 2, 1))}
    assert len(prints) == 3
    assert len(open_segmentation("multi-dsprites", limit=7).pictures) == 7
    assert len(open_segmentation("multi-dsprites:5", limit=7).pictures) == 5
    assert len(open_segmentation("tetrominoes").pictures) == 100


@pytest.mark.parametrize("spec", ["tetrominoes:", "tetrominoes:0", "tetrominoes:-3", "multi-dsprites:many", "tetris"])
def test_what_names_no_set_is_refused(spec):
    with pytest.raises(InputError, match=r"number of pictures|made set"):
        open_scenes(spec, "train")


def test_a_split_there_is_none_of_is_refused():
    with pytest.raises(InputError, match="split of tetrominoes"):
        open_segmentation("tetrominoes", "holdout")
    with pytest.raises(InputError, match="numbered from 0"):
        Tetrominoes().batch([-1])
