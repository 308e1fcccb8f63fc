"""The shipped MViTv2: torchvision's network to the bit, a recipe that resumes, a backbone like the others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.video.mvit import MViT, Pool

from commands.ending import guard
from commands.train import app
from experiments.recipes.mvit_tiny import MViTTinySettings, Pictures, Trainer
from experiments.recipes.mvit_tiny import run as run_training
from experiments.recipes.mvit_tiny_ship import boring, open_split, read_pictures
from glom.backbones.mvit_shipped import CARD, CONFIG, SHIPPED, WEIGHTS, TinyBackbone, TinyConfig
from glom.backbones.mvit_tiny import TINY, Block, PlanePool, build_mvit, parameters
from glom.backbones.video import clip_for, default_backbone, feature_grids, load_backbone, untrained
from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.training.loop import STATE
from glom.training.optimisation import parameter_groups
from tests.conftest import make_image
from tests.helpers_images import class_folders

SMALL = (Block(1, 8, 8, 1, 2), Block(2, 8, 16, 2, 1), Block(2, 16, 16))
QUICK = MViTTinySettings(epochs=2, batch_size=8, small=(16, 24), sizes=(32,), bf16=False)
PICTURE = make_image(3, (50, 40))


def plain(net: nn.Module) -> nn.Module:
    """The same network with torchvision's own pooling."""
    for module in net.modules():
        if type(module) is PlanePool:
            module.__class__ = Pool
    return net


def small_data(root: Path) -> Path:
    """CLASS folders in train/ and test/, 16 pictures each."""
    for split in ("train", "test"):
        class_folders(root / "data" / split, ("cat", "dog"), each=8, size=32)
    return root / "data"


# -- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "size"), [(1, 32), (2, 32), (4, 24)])
def test_pooling_by_planes_is_torchvisions(frames, size):
    net = build_mvit(32, frames, 5, SMALL).double().eval()
    x = torch.randn(2, 3, frames, size, size).double()

    def run() -> list[torch.Tensor]:
        net.zero_grad()
        scores = net(x)
        scores.square().sum().backward()
        return [scores.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]

    own = run()
    assert any(isinstance(m, PlanePool) for m in net.modules())
    plain(net)
    for a, b in zip(own, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_class_token_is_torchvisions_own_read_out():
    net = build_mvit(32, 2, 5, SMALL, pool="class").eval()
    x = torch.randn(2, 3, 2, 32, 32)
    torch.testing.assert_close(net(x), MViT.forward(plain(net), x), rtol=1e-5, atol=1e-6)
    mean = build_mvit(32, 2, 5, SMALL, pool="mean").eval()
    tokens = mean.tokens(x)
    assert tokens.shape == (2, 1 + 8 * 8, 16)
    torch.testing.assert_close(mean(x), mean.head(tokens[:, 1:].mean(1)))


def test_what_makes_it_version_two():
    net = build_mvit(32, 2, 10)
    for block, row in zip(net.blocks, TINY, strict=True):
        assert block.attn.residual_pool and block.proj_after_attn and block.attn.rel_pos_h is not None
        assert (block.project is None) == (row.width == row.out)
        assert (block.pool_skip is None) == (row.stride_q == 1)
    assert net.pos_encoding.spatial_pos is None  # no absolute positions
    assert parameters(net) < 5_000_000
    assert all(p.grad_fn is None and p.requires_grad for p in net.parameters())


def test_every_parameter_learns():
    net = build_mvit(32, 2, 5, SMALL)
    nn.functional.cross_entropy(net(boring(torch.randn(4, 3, 32, 32), 2)), torch.arange(4)).backward()
    # What only moves the class token in the last block reaches no mean of patches, but shares its weights with them.
    dead = [n for n, p in net.named_parameters() if p.grad is None]
    assert dead == []


def test_a_boring_video_has_the_same_features_at_every_step():
    net = build_mvit(32, 2, 5, SMALL).eval()
    still = torch.randn(1, 3, 32, 32)

    def steps(clip: torch.Tensor) -> torch.Tensor:
        return net.tokens(clip)[0, 1:].unflatten(0, (3, 64))

    first, second, third = steps(boring(still, 6))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first, third, rtol=1e-4, atol=1e-5)
    moving = boring(still, 6).clone()
    moving[:, :, 2:4] = moving[:, :, 2:4].flip(-1)
    first, second, _ = steps(moving)
    assert (first - second).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool": "max"}, "'mean' or 'class'"),
        ({"blocks": TINY[:1]}, "at least two blocks"),
        ({"blocks": (Block(1, 8, 8), Block(1, 9, 9))}, "gives 8 channels, block 1 takes 9"),
        ({"blocks": (Block(3, 8, 8), Block(1, 8, 8))}, "heads must divide"),
        ({"frames": 3}, "1 or even"),
        ({"stride": 0}, "stride"),
        ({"size": 4}, "too small"),
    ],
)
def test_networks_that_cannot_be(options, says):
    with pytest.raises(InputError, match=says):
        build_mvit(**{"size": 32, "frames": 2, "classes": 5, **options})


