"""Layer and cut chosen on other pictures than those that are scored, for the network and for both baselines alike."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from commands.islands import app
from experiments.islands.measure import Seen, score_cut, weigh_picture
from experiments.islands.readings import read, select_readings, with_joins
from experiments.islands.settings import ScoreSettings
from experiments.islands.study import prepare
from glom.backbones.video import load_backbone
from glom.errors import InputError
from glom.slots.config import SlotConfig
from glom.slots.trained import load, new_model, save
from probes.agreement import neighbour_agreement, resize_grid
from probes.metrics import Outlines, covering
from probes.partition import parse_partition
from tests.conftest import in_process
from tests.experiments.islands.test_islands_cli import SMALL, bsds, masks

FEW = ["--grid", 12, "--candidates", "kmeans:2,kmeans:3,tree,kmeans:3+settled", "--finalists", 2]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return in_process(capsys, app, "islands")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("glom-tiny", "cpu")


def train_and_val(tmp_path):
    """Two pictures to score and three others to choose on."""
    data = bsds(tmp_path, 5)
    (data / "train").mkdir()
    for i in (2, 3, 4):
        for ending in ("jpg", "npz"):
            shutil.move(data / "val" / f"{i}.{ending}", data / "train" / f"{i}.{ending}")
    return data


def test_everything_is_chosen_on_training_pictures(call, tmp_path):
    data, out = train_and_val(tmp_path), tmp_path / "run"
    base = ["score", data, "--choose-on", data, *FEW, *SMALL]
    code, text, _ = call(*base, "--out", out, "--json")
    assert code == 0
    result = json.loads(text)
    chosen = result["chosen"]
    assert chosen["on"] == {"data": "bsds/train", "n": 3} and chosen["n"] == result["n"] == 2
    tried = chosen["candidates"]
    assert tried["layers"] == [0, 1, 2, 3, "2+3", "1+2+3"]
    assert tried["partitions"] == ["kmeans:2", "kmeans:3", "tree", "kmeans:3+settled"]
    assert all(len(tried["finalists"][name]) == 2 for name in ("own", "untrained"))
    for who in (chosen, chosen["untrained"], chosen["pixels"]):
        assert who["partition"] in tried["partitions"]
        assert {"covering", "mbo", "ari", "miou", "ci95"} <= set(who)
    assert "layer" not in chosen["pixels"] and chosen["layer"] in tried["layers"]
    for key in ("minus_pixels", "minus_untrained"):
        for measure in ("covering", "mbo"):
            low, high = chosen[key][measure]["ci95"]
            assert low <= chosen[key][measure]["mean"] <= high
    # What was chosen is what weighed most on the training pictures, whose weights are kept.
    lines = [json.loads(line) for line in (out / "choosing" / "results.jsonl").read_text().splitlines()]
    rows = np.array([line["weights"]["pixels"] for line in lines if line["stage"] == "cuts"]).mean(0).sum(-1)
    assert chosen["pixels"]["partition"] == tried["partitions"][int(rows.argmax())]
    assert sum(chosen["pixels"]["training"].values()) == pytest.approx(rows.max())
    # Killed while it chose, and while it scored: the same.
    for lines in (out / "choosing" / "results.jsonl", out / "results.jsonl"):
        kept = lines.read_text().splitlines(keepends=True)
        lines.write_text("".join(kept[:1]))
    code, text, _ = call(*base, "--out", out, "--json", "--resume")
    assert code == 0 and json.loads(text) == result
    code, text, said = call(*base, "--out", tmp_path / "b")
    assert code == 0 and "chosen on 3 pictures of bsds/train" in text
    assert "mBO minus colour + position: " in said


def test_pictures_that_choose_are_not_scored(call, tmp_path):
    data = train_and_val(tmp_path)
    shutil.copy(data / "val" / "1.jpg", data / "train" / "other.jpg")  # under another name
    shutil.copy(data / "val" / "1.npz", data / "train" / "other.npz")
    code, _, error = call("score", data, "--choose-on", data, "--out", tmp_path / "run", *FEW, *SMALL)
    assert code == 2 and "1 of the pictures" in error and "other is 1" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--candidates", "kmeans:3,nothing:2"], "nothing:2"),
        (["--partition", "kmeans:65", "--grid", "8"], "65 islands of 8 x 8 = 64 locations"),
        (["--candidates", "kmeans:900,ncut:900"], "ncut:900': 900 islands of 28 x 28"),
        (["--layers", "1+9"], "layers 0 to 3"),
        (["--layers", "1+1"], "joins one layer with itself"),
        (["--jobs", "-1"], "--jobs"),
    ],
)
def test_wrong_requests(call, tmp_path, options, says):
    data = train_and_val(tmp_path)
    code, _, error = call("score", data, "--choose-on", data, "--out", tmp_path / "run", *SMALL, *options)
    assert code == 2 and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_layers_are_joined_by_sums(backbone):
    assert select_readings(backbone, "all") == [(0,), (1,), (2,), (3,)]
    assert select_readings(backbone, "3,1, 2+0 ,last+0+2") == [(1,), (3,), (0, 2), (0, 2, 3)]
    assert select_readings(backbone, "all,1+2")[-1] == (1, 2)
    many = [(i,) for i in range(16)]
    assert with_joins(many)[16:] == [(8, 12, 15), (4, 8, 11, 15)]
    assert with_joins(many[:3]) == many[:3]


def test_joined_layers_agree_as_far_as_the_layers_do_on_average():
    rng = np.random.default_rng(0)
    grids = {0: rng.normal(size=(6, 6, 5)).astype(np.float32), 1: 9 * rng.normal(size=(3, 3, 8)).astype(np.float32)}
    both = read(grids, (0, 1), 6)
    assert both.shape == (6, 6, 13)
    each = [neighbour_agreement(resize_grid(grid, 6, 6)) for grid in grids.values()]
    assert neighbour_agreement(both) == pytest.approx(np.mean(each), abs=1e-6)


def test_joined_layers_are_scored_as_a_row_of_their_own(call, tmp_path):
    code, text, _ = call(
        "score", masks(tmp_path), "--layers", "3,1+3", "--grid", 8, "--out", tmp_path / "o", "--json", *SMALL
    )
    rows = json.loads(text)["layers"]
    assert code == 0 and [r["layer"] for r in rows] == [3, "1+3"] and " + " in rows[1]["name"]


def test_a_tree_is_scored_at_every_height_and_at_each_pictures_best(call, tmp_path):
    arguments = ["--partition", "tree:3", "--grid", 12, "--layers", "last", "--json", *SMALL]
    code, text, _ = call("score", bsds(tmp_path), "--out", tmp_path / "o", *arguments)
    [row] = json.loads(text)["layers"]
    assert code == 0 and list(row["heights"]) == ["2", "3", "4", "6", "8", "12", "16", "24", "32"]
    assert row["heights"]["3"] == pytest.approx(row["covering"])
    assert row["oracle_covering"] >= max(row["heights"].values()) - 1e-9


def test_a_layer_that_is_not_finite_is_left_out_and_said(call, tmp_path, monkeypatch):
    import experiments.islands.measure as module

    watched = module.feature_grids

    def one_nan(network, clip, layers, *rest: Any, **more: Any):
        grids = watched(network, clip, layers, *rest, **more)
        if 1 in grids:
            grids[1][0, 0, 0, 0] = torch.nan
        return grids

    monkeypatch.setattr(module, "feature_grids", one_nan)
    data = train_and_val(tmp_path)
    loud = [text for text in SMALL if text != "--quiet"]
    code, text, said = call("score", data, "--choose-on", data, "--out", tmp_path / "o", *FEW, *loud, "--json")
    result = json.loads(text)
    assert code == 0 and [r["layer"] for r in result["layers"]] == [0, 2, 3] and result["left_out"] == [1]
    assert result["n"] == 2 and "not finite, and left out: layer 1" in said
    assert not any("1" in str(layer) for layer in result["chosen"]["candidates"]["finalists"]["own"])


def test_a_constant_picture_is_one_island_everywhere():
    pixels = np.full((20, 20, 3), 80, np.uint8)
    truth = np.zeros((1, 20, 20), np.int64)
    truth[:, 10:] = 1
    grids = {"own": {0: np.ones((4, 4, 3), np.float32)}}
    seen = Seen(pixels, truth, None, None, grids, 8, 0, 0.0)
    cuts = [(None, cut) for cut in ScoreSettings.of(data="x").candidates.split(",")]
    record, _ = weigh_picture((seen, {"pixels": cuts, "own": [((0,), cut) for _, cut in cuts]}))
    same = [0.5, 0.5]
    weights = record["weights"]
    assert all(weight == same for name in ("own",) for weight in weights[name])
    assert weights["pixels"][0] != same  # position still tells the places apart


def test_what_weighs_is_what_scores():
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 4, (5, 5)), np.ones((7, 7), int))[None]
    pixels = rng.integers(0, 255, (35, 35, 3), dtype=np.uint8)
    seen = Seen(pixels, truth, None, 0, {"own": {0: rng.normal(size=(9, 9, 6)).astype(np.float32)}}, 12, 0, 0.0)
    choices = [((0,), "kmeans:4"), ((0,), "tree:5")]
    record, _ = weigh_picture((seen, {"own": choices}))
    for weight, (reading, cut) in zip(record["weights"]["own"], choices, strict=True):
        found = score_cut(seen.cutting("own", reading), parse_partition(cut), seen, Outlines(list(truth)))
        assert weight == pytest.approx([found["covering"], found["mbo"]])


def test_slot_attention_is_scored_beside(call, tmp_path):
    config = SlotConfig(side=16, slots=3, dim=8, width=8)
    save(tmp_path, new_model(config, 0), {"backbone": "", "layer": 0, "size": 16, "data": "x", "step": 0})
    data = train_and_val(tmp_path)
    base = ["score", data, "--slots", tmp_path, "--layers", "last", "--grid", 8, *SMALL]
    code, text, _ = call(*base, "--out", tmp_path / "o", "--json")
    found = json.loads(text)["slot_attention"]
    assert code == 0 and found["n"] == 2 and found["trained"]["data"] == "x" and "islands_minus" not in found
    for row in (json.loads(line) for line in (tmp_path / "o" / "results.jsonl").read_text().splitlines()):
        image = Image.open(data / "val" / f"{row['id']}.jpg")
        [first, *_] = np.load(data / "val" / f"{row['id']}.npz")["segmentations"]
        assert 0 < covering(first.astype(int), load(tmp_path).masks(image)) <= row["slot_attention"]["covering_best"]
    more = ["--choose-on", data, "--candidates", "kmeans:2"]
    code, _, said = call(*base, *more, "--out", tmp_path / "p")
    assert code == 0 and "slot attention (pixels): covering" in said and "mbo of islands minus slots" in said
    code, _, error = call(*base, "--slots", tmp_path / "none", "--out", tmp_path / "q")
    assert code == 2 and "none" in error


def test_a_request_for_more_islands_than_locations_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(InputError, match="locations"):
        prepare(ScoreSettings.of(data="nowhere", partition="tree:1000", grid=100))
