"""`apm islands` with the backbone that ships, on what people give it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.islands import app
from tests.conftest import in_process, make_image
from tests.experiments.islands.test_islands_cli import bsds, masks
from tests.probes.explorer.views import held


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run `apm islands ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return in_process(capsys, app, "islands")


def page_layers(path: Path) -> list[dict]:
    return held(path)["pictures"][0]["sources"][0]["stages"]


def test_nothing_said_is_the_shipped_network_and_says_what_was_interpolated(call, tmp_path):
    make_image(1, (48, 32)).save(tmp_path / "good.png")
    code, text, error = call("show", tmp_path / "good.png", "--out", tmp_path / "o", "--reduce", "pca", "--json")
    result = json.loads(text)
    assert code == 0 and result["backbone"] == "mvit-v2-tiny" and "MViTv2" in result["what"]
    assert len(result["layers"]) == 6 == len(page_layers(tmp_path / "o" / "good.html"))
    assert "relative positions interpolated" in error and "relative positions interpolated" in result["notes"][0]


@pytest.mark.parametrize("reduce", ["tsne", "pca"])
def test_one_colour_is_one_island(call, tmp_path, reduce):
    Image.new("L", (30, 40), 90).save(tmp_path / "plain.png")
    make_image(1, (48, 32)).save(tmp_path / "good.png")
    make_image(1, (1, 9)).save(tmp_path / "thin.png")
    paths = [tmp_path / n for n in ("plain.png", "thin.png", "good.png")]
    arguments = ["--out", tmp_path / "o", "--reduce", reduce, "--size", 24, "--json", "--layers", "first,last"]
    code, text, error = call("show", *paths, *arguments)
    result = json.loads(text)
    assert code == 0 and [p["page"] for p in result["pictures"]] == ["plain.html", "good.html"]
    assert "plain.png: one colour all over" in error and "1x9 pixels is smaller than one patch" in error
    for layer in page_layers(tmp_path / "o" / "plain.html"):
        assert len(np.unique(layer["colours"])) == 1 and np.isfinite(layer["error"])
    assert all(len(np.unique(x["colours"])) > 5 for x in page_layers(tmp_path / "o" / "good.html"))
    assert "one colour all over" in held(tmp_path / "o" / "plain.html")["pictures"][0]["note"]
    assert held(tmp_path / "o" / "good.html")["pictures"][0]["note"] == ""


def test_fewer_locations_than_tsne_wants_are_said_layer_by_layer(call, tmp_path):
    make_image(1, (48, 32)).save(tmp_path / "a.png")
    code, _, error = call("show", tmp_path / "a.png", "--out", tmp_path / "o", "--size", 24)
    assert code == 0 and error.count("are few for t-SNE") == 5  # 144 locations in the first layer are enough
    assert "layer 1: 36 locations" in error and "layer 5: 9 locations" in error
    code, _, error = call("show", tmp_path / "a.png", "--out", tmp_path / "p", "--size", 24, "--reduce", "pca")
    assert code == 0 and "t-SNE" not in error


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode(call, tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    make_image(2, (33, 21)).convert("L" if mode == "I;16" else mode).convert(mode).save(path)
    code, text, _ = call("show", path, "--out", tmp_path / "o", "--size", 16, "--reduce", "pca", "--json", "--quiet")
    assert code == 0 and len(json.loads(text)["pictures"]) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layers", "6"], "layers 0 to 5"),
        (["--layers", "middle"], "layers 0 to 5"),
        (["--size", "1"], "less than one patch"),
        (["--frames", "1"], "less than one patch"),
        (["--backbone", "mvit-v2-tiny@{folder}/a.png"], "no weights format"),
        (["--backbone", "mvit-v2-tiny@{folder}"], "no such weights file"),
    ],
)
@pytest.mark.parametrize("command", ["show", "score"])
def test_wrong_requests(call, tmp_path, command, options, says):
    make_image(1).save(tmp_path / "a.png")
    given = tmp_path / "a.png" if command == "show" else bsds(tmp_path, 1)
    options = [o.replace("{folder}", str(tmp_path)) for o in options]
    code, text, error = call(command, given, "--out", tmp_path / "o", *options)
    assert (code, text) == (2, "") and says in error and error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_masks_that_do_not_fit_are_passed_over(call, tmp_path):
    data = masks(tmp_path)
    Image.new("L", (9, 9), 1).save(data / "masks" / "p0.png")
    Image.new("RGB", (30, 30), (5, 5, 5)).save(data / "images" / "p1.jpg")  # one colour
    make_image(1, (1, 1)).save(data / "images" / "p2.jpg")
    Image.new("L", (1, 1), 1).save(data / "masks" / "p2.png")
    arguments = ["--out", tmp_path / "run", "--grid", 8, "--size", 16, "--layers", "last", "--json"]
    code, text, error = call("score", data, *arguments)
    result = json.loads(text)
    assert code == 0 and (result["n"], result["skipped"]) == (1, 2)
    assert "p0.jpg: its outlines are 9x9" in error and "1x1 pixels is smaller than one patch" in error
    assert all(0 <= r["covering"] <= 1 for r in result["layers"])
