"""`apm glom` as a person types it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import experiments.consensus.train as runs
import glom.consensus.training as training
from commands.glom import app
from glom.consensus import GlomConfig
from glom.consensus.checkpoint import load_glom
from glom.consensus.objectives import Loss, objective_of
from glom.training.loop import Diverged
from probes.explorer import read_run
from probes.explorer.codes import decode
from tests.conftest import in_process, make_image
from tests.helpers_results import drawn_again
from tests.probes.explorer.views import held

SOURCE = ["--source", "fashion-mnist-sample"]
SMALL = [
    "--levels",
    "3",
    "--dim",
    "16",
    "--hidden",
    "24",
    "--size",
    "16",
    "--batch",
    "4",
    "--iterations",
    "4",
    "--quiet",
]


@pytest.fixture
def call(capsys):
    """Run `apm glom ...` in this process: (exit code, standard output, standard error)."""
    return in_process(capsys, app, "glom")


@pytest.fixture
def trained(call, tmp_path) -> Path:
    out = tmp_path / "trained"
    assert call("train", "--objective", "mask", "--steps", 3, "--out", out, *SOURCE, *SMALL)[0] == 0
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_glom(folder)[0].state_dict()


@pytest.mark.parametrize("objective", ["denoise", "mask", "contrast", "forward-forward"])
def test_every_objective_trains_and_says_what_it_learned(call, tmp_path, objective):
    out = tmp_path / "run"
    code, text, _ = call("train", "--objective", objective, "--steps", 2, "--out", out, "--json", *SOURCE, *SMALL)
    result = json.loads(text)
    assert code == 0 and (result["objective"], result["steps"]) == (objective, 2)
    assert len(result["levels"]) == 3 and all(math.isfinite(v) for v in result["levels"])
    glom, facts = load_glom(out)
    assert facts["objective"] == objective and facts["step"] == 2 and glom.config.levels == 3
    assert all("/" not in str(v) for v in facts.values())


def killed_in_its_fourth_step(call, monkeypatch, *command):
    """What `apm glom ...` gives when a training is stopped there."""
    real = training.Trainer.loss

    def killed(self, step):
        if step == 3:
            raise KeyboardInterrupt
        return real(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(training.Trainer, "loss", killed)
        return call(*command)


def test_a_killed_training_goes_on_bit_for_bit(call, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    base = ["train", "--steps", 6, "--objective", "denoise", *SOURCE, *SMALL]
    assert call(*base, "--out", tmp_path / "whole")[0] == 0
    code, _, error = killed_in_its_fourth_step(call, monkeypatch, *base, "--out", tmp_path / "cut")
    assert code == 130 and "--resume" in error and load_glom(tmp_path / "cut")[1]["step"] == 2
    assert call(*base, "--out", tmp_path / "cut")[0] == 2  # never without being asked to
    code, _, error = call(*base, "--out", tmp_path / "cut", "--resume", "--lr", "0.5")
    assert code == 2 and "lr: 0.002 -> 0.5" in error
    assert call(*base, "--out", tmp_path / "cut", "--resume")[0] == 0
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(one[k], two[k]) for k in one)
    # A finished run asked to go on has nothing left to do, and still says what it came to.
    code, text, _ = call(*base, "--out", tmp_path / "cut", "--resume", "--json")
    assert code == 0 and json.loads(text)["loss"] is not None


def test_a_loss_that_diverges_is_named_and_the_last_good_weights_stay(call, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 2)
    mask, steps = objective_of("mask"), iter(range(1, 100))

    def breaks(*arguments) -> Loss:
        loss = mask(*arguments)
        return replace(loss, total=loss.total * math.nan) if next(steps) == 4 else loss

    monkeypatch.setattr(training, "objective_of", lambda name: breaks)
    out = tmp_path / "run"
    code, _, error = call("train", "--steps", 40, "--out", out, *SOURCE, *SMALL)
    assert code == 1 and "the mask loss diverged at step 4; the state of step 2 is kept" in error
    assert error.count("\n") == 1 and load_glom(out)[1]["step"] == 2


@pytest.mark.parametrize("objective", ["mask", "forward-forward"])
@pytest.mark.parametrize("steps", [1, 40])
def test_weights_beyond_all_measure_are_named_and_never_kept(call, tmp_path, objective, steps):
    """Also those of the last step, after which no loss would tell."""
    out = tmp_path / "run"
    options = ["--objective", objective, "--steps", steps, "--lr", "1e30"]
    code, text, error = call("train", *options, "--out", out, *SOURCE, *SMALL)
    assert (code, text) == (1, "") and error.count("\n") == 1
    assert "diverged at step 1; the state of step 0 is kept" in error and "--lr" in error
    assert load_glom(out)[1]["step"] == 0
    assert all(float(v.abs().max()) < 10 for v in weights(out).values())


def test_the_level_whose_weights_diverge_is_named(tmp_path):
    for name, group, says in (("up.second", 2, "of level 3 (up.second)"), ("down.first", 0, "of level 1 (down.first)"),
                              ("eye.bias", 0, "the weights (eye.bias)")):  # fmt: skip
        glom = training.new_glom(GlomConfig(levels=3, dim=16), 0)
        training.check_weights(glom)
        with torch.no_grad():
            glom.get_parameter(name)[group].fill_(math.nan)
        with pytest.raises(Diverged) as caught:
            training.check_weights(glom)
        assert says in str(caught.value)


@pytest.mark.parametrize("objective", ["mask", "forward-forward"])
def test_runs_from_before_negatives_were_a_setting_go_on(call, tmp_path, monkeypatch, objective):
    base = ["train", "--objective", objective, "--steps", 2, *SOURCE, *SMALL]
    for name in ("old", "new"):
        out = tmp_path / name
        assert call(*base, "--out", out)[0] == 0
        held = json.loads((out / "manifest.json").read_text())
        assert held["settings"]["task"]["negatives"] == "half"
        if name == "old":
            del held["settings"]["task"]["negatives"]
            (out / "manifest.json").write_text(json.dumps(held))
        assert call(*base, "--out", out, "--resume")[0] == 0, name
        if objective == "forward-forward":
            code, _, error = call(*base, "--out", out, "--resume", "--negatives", "blobs")
            assert code == 2 and "'negatives': 'blobs'" in error
    assert call("score", tmp_path / "old", "--out", tmp_path / "score", "--limit", 2, "--quiet")[0] == 0


def test_folders_and_their_splits_are_data(call, image_folder, tmp_path):
    out = tmp_path / "run"
    code, text, _ = call("train", "--data", image_folder, "--steps", 1, "--out", out, "--json", *SMALL)
    assert code == 0 and json.loads(text)["data"]["pictures"] == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--objective", "denoize"], "did you mean denoise"),
        (["--radius=-1"], "radius"),
        (["--radius", "near"], "--radius"),
        (["--temperature", "0"], "temperature"),
        (["--weights", "1,1"], "--weights"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--size", "18"], "multiple of the patch"),
        (["--objective", "forward-forward", "--batch", "1"], "two pictures"),
        (["--data", "nowhere"], "nowhere"),
        (["--source", "nothing"], "source of composites"),
        (["--masked", "1"], "masked"),
        (["--objective", "forward-forward", "--negatives", "blob"], "did you mean blobs"),
        (["--negatives", "blobs"], "--negatives does nothing in the objective mask; it is for forward-forward"),
        (["--noise", "0.1"], "--noise does nothing"),
        (["--crop", "0.7"], "--crop does nothing"),
        (["--objective", "denoise", "--masked", "0.4"], "--masked does nothing"),
        (["--objective", "forward-forward", "--agreement", "0.2"], "--agreement does nothing"),
        (["--objective", "denoise", "--noise", "inf"], "--noise must be finite"),
        (["--agreement", "nan"], "agreement"),
        (["--limit", "10"], "--limit is for a data set"),
        (["--levels", "1"], "levels"),
        (["--precision", "int8"], "precision"),
    ],
)
def test_wrong_requests(call, tmp_path, options, says):
    code, out, error = call("train", "--out", tmp_path / "run", *SMALL, *options)
    assert (code, out) == (2, "") and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_score_gives_levels_baselines_and_a_verdict(call, trained, tmp_path):
    out, record = tmp_path / "score", tmp_path / "record.json"
    code, text, _ = call("score", trained, "--out", out, "--limit", 6, "--record", record, "--json", "--quiet")
    assert code == 0
    result = json.loads(text)
    assert [r["level"] for r in result["levels"]] == [1, 2, 3] and result["n"] == 6
    for row in [*result["levels"], *result["untrained"]]:
        for measure in ("islands", "ari_wholes", "ari_parts"):
            low, high = row["ci95"][measure]
            assert low <= row[measure] <= high
        assert 1 <= row["islands"] <= 16
    assert len(result["differences"]["fall"]) == 2 and len(result["iterations"]) == 4
    last = [row["islands"] for row in result["iterations"][-1]]
    assert last == [row["islands"] for row in result["levels"]]
    assert result["task"]["measure"] == "error" and len(result["task"]["untrained"]) == 3
    assert (out / "levels.png").stat().st_size > 5000
    assert json.loads(record.read_text())["levels"] == result["levels"] and str(tmp_path) not in record.read_text()
    assert call("score", trained, "--out", out, "--limit", 6, "--quiet")[0] == 2  # never overwritten
    code, _, error = call("score", trained, "--out", tmp_path / "no", "--limit", 6, "--record", record / "x.json")
    assert code == 2 and "is a file" in error and not (tmp_path / "no").exists()
    code, text, error = call("score", trained, "--out", tmp_path / "again", "--limit", 6, "--quiet")
    assert code == 0 and max(map(len, text.splitlines())) <= 80
    assert "pixels" in text and "wholes: best level" in error
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["levels"] == result["levels"]


def test_forward_forward_is_asked_what_it_goes_by(call, tmp_path):
    out = tmp_path / "ff"
    ask = ["--objective", "forward-forward", "--negatives", "blobs"]
    assert call("train", *ask, "--steps", 1, "--out", out, *SOURCE, *SMALL)[0] == 0
    code, text, _ = call("score", out, "--out", tmp_path / "score", "--limit", 4, "--json", "--quiet")
    task = json.loads(text)["task"]
    assert code == 0 and task["measure"] == "goodness"
    for which in ("trained", "untrained"):
        told = task[f"{which}_told_apart"]
        assert list(told) == ["hybrid", "hybrid_soft_seam", "own_top_moved", "blobs"]
        assert all(len(rates) == 3 and min(rates) >= 0 and max(rates) <= 1 for rates in told.values())


def test_islands_writes_sheet_page_and_film(call, trained, tmp_path):
    for i in range(2):
        make_image(i, (40, 30)).save(tmp_path / f"{i} & $.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    paths = [tmp_path / n for n in ("0 & $.png", "dot.png", "1 & $.png", "bad.png")]
    out = tmp_path / "out"
    code, text, _ = call("islands", trained, *paths, "--size", 24, "--out", out, "--json", "--quiet")
    result = json.loads(text)
    assert code == 0 and len(result["pictures"]) == 2
    assert "smaller than one patch" in result["skipped"][0]["reason"] and len(result["skipped"]) == 2
    shown = result["pictures"][0]
    assert len(shown["islands"]) == 4 and all(len(row) == 3 for row in shown["islands"])
    with Image.open(out / shown["film"]) as film:
        assert film.n_frames == 4
    [source] = held(out / shown["page"])["pictures"][0]["sources"]
    assert [(a["name"], len(a["labels"])) for a in source["axes"]] == [("level", 3), ("iteration", 4)]
    assert [(s["h"], s["w"]) for s in source["stages"]] == [(6, 6)] * 12
    assert len(read_run(out)["pictures"]) == 2
    drawn_again(out)
    assert call("islands", trained, paths[0], "--untrained", "--out", tmp_path / "u", "--quiet")[0] == 0
    # Nowhere named: beside the weights, after the pictures, and never over what is there.
    code, text, _ = call("islands", trained, paths[0], "--json", "--quiet")
    folder = trained / "islands-0 & $"
    assert code == 0 and json.loads(text)["folder"] == str(folder) and (folder / "0 & $.png").exists()
    code, _, error = call("islands", trained / "glom.safetensors", paths[0], "--quiet")
    assert code == 2 and "not overwritten" in error and error.count("\n") == 1
    code, _, error = call("islands", trained, *paths, "--quiet")
    assert code == 0 and f"in {trained / 'islands-0 & $-and-3-more'}" in error
    for options, says in ((["--size", "18"], "multiple of 4"), (["--threshold", "2"], "--threshold must be below 1")):
        code, _, error = call("islands", trained, paths[0], "--out", tmp_path / "w", "--quiet", *options)
        assert code == 2 and says in error
    code, _, error = call("islands", trained, paths[1], "--out", tmp_path / "w", "--quiet")
    assert code == 2 and "none of the 1 pictures" in error
    code, _, error = call("islands", tmp_path, paths[0], "--out", tmp_path / "v", "--quiet")
    assert code == 2 and "no trained GLOM" in error


def test_a_level_held_to_something_else_is_a_button_of_the_page(call, trained, tmp_path):
    for name in "ab":
        make_image(ord(name), (40, 30)).save(tmp_path / f"{name}.png")
    given = ("islands", trained, tmp_path / "a.png", "--size", 24, "--quiet", "--out")
    assert call(*given, tmp_path / "out", "--patch", f"2 all zero; 1 0.5,0.5 {tmp_path / 'b.png'}")[0] == 0
    [source] = held(tmp_path / "out" / "a.html")["pictures"][0]["sources"]
    all_zero, other = source["patches"]
    assert [p["name"] for p in (all_zero, other)] == ["level 2, all: zero", "level 1, 0.5,0.5: b.png"]
    assert all_zero["first"] == 0 and all_zero["cells"].all() and other["cells"].sum() == 1
    assert len(all_zero["stages"]) == len(source["stages"]) == 12  # three levels, four iterations
    spread = [
        [float(np.ptp(decode(s), 0).max()) for s in stages[4:8]] for stages in (all_zero["stages"], source["stages"])
    ]
    assert max(spread[0]) < 1e-3 < min(spread[1][1:])  # where level 2 is zero, no column differs
    for patch, says in (("4 all zero", "1 to 3"), ("1 zero", "takes LAYER"), ("1 left zero", "none of the 1 pictures")):
        code, _, error = call(*given, tmp_path / "w", "--patch", patch)
        assert code == 2 and says in error, error
