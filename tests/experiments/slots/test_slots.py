"""Slots trained and scored from the command line: resumable to the bit, and scored beside both baselines."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from experiments.slots.score import run as score
from experiments.slots.settings import ScoreSettings, TrainSettings
from experiments.slots.train import run as train
from glom import slots
from glom.datasets.scenes import Tetrominoes
from glom.datasets.segmentation import open_segmentation
from glom.errors import InputError
from probes.metrics import fg_ari

SMALL = {"preset": "quick", "steps": 20, "width": 8, "dim": 8}


def finish(events):
    return list(events)[-1].result


def weights(folder):
    return slots.load(folder).model.state_dict()


@pytest.mark.parametrize(
    "how", [{"data": "tetrominoes"}, {"data": "cifar10-sample", "backbone": "glom-tiny", "queries": 9}]
)
def test_a_killed_training_ends_where_one_that_was_not_does(how, tmp_path, monkeypatch):
    settings = TrainSettings.of(**SMALL, **how, cache=tmp_path / "cache")
    whole = finish(train(settings, tmp_path / "whole"))
    taken, step = iter(range(14)), torch.optim.Adam.step

    def killed(self, *how):
        if next(taken) == 13:
            raise KeyboardInterrupt
        return step(self, *how)

    monkeypatch.setattr(torch.optim.Adam, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        finish(train(settings, tmp_path / "killed"))
    monkeypatch.undo()
    assert (
        slots.load(tmp_path / "killed").facts.items() >= {"step": 8, "of": 20}.items()
    )  # what came of its first epoch
    assert finish(train(settings, tmp_path / "killed", resume=True)) == whole
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [(tmp_path / name / "results.jsonl").read_bytes() for name in ("whole", "killed")]
    assert lines[0] == lines[1] and lines[0].count(b"\n") == 2  # 64 pictures, 8 a step
    assert whole["config"]["slots"] == (7 if "backbone" in how else 4) and whole["steps"] == 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("slots") / "run"
    finish(train(TrainSettings.of(**SMALL, data="tetrominoes"), out))
    return out


def test_a_score_is_that_of_the_masks_beside_both_baselines(trained, tmp_path):
    result = finish(score(ScoreSettings(trained=str(trained), data="tetrominoes:5"), tmp_path / "out"))
    batch, loaded = Tetrominoes("test").batch(range(5)), slots.load(trained)
    pictures = [item.read()[0] for item in open_segmentation("tetrominoes:5", "test").pictures]
    own = [fg_ari(m.numpy(), loaded.masks(p)) for m, p in zip(batch.masks, pictures, strict=True)]
    rows = {row["name"]: row for row in result["rows"]}
    low, high = rows["slots"]["fg_ari"]["ci95"]
    assert result["n"] == 5 and low <= rows["slots"]["fg_ari"]["mean"] <= high
    assert rows["slots"]["fg_ari"]["mean"] == pytest.approx(np.mean(own))
    for other in ("untrained", "pixels"):
        gain = rows["slots"]["ari"]["mean"] - rows[other]["ari"]["mean"]
        assert rows[other]["slots_minus"]["ari"]["mean"] == pytest.approx(gain)
    assert json.loads((tmp_path / "out" / "result.json").read_text())["n"] == 5


def test_nothing_is_learned_from_the_test_part(trained):
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["settings"]["data"] == "tetrominoes train 0"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "cifar10-sample"}, "made sets alone"),
        ({"data": "tetrominoes:4"}, "at least 8"),
        ({"data": "tetrominoes:40", "backbone": "glom-tiny"}, "as pixels"),
        ({"data": "cifar10-sample", "backbone": "glom-tiny", "layer": 99}, "layers 0 to"),
    ],
)
def test_what_cannot_be_learned_from_is_said(given, said, tmp_path):
    with pytest.raises(InputError, match=said):
        finish(train(TrainSettings.of(**SMALL, **given), tmp_path / "run"))


def test_a_training_begins_where_another_ended(trained, tmp_path):
    settings = TrainSettings.of(**{**SMALL, "steps": 1}, data="tetrominoes", lr=1e-12, init=str(trained))
    finish(train(settings, tmp_path / "on"))
    one, other = weights(trained), weights(tmp_path / "on")
    assert all(torch.allclose(one[name], other[name], atol=1e-9) for name in one)
    assert slots.load(tmp_path / "on").facts["step"] == 21
    with pytest.raises(InputError, match="other slots than asked for"):
        finish(train(TrainSettings.of(**{**SMALL, "dim": 12}, data="tetrominoes", init=str(trained)), tmp_path / "x"))


def test_an_option_of_grids_is_refused_for_pixels(call, tmp_path):
    code, _, said = call("slots", "train", "tetrominoes", "--layer", 3, "--out", tmp_path / "run")
    assert code == 2 and "--layer does nothing in slots on pixels" in said
    assert not (tmp_path / "run").exists()


def test_a_row_for_the_slots_and_for_each_baseline_is_shown(call, trained, tmp_path):
    code, shown, said = call("slots", "score", trained, "tetrominoes:3", "--out", tmp_path / "out", "--quiet")
    assert code == 0, said
    assert all(word in shown for word in ("slots", "random weights", "colour + position", "FG-ARI", "mBO"))
