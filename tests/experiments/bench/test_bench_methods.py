"""`apm bench methods`: what one more training-free method costs beside the views that are made once."""

from __future__ import annotations

import json

import pytest

from commands.bench import app
from experiments.bench.methods import run_methods
from experiments.bench.methods_settings import MethodsBenchSettings
from glom.errors import InputError
from tests.conftest import in_process


def test_views_are_made_by_the_first_and_the_rest_is_told(image_folder, capsys, tmp_path):
    call = in_process(capsys, app, "bench")
    asked = ("methods", image_folder, "-t", "glom-tiny", "--limit", "2", "--rounds", "2", "--corruption", "fog:3")
    code, out, err = call(*asked, "--json", "--quiet", "--out", tmp_path)
    assert code == 0, err
    found = json.loads(out)
    assert json.loads((tmp_path / "methods.json").read_text())["times"] == found["times"]
    assert set(found["shares"]) == {"views", "mta", "tps"} and found["wanted"] == 1.03
    assert found["times"]["n"] == 2 and found["times"]["min"] > 1
    expected = 1 + sum(x["median"] for x in found["shares"].values()) / 3
    assert found["times"]["median"] == pytest.approx(expected, rel=0.2)
    code, out, _ = call(*asked[:-2], "--quiet")
    assert code == 0 and "one more method" in out


def test_one_method_has_nothing_beside_it(image_folder):
    with pytest.raises(InputError, match="two at least"):
        run_methods(MethodsBenchSettings(data=str(image_folder), methods=("zero",)))
