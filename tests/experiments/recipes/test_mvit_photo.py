"""`apm train mvit-v2-photo`: soft labels of every view, a network that goes on from another, a run that resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commands.ending import guard
from commands.train import app
from experiments.recipes import label_maps as maps_of
from experiments.recipes import mvit_photo
from experiments.recipes.label_maps import KEPT, LabelMaps, label_maps
from experiments.recipes.mvit_photo import MViTPhotoSettings, grow, run, soft_loss
from experiments.recipes.photo_pictures import UNLABELLED, read_photographs
from glom.backbones.mvit_shipped import CARD, WEIGHTS
from glom.backbones.mvit_tiny import TINY, Block, build_mvit
from glom.backbones.video import load_backbone
from glom.datasets.augment import crops, jitter, look, places_in
from glom.errors import InputError
from glom.teachers.registry import load_teacher
from tests.conftest import make_image
from tests.helpers_images import class_folders

TEACHER = "timm:test_efficientnet@random"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """CLASS folders in train/ and test/, 8 pictures each; `more`: three pictures without a class."""
    for split in ("train", "test"):
        class_folders(tmp_path / "data" / split, ("cat", "dog"), each=4, size=40)
    (tmp_path / "more").mkdir()
    for i in range(3):
        make_image(90 + i, (100, 70)).save(tmp_path / "more" / f"{i}.png")
    return tmp_path


@pytest.fixture
def quick(data: Path, monkeypatch: pytest.MonkeyPatch) -> MViTPhotoSettings:
    monkeypatch.setattr(maps_of, "SIDE", 64)
    return MViTPhotoSettings(
        data=str(data / "data"),
        also=(str(data / "more"),),
        teacher=TEACHER,
        epochs=2,
        batch_size=8,
        stored=32,
        small=(16,),
        sizes=(16, 24),
        bf16=False,
    )


# -- views ---------------------------------------------------------------------------------------------------------


def test_views_lie_inside_the_picture_and_are_large_enough():
    centre, half = crops(500, torch.Generator().manual_seed(0), 0.25)
    corners = torch.cat([centre + half, centre - half])
    assert corners.abs().max() <= 1 + 1e-6
    area = half.abs().prod(1)
    assert 0.2 < area.min() < 0.35 and area.max() > 0.8
    assert 0.4 < (half[:, 0] < 0).float().mean() < 0.6 and (half[:, 1] > 0).all()


def test_a_view_shows_the_part_that_its_places_say():
    """Pixels that hold their own coordinates, seen through a box, are the box's coordinates; mirrored, too."""
    steps = (torch.arange(64) + 0.5) / 32 - 1
    image = torch.stack([steps.expand(64, 64), steps[:, None].expand(64, 64), torch.zeros(64, 64)])[None]
    for half in ((0.5, 0.25), (-0.5, 0.25)):
        boxes = torch.tensor([[0.2, -0.1]]), torch.tensor([half])
        seen = look(image, boxes, 16)[0, :2].permute(1, 2, 0)
        torch.testing.assert_close(seen, places_in(boxes, 16)[0], atol=1e-4, rtol=0)


def test_jitter_keeps_pixels_in_range_and_grey_grey():
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(jitter(x, torch.Generator(), 0.0), x)
    grey = jitter(x[:, :1].expand(-1, 3, -1, -1), torch.Generator().manual_seed(1), 0.5)
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    assert grey.min() >= 0 and grey.max() <= 1 and not torch.allclose(grey[:, :1], x[:, :1], atol=0.05)


# -- soft labels ---------------------------------------------------------------------------------------------------


def test_soft_labels_of_the_whole_picture_are_the_teachers_own(quick, tmp_path):
    images = read_photographs(quick.data, (), 32).images
    *told, maps = label_maps(TEACHER, images, "x", tmp_path / "maps.safetensors")
    assert told == [8] and isinstance(maps, LabelMaps)
    teacher = load_teacher(TEACHER, device="cpu")
    shown = torch.nn.functional.interpolate(images.float(), (64, 64), mode="bicubic", antialias=True).clamp(0, 255)
    with torch.inference_mode():
        own = teacher.model(shown / 127.5 - 1).softmax(1)
    side = maps.scores.shape[-1]
    index = torch.arange(8)
    whole = torch.zeros(8, 2), torch.ones(8, 2)
    here, there = maps.targets(index, places_in(whole, side))
    assert here.shape == (8, side * side, 1000)
    torch.testing.assert_close(here.exp().sum(-1), torch.ones(8, side * side))
    torch.testing.assert_close(there.exp().sum(-1), torch.ones(8))
    kept = maps.classes.long()
    assert kept.shape == (8, KEPT)
    torch.testing.assert_close(there.exp().gather(1, kept), own.gather(1, kept), rtol=0.1, atol=1e-4)


def test_soft_labels_of_a_part_are_those_of_its_places():
    scores = torch.zeros(1, KEPT + 1, 2, 2)
    scores[0, 0, :, 0] = 20.0  # class 7 on the left
    scores[0, 1, :, 1] = 20.0  # class 3 on the right
    maps = LabelMaps(scores.half(), torch.arange(KEPT)[None].short(), tuple(map(str, range(100))))
    classes = maps.classes.clone()
    classes[0, 0], classes[0, 7], classes[0, 1], classes[0, 3] = 7, 0, 3, 1
    maps = replace(maps, classes=classes)
    left = torch.tensor([[-0.5, 0.0]]), torch.tensor([[0.25, 0.5]])
    assert maps.targets(torch.tensor([0]), places_in(left, 2))[1].argmax() == 7
    whole = torch.zeros(1, 2), torch.tensor([[-1.0, 1.0]])  # mirrored
    here, there = maps.targets(torch.tensor([0]), places_in(whole, 2))
    assert here.argmax(-1).tolist() == [[3, 7, 3, 7]]
    assert there.exp()[0, [3, 7]].sum() > 0.98


