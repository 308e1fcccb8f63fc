"""Composites: real objects on ground that does not give them away, each a function of its number alone."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments.emergence.data import composite_settings
from experiments.emergence.settings import RECIPES
from glom.datasets.composite_sources import SAMPLE, open_source, resolve_source, silhouettes
from glom.datasets.composites import GARMENTS, Composites, CompositeSettings
from glom.datasets.segmentation import open_segmentation
from glom.datasets.textures import class_weaves, ground_weaves, random_phase, tile, uniforms, waves
from glom.errors import InputError
from probes.agreement import resize_grid
from probes.metrics import adjusted_rand
from probes.partition import Partition, colour_position, partition

TWO = CompositeSettings(objects=(2, 2), classes=GARMENTS)


@pytest.fixture(scope="module")
def garments():
    return open_source(SAMPLE, None, "test")


def pixel_ari(batch) -> float:
    """Mean ARI of colour + position against the masks, told how many objects there are."""
    found = []
    for image, mask, count in zip(batch.images, batch.masks, batch.counts, strict=True):
        features = colour_position(image.permute(1, 2, 0).numpy())
        labels = partition(features, Partition("kmeans", int(count) + 1), cosine=False)
        found.append(adjusted_rand(mask.numpy(), labels))
    return float(np.mean(found))


def test_a_composite_depends_on_its_number_alone(garments):
    source = Composites(*garments, TWO)
    together, alone = source.batch([3, 11, 7]), source.batch([7])
    for field in ("images", "masks", "parts", "labels", "counts"):
        assert torch.equal(getattr(together, field)[2:], getattr(alone, field))
    again = Composites(*garments, TWO).batch([11])
    assert torch.equal(again.images[0], together.images[1])
    other = Composites(*garments, replace(TWO, seed=1)).batch([7])
    assert not torch.equal(other.masks, alone.masks)
    assert not torch.equal(together.masks[0], together.masks[1])


def test_read_only_arrays_are_taken_in_silence():
    """As `np.frombuffer` and memory maps give them; torch's warning about them would come once a process."""
    images, labels = open_source(SAMPLE, None, "test")
    images.setflags(write=False)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = Composites(images, labels, CompositeSettings()).batch(range(2))
            grid = np.random.default_rng(0).random((4, 4, 3)).astype(np.float32)
            grid.setflags(write=False)
            assert resize_grid(grid, 2, 2).shape == (2, 2, 3)
    finally:
        torch.set_warn_always(False)
    assert len(made.images) == 2


def test_contents_of_a_batch(garments):
    batch = Composites(*garments, CompositeSettings(objects=(1, 3))).batch(range(60))
    assert batch.images.shape == (60, 3, 48, 48) and batch.images.dtype == torch.float32
    assert float(batch.images.min()) >= 0 and float(batch.images.max()) <= 1
    assert set(batch.counts.tolist()) == {1, 2, 3}
    assert torch.equal(batch.labels.sum(1).long(), batch.counts)  # distinct classes: one each
    assert torch.equal(batch.parts, batch.masks)
    for mask, count in zip(batch.masks, batch.counts, strict=True):
        assert set(mask.unique().tolist()) <= set(range(int(count) + 1))
        assert 0.02 < float((mask > 0).float().mean()) < 0.8
    # An object is hidden whole only by rare chance.
    seen = sum(len(mask.unique()) - 1 for mask in batch.masks)
    assert seen >= 0.97 * int(batch.counts.sum())


def test_labels_name_what_is_there(garments):
    """With one class left to draw from, that column alone is ever set; merged classes are drawn equally often."""
    only = Composites(*garments, replace(TWO, classes=(("bag", (8,)), ("boot", (9,))), objects=(1, 1)))
    assert torch.equal(only.batch(range(30)).labels.sum(1), torch.ones(30))
    share = Composites(*garments, replace(TWO, objects=(1, 1))).batch(range(600)).labels.mean(0)
    assert share.shape == (5,) and float((share - 0.2).abs().max()) < 0.06
    loose = Composites(*garments, replace(TWO, distinct=False)).batch(range(100)).labels.sum(1)
    assert set(loose.tolist()) == {1.0, 2.0}


