"""The shipped CLIP's recipe: captions, augmentation, and a training that resumes to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.recipes.tiny_clip import (
    CLASSES,
    TinyClipSettings,
    read_images,
    write_captions,
)
from experiments.recipes.tiny_clip import run as run_training
from glom.datasets.augment import augment
from glom.errors import InputError
from glom.teachers.tiny import TRAIN_TEMPLATES
from glom.teachers.zero_shot import simple_templates
from tests.conftest import make_image

QUICK = TinyClipSettings(epochs=2, batch_size=16, bf16=False)


def make_data(root: Path) -> str:
    """Two pictures of each of CIFAR-10's classes."""
    for c, name in enumerate(CLASSES):
        folder = root / "data" / "train" / name
        folder.mkdir(parents=True)
        for i in range(2):
            make_image(10 * c + i).save(folder / f"{i}.png")
    return str(root / "data")


def test_resumed_training_gives_the_same_weights_to_the_bit(tmp_path):
    data, weights = make_data(tmp_path), "open_clip_model.safetensors"
    settings = replace(QUICK, epochs=3, batch_size=8)
    list(run_training(replace(settings, data=data), tmp_path / "whole"))
    events = run_training(replace(settings, data=data), tmp_path / "parts")
    assert next(events).done == 2  # two steps an epoch
    events.close()
    torch.rand(3)
    resumed = list(run_training(replace(settings, data=data), tmp_path / "parts", resume=True))
    assert [event.done for event in resumed if event.stage] == [4, 6]
    for name in (weights, "results.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_resuming_with_other_settings_is_refused(tmp_path):
    data = make_data(tmp_path)
    next(run_training(replace(QUICK, data=data), tmp_path / "out"))
    with pytest.raises(InputError, match=r"lr: 0\.004 -> 0\.1"):
        next(run_training(replace(replace(QUICK, lr=0.1), data=data), tmp_path / "out", resume=True))


def test_captions_name_every_class_once_in_order():
    captions = write_captions(replace(QUICK, synonym_share=0.0), torch.Generator().manual_seed(1))
    assert all(name in caption for name, caption in zip(CLASSES, captions, strict=True))


def test_held_out_templates_are_held_out():
    assert not {t.lower() for t in TRAIN_TEMPLATES} & {t.lower() for t in simple_templates()}


def test_augmentation_moves_pixels_but_makes_none_up():
    images = torch.rand(8, 3, 32, 32)
    out = augment(images, torch.Generator().manual_seed(0), translate=4, cutout=0)
    for before, after in zip(images, out, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())
    cut = augment(images + 1, torch.Generator().manual_seed(0), translate=1, cutout=10)
    assert (cut == 0).any(dim=(1, 2, 3)).all()


def test_other_data_are_refused(tmp_path):
    for name in ("cat", "ship"):
        (tmp_path / "two" / "train" / name).mkdir(parents=True)
        make_image().save(tmp_path / "two" / "train" / name / "0.png")
    with pytest.raises(InputError, match="ten classes"):
        read_images(str(tmp_path / "two"))
    for name in CLASSES:
        (tmp_path / "big" / "train" / name).mkdir(parents=True)
        make_image(size=(40, 40)).save(tmp_path / "big" / "train" / name / "0.png")
    with pytest.raises(InputError, match="40x40"):
        read_images(str(tmp_path / "big"))


def test_training_folder_is_open_clips(tmp_path):
    data, settings = make_data(tmp_path), replace(QUICK, epochs=1)
    list(run_training(replace(settings, data=data), tmp_path / "out"))
    from glom.teachers.registry import load_teacher

    teacher = load_teacher(f"open_clip:{tmp_path / 'out'}", "cpu")
    head = teacher.zero_shot_head(CLASSES)
    assert head(teacher.token(torch.rand(2, 3, 32, 32))).shape == (2, 10)
    with pytest.raises(InputError, match="`resume`"):
        next(run_training(replace(settings, data=data), tmp_path / "out"))
    with pytest.raises(InputError, match="at least 64"):
        next(run_training(replace(replace(settings, batch_size=64), data=data), tmp_path / "more"))
