"""How a picture that is no square comes onto one: one rule, said in every result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli import app
from commands.ending import guard
from experiments.fields.fold import fold_image
from experiments.fields.percepts import fitted
from experiments.fields.settings import FoldRequest
from glom.adaptation.overfit import OverfitSettings
from glom.errors import InputError
from tests.conftest import make_image


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """64 x 32 pixels: its middle is grey, its ends are not."""
    picture = make_image(5, (64, 32))
    picture.paste(Image.new("RGB", (32, 32), (128, 128, 128)), (16, 0))
    picture.save(tmp_path / "wide.png")
    return tmp_path / "wide.png"


def test_squeezing_keeps_all_and_cropping_the_middle(wide):
    image = Image.open(wide).convert("RGB")
    assert fitted(image, "squeeze") is image
    assert np.array_equal(np.asarray(fitted(image, "crop")), np.full((32, 32, 3), 128))
    assert fitted(image.transpose(Image.Transpose.ROTATE_90), "crop").size == (32, 32)
    with pytest.raises(InputError, match="did you mean crop"):
        fitted(image, "crops")


def returned(events):
    """What a generator gives when it has no more events."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def test_fold_sees_the_whole_picture_unless_it_is_cropped(wide):
    image = Image.open(wide).convert("RGB")
    found = {}
    for fit in ("squeeze", "crop"):
        torch.manual_seed(0)
        found[fit] = returned(
            fold_image(
                FoldRequest(image="wide.png", overfit=OverfitSettings(iterations=2), fit=fit, device="cpu"),
                image,
                "wide",
            )
        )
        assert found[fit].result["fit"] == fit
    assert [found[fit].panels[0][0] for fit in found] == ["picture, squeezed", "picture, cropped"]
    assert not np.allclose(found["squeeze"].features, found["crop"].features)


COMMANDS = [
    "fold {picture} --iterations 2",
    "grid decode {picture} --overfit --iterations 2 --size 8x8",
    "grid interpolate {picture} {picture} --overfit --iterations 2 --steps 2 --size 8",
    "grid upsample {picture} --teacher glom-tiny --scale 2 --views 0 --iterations 2",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_option_and_says_what_it_did(command, wide, tmp_path, capsys):
    words = command.format(picture=wide).split()
    for number, (more, said) in enumerate((((), "squeeze"), (("--fit", "crop"), "crop"))):
        assert guard(app, [*words, *more, "-o", str(tmp_path / str(number)), "--json", "-q"]) == 0
        assert json.loads(capsys.readouterr().out)["fit"] == said
    assert guard(app, [*words, "--fit", "stretch", "-o", str(tmp_path / "x")]) == 2
    assert "fit 'stretch'" in capsys.readouterr().err and not (tmp_path / "x").exists()
