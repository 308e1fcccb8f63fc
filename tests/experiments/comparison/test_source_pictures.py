"""`eata` through the program: pictures near the source are named by `--train`, and their classes do not matter."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from glom.datasets.registry import split_to_learn_from
from glom.methods import METHODS
from tests.conftest import make_image, one_error


def test_eata_weighs_its_parameters_by_pictures_of_any_classes(image_folder: Path, tmp_path: Path, call) -> None:
    source = tmp_path / "source"
    for c, name in enumerate(("kettle", "lamp", "spoon")):
        (source / name).mkdir(parents=True)
        for i in range(2 - c // 2):  # of spoons there is one
            make_image(100 + 10 * c + i).save(source / name / f"{i}.png")
    asked = [image_folder, "-m", "zero-shot,eta,eata", "--batch", "3", "--json", "-q", "--out", tmp_path / "run"]
    code, out, err = call("benchmark", *asked, "--train", source, "--shots", "2")
    assert code == 0, err
    assert [row["method"] for row in json.loads(out)["rows"]] == ["zero-shot", "eta", "eata"]
    [place] = (tmp_path / "run").glob("*/eata")
    kept = json.loads((place / "manifest.json").read_text())["settings"]
    assert (kept["train"], kept["shots"], kept["stream"]["batch"]) == ("source", 2, 3)
    fisher = load_file(place / "fit.safetensors")
    assert len(fisher) == 12 and all(bool((f >= 0).all()) for f in fisher.values())
    assert any(bool((f > 0).any()) for f in fisher.values())


def test_eata_without_pictures_and_with_the_tested_ones_is_refused(image_folder: Path, tmp_path: Path, call) -> None:
    for more, said in (((), "--train DATA"), (("--train", image_folder, "--shots", 1), "also test pictures")):
        code, _, err = call("benchmark", image_folder, "-m", "zero-shot,eata", *more, "--out", tmp_path / "run")
        assert code == 2 and one_error(err) and said in err


def test_what_learns_from_pictures_starts_from_the_teacher_itself() -> None:
    """It would otherwise be asked for an answer without having learned."""
    assert not [name for name, made in METHODS.items() if made.needs_shots and made.follows]


def test_a_named_set_without_a_split_to_learn_from_gives_the_one_it_has() -> None:
    for spec, split in (("pacs/photo:dir", "test"), ("pacs", "test"), ("cifar10", "train"), ("./pictures", "train")):
        assert split_to_learn_from(spec) == split, spec
