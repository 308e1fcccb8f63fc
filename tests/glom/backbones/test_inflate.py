"""Image networks inflated in time: on a boring video every layer is the image network's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.shortcut.model import substitute
from glom.backbones.images import as_backbone
from glom.backbones.inflate import InflatedBackbone, TimeConv, TimePool, inflate
from glom.backbones.video import clip_for, feature_grids, load_backbone
from glom.errors import InputError
from glom.teachers.registry import has_lite
from probes.look import islands
from tests.conftest import make_image
from tests.glom.backbones.test_video import check_patching

PICTURE = make_image(3, (50, 40))


def alike(found, wanted, relative=1e-5):
    """Every time step of every layer."""
    assert list(found) == list(wanted)
    for layer, grid in wanted.items():
        off = (found[layer] - grid).abs().amax((1, 2, 3)) / grid.abs().max()
        assert float(off.max()) <= relative, f"layer {layer} is off by {off.tolist()}"


@pytest.mark.parametrize("name", ["timm:resnet18@random", "timm:test_vit@random", "timm:convnext_atto@random"])
@pytest.mark.parametrize(("frames", "kernel"), [(1, 3), (2, 5), (5, 3), (3, 2), (4, 1)])
def test_a_boring_video_is_a_fixed_point_of_every_layer(name, frames, kernel):
    image = load_backbone(name, "cpu")
    video = InflatedBackbone(image, kernel)
    size = image.size if "vit" in name else 64
    found = feature_grids(video, clip_for(video, PICTURE, frames, size))
    assert all(grid.shape[0] == frames for grid in found.values())
    alike(found, feature_grids(image, clip_for(image, PICTURE, 1, size)))


@pytest.mark.parametrize("name", ["glom-tiny", "efficientnet-lite0"])
def test_trained_networks_stay_what_they_are(name):
    if name != "glom-tiny" and not has_lite():
        pytest.skip("its wheel is not installed")
    video = load_backbone(f"inflate:{name}", "cpu")
    assert video.video and video.name == f"inflate:{name}" and video.frames > 1
    image = load_backbone(name, "cpu")
    assert [place for place, _ in video.layers] == [place for place, _ in image.layers]
    assert (video.size, video.view, video.patch_side) == (image.size, image.view, image.patch_side)
    size = image.size // 2
    plain = feature_grids(video, clip_for(video, PICTURE, 3, size))
    alike(plain, feature_grids(image, clip_for(image, PICTURE, 1, size)))
    check_patching(video, clip_for(video, PICTURE, 3, size), plain)


@pytest.mark.parametrize("trained_on", [False, True])
def test_a_convolution_is_the_3d_one_on_videos_that_move(trained_on):
    flat = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    conv = TimeConv(flat, 3).requires_grad_(trained_on)
    if trained_on:
        nn.init.normal_(conv.weight)
    frames = torch.randn(5, 4, 9, 8)
    clip = torch.cat([frames[:1], frames, frames[-1:]]).transpose(0, 1)[None]
    wanted = nn.functional.conv3d(clip, conv.weight, conv.bias, (1, 2, 2), (0, 1, 1), groups=2)[0].transpose(0, 1)
    assert torch.allclose(conv(frames), wanted, atol=1e-5)
    if trained_on:
        conv(frames).square().sum().backward()
        first, *_, last = conv.weight.grad.unbind(2)
        assert not torch.allclose(first, last)


def test_pooling_sees_neighbouring_frames():
    frames = torch.zeros(5, 1, 4, 4)
    frames[2] = 1
    pooled = TimePool(nn.MaxPool2d(2), 3)(frames)
    assert pooled.shape == (5, 1, 2, 2) and pooled[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 0]
    assert torch.allclose(TimePool(nn.AvgPool2d(2), 3)(frames)[:, 0, 0, 0], torch.tensor([0, 1, 1, 1, 0]) / 3)


@pytest.mark.parametrize("name", ["timm:resnet18@random", "timm:test_vit@random"])
def test_a_video_that_moves_is_seen_to_move(name):
    video = load_backbone(f"inflate:{name}", "cpu")
    still = clip_for(video, PICTURE, 4, video.size).clone()
    moved = still.clone()
    moved[:, 3] *= -3  # brighter: a maximum over time would not see a frame go dark
    before, after = (feature_grids(video, clip, "last")[len(video.layers) - 1] for clip in (still, moved))
    assert float((before[2] - after[2]).abs().max() / before.abs().max()) > 1e-3  # a frame that is the same itself


def test_the_untrained_twin_is_inflated_too():
    video = load_backbone("inflate:timm:resnet18@random", "cpu")
    twin = video.untrained(3)
    grid = feature_grids(twin, clip_for(twin, PICTURE, 3, 64), "last")[7]
    assert torch.equal(grid[0], grid[2])
    assert not torch.allclose(grid, feature_grids(video, clip_for(video, PICTURE, 3, 64), "last")[7])
    assert any(isinstance(module, TimeConv) for module in twin.model.modules())


def test_it_is_a_backbone_like_any_other():
    found = islands(PICTURE, "inflate:glom-tiny", "first,last", device="cpu", frames=2)
    assert found.backbone == "inflate:glom-tiny" and found.layers == (0, 3)
    assert [row.tolist() for row in found.labels()] == [
        row.tolist() for row in islands(PICTURE, "glom-tiny", "first,last", device="cpu").labels()
    ]


@pytest.mark.parametrize("name", ["glom-tiny", "timm:test_vit@random"])
def test_a_layer_can_be_skipped_and_the_head_reads_what_follows(name):
    video = load_backbone(f"inflate:{name}", "cpu")
    clip = clip_for(video, PICTURE, 3, video.size)
    grid = feature_grids(video, clip, [1])[1][0]
    with substitute(video, 1, 2 * grid + 1):
        other = feature_grids(video, clip, "last")
        token = video.teacher.token(clip[None, :, 0])
    own = feature_grids(video, clip, "last")
    assert all(not torch.allclose(other[layer], own[layer], atol=1e-3) for layer in own)
    assert not torch.allclose(token, video.teacher.token(clip[None, :, 0]), atol=1e-3)
    with substitute(video, 1, grid):
        alike(feature_grids(video, clip, "last"), own)


class Batches(nn.Module):
    """A network of one block that mixes the pictures of a batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1)])

    def forward_features(self, x):
        x = self.conv(x)
        return self.blocks[0](x * len(x))

    def forward(self, x):
        return self.forward_features(x).mean((2, 3))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("inflate:mvit-v2-tiny", "a video network needs no inflating"),
        ("inflate:inflate:glom-tiny", "needs no inflating"),
        ("inflate:timm:nf_resnet50@random", "'stem.conv' is a ScaledStdConv2d"),
        ("inflate:", "names no model"),
        ("inflate:glom-tinny", "did you mean glom-tiny"),
        ("inflat:glom-tiny", "did you mean inflate"),
    ],
)
def test_what_cannot_be_inflated_is_one_line(name, says):
    with pytest.raises(InputError, match=says) as caught:
        load_backbone(name, "cpu")
    assert "\n" not in str(caught.value)


def test_networks_without_convolutions_or_that_mix_pictures_are_refused():
    from glom import teacher

    with pytest.raises(InputError, match="no convolution"):
        inflate(nn.Sequential(nn.Linear(3, 4)))
    with pytest.raises(InputError, match="at least 1 frame"):
        inflate(nn.Sequential(nn.Conv2d(3, 4, 3)), 0)
    mixing = as_backbone(teacher(Batches(), size=16))
    with pytest.raises(InputError, match=r"cannot be inflated: 'blocks.0' does not look frame by frame"):
        InflatedBackbone(mixing)
