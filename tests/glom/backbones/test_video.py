"""Boring videos and the layers that watch them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glom.backbones.base import resize_positions
from glom.backbones.video import (
    boring_video,
    capture,
    clip_for,
    default_backbone,
    feature_grids,
    load_backbone,
    select_layers,
    untrained,
)
from glom.errors import InputError
from tests.conftest import make_image

PICTURE = make_image(3, (50, 40))
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
}


def hooks(backbone) -> int:
    return sum(len(m._forward_hooks) for m in backbone.model.modules())


def hf_folder(kind, path):
    from transformers import TimesformerConfig, TimesformerModel, VideoMAEConfig, VideoMAEModel

    config, model = (VideoMAEConfig, VideoMAEModel) if kind == "videomae" else (TimesformerConfig, TimesformerModel)
    model(config(**TINY)).save_pretrained(path)
    return f"hf:{path}"


def test_a_boring_video_does_not_move():
    clip = boring_video(PICTURE, frames=5, size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    assert clip.shape == (3, 5, 16, 16) and clip.dtype == torch.float32
    assert torch.equal(clip[:, 0], clip[:, 4])
    pixels = torch.from_numpy(np.array(PICTURE.resize((16, 16), 3))).permute(2, 0, 1) / 255
    assert torch.allclose(clip[0, 0] * 0.2 + 0.5, pixels[0], atol=1e-5)
    assert torch.allclose(clip[2, 0] * 0.1 + 0.3, pixels[2], atol=1e-5)
    for frames, size in ((0, 16), (2, 0)):
        with pytest.raises(InputError, match="at least 1 frame"):
            boring_video(PICTURE, frames, size)


@pytest.mark.parametrize(
    ("name", "frames", "size", "count", "first", "last"),
    [
        ("torchvision:mvit_v2_s@random", 4, 64, 16, (2, 16, 16, 96), (2, 2, 2, 768)),
        ("torchvision:mvit_v1_b@random", 4, 64, 16, (2, 16, 16, 192), (2, 2, 2, 768)),
        ("pytorchvideo:mvit_base_16x4@random", 4, 64, 16, (2, 16, 16, 192), (2, 2, 2, 768)),
        ("pytorchvideo:mvit_base_16@random", 1, 64, 16, (1, 16, 16, 192), (1, 2, 2, 768)),
        ("timm:test_vit@random", 1, 96, 6, (1, 6, 6, 64), (1, 6, 6, 64)),
        ("timm:resnet18@random", 1, 64, 8, (1, 16, 16, 64), (1, 2, 2, 512)),
        ("open_clip:ViT-B-32@random", 1, 96, 12, (1, 3, 3, 768), (1, 3, 3, 768)),
        ("glom-tiny", 1, 48, 4, (1, 48, 48, 32), (1, 12, 12, 256)),
    ],
)
def test_every_layer_of_every_family_in_one_pass(name, frames, size, count, first, last):
    backbone = load_backbone(name, "cpu")
    passes = []
    handle = backbone.layers[0][1].register_forward_hook(lambda *_: passes.append(1))
    grids = feature_grids(backbone, clip_for(backbone, PICTURE, frames, size))
    handle.remove()
    assert len(passes) == 1 and hooks(backbone) == 0
    assert list(grids) == list(range(count))
    assert tuple(grids[0].shape) == first and tuple(grids[count - 1].shape) == last
    [note] = backbone.fit(frames, size)
    assert str(size) in note
    mean = feature_grids(backbone, clip_for(backbone, PICTURE, frames, size), [count - 1], time="mean")
    assert torch.allclose(mean[count - 1][0], grids[count - 1].mean(0), atol=1e-5)
    check_patching(backbone, clip_for(backbone, PICTURE, frames, size), grids)


def check_patching(backbone, clip, plain):
    """A layer's own features change nothing, bit for bit; others change it, and what follows alone."""
    middle = len(plain) // 2
    with backbone.patch(middle, "all", plain[middle]):
        same = feature_grids(backbone, clip)
    assert all(torch.equal(same[layer], plain[layer]) for layer in plain)
    with backbone.patch(middle, (0.5, 0.5), "zero"):
        found = feature_grids(backbone, clip)
    assert all(torch.equal(found[layer], plain[layer]) for layer in range(middle))
    assert not any(torch.equal(found[layer], plain[layer]) for layer in range(middle, len(plain)))
    h, w = found[middle].shape[1:3]
    here = found[middle][:, int(h / 2), int(w / 2)]
    assert not here.any() and (found[middle] != plain[middle]).any(-1).sum() == len(here) and hooks(backbone) == 0


