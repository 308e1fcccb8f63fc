"""What a teacher sees: its mean and deviation, other picture sizes, processors that make no square."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from glom.backbones.registry import load_backbone
from glom.backbones.video import squeezed
from glom.errors import InputError
from glom.teachers import load_teacher
from glom.teachers.grids import grid_teacher

SIDE = 32
MEAN, STD = (0.1, 0.45, 0.7), (0.2, 0.3, 0.6)
LAYER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**LAYER, "image_size": SIDE, "patch_size": 8}
TEXT = {**LAYER, "vocab_size": 32, "max_position_embeddings": 8}
SQUARE = {"height": SIDE, "width": SIDE}
NORM = {"image_mean": MEAN, "image_std": STD}


def _dinov2(**vision):
    config = {**LAYER, "image_size": 56, "patch_size": 8, **vision}
    config.pop("intermediate_size")
    return transformers.Dinov2Model(transformers.Dinov2Config(**config))


def _clip(**vision):
    config = transformers.CLIPConfig(text_config=TEXT, vision_config={**VISION, **vision}, projection_dim=8)
    return transformers.CLIPModel(config)


def _siglip(**vision):
    text = {**TEXT, "projection_size": 16}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config={**VISION, **vision}))


BIT = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE, **NORM}
FAMILIES = {
    "dinov2": (_dinov2, lambda **k: transformers.BitImageProcessor(**{**BIT, **k})),
    "clip": (_clip, lambda **k: transformers.CLIPImageProcessor(**{**BIT, **k})),
    "siglip": (_siglip, lambda **k: transformers.SiglipImageProcessor(**{"size": SQUARE, **NORM, **k})),
}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def _saved(folder, family, vision=None, **processor):
    torch.manual_seed(0)
    build, process = FAMILIES[family]
    build(**(vision or {})).save_pretrained(folder)
    process(**processor).save_pretrained(folder)
    return f"hf:{folder}"


def _noise(w, h):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8))


def _normalised(image, mean=MEAN, std=STD):
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def test_every_way_to_a_teachers_pixels_normalises_alike(tmp_path, family):
    name, image = _saved(tmp_path, family), _noise(SIDE, SIDE)
    teacher, backbone = load_teacher(name, "cpu"), load_backbone(name, "cpu")
    expected = _normalised(image)
    assert teacher.mean == pytest.approx(MEAN, abs=1e-6)
    assert teacher.std == pytest.approx(STD, abs=1e-6)
    assert (backbone.mean, backbone.std) == (teacher.mean, teacher.std)
    for pixels in (teacher.preprocess(image), squeezed(teacher, image), squeezed(backbone, image)):
        torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)
    large = _noise(2 * SIDE, 2 * SIDE)
    wide = grid_teacher(name, 2 * SIDE, "cpu")
    torch.testing.assert_close(wide.preprocess(large), _normalised(large), atol=1e-5, rtol=0)
    assert wide.grid(wide.preprocess(large)[None]).shape == (1, 8, 8, 16)
    assert wide.resized(SIDE).preprocess(_noise(70, 30)).shape == (3, SIDE, SIDE)
    assert teacher.image_size == SIDE
    assert len({teacher.fingerprint, wide.fingerprint, wide.resized(SIDE).fingerprint}) == 3


def test_a_processor_that_does_not_normalise_or_rescale_is_taken_at_its_word(tmp_path, family):
    plain = load_teacher(_saved(tmp_path / "plain", family, do_normalize=False), "cpu")
    assert plain.mean == pytest.approx((0, 0, 0), abs=1e-6)
    assert plain.std == pytest.approx((1, 1, 1), abs=1e-6)
    bytes_ = load_teacher(_saved(tmp_path / "bytes", family, do_normalize=False, do_rescale=False), "cpu")
    assert bytes_.std == pytest.approx((1 / 255,) * 3)
    image = _noise(SIDE, SIDE)
    torch.testing.assert_close(squeezed(bytes_, image), bytes_.preprocess(image).float(), atol=1e-3, rtol=0)


def test_timm_and_open_clip_teachers_say_their_own_normalisation():
    for name in ("glom-tiny", "timm:test_vit@random"):
        teacher = load_teacher(name, "cpu")
        image = _noise(teacher.image_size, teacher.image_size)
        # Their preprocessing may enlarge before it crops: a grey picture looks alike either way.
        grey = Image.new("RGB", image.size, (90, 10, 200))
        torch.testing.assert_close(teacher.preprocess(grey), _normalised(grey, teacher.mean, teacher.std))


def test_sizes_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot read 33 px"):
        load_teacher("timm:test_vit@random", "cpu").resized(33)
    with pytest.raises(InputError, match="at least 1 px"):
        load_teacher("timm:test_vit@random", "cpu").resized(0)
    with pytest.raises(InputError, match="cannot read 3 px"):
        load_teacher(_saved(tmp_path, "clip"), "cpu").resized(3)


# -- processors that do not fit the model ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clip", "dinov2"])
def test_a_processor_without_a_centre_crop_reads_the_middle_and_says_so(tmp_path, kind):
    cut = load_teacher(_saved(tmp_path / "cut", kind, do_center_crop=False), "cpu")
    crop = load_teacher(_saved(tmp_path / "crop", kind), "cpu")
    assert "does not crop" in cut.notes[0]
    assert crop.notes == []
    for size in ((90, 41), (30, 71), (SIDE, SIDE)):
        torch.testing.assert_close(cut.preprocess(_noise(*size)), crop.preprocess(_noise(*size)))


def test_another_picture_size_than_the_models_is_interpolated_and_said(tmp_path, family):
    size = {"height": 48, "width": 48}
    other = {"size": size} if family == "siglip" else {"size": {"shortest_edge": 48}, "crop_size": size}
    teacher = load_teacher(_saved(tmp_path, family, **other), "cpu")
    assert teacher.grid(teacher.preprocess(_noise(90, 41))[None]).shape == (1, 6, 6, 16)
    # DINOv2 is made for one size and evaluated at another: nothing to remark.
    assert [note for note in teacher.notes if "interpolated" in note] == teacher.notes
    assert bool(teacher.notes) == (family != "dinov2")


def test_a_picture_that_patches_do_not_fill_is_said(tmp_path):
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 36, "width": 36}}
    teacher = load_teacher(_saved(tmp_path, "dinov2", **size), "cpu")
    assert "last 4 px" in teacher.notes[0]


def test_models_that_cannot_give_a_token_are_refused_when_loaded(tmp_path):
    with pytest.raises(InputError, match="without its pooling head"):
        load_teacher(_saved(tmp_path / "headless", "siglip", {"vision_use_head": False}), "cpu")
    with pytest.raises(InputError, match="always read one square size"):
        load_teacher(_saved(tmp_path / "as-is", "clip", do_resize=False, do_center_crop=False), "cpu")
    with pytest.raises(InputError, match="reads pictures of shape"):
        load_teacher(_saved(tmp_path / "wide", "siglip", size={"height": 32, "width": 48}), "cpu")