# -- the recipe ----------------------------------------------------------------------------------------------------


def random_pictures(count: int = 32) -> Pictures:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=g)
    return Pictures(images, torch.arange(count) % 2, ("a", "b"))


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    data = str(small_data(tmp_path))
    for event in run_training(replace(QUICK, data=data), tmp_path / "whole"):
        last = event
    assert set(last.result) >= {"test_accuracy", "ci95", "n", "command", "seconds"}
    steps = run_training(replace(QUICK, data=data), tmp_path / "parts")
    for event in steps:
        if event.done == 2:  # after the first epoch
            break
    steps.close()
    torch.rand(3)
    again = list(run_training(replace(QUICK, data=data), tmp_path / "parts", resume=True))
    assert [e.done for e in again if e.stage] == [4]
    whole, parts = (load_file(tmp_path / n / WEIGHTS) for n in ("whole", "parts"))
    assert all(torch.equal(whole[k], parts[k]) for k in whole | parts)
    assert (tmp_path / "whole" / "results.jsonl").read_text() == (tmp_path / "parts" / "results.jsonl").read_text()


def test_runs_that_do_not_belong_together(tmp_path):
    data = small_data(tmp_path)
    out = tmp_path / "out"
    list(run_training(replace(replace(QUICK, epochs=1), data=str(data)), out))
    with pytest.raises(InputError, match="`resume`"):
        next(run_training(replace(replace(QUICK, epochs=1), data=str(data)), out))
    with pytest.raises(InputError, match="epochs: 1 -> 2"):
        next(run_training(replace(QUICK, data=str(data)), out, resume=True))
    make_image(9).save(data / "train" / "cat" / "new.png")
    with pytest.raises(InputError, match="trained with other pictures"):
        list(run_training(replace(replace(QUICK, epochs=1), data=str(data)), out, resume=True))
    (out / STATE).write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged"):
        list(run_training(replace(replace(QUICK, epochs=1), data=str(data)), out, resume=True))