def test_difficulty_changes_the_looks_and_nothing_else(garments):
    source = Composites(*garments, TWO)
    plain, hard = source.batch(range(8), 0.0), source.batch(range(8), 1.0)
    assert torch.equal(plain.masks, hard.masks) and torch.equal(plain.labels, hard.labels)
    for image, mask in zip(plain.images, plain.masks, strict=True):
        assert float(image[:, mask == 0].std(1).max()) < 1e-6  # plain ground
    assert all(float(image[:, mask == 0].std(1).max()) > 0.05 for image, mask in zip(hard.images, hard.masks))


def test_grouped_wholes_are_plates_with_objects(garments):
    settings = CompositeSettings(objects=(2, 2), scale=(0.5, 0.7), grouped=True, size=64)
    batch = Composites(*garments, settings).batch(range(20))
    assert torch.equal(batch.parts > 0, batch.masks > 0)
    numbers = []
    for parts, masks in zip(batch.parts, batch.masks, strict=True):
        for part in parts.unique():
            assert len(masks[parts == part].unique()) == 1  # a part belongs to one whole
        numbers.append(len(parts.unique()) - 1)
    assert 5 <= np.mean(numbers) <= 8 and max(numbers) <= 8  # two plates with two or three objects each
    assert torch.equal(batch.counts, torch.full((20,), 2))


# -- nothing gives itself away -------------------------------------------------------------------------------------


def test_places_say_nothing(garments):
    """Over many composites the middle is covered evenly, and one picture's mask says nothing about another's."""
    masks = Composites(*garments, replace(TWO, objects=(1, 3), size=32)).batch(range(1500)).masks
    core = (masks > 0).float().mean(0)[8:24, 8:24]
    assert float(core.std() / core.mean()) < 0.12
    y, x = np.mgrid[0:32, 0:32] / 32
    fixed = partition(np.stack([y, x], -1).astype(np.float32), Partition("kmeans", 3), cosine=False)
    # Any division into compact parts agrees a little with compact objects; where they lie adds nothing to it.
    assert np.mean([adjusted_rand(m.numpy(), fixed) for m in masks[:200]]) < 0.1
    pairs = [adjusted_rand(a.numpy(), b.numpy()) for a, b in zip(masks[:200], masks[200:400], strict=True)]
    assert abs(np.mean(pairs)) < 0.1


@pytest.mark.parametrize("objects", [(1, 1), (2, 2), (1, 3)])
def test_colour_and_position_find_little_at_full_difficulty(garments, objects):
    source = Composites(*garments, replace(TWO, objects=objects))
    assert pixel_ari(source.batch(range(30))) <= 0.2
    assert pixel_ari(source.batch(range(30), 0.0)) >= 0.3  # the same objects, plain


def test_mean_colours_agree_inside_and_outside(garments):
    full = replace(TWO, texture=1.0, colour=0.0)
    batch = Composites(*garments, full).batch(range(60))
    inside = torch.stack([i[:, m > 0].mean(1) for i, m in zip(batch.images, batch.masks)])
    outside = torch.stack([i[:, m == 0].mean(1) for i, m in zip(batch.images, batch.masks)])
    spread = batch.images.std((2, 3))
    assert float(((inside - outside) / spread).abs().mean()) < 0.2
    assert float(((inside - outside) / spread).mean().abs()) < 0.05


def test_photographs_lie_on_their_own_colours():
    rng = np.random.default_rng(0)
    colours = rng.integers(30, 226, (40, 1, 1, 3)) + rng.integers(-30, 30, (40, 32, 32, 3))
    settings = CompositeSettings(source="cifar10", objects=(1, 1), classes=(("a", (0,)), ("b", (1,))))
    source = Composites(colours.astype(np.uint8), np.arange(40) % 2, settings)
    batch = source.batch(range(30))
    assert pixel_ari(batch) < 0.2 < pixel_ari(source.batch(range(30), 0.0))
    grouped = Composites(
        colours.astype(np.uint8), np.arange(40) % 2, replace(settings, grouped=True, objects=(1, 2))
    ).batch([0, 1])
    assert grouped.parts.max() > grouped.masks.max()


# -- textures ------------------------------------------------------------------------------------------------------


def test_uniform_numbers_are_uniform_and_unrelated():
    u = uniforms(3, 1, range(2000), 4)
    assert u.min() >= 0 and u.max() < 1
    assert np.allclose(u.mean(0), 0.5, atol=0.03) and np.allclose(u.var(0), 1 / 12, atol=0.01)
    together = np.concatenate([u, uniforms(3, 2, range(2000), 4), uniforms(4, 1, range(2000), 4)], 1)
    assert np.abs(np.corrcoef(together.T) - np.eye(12)).max() < 0.08
    assert np.abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.08