@pytest.mark.parametrize("kind", ["videomae", "timesformer"])
def test_transformers_video_models(kind, tmp_path):
    backbone = load_backbone(hf_folder(kind, tmp_path), "cpu")
    steps = 2 if kind == "videomae" else 4
    own = feature_grids(backbone, clip_for(backbone, PICTURE))
    assert [tuple(g.shape) for g in own.values()] == [(steps, 4, 4, 16)] * 2
    check_patching(backbone, clip_for(backbone, PICTURE), own)
    assert backbone.fit(4, 32) == []
    larger = feature_grids(backbone, clip_for(backbone, PICTURE, 8, 48))
    assert tuple(larger[1].shape) == (2 * steps, 6, 6, 16)
    assert torch.equal(feature_grids(backbone, clip_for(backbone, PICTURE))[1], own[1])
    with pytest.raises(InputError, match="multiples of 8"):
        feature_grids(backbone, clip_for(backbone, PICTURE, 4, 36))
    twin = untrained(backbone, seed=1)
    assert not torch.allclose(feature_grids(twin, clip_for(twin, PICTURE))[1], own[1])


def test_time_and_place_are_where_they_should_be(tmp_path):
    """TimeSformer lets time run fastest: what one patch of one frame changes must be found there."""
    backbone = load_backbone(hf_folder("timesformer", tmp_path), "cpu")
    taken = []
    embed = backbone.model.embeddings
    handle = embed.register_forward_hook(lambda m, i, o: taken.append(o))
    clip = clip_for(backbone, PICTURE).clone()
    feature_grids(backbone, clip)
    clip[:, 2, 8:16, 24:32] += 1
    feature_grids(backbone, clip)
    handle.remove()
    changed = (backbone.grid(taken[1]) - backbone.grid(taken[0])).abs().sum(-1)
    assert changed.nonzero().tolist() == [[2, 1, 3]]


def test_grids_are_what_the_network_itself_computes():
    backbone = load_backbone("timm:test_vit@random", "cpu")
    clip = clip_for(backbone, PICTURE)
    grids = feature_grids(backbone, clip)
    with torch.inference_mode():
        own = backbone.model.forward_intermediates(clip[None, :, 0], intermediates_only=True)
    for layer, grid in grids.items():
        assert torch.allclose(grid[0], own[layer][0].permute(1, 2, 0), atol=1e-5)


def test_another_size_and_back_is_exact():
    for name in ("torchvision:mvit_v1_b@random", "timm:test_vit@random", "open_clip:ViT-B-32@random"):
        backbone = load_backbone(name, "cpu")
        backbone.fit(backbone.frames, 64)
        backbone.fit(backbone.frames, backbone.size)
        fresh = load_backbone(name, "cpu")
        changed = backbone.model.state_dict()
        assert all(torch.equal(v, changed[k]) for k, v in fresh.model.state_dict().items())


def test_hooks_come_off_whatever_happens(monkeypatch):
    backbone = load_backbone("timm:test_vit@random", "cpu")

    def interrupted():
        with capture(backbone, [0, 5]):
            assert hooks(backbone) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert hooks(backbone) == 0
    monkeypatch.setattr(backbone.layers[3][1], "forward", lambda x: x.view(-1, 7))
    with pytest.raises(InputError, match="cannot read"):
        feature_grids(backbone, clip_for(backbone, PICTURE))
    assert hooks(backbone) == 0