def test_soft_labels_are_kept_and_belong_to_their_pictures(quick, tmp_path):
    images, path = read_photographs(quick.data, (), 32).images, tmp_path / "maps.safetensors"
    *_, first = label_maps(TEACHER, images, "x", path)
    [again] = label_maps(TEACHER, images, "x", path)
    assert torch.equal(first.scores, again.scores)
    with pytest.raises(InputError, match="other pictures"):
        list(label_maps(TEACHER, images, "y", path))
    with pytest.raises(InputError, match="no classifier over a feature map"):
        list(label_maps("glom-tiny", images, "x", tmp_path / "other"))


def test_the_loss_is_a_divergence():
    targets = torch.randn(2, 5, 7).log_softmax(-1)
    assert float(soft_loss(targets, targets)) == pytest.approx(0, abs=1e-6)
    uniform = soft_loss(torch.zeros(2, 5, 7), targets)
    p = targets.exp()
    assert float(uniform) == pytest.approx(
        float((p * (targets + torch.log(torch.tensor(7.0)))).sum(-1).mean()), rel=1e-4
    )


# -- the pictures --------------------------------------------------------------------------------------------------


def test_large_pictures_come_with_their_quarters_and_others_without_labels(data):
    found = read_photographs(str(data / "data"), (str(data / "more"),), 35)
    # 8 labelled ones of 40 px; three of 100 x 70 px, each with four quarters.
    assert found.images.shape == (8 + 15, 3, 35, 35)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [UNLABELLED] * 15
    assert not torch.equal(found.images[8], found.images[9])


# -- the network ---------------------------------------------------------------------------------------------------


def test_a_deeper_network_begins_as_the_shallower_one():
    start = build_mvit(32, 2, 10, TINY).eval()
    net = build_mvit(32, 2, 30, mvit_photo.BLOCKS).eval()
    grow(net, start, "start")
    x = torch.randn(2, 3, 2, 32, 32)
    torch.testing.assert_close(net.tokens(x), start.tokens(x), rtol=1e-4, atol=1e-5)
    for other, says in (
        (build_mvit(32, 2, 10, (Block(1, 8, 8), Block(1, 8, 8))), "start cannot be begun with: its"),
        (torch.nn.Linear(2, 2), "a Linear is not of mvit-v2-tiny's kind"),
    ):
        with pytest.raises(InputError, match=says):
            grow(build_mvit(32, 2, 30, mvit_photo.BLOCKS), other, "start")


# -- the recipe ----------------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_to_the_same_bits(quick, tmp_path):
    *_, last = run(quick, tmp_path / "whole")
    assert set(last.result) >= {"test_accuracy", "ci95", "n", "command", "seconds", "train_pictures"}
    assert (last.result["train_pictures"], last.result["n"]) == (23, 8)
    steps = run(quick, tmp_path / "parts")
    for event in steps:
        if event.stage == "training" and event.done == 2:  # after the first epoch
            break
    steps.close()
    torch.rand(3)
    again = list(run(quick, tmp_path / "parts", resume=True))
    assert [e.done for e in again if e.stage == "training"] == [4]
    assert not [e for e in again if e.stage == "soft labels"]
    whole, parts = (load_file(tmp_path / n / WEIGHTS) for n in ("whole", "parts"))
    assert all(torch.equal(whole[k], parts[k]) for k in whole | parts)
    assert (tmp_path / "whole" / "results.jsonl").read_text() == (tmp_path / "parts" / "results.jsonl").read_text()


def test_the_weights_of_the_losses_count(quick, tmp_path):
    """Without its own labels and without places, other weights come out."""
    found = []
    for name, other in (("a", {}), ("b", {"per_place": 0.0}), ("c", {"own": 0.0})):
        list(run(replace(quick, epochs=1, **other), tmp_path / name))
        found.append(load_file(tmp_path / name / WEIGHTS)["head.1.weight"])
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_the_command_writes_a_backbone(quick, data, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--also", quick.also[0], "--teacher", TEACHER, "--epochs", "1", "--out", str(out)]
    settings = ["--batch-size", "8", "--small", "16", "--sizes", "16,24"]
    code = guard(app, ["mvit-v2-photo", quick.data, *given, *settings, "--json", "--quiet"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    card = (out / CARD).read_text()
    assert f"{result['test_accuracy']:.2f} %" in card
    assert "11 pictures (large ones also as their quarters), 8 of them labelled (2 classes)" in card
    backbone = load_backbone(f"mvit-v2-photo@{out}", "cpu")
    own = load_file(out / WEIGHTS)
    assert all(torch.equal(v.half(), own[k]) for k, v in backbone.model.state_dict().items())
    code = guard(app, ["mvit-v2-photo", quick.data, "--start", "glom-tiny", "--out", str(tmp_path / "x")])
    assert code == 2 and "not of mvit-v2-tiny's kind" in capsys.readouterr().err