def test_regions_differ_in_pattern_and_not_in_values():
    patterns = waves(uniforms(0, 0, range(20), 3 * 4).reshape(20, 3, 4), 64)
    assert float(patterns.abs().max()) <= 1
    assert float(patterns.mean((2, 3)).abs().max()) < 0.1
    assert torch.allclose(patterns.std((2, 3)), torch.tensor(0.5), atol=0.08)
    flat = patterns.flatten(2) / patterns.flatten(2).norm(dim=2, keepdim=True)
    assert float((flat[:, 0] * flat[:, 1]).sum(1).abs().mean()) < 0.1


def test_a_class_wears_one_weave_whatever_its_phase():
    """Patterns of one class share their spectrum and not their pixels; two classes, or the ground, share neither."""
    kinds = np.arange(5)[None].repeat(20, 0)
    patterns = waves(uniforms(0, 0, range(20), 5 * 4).reshape(20, 5, 4), 48, class_weaves(kinds, 5))
    spectra = torch.nn.functional.normalize(torch.fft.fft2(patterns).abs().flatten(2), dim=-1)
    same = torch.einsum("acf,bcf->cab", spectra, spectra)
    assert float(same.min()) > 0.8
    for one, other in ((0, 1), (0, 2), (1, 4)):
        assert float((spectra[:, one] @ spectra[:, other].T).max()) < 0.5
    assert float((torch.corrcoef(patterns[:, 0].flatten(1)) - torch.eye(20)).abs().mean()) < 0.6
    ground = waves(
        uniforms(1, 0, range(20), 4).reshape(20, 1, 4), 48, ground_weaves(uniforms(2, 0, range(20), 2))[:, None]
    )
    across = torch.nn.functional.normalize(torch.fft.fft2(ground[:, 0]).abs().flatten(1), dim=-1)
    assert float(torch.einsum("bcf,gf->bcg", spectra, across).mean()) < 0.4
    assert len(np.unique(class_weaves(np.arange(10), 10), axis=0)) == 10


def test_fabrics_change_the_weave_and_neither_places_nor_colours(garments):
    plain = Composites(*garments, replace(TWO, texture=1.0, colour=0.0)).batch(range(20))
    worn = Composites(*garments, replace(TWO, texture=1.0, colour=0.0, fabrics=True)).batch(range(20))
    assert torch.equal(plain.masks, worn.masks) and not torch.equal(plain.images, worn.images)
    assert pixel_ari(worn) <= 0.1
    inside = torch.stack([i[:, m > 0].mean(1) for i, m in zip(worn.images, worn.masks)])
    outside = torch.stack([i[:, m == 0].mean(1) for i, m in zip(worn.images, worn.masks)])
    assert float(((inside - outside) / worn.images.std((2, 3))).abs().mean()) < 0.2


def test_random_phase_keeps_mean_spectrum_and_covariance():
    pictures, noise = torch.rand(3, 3, 16, 16), torch.rand(3, 16, 16)
    pictures[:, 1] = pictures[:, 0] * 0.5
    made = random_phase(pictures, noise)
    assert not torch.allclose(made, pictures, atol=0.05)
    assert torch.allclose(made.mean((2, 3)), pictures.mean((2, 3)), atol=1e-5)
    assert torch.allclose(torch.fft.fft2(made).abs(), torch.fft.fft2(pictures).abs(), atol=1e-3)
    for a, b in zip(made, pictures, strict=True):
        assert torch.allclose(torch.cov(a.flatten(1)), torch.cov(b.flatten(1)), atol=1e-4)
    wide = tile(made, np.array([[0.5, 0.0]] * 3), 32)
    assert torch.equal(wide[..., :16, :16], wide[..., 16:, 16:])
    assert torch.equal(wide[..., :8, :16], made[..., 8:, :])


def test_silhouettes_fill_garments_and_leave_digits_open():
    ring = torch.zeros(1, 9, 9)
    ring[0, 2:7, 2:7] = 1
    ring[0, 4, 4] = 0
    assert float(silhouettes(ring, "fashion-mnist")[1][0, 4, 4]) == 1
    ring[0, 3:6, 3:6] = 0
    _, inside = silhouettes(ring, "mnist")
    assert float(inside[0, 4, 4]) == 0 and float(inside[0, 1, 4]) == 1  # a pixel thicker, its hole still there
    legs = torch.zeros(1, 9, 9)
    legs[0, 1:3, 2:7] = legs[0, 3:8, 2:4] = legs[0, 3:8, 5:7] = 1
    assert float(silhouettes(legs, "fashion-mnist")[1][0, 6, 4]) == 0  # open below


