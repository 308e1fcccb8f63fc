"""`--classes` is one option with one reader, wherever a data set's classes are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import app
from commands.ending import guard
from glom.datasets.registry import open_dataset


@pytest.fixture
def numbered(tmp_path: Path) -> tuple[Path, Path]:
    """Some CIFAR-10 pictures in folders that are called by numbers, and the classes' names."""
    sample = open_dataset("cifar10-sample").limit(30)
    assert sample.classes is not None
    for one in sample:
        place = tmp_path / "numbered" / str(one.label) / Path(one.id).name
        place.parent.mkdir(parents=True, exist_ok=True)
        one.image().save(place.with_suffix(".png"))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(sample.classes) + "\n")
    return tmp_path / "numbered", names


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = guard(app, [str(word) for word in words])
    found = capsys.readouterr()
    return code, found.out, found.err


def top1(text: str) -> float:
    return json.loads(text)["rows"][0]["measured" if "measured" in text else "top1"]


COMMANDS = ["teachers score glom-tiny {data}", "benchmark -d {data} -m zero-shot -o {out}"]


@pytest.mark.parametrize("command", COMMANDS)
def test_names_from_a_file_are_what_the_teacher_reads(command, numbered, tmp_path, capsys):
    data, names = numbered
    found = []
    for out, more in (("a", ()), ("b", ("--classes", names))):
        code, text, error = call(capsys, *command.format(data=data, out=tmp_path / out).split(), *more, "--json", "-q")
        assert code == 0, error
        found.append(top1(text))
    assert found[1] > 70 > 40 > found[0], found  # "a photo of a 3." says little


def test_labelled_pictures_are_called_by_the_same_names(numbered, tmp_path, capsys):
    data, names = numbered
    for path in list(data.iterdir()):
        for split in ("train", "test"):
            (data / split).mkdir(exist_ok=True)
        for number, file in enumerate(sorted(path.iterdir())):
            place = data / ("test" if number else "train") / path.name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            file.rename(place)
        path.rmdir()
    words = ["benchmark", "-d", data, "-m", "zero-shot,coop", "--train", data, "--shots", 1, "--classes", names]
    code, text, error = call(capsys, *words, "--seed", 1, "-o", tmp_path / "o", "--json", "-q")
    assert code == 0, error
    assert json.loads(text)["settings"]["classes"] == "names.txt"


@pytest.mark.parametrize("command", COMMANDS)
def test_names_that_do_not_fit_are_refused(command, numbered, tmp_path, capsys):
    data, names = numbered
    names.write_text("cat\ndog\n")
    code, out, error = call(capsys, *command.format(data=data, out=tmp_path / "o").split(), "--classes", names)
    assert (code, out) == (2, "") and "names.txt: 2 names" in error
