"""Corruptions act on what the teacher sees, as in ImageNet-C, or on the file; a run says which and never mixes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms as T

from cli import app
from commands.ending import guard
from glom.datasets.corruptions import parse_corruption
from glom.errors import InputError
from glom.runs.artifacts import read_json, read_results
from glom.teachers.base import Runtime, Teacher
from glom.teachers.corrupted import corrupted
from glom.teachers.registry import load_teacher
from glom.teachers.views import seen
from tests.helpers_images import photo

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


class Cropper(Teacher):
    """A teacher of 128 px that resizes the shorter side to 146 and cuts the middle out."""

    def __init__(self) -> None:
        steps = [T.Resize(146), T.CenterCrop(128), T.ToTensor(), T.Normalize(MEAN, STD)]
        runtime = Runtime(torch.device("cpu"), torch.float32, "fp32")
        super().__init__("cropper", nn.Identity(), T.Compose(steps), 3, runtime, "cropper")

    def _token(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def _grid(self, images: Tensor) -> Tensor:
        return images.permute(0, 2, 3, 1)


def strength(size: tuple[int, int], place: str) -> float:
    """The noise's deviation in the teacher's input, as a share of the range."""
    teacher, grey = Cropper(), Image.new("RGB", size, (128, 128, 128))
    twin = corrupted(teacher, grey, parse_corruption("gaussian_noise:3@imagenet-c"), 1, place)
    noise = teacher.preprocess(twin) - teacher.preprocess(grey)
    return float((noise * torch.tensor(STD)[:, None, None]).std())


@pytest.mark.parametrize("size", [(128, 128), (146, 146), (150, 900), (900, 900), (40, 300)])
def test_on_the_crop_the_strength_does_not_depend_on_the_files_size(size: tuple[int, int]) -> None:
    assert strength(size, "crop") == pytest.approx(0.18, rel=0.03)


def test_on_the_file_resizing_takes_most_of_it_away() -> None:
    assert strength((900, 900), "file") < 0.05


def test_a_picture_of_the_input_size_is_read_whole() -> None:
    teacher, image = Cropper(), photo(128, 128)
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    torch.testing.assert_close(teacher.preprocess(image), (T.functional.to_tensor(image) - mean) / std)
    large = photo(300, 200)
    crop = seen(teacher, large)
    assert seen(teacher, crop).tobytes() == crop.tobytes()
    torch.testing.assert_close(teacher.preprocess(crop), teacher.preprocess(large), atol=0.02, rtol=0)


def test_a_small_picture_is_corrupted_at_its_own_size() -> None:
    """CIFAR-10-C corrupts 32 pixels, however large the pictures that a teacher reads."""
    twin = corrupted(Cropper(), photo(32, 32), parse_corruption("fog:3"), 1)
    assert twin.size == (32, 32)
    assert parse_corruption("fog:3").scale_for(twin.size) == "cifar10-c"


def test_a_photograph_for_a_small_teacher_has_the_small_strengths() -> None:
    teacher = load_teacher("glom-tiny", device="cpu")
    twin = corrupted(teacher, photo(500, 400), parse_corruption("gaussian_noise:5"), 1)
    assert twin.size == (32, 32)
    noise = np.asarray(twin).astype(float) - np.asarray(seen(teacher, photo(500, 400)))
    assert noise.std() < 255 * 0.11


def test_unknown_place() -> None:
    from experiments.adaptation.settings import TTTRun
    from glom.adaptation.settings import settings_for

    with pytest.raises(InputError, match="did you mean crop"):
        TTTRun(data="cifar10-sample", ttt=settings_for("glom-tiny"), corrupt="crops")


def run(out: Path, *more: str) -> int:
    words = ["ttt", "run", "cifar10-sample", "--limit", "2", "--iterations", "1", "--out", str(out), "--quiet", *more]
    return guard(app, [*words, "--corruption", "gaussian_noise:3"])


def test_a_run_names_its_scale_and_is_not_gone_on_with_under_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "r", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["corruption"], said["corrupt"], said["scale"]) == ("gaussian_noise:3", "crop", ["cifar10-c"])
    assert {r["scale"] for r in read_results(tmp_path / "r")} == {"cifar10-c"}
    manifest = read_json(tmp_path / "r" / "manifest.json")
    assert manifest["settings"]["corrupt"] == "crop"
    assert run(tmp_path / "r", "--resume", "--corrupt", "file") == 2
    assert "corrupt: 'crop' -> 'file'" in capsys.readouterr().err
    # A run of before there were scales has neither key.
    for key in ("corrupt", "corruption_scale"):
        del manifest["settings"][key]
    (tmp_path / "r" / "manifest.json").write_text(json.dumps(manifest))
    assert run(tmp_path / "r", "--resume") == 2
    assert "holds another run (corruption_scale: None -> 'auto')" in capsys.readouterr().err
