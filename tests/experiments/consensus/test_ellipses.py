"""GLOM in the world of ellipses: learned, gone on with, scored; and the command line that does it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import experiments.consensus.train as runs
from commands.glom import app
from experiments.consensus.ellipses import count_of, measure
from glom.consensus import GlomConfig
from glom.consensus.checkpoint import load_columns
from glom.consensus.config import TrainSettings
from glom.consensus.ellipses import EllipseGlom, recover
from glom.datasets.ellipse_settings import EllipseSettings
from glom.datasets.ellipses import EllipseBatch, Ellipses
from glom.errors import InputError
from glom.runs.seeds import fixed_seed
from tests.conftest import in_process, make_image
from tests.experiments.consensus.test_glom_cli import killed_in_its_fourth_step

WORLD = EllipseSettings(classes=3)
SMALL = ["--world", "ellipses", "--dim", 16, "--hidden", 24, "--batch", 8, "--classes", 3, "--quiet"]


@pytest.fixture
def call(capsys):
    """Run `apm glom ...` in this process: (exit code, standard output, standard error)."""
    return in_process(capsys, app, "glom")


def small(**changes) -> EllipseGlom:
    with fixed_seed():
        return EllipseGlom(GlomConfig(levels=2, dim=32, hidden=48, iterations=4, **changes), WORLD)


def batch(count: int = 32, seed: int = 0) -> EllipseBatch:
    return Ellipses(WORLD).batch(count, torch.Generator().manual_seed(seed))


def test_columns_know_their_own_ellipse_and_nothing_of_their_order_or_of_other_pictures():
    glom, made = small(), batch(4)
    *_, last = glom.settle(made)
    order = torch.randperm(10)
    mixed = EllipseBatch(*(getattr(made, name)[:, order] for name in made.__match_args__))
    *_, other = glom.settle(mixed)
    torch.testing.assert_close(last[:, :, order], other)
    alone = EllipseBatch(*(getattr(made, name)[1:2] for name in made.__match_args__))
    *_, one = glom.settle(alone)
    torch.testing.assert_close(last[:, 1:2], one)


def test_without_agreement_an_ellipse_hears_of_no_other():
    made = batch(4)
    moved = made.seen.clone()
    moved[:, 5:] += 1.0
    for weights, hears in (((1.0, 1.0, 1.0, 0.0), False), ((1.0, 1.0, 1.0, 1.0), True)):
        glom = small(weights=weights)
        *_, one = glom.settle(made)
        *_, two = glom.settle(EllipseBatch(moved, *(getattr(made, n) for n in made.__match_args__[1:])))
        assert torch.allclose(one[:, :, :5], two[:, :, :5], atol=1e-6) != hears


def test_it_learns_and_every_parameter_has_a_part_in_it():
    glom = small()
    optimiser = torch.optim.Adam(glom.parameters(), 1e-2)
    values = []
    for step in range(40):
        loss = recover(glom, batch(32, step), torch.Generator(), None)
        optimiser.zero_grad()
        loss.total.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in glom.parameters())
        optimiser.step()
        values.append(float(loss.total.detach()))
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5]) and loss.levels.shape == (2,)


def test_known_answers_are_measured_as_such():
    """States that spell the truth: everything right, one island a whole, no cosine between two."""
    made = batch(6)
    glom = small()
    truth = torch.zeros(2, 6, 10, 32)
    truth[0, ..., :15] = 10.0 * torch.nn.functional.one_hot(made.parts, 15)
    truth[1, ..., :3] = torch.nn.functional.one_hot(made.kinds, 3)
    truth[1, ..., 3:9] = made.poses
    with torch.no_grad():
        for head, begin in ((glom.part, 0), (glom.kind, 0), (glom.pose, 3)):
            head.weight.zero_()
            head.bias.zero_()
            head.weight[:, begin : begin + len(head.weight)] = torch.eye(len(head.weight))
        rows = measure(glom, truth, made, made.poses.flatten(0, 1).var(0), 0.9, 0)
    assert all(row["part"] == row["whole"] == 1 and row["pose_error"] < 1e-9 for row in rows)
    assert all(row["cos_within"] > 0.999 and row["ari"] == 1 and row["islands"] in (1, 2) for row in rows)
    assert count_of(np.array([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 1.0]]), 0.9) == 2


def test_a_killed_training_goes_on_bit_for_bit_and_is_scored(call, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    base = ["train", "--steps", 5, *SMALL]
    assert call(*base, "--out", tmp_path / "whole")[0] == 0
    assert killed_in_its_fourth_step(call, monkeypatch, *base, "--out", tmp_path / "cut")[0] == 130
    code, _, error = call(*base, "--out", tmp_path / "cut", "--resume", "--turn", 30)
    assert code == 2 and "turn" in error
    assert call(*base, "--out", tmp_path / "cut", "--resume")[0] == 0
    one, two = (load_columns(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    scores = ["score", tmp_path / "cut", "--out", tmp_path / "scores", "--limit", 6, "--quiet"]
    code, text, _ = call(*scores, "--json")
    result = json.loads(text)
    assert code == 0 and len(result["iterations"]) == 6 and result["chance"]["whole"] == pytest.approx(1 / 3)
    assert {"untrained", "places", "noise", "turned", "shaped"} <= set(result)
    assert (tmp_path / "scores" / "ellipses.png").is_file()
    code, text, _ = call("score", tmp_path / "cut", "--out", tmp_path / "more", "--limit", 6, "--quiet")
    assert code == 0 and "update 6" in text and "noise 0.4" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--world", "ellipses", "--data", "cifar10-sample"], "--data does nothing in the world of ellipses"),
        (["--world", "ellipses", "--size", "32"], "--size does nothing"),
        (["--world", "ellipses", "--masked", "0.3"], "--masked does nothing"),
        (["--world", "ellipses", "--objective", "mask"], "recover"),
        (["--objective", "recover"], "recover"),
        (["--classes", "3"], "--classes does nothing in the world of pictures"),
        (["--world", "ellipse"], "ellipses"),
        (["--world", "ellipses", "--classes", "1"], "at least 2"),
    ],
)
def test_what_has_no_say_in_a_world_is_refused(call, tmp_path, options, says):
    code, _, error = call("train", "--steps", 1, "--out", tmp_path / "run", *options)
    assert code == 2 and says in error and error.count("\n") == 1


def test_it_shows_no_pictures_and_scores_no_composites(call, tmp_path):
    trained, picture = tmp_path / "run", tmp_path / "a.png"
    make_image().save(picture)
    assert call("train", "--steps", 1, "--out", trained, *SMALL)[0] == 0
    code, _, error = call("islands", trained, picture, "--out", tmp_path / "sheets")
    assert code == 2 and "sees no pictures" in error
    code, _, error = call("score", trained, "--out", tmp_path / "s", "--source", "fashion-mnist-sample")
    assert code == 2 and "composites" in error


def test_settings_by_world():
    assert TrainSettings.of(world="ellipses").config.levels == 2
    assert TrainSettings.of(world="ellipses", levels=3, steps=7).config.levels == 3
    assert TrainSettings.of().config.levels == GlomConfig().levels
    with pytest.raises(InputError):
        TrainSettings(world="ellipses")