# -- sources and bad input -----------------------------------------------------------------------------------------


def test_the_sample_that_ships():
    images, labels = open_source(SAMPLE, None, "train")
    assert images.shape == (1800, 28, 28) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [180] * 10
    assert images.std() > 50 and not np.array_equal(images[0], images[1])


def test_sources_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("APM_DATA", str(tmp_path))
    name, root, note = resolve_source("")
    assert (name, root) == (SAMPLE, None) and "sample that ships" in note
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    assert resolve_source("")[0] == "fashion-mnist"
    assert resolve_source(f"mnist:{tmp_path}")[:2] == ("mnist", tmp_path)
    with pytest.raises(InputError, match="did you mean"):
        resolve_source("fashion-mnst")
    with pytest.raises(InputError, match="not there, looked for"):
        open_source("mnist", tmp_path, "train")
    with pytest.raises(InputError, match="unknown split"):
        open_source(SAMPLE, None, "val")


def test_torchvision_files_as_they_lie(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for name in ("train", "t10k"):
        header = np.array([0x803, 20, 28, 28], ">i4").tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + drawn.tobytes())
        digits = (np.arange(20) % 10).astype(np.uint8)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(np.array([0x801, 20], ">i4").tobytes() + digits.tobytes())
    images, labels = open_source("mnist", tmp_path, "train")
    assert np.array_equal(images, drawn) and labels.tolist() == [*range(10), *range(10)]
    batch = Composites(images, labels, CompositeSettings(source="mnist")).batch(range(4))
    assert batch.labels.shape == (4, 10)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "imagenet"}, "unknown source"),
        ({"size": 8}, "16 pixels"),
        ({"objects": (0, 2)}, "objects"),
        ({"objects": (3, 2)}, "objects"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"texture": 1.1}, "texture"),
        ({"classes": (("a", (1, 2)), ("b", (2,)))}, "at most once"),
        ({"classes": (("a", (10,)),)}, "labels 0 to 9"),
    ],
)
def test_wrong_settings(changes, says):
    with pytest.raises(InputError, match=says):
        CompositeSettings(**changes)


def test_wrong_arrays_and_numbers(garments):
    images, labels = garments
    with pytest.raises(InputError, match="takes"):
        Composites(images[..., None], labels, TWO)
    with pytest.raises(InputError, match="takes"):
        Composites(images, labels[:-1], TWO)
    with pytest.raises(InputError, match="not one image of the class 'bag'"):
        Composites(images[labels != 8], labels[labels != 8], TWO)
    source = Composites(images, labels, TWO)
    for indices, difficulty in (([], 1.0), ([-1], 1.0), ([0], 1.5)):
        with pytest.raises(InputError):
            source.batch(indices, difficulty)


def test_composites_are_scored_like_any_pictures_with_masks(tmp_path):
    """`apm islands score composites`: made on the fly, with both baselines, and FG-ARI since 0 is the ground."""
    from experiments.islands.score import run as run_score
    from experiments.islands.settings import ScoreSettings

    data = open_segmentation(f"composites:{SAMPLE}", limit=2)
    image, maps = data.pictures[1].read()
    assert image.size == (48, 48) and maps.shape == (1, 48, 48) and set(np.unique(maps)) == {0, 1, 2}
    assert data.fingerprint() != open_segmentation(f"composites:{SAMPLE}", limit=2, seed=1).fingerprint()
    assert len(open_segmentation(f"composites:{SAMPLE}").pictures) == 100
    assert data.pictures[0].made.settings == composite_settings(RECIPES["weave"], "fashion-mnist", 0)
    asked = ScoreSettings(
        data=f"composites:{SAMPLE}", backbone="glom-tiny", partition="kmeans:3", grid=12, size=32, limit=3
    )
    *_, last = run_score(asked, tmp_path)
    result = last.result
    assert result["n"] == 3 and result["human"] is None
    for row in [*result["layers"], result["baselines"]["pixels"], *result["baselines"]["untrained"]]:
        assert row["fg_ari"] is not None and -1 <= row["ari"] <= 1
    with pytest.raises(InputError, match="unknown source"):
        open_segmentation("composites:nothing")
