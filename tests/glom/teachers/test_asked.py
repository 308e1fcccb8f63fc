"""What a run asks is said at its head, and so is what the one who is asked was not trained for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.teachers.asked import Asked, asked_about, asked_of, choose_classes
from glom.teachers.known import SHIPPED_MODELS
from glom.teachers.registry import SHIPPED
from tests.conftest import make_image

TINY = SHIPPED_MODELS["glom-tiny"]


def photograph(width: int = 32, height: int = 32) -> Image.Image:
    """A picture with colours."""
    grey = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (grey, grey.point(lambda v: 255 - v), grey.point(lambda v: v // 2)))


def folder(root: Path, names: tuple[str, ...], image: Image.Image, each: int = 2) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(each):
            image.save(root / name / f"{i}.png")
    return root


def test_every_model_that_ships_says_what_it_knows():
    assert set(SHIPPED_MODELS) == set(SHIPPED)
    for name, known in SHIPPED_MODELS.items():
        assert known.model == name and not known.foreign(known.classes())
    shipped = open_dataset(TINY.data)
    assert TINY.classes() == shipped.classes
    assert asked_of(shipped, None, "glom-tiny").warnings == ()


def test_the_head_names_data_classes_and_count(tmp_path):
    data = open_dataset(str(folder(tmp_path / "pets", ("cat", "dog", "frog", "horse"), photograph())))
    asked = asked_of(data, None, "glom-tiny")
    assert asked.line == "pets: 8 pictures, 4 classes (cat, dog, frog, ...); asked of glom-tiny"
    assert asked.warnings == ()
    assert json.loads(json.dumps(asked.kept()))["asked"]["first"] == ["cat", "dog", "frog"]
    assert str(tmp_path) not in json.dumps(replace(asked, model=f"timm:vit@{tmp_path}/a.safetensors").kept())
    assert Asked("x", 1, ("a",)).line == "x: 1 picture, 1 class (a)"


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (("Cat", "ship"), ""),
        (("car", "small_bird"), ""),  # words that it read as well
        (("cat", "emu"), "data: class 'emu' is not among those that glom-tiny was trained on, CIFAR-10's 10"),
        (("emu", "lotus"), "none of the 2 classes is among those"),
        (("emu", "lotus", "cat"), "2 of 3 classes are not among those that glom-tiny was trained on"),
    ],
)
def test_names_that_a_shipped_model_was_not_trained_on_are_warned_of(tmp_path, names, warned):
    data = open_dataset(str(folder(tmp_path / "data", names, photograph())))
    warnings = asked_of(data, None, "glom-tiny").warnings
    assert len(warnings) == bool(warned) and all(warned in text for text in warnings)
    assert asked_of(data, None, "open_clip:ViT-B-32@openai").warnings == ()  # nothing is known of it


@pytest.mark.parametrize(
    ("model", "image", "warned"),
    [
        ("glom-tiny", photograph(32, 32), ""),
        ("glom-tiny", photograph(96, 300), ""),
        ("glom-tiny", photograph(640, 480), "here are 640x480"),
        ("glom-tiny", photograph(28, 28).convert("L"), "here are grey"),
        ("glom-tiny", photograph(500, 400).convert("L").convert("RGB"), "here are grey and 500x400"),
        ("efficientnet-lite0", photograph(2000, 1500), ""),
        ("efficientnet-lite0", photograph(32, 32), "colour photographs of 224x224; the pictures here are 32x32"),
    ],
)
def test_pictures_of_another_kind_are_warned_of(tmp_path, model, image, warned):
    data = open_dataset(str(folder(tmp_path / "data", ("tench", "goldfish"), image)))
    warnings = [w for w in asked_of(data, None, model).warnings if "classes is" not in w]
    assert len(warnings) == bool(warned) and all(warned in text for text in warnings)


def test_one_picture_like_the_training_pictures_is_enough_and_an_unreadable_one_is_passed_over(tmp_path):
    root = folder(tmp_path / "data", ("cat", "dog"), photograph(640, 480))
    (root / "cat" / "0.png").write_bytes(b"no picture")
    assert asked_of(open_dataset(str(root)), None, "glom-tiny").warnings != ()
    photograph().save(root / "dog" / "1.png")
    assert asked_of(open_dataset(str(root)), None, "glom-tiny").warnings == ()


def test_a_single_picture_is_named_and_classes_that_nobody_chose_are_said_to_be_so():
    asked = asked_about([("a.png", photograph(640, 480))], TINY.classes(), "glom-tiny", chosen="those it knows")
    assert "those it knows" in asked.line and asked.line.startswith("a.png: 1 picture, 10 classes (airplane,")
    assert asked.warnings == ("glom-tiny was trained on colour photographs of 32x32; a.png is 640x480",)


class Named:
    """As much of a teacher as names its classes."""

    def __init__(self, name: str, classes: tuple[str, ...] | None = None) -> None:
        self.name, self.classes = name, classes


def test_classes_come_from_what_was_named_and_else_from_what_is_known(tmp_path):
    (tmp_path / "names.txt").write_text("emu\nlotus\n")
    assert choose_classes(Named("glom-tiny"), str(tmp_path / "names.txt"), None) == (("emu", "lotus"), "")
    assert choose_classes(Named("x"), None, "cifar10-sample") == (TINY.classes(), "")
    names, why = choose_classes(Named("glom-tiny"), None, None)
    assert names == TINY.classes() and why == "those glom-tiny was trained on, as none were named"
    assert choose_classes(Named("timm:x", ("a", "b")), None, None) == (("a", "b"), "timm:x's own, as none were named")
    with pytest.raises(InputError, match="needs class names"):
        choose_classes(Named("x"), None, None)
    assert choose_classes(Named("x"), None, None, "cifar10-sample")[1] == "those of cifar10-sample, as none were named"


def test_a_run_says_what_it_asks_and_keeps_it(call, tmp_path):
    data = folder(tmp_path / "birds", ("emu", "kiwi"), photograph(200, 150))
    theirs = "that glom-tiny was trained on, CIFAR-10's 10 (airplane, automobile, bird, ...)"
    warnings = [
        f"birds: none of the 2 classes is among those {theirs}: its answers are guesses there",
        "birds: glom-tiny was trained on colour photographs of 32x32; the pictures here are 200x150",
    ]
    head = "birds: 4 pictures, 2 classes (emu, kiwi); asked of glom-tiny"
    out = tmp_path / "run"
    short = ("--iterations", 1, "--quiet", "--json")
    for command, folder_of in (
        (("ttt", "run", data, "--out", out, *short), out),
        (("benchmark", "--data", data, "--methods", "zero-shot", "--out", tmp_path / "b", "--quiet", "--json"), None),
        (("teachers", "score", "glom-tiny", data, "--quiet", "--json"), None),
    ):
        code, text, error = call(*command)
        assert code == 0, error
        assert error.splitlines()[:3] == [f"note: {line}" for line in (head, *warnings)]
        assert json.loads(text)["warnings"] == warnings
        if folder_of:
            manifest = json.loads((folder_of / "manifest.json").read_text())
            assert manifest["notices"] == warnings and manifest["asked"]["line"] == head
    code, text, error = call("ttt", "report", out, "--json")
    assert (code, json.loads(text)["warnings"], json.loads(text)["asked"]["classes"]) == (0, warnings, 2)


def test_a_trace_says_which_classes_and_how_sure(call, tmp_path):
    photograph().save(tmp_path / "a.png")
    code, text, error = call("ttt", "trace", tmp_path / "a.png", "--iterations", 2, "--out", tmp_path / "t")
    assert code == 0 and "those glom-tiny was trained on, as none were named" in error
    found = json.loads((tmp_path / "t" / "result.json").read_text())
    sure = f"{found['teacher_name']}, {100 * found['teacher_probability']:.0f} % among 10 classes"
    assert sure in " ".join(text.split())
    assert all(0.1 <= step["probability"] <= 1 for step in found["trace"])
    assert found["apm_probability"] == found["trace"][-1]["probability"]


def test_imagenets_classes_are_known_by_wnid_however_their_names_are_spelled(tmp_path):
    for wnid in ("n01440764", "n02099712"):
        (tmp_path / wnid).mkdir()
        make_image(0, (64, 64)).save(tmp_path / wnid / "0.png")
    names = [f"{i}\t{wnid}\tspelled otherwise {i}" for i, wnid in enumerate(("n01440764", "n02099712"))]
    (tmp_path / "classes.tsv").write_text("\n".join(names) + "\n")
    asked = asked_of(open_dataset(str(tmp_path)), None, "efficientnet-lite0", look=False)
    assert asked.warnings == ()