def test_layers_by_name_number_and_not_at_all():
    backbone = load_backbone("timm:test_vit@random", "cpu")
    assert select_layers(backbone, "all") == [0, 1, 2, 3, 4, 5]
    assert select_layers(backbone, "first,last") == [0, 5]
    assert select_layers(backbone, "3, 0,-1,3") == [0, 3, 5]
    for bad in ("6", "-7", "0,99"):
        with pytest.raises(InputError, match="layers 0 to 5"):
            select_layers(backbone, bad)
    for bad in ("", "x", "1.5", "0;1"):
        with pytest.raises(InputError, match=r"`layers` takes"):
            select_layers(backbone, bad)


def test_the_untrained_twin_is_of_the_same_shape_and_another_mind():
    backbone = load_backbone("glom-tiny", "cpu")
    clip = clip_for(backbone, PICTURE)
    before = feature_grids(backbone, clip)
    twin, again, other = untrained(backbone), untrained(backbone), untrained(backbone, seed=1)
    a, b, c = (feature_grids(t, clip) for t in (twin, again, other))
    assert a[3].shape == before[3].shape and "untrained" in twin.name
    assert torch.equal(a[3], b[3])
    assert not torch.allclose(a[3], c[3]) and not torch.allclose(a[3], before[3])
    assert torch.equal(feature_grids(backbone, clip)[3], before[3])


def test_weights_from_a_file_and_of_another_architecture(tmp_path):
    backbone = load_backbone("torchvision:mvit_v2_s@random", "cpu")
    state = {k: v + 0.25 for k, v in backbone.model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_backbone(f"torchvision:mvit_v2_s@{tmp_path}/w.safetensors", "cpu")
    assert torch.equal(loaded.model.norm.weight, state["norm.weight"])
    assert load_backbone("torchvision:mvit_v2_s", "cpu", weights=f"{tmp_path}/w.safetensors").frames == 16
    for other in ("torchvision:mvit_v1_b", "pytorchvideo:mvit_base_16x4"):
        with pytest.raises(InputError, match="does not fit this model"):
            load_backbone(f"{other}@{tmp_path}/w.safetensors", "cpu")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mvit", "unknown backbone"),
        ("torchvison:mvit_v2_s", "did you mean"),
        ("torchvision:mvit_v2", "did you mean"),
        ("torchvision:", "names no model"),
        ("torchvision:mvit_v2_s@", "nothing after the @"),
        ("torchvision:mvit_v2_s@no.safetensors", "no such weights file"),
        ("pytorchvideo:mvit_base_16x4", "safetensors"),
        ("hf-random:vivit", "unknown transformers video"),
        ("hf:./nowhere", "no such folder"),
    ],
)
def test_names_that_are_none(name, says):
    with pytest.raises(InputError, match=says):
        load_backbone(name, "cpu")


def test_inputs_that_do_not_fit():
    backbone = load_backbone("timm:test_vit@random", "cpu")
    with pytest.raises(InputError, match="smaller than one patch"):
        clip_for(backbone, make_image(0, (30, 8)))
    with pytest.raises(InputError, match="not a video"):
        clip_for(backbone, PICTURE, frames=4)
    with pytest.raises(InputError, match="less than one patch"):
        clip_for(backbone, PICTURE, size=8)
    with pytest.raises(InputError, match="H = W"):
        feature_grids(backbone, torch.zeros(3, 1, 32, 48))
    with pytest.raises(InputError, match="time must"):
        feature_grids(backbone, torch.zeros(3, 1, 32, 32), time="sum")


def test_positions_resize_exactly_where_they_are_linear():
    line = torch.arange(8.0)[:, None]
    assert torch.equal(resize_positions(line, (8,), (8,)), line)
    assert torch.allclose(resize_positions(line, (8,), (4,))[:, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
    assert resize_positions(torch.ones(12, 5), (3, 4), (6, 2)).shape == (12, 5)


def test_the_default_ships_and_watches_videos():
    assert default_backbone() == ("mvit-v2-tiny", "")
    assert load_backbone(default_backbone()[0], "cpu").video
