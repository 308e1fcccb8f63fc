"""The objective study on real shift: several data sets, superclasses, photographs without labels, islands that pull."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.objective import confirm as confirmation
from experiments.objective.candidates import CANDIDATES, available
from experiments.objective.confirm import run as confirm
from experiments.objective.photographs import losses, restyled, trained
from experiments.objective.readouts import islands_of, pulled
from experiments.objective.report import beats, by_set, power, unseen
from experiments.objective.run import prepare
from experiments.objective.run import run as select
from experiments.objective.settings import CONFIRM, SELECT, ConfirmSettings, ObjectiveSettings
from glom.apm import Percept, blank_apm, preset
from glom.checkpoints import load_apm
from glom.errors import InputError
from glom.methods.aims import Aim, island_means, loss, relative
from glom.runs.artifacts import read_lines, read_results
from glom.runs.seeds import half_of
from glom.teachers.heads import ZeroShotHead
from tests.conftest import make_image

TEACHER = "timm:test_efficientnet@random"
HEAD = ZeroShotHead(("a", "b"), torch.eye(2), 1.0, None, normalize=False)


# -- islands that pull -------------------------------------------------------------------------------------------------


def test_a_location_is_pulled_to_its_islands_mean():
    features = torch.tensor([[[1.0, 0], [3, 0], [0, 2], [0, 4]], [[1.0, 1], [1, 1], [1, 1], [5, 1]]])
    labels = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])  # the second picture has one island only
    means = island_means(features, labels)
    assert means.tolist() == [[[2, 0], [2, 0], [0, 3], [0, 3]], [[2, 1]] * 4]
    grid, where = features.reshape(2, 2, 2, 2), labels.reshape(2, 2, 2)
    assert torch.equal(pulled(grid, where).flatten(1, 2), means)

    token = torch.zeros(2, 2) + 1
    percept = Percept(features=features, token=token)
    own = loss(percept, Aim(token, islands=where), (2, 2), HEAD)
    torch.testing.assert_close(own, torch.tensor([4 / 30, 12 / 32]))  # token's term is zero
    flat = Percept(features=means, token=token)
    assert loss(flat, Aim(token, islands=where), (2, 2), HEAD).tolist() == [0, 0]
    both = loss(percept, Aim(token, grid=grid + 1, islands=where), (2, 2), HEAD)
    torch.testing.assert_close(both, own + relative(grid, grid + 1))


def test_descending_the_pull_brings_locations_of_an_island_together_and_leaves_islands_apart():
    torch.manual_seed(0)
    labels = torch.tensor([[0, 0, 1, 1]])
    features = (torch.tensor([[[4.0, 0], [4, 0], [0, 4], [0, 4]]]) + torch.randn(1, 4, 2)).requires_grad_()
    before = features.detach().clone()
    for _ in range(20):
        percept = Percept(features=features, token=torch.ones(1, 2))
        (slope,) = torch.autograd.grad(
            loss(percept, Aim(torch.ones(1, 2), islands=labels[:, None]), (1, 4), HEAD), features
        )
        features = (features - 2 * slope.detach()).requires_grad_()
    spread = (features - island_means(features, labels)).norm()
    assert spread < 0.5 * (before - island_means(before, labels)).norm()
    apart = [(m[0, 0] - m[0, 2]).norm() for m in (island_means(features, labels), island_means(before, labels))]
    assert apart[0] > 0.9 * apart[1]


def test_islands_are_labelled_from_zero_and_pulling_keeps_the_mean():
    torch.manual_seed(0)
    grid = torch.randn(2, 6, 5, 3)
    labels = islands_of(grid)
    assert labels.shape == (2, 6, 5) and all(set(x.unique().tolist()) == set(range(int(x.max()) + 1)) for x in labels)
    torch.testing.assert_close(pulled(grid, labels).mean((1, 2)), grid.mean((1, 2)))


# -- what a test can see -----------------------------------------------------------------------------------------------


def test_the_power_of_a_paired_test():
    net = np.repeat([1.0, -1, 0], [12, 4, 84])
    spread = np.sqrt(0.16 - 0.08**2)
    found = power(net)
    assert found["detectable"] == pytest.approx(100 * 2.8016 * spread / 10, abs=1e-2)
    assert found["needed"] == int(np.ceil((2.8016 * spread / 0.08) ** 2))
    # At that many pictures of this spread, the smallest difference that is seen is the one that was found.
    assert 2.8016 * spread / np.sqrt(found["needed"]) == pytest.approx(0.08, abs=1e-3)
    assert power(-net)["needed"] is None and power(np.zeros(9)) == {"detectable": None, "needed": None}
    rng = np.random.default_rng(0)
    drawn = rng.choice([1.0, -1, 0], p=[0.12, 0.04, 0.84], size=(4000, found["needed"]))
    z = drawn.mean(1) / (drawn.std(1) / np.sqrt(found["needed"]))
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.04)


def line(dataset: str, number: int, **right: bool) -> dict[str, Any]:
    said = {"teacher": False, "apm": False, **right}
    classes = {name: 0 if good else 1 for name, good in said.items()}
    place = {"id": f"clean/{dataset}/{number}", "picture": f"{dataset}/{number}", "dataset": dataset}
    return {**place, "status": "ok", "condition": "clean", "label": 0, "classes": classes}


def test_a_candidate_beats_a_set_only_above_its_teacher_and_every_control():
    names = ["flip", "pair"]
    lines = [line("a", i, flip=False, pair=True) for i in range(20)]  # above both
    lines += [line("b", i, flip=True, pair=True) for i in range(20)]  # above the teacher, not above flip
    lines += [line("c", i, flip=False, pair=False) for i in range(20)]
    candidates = [CANDIDATES[name] for name in names]
    sets = by_set(lines, candidates, names, 5)
    assert list(sets) == ["a", "b", "c"] and all(s["tried"] == 5 and s["cases"] == 20 for s in sets.values())
    assert [beats(sets[name]["rows"][1]) for name in "abc"] == [True, False, False]
    whole = unseen(lines, ["a", "b"], candidates, names, 5, sets)
    assert whole["cases"] == 40 and [r["beats_in"] for r in whole["rows"]] == [["a", "b"][1:], ["a"]]


def test_candidates_come_with_their_controls_and_only_where_they_can_be_tried():
    assert [c.name for c in available([], ["pulled"])] == ["grid-islands", "grid-pulled", "pulled"]
    assert not {c.needs for c in available([])} - {""}
    assert {c.needs for c in available(["second", "shape"])} == {"", "second", "shape"}
    with pytest.raises(InputError, match="nobody"):
        available([], ["nobody"])
    with pytest.raises(InputError, match="shape-5 cannot be tried"):
        available(["prior"], ["shape-5"])
    two = CANDIDATES["two-pseudo"]
    assert set(two.controls) == {"second", "second-log", "second-alone"}  # the stronger teacher's own row among them


# -- photographs without labels ----------------------------------------------------------------------------------------


def test_a_style_moves_nothing_and_follows_from_its_draw():
    torch.manual_seed(0)
    pictures = torch.randn(9, 3, 16, 16)
    once, again = (restyled(pictures, torch.Generator().manual_seed(3)) for _ in range(2))
    other = restyled(pictures, torch.Generator().manual_seed(4))
    assert once.shape == pictures.shape and torch.equal(once, again) and not torch.equal(once, other)
    assert bool(once.isfinite().all()) and not bool((once == pictures).flatten(1).all(1).any())
    half = torch.zeros(4, 3, 16, 16)
    half[..., 8:] = 1  # an upright edge stays between the 8th and the 9th column, in every style
    for seed in range(5):
        styled = restyled(half + 0.01 * torch.randn(4, 3, 16, 16), torch.Generator().manual_seed(seed))
        steps = styled.mean((1, 2)).diff(dim=-1).abs()
        assert bool((steps[:, 5:10].max(1).values >= 0.9 * steps.max(1).values).all())


def test_machines_across_styles_learn_the_grid_and_to_agree():
    torch.manual_seed(0)
    apm = blank_apm(preset("apm-tiny", features=4, trunk=(16,), rgb=None))
    apm.reset(torch.Generator().manual_seed(0), "default")
    pictures, grids = torch.randn(6, 3, 32, 32), torch.zeros(6, 2, 2, 4)
    optimiser = torch.optim.Adam(apm.parameters(), 1e-2)
    values = []
    for step in range(60):
        value = losses(apm, pictures, grids, "shape", torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]
    alone = losses(apm, pictures, grids, "prior", torch.Generator())
    assert alone.item() == pytest.approx(apm(pictures, None, ("features",)).features.square().mean().item(), rel=0.5)


# -- as a study --------------------------------------------------------------------------------------------------------


def folder(root: Path, classes: tuple[str, ...], count: int = 5) -> str:
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            make_image(1000 * label + i).save(root / name / f"{root.name}{i}.png")
    return str(root)


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    chosen = ("dog", "elephant", "person")  # no superclass of pacs names a person
    return {
        "data": (folder(tmp_path / "paintings", chosen), folder(tmp_path / "cartoons", chosen)),
        "photographs": (folder(tmp_path / "photographs", ("any",), 12),),
        "teacher": TEACHER, "superclasses": "pacs", "nameable": True, "conditions": ("clean",), "steps": 3,
        "views": 2, "crops": 2, "iterations": 4, "trunk": (16,), "second": "timm:test_resnet@random",
        "candidates": ("bn-9", "pulled", "two-pseudo", "shape-2"),
    }  # fmt: skip


def last(events: Any) -> Any:
    *_, event = events
    return event.result


def test_chosen_on_halves_and_confirmed_on_the_others_and_on_further_sets(tmp_path, asked):
    out, settings = tmp_path / "run", ObjectiveSettings(**asked)
    found = last(select(settings, out))
    names = {"bn-9", "pulled", "grid-pulled", "grid-islands", "two-pseudo", "second", "second-log", "second-alone"}
    assert {r["candidate"] for r in found["rows"]} == names | {"shape-2", "shape-0", "shape-mean"}
    assert list(found["sets"]) == ["paintings", "cartoons"] and not (out / "prior").exists()
    lines = read_lines(out / "results.jsonl")
    assert {half_of(x["picture"]) for x in lines} == {SELECT} and {x["dataset"] for x in lines} == set(found["sets"])
    assert all("person" not in x["picture"] for x in lines)
    assert {c for x in lines for c in x["classes"].values()} <= set(range(2))  # of the superclasses that are met
    assert str(tmp_path) not in json.dumps(found)

    drawings = folder(tmp_path / "drawings", ("airplane", "bear", "boat"), 2)
    for wrong in (asked["data"][0], drawings, f"{drawings}@nothing"):
        with pytest.raises(InputError):
            list(confirm(ConfirmSettings(top=1, on=(wrong,)), out))
    confirmed = last(confirm(ConfirmSettings(top=1, on=(f"{drawings}@geirhos16",)), out))
    assert confirmed["tried"] == len(found["rows"])
    again = read_lines(out / "confirm" / "results.jsonl")
    of = {name: {x["picture"] for x in again if x["dataset"] == name} for name in ("paintings", "cartoons", "drawings")}
    assert len(of["drawings"]) == 6 == confirmed["unseen"]["cases"] == confirmed["sets"]["drawings"]["cases"]
    assert {half_of(x) for x in of["paintings"] | of["cartoons"]} == {CONFIRM}
    assert confirmed["cases"] == len(of["paintings"]) + len(of["cartoons"])
    assert {x["label"] for x in again if x["dataset"] == "drawings"} == {0, 1, 2}


def test_a_confirmation_in_shards_is_that_of_one_process(tmp_path, asked, monkeypatch):
    """Each rank's lines as it would write them alone; then one process puts them together, or the ranks do."""
    out = tmp_path / "run"
    last(select(ObjectiveSettings(**{**asked, "candidates": ("bn-9", "pulled")}), out))
    copy = shutil.copytree(out, tmp_path / "copy")
    expected = last(confirm(ConfirmSettings(top=1), out))
    with monkeypatch.context() as patch:
        patch.setattr(confirmation.Ranks, "join", classmethod(lambda own: own(1, 2)))
        patch.setattr(confirmation.Ranks, "wait", lambda self: None)
        events = list(confirm(ConfirmSettings(top=1), copy))
    assert all(event.result is None for event in events)
    lines = read_lines(copy / "confirm" / "results-1-of-2.jsonl")
    assert 0 < len(lines) < expected["cases"]
    with pytest.raises(InputError, match="add `resume` to go on"):
        last(confirm(ConfirmSettings(top=1), copy))
    assert last(confirm(ConfirmSettings(top=1), copy, resume=True)) == expected
    assert read_results(copy / "confirm") == read_results(out / "confirm")
    first = {line["id"] for line in read_lines(copy / "confirm" / "results.jsonl")}
    assert first and not first & {line["id"] for line in lines}  # nothing was done twice