def test_the_recipe_learns_what_can_be_learnt(tmp_path):
    """Bright against dark: a loss that falls, and an accuracy that says so."""
    pictures = random_pictures(64)
    dark = pictures.labels == 1
    images = torch.where(dark[:, None, None, None], pictures.images // 4, 192 + pictures.images // 4)
    config = TinyConfig(pictures.classes, blocks=SMALL)
    settings = replace(QUICK, epochs=6, batch_size=16, cutout=0)
    data = Pictures(images, pictures.labels, pictures.classes)
    with RunFolder(tmp_path, "test", {}) as folder:
        events = list(Trainer(data, config, settings, folder).run())
    assert [event.done for event in events] == list(range(4, 25, 4))
    assert events[-1].values["accuracy"] == 100 and events[-1].values["loss"] < events[0].values["loss"]


def test_what_is_decayed():
    net = build_mvit(32, 2, 5, SMALL)
    decayed, kept = (g["params"] for g in parameter_groups(net.named_parameters(), 0.1, ("rel_pos",)))
    assert len(decayed) + len(kept) == len(list(net.parameters()))
    assert any(p is net.blocks[0].attn.rel_pos_h for p in kept) and any(p is net.head[1].weight for p in decayed)


def test_pictures_are_read_at_one_size(tmp_path):
    data = small_data(tmp_path)
    make_image(1, (50, 20)).save(data / "train" / "dog" / "wide.png")
    found = read_pictures(open_split(str(data), "train"), 32, 0)
    assert found.images.shape == (17, 3, 32, 32) and found.classes == ("cat", "dog")
    assert len(open_split(str(data), "train", limit=6)) == 6
    (tmp_path / "loose").mkdir()
    make_image(1).save(tmp_path / "loose" / "a.png")
    with pytest.raises(InputError, match="without a class"):
        open_split(str(tmp_path / "loose"), "train")


def test_the_command_writes_a_backbone(tmp_path, capsys):
    data = small_data(tmp_path)
    root = typer.Typer()
    root.add_typer(app, name="train")

    def call(*arguments: object) -> tuple[int, str, str]:
        code = guard(root, ["train", "mvit-v2-tiny", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    out = tmp_path / "out"
    code, _, error = call("--data", data, "--out", out, "--epochs", 1)
    assert code == 2 and "at least 128 training pictures" in error and error.count("error:") == 1
    class_folders(data / "train", ("cat", "dog"), each=64, size=32)
    code, text, _ = call("--data", data, "--out", out, "--epochs", 1, "--resume", "--json", "--quiet")
    result = json.loads(text)
    assert code == 0 and result["n"] == 16 and 0 <= result["test_accuracy"] <= 100
    card = (out / CARD).read_text()
    assert f"{result['test_accuracy']:.2f} %" in card and "1 epochs" in card and "--resume" not in card
    backbone = load_backbone(f"mvit-v2-tiny@{out}", "cpu")
    own = load_file(out / WEIGHTS)
    assert all(torch.equal(v.half(), own[k]) for k, v in backbone.model.state_dict().items())
    code, _, error = call("--data", tmp_path / "nowhere", "--out", tmp_path / "b")
    assert code == 2 and error.startswith("error: ")


# -- the backbone --------------------------------------------------------------------------------------------------


def test_the_shipped_network_is_the_default_and_small():
    assert default_backbone() == ("mvit-v2-tiny", "")
    assert (SHIPPED / WEIGHTS).stat().st_size < 12_000_000
    backbone = load_backbone("mvit-v2-tiny", "cpu")
    config = TinyConfig.from_json(SHIPPED / CONFIG)
    assert (backbone.frames, backbone.size, backbone.view) == (config.frames, config.size, config.view)
    grids = feature_grids(backbone, clip_for(backbone, PICTURE))
    side = backbone.view // config.stride
    assert tuple(grids[0].shape) == (1, side, side, config.blocks[0].out)
    assert tuple(grids[len(grids) - 1].shape) == (1, side // 4, side // 4, config.blocks[-1].out)
    card = (SHIPPED / CARD).read_text()
    assert f"{parameters(backbone.model):,} parameters" in card


def test_the_shipped_network_knows_its_classes():
    """On pictures of the sample that ships; a network that lost its weights would be right on one in ten."""
    backbone = load_backbone("mvit-v2-tiny", "cpu")
    pictures = read_pictures(open_split("cifar10-sample", "test"), backbone.size, 0)
    assert pictures.classes == TinyConfig.from_json(SHIPPED / CONFIG).classes
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    with torch.inference_mode():
        scores = backbone.model(boring((pictures.images.float() / 255 - mean) / std, 2))
    assert (scores.argmax(1) == pictures.labels).float().mean() > 0.7


def test_the_network_of_photographs_ships():
    folder = SHIPPED.with_name("mvit-v2-photo")
    assert (folder / WEIGHTS).stat().st_size < 15_000_000
    backbone = load_backbone("mvit-v2-photo", "cpu")
    config = TinyConfig.from_json(folder / CONFIG)
    assert (backbone.size, backbone.view, len(backbone.layers)) == (config.size, config.view, len(config.blocks))
    grids = feature_grids(backbone, clip_for(backbone, PICTURE, size=64), "last")
    assert [tuple(g.shape) for g in grids.values()] == [(1, 8, 8, 192)]
    own, other = (g[7] for g in (grids, feature_grids(untrained(backbone), clip_for(backbone, PICTURE, size=64), [7])))
    assert not torch.allclose(own, other, atol=0.1)
    assert f"{parameters(backbone.model):,} parameters" in (folder / CARD).read_text()
    assert load_backbone("mvit-v2-photo@random", "cpu").size == config.size


@pytest.mark.parametrize("size", [2, 7, 32, 50])
def test_any_size_from_one_patch_on(size):
    backbone = load_backbone("mvit-v2-tiny@random", "cpu")
    grids = feature_grids(backbone, clip_for(backbone, PICTURE, size=size))
    assert all(torch.isfinite(g).all() for g in grids.values())
    assert backbone.fit(2, size) == [] if size == 32 else "relative positions interpolated" in backbone.fit(2, size)[0]
    with pytest.raises(InputError, match="less than one patch"):
        clip_for(backbone, PICTURE, size=1)


def test_grids_lie_where_the_picture_does():
    """What one corner of the picture changes is found in that corner of the first grid."""
    backbone = load_backbone("mvit-v2-tiny@random", "cpu")
    clip = clip_for(backbone, PICTURE, size=32).clone()
    before = feature_grids(backbone, clip, [0])[0]
    clip[:, :, 24:, :8] += 2
    changed = (feature_grids(backbone, clip, [0])[0] - before).abs().sum(-1)[0]
    row, column = divmod(int(changed.argmax()), 16)
    assert row >= 11 and column <= 4


def test_the_untrained_twin():
    backbone = load_backbone("mvit-v2-tiny", "cpu")
    twin, again = untrained(backbone, 1), untrained(backbone, 1)
    clip = clip_for(backbone, PICTURE)
    a, b, own = (feature_grids(x, clip, "last") for x in (twin, again, backbone))
    [last] = own
    assert torch.equal(a[last], b[last]) and a[last].shape == own[last].shape
    assert not torch.allclose(a[last], own[last], atol=1e-2) and "untrained" in twin.name


def test_any_network_of_the_kind_becomes_a_backbone():
    net = build_mvit(24, 4, 3, SMALL, stride=3)
    backbone = TinyBackbone("mine", net, torch.device("cpu"))
    assert (backbone.frames, backbone.size, backbone.view, backbone.patch_side) == (4, 24, 24, 3)
    grids = feature_grids(backbone, clip_for(backbone, PICTURE))
    assert [tuple(g.shape) for g in grids.values()] == [(2, 8, 8, 8), (2, 4, 4, 16), (2, 4, 4, 16)]
    assert [b.attn.num_heads for b in untrained(backbone).model.blocks] == [1, 2, 2]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mvit-v2-tiny@", "nothing after the @"),
        ("mvit-v2-tiny@nowhere.safetensors", "no such weights file"),
        ("mvit-v2-tinny", "did you mean mvit-v2-tiny"),
    ],
)
def test_names_that_are_none(name, says):
    with pytest.raises(InputError, match=says):
        load_backbone(name, "cpu")


def test_weights_of_another_architecture(tmp_path):
    save_file(build_mvit(32, 2, 10, SMALL).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="does not fit this model"):
        load_backbone(f"mvit-v2-tiny@{tmp_path}/w.safetensors", "cpu")
    for text, says in (
        ("{}", "describes no mvit-v2"),
        ('{"architecture": "mvit-v2"}', "no configuration"),
        ("", "JSON"),
    ):
        (tmp_path / CONFIG).write_text(text)
        with pytest.raises(InputError, match=says):
            load_backbone("mvit-v2-tiny", "cpu", weights=f"{tmp_path}/w.safetensors")
    config = TinyConfig(tuple("abcdefghij"), blocks=SMALL, view=48)
    (tmp_path / CONFIG).write_text(json.dumps(config.to_json()))
    assert TinyConfig.from_json(tmp_path / CONFIG) == config
    assert load_backbone(f"mvit-v2-tiny@{tmp_path}/w.safetensors", "cpu").view == 48