def test_photographs_are_of_one_half_and_their_machine_is_made_once(tmp_path, asked):
    settings = ObjectiveSettings(**{**asked, "candidates": ("prior-2",), "data": asked["data"][:1]})
    study = prepare(settings)
    assert {half_of(s.id) for s in study.photographs[0]} == {SELECT}
    assert study.held(SELECT)["photographs_fingerprint"] == [study.photographs[0].fingerprint()]
    for place in ("a", "b"):
        list(trained(["prior"], tmp_path / place, study.photographs, study.teacher, settings))
    one, other = (load_apm(tmp_path / place / "prior")[0].state_dict() for place in ("a", "b"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not list(trained(["prior"], tmp_path / "a", study.photographs, study.teacher, settings))


def test_one_data_set_is_held_as_it_was_before_there_could_be_several():
    held = prepare(ObjectiveSettings(data=("cifar10-sample",))).held(SELECT)
    assert held["data"] == "cifar10-sample" and isinstance(held["data_fingerprint"], str)
    assert not {"second", "photographs", "candidates", "superclasses", "steps"} & set(held)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"second": TEACHER}, "another one"),
        ({"data": ("cifar10-sample", "cifar10-sample")}, "each once"),
        ({"candidates": ("nobody",)}, "unknown candidate"),
        ({"photographs": ()}, "shape-2 cannot be tried"),
    ],
)
def test_requests_that_cannot_be_met_leave_nothing(tmp_path, asked, wrong, says):
    with pytest.raises(InputError, match=says):
        list(select(ObjectiveSettings(**{**asked, **wrong}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
