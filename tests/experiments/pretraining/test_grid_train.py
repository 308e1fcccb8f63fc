"""Pre-training an APM on grids: resumed and shared runs make the same steps, and the figures say what they should."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from commands.ending import guard
from experiments.pretraining import run as grid_run
from experiments.pretraining import train as grid_train
from experiments.pretraining.data import OnTheFly, fill, open_cache, split_data, to_input
from experiments.pretraining.evaluate import compare, knn_accuracy, unfold
from experiments.pretraining.settings import GridTrainSettings
from experiments.pretraining.train import batches, draw_queries, rate
from glom.apm import APM, preset
from glom.checkpoints import load_apm, save_apm
from glom.columns import picture
from glom.datasets.registry import open_dataset
from glom.errors import InputError, RunError
from glom.runs.artifacts import read_results
from glom.teachers.grid_cache import SKIPPED
from glom.teachers.grids import Encoder, grid_shape, grid_teacher, view_of
from glom.training.loop import Training
from tests.conftest import make_image
from tests.helpers_results import drawn_again

ROOT = Path(__file__).parents[3]
SMALL = ["--trunk", "24,16", "--local-patch", "3", "--channels", "1", "--precision", "fp32", "--held-out", "10"]
SMALL += ["--batch", "16", "--epochs", "3", "--views", "2", "--queries", "9", "--quiet"]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from cli import app

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, ["grid", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def started(tmp_path, *arguments: object) -> subprocess.Popen:
    """`apm grid train` as a process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "cli.py", "grid", "train", *map(str, arguments)]
    return subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.DEVNULL)


# -- exactness -----------------------------------------------------------------------------------------------------


def test_killed_and_resumed_gives_the_same_weights_to_the_bit(call, tmp_path):
    base = ["cifar10-sample", "--limit", "64", *SMALL, "--epochs", "25"]
    code, text, error = call("train", *base, "--out", tmp_path / "whole", "--json")
    assert code == 0, error
    out = tmp_path / "killed"
    running = started(tmp_path, *base, "--out", out)
    deadline = time.monotonic() + 120
    lines = out / "results.jsonl"
    while not (lines.exists() and "step 10" in lines.read_text()) and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (out / "apm.safetensors").exists()
    assert call("train", *base, "--out", out)[0] == 2  # not without --resume
    code, again, error = call("train", *base, "--out", out, "--resume", "--json")
    assert code == 0, error
    assert json.loads(again) == json.loads(text)
    whole, parts = (load_file(folder / "apm.safetensors") for folder in (tmp_path / "whole", out))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
    assert read_results(out) == read_results(tmp_path / "whole")
    code, _, error = call("train", *base, "--lr", "0.5", "--out", out, "--resume")
    assert code == 2 and "lr: 0.0025 -> 0.5" in error


def test_killed_within_an_epoch_and_resumed_gives_the_same_weights(call, tmp_path, monkeypatch):
    """Four steps an epoch, a state after every third: the sixth lies in the middle of the second epoch."""
    base = ["cifar10-sample", "--limit", "64", *SMALL]
    assert call("train", *base, "--out", tmp_path / "whole")[0] == 0
    monkeypatch.setattr(grid_train, "KEEP", 3)
    own = Training.keep

    def stop(self):
        own(self)
        if self.done == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "keep", stop)
    code, _, error = call("train", *base, "--out", tmp_path / "parts")
    assert code == 130 and "--resume" in error
    assert not (tmp_path / "parts" / "apm.safetensors").exists()
    monkeypatch.setattr(Training, "keep", own)
    assert call("train", *base, "--out", tmp_path / "parts", "--resume")[0] == 0
    whole, parts = (load_file(tmp_path / name / "apm.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)


def test_two_processes_make_one_processs_steps(call, ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(grid_train, "RECORD", 1)
    base = ["cifar10-sample", "--limit", "64", *SMALL]
    assert call("train", *base, "--out", tmp_path / "one")[0] == 0
    command = ["grid", "train", *base, "--out", tmp_path / "two", "--accumulate", "2", "--json"]
    every = "from experiments.pretraining import train; train.RECORD = 1"
    done = ranks(2, *command, first=every, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 10
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["world"] == 2
    one, two = (read_results(tmp_path / name) for name in ("one", "two"))
    assert [r["index"] for r in one] == [r["index"] for r in two] == list(range(1, 13))
    for a, b in zip(one, two, strict=True):
        for key in ("loss", "feature_loss", "rgb_loss"):
            assert a[key] == pytest.approx(b[key], rel=1e-4)
    first, other = (load_file(tmp_path / name / "apm.safetensors") for name in ("one", "two"))
    for name, value in first.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_with_and_without_a_cache_the_steps_are_the_same(call, tmp_path):
    base = ["cifar10-sample", "--limit", "32", *SMALL, "--cache-precision", "fp32"]
    assert call("train", *base, "--out", tmp_path / "a", "--cache", tmp_path / "grids")[0] == 0
    assert len(list((tmp_path / "grids").glob("*/cache.json"))) == 2
    assert call("train", *base, "--out", tmp_path / "b", "--no-cache")[0] == 0
    for a, b in zip(read_results(tmp_path / "a"), read_results(tmp_path / "b"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_a_training_starts_where_another_ended(call, tmp_path):
    base = ["cifar10-sample", "--limit", "32", *SMALL]
    assert call("train", *base, "--out", tmp_path / "a")[0] == 0
    slow = [*base, "--init", tmp_path / "a", "--lr", "1e-9", "--weight-decay", "0"]
    assert call("train", *slow, "--out", tmp_path / "b")[0] == 0
    (a, _), (b, meta) = load_apm(tmp_path / "a"), load_apm(tmp_path / "b")
    for name, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert meta["settings"]["init"] == "a"
    code, _, error = call("train", *base, "--init", tmp_path / "a", "--trunk", "8", "--out", tmp_path / "c")
    assert code == 2 and "trunk (24, 16), not (24, 16, 8)" in error
    # Another checkpoint of that name is another training.
    assert call("train", *base, "--seed", 1, "--out", tmp_path / "d")[0] == 0
    (tmp_path / "d" / "apm.safetensors").replace(tmp_path / "a" / "apm.safetensors")
    code, _, error = call("train", *slow, "--out", tmp_path / "b", "--resume")
    assert code == 2 and "init" in error


# -- what is learnt ------------------------------------------------------------------------------------------------


def halves(root: Path, count: int = 100) -> Path:
    """Pictures of two colours side by side: simple enough that few of them say what the grid of another one is."""
    rng = np.random.default_rng(0)
    for i in range(count):
        left, right = rng.integers(0, 256, (2, 3), dtype=np.uint8)
        pixels = np.where(np.arange(32)[None, :, None] < 16, left, right).repeat(32, 0)
        place = root / ("cat", "ship")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return root


def test_a_trained_machine_beats_the_mean_grid_and_answers_for_itself(call, tmp_path):
    data = halves(tmp_path / "halves")
    base = [data, *SMALL, "--trunk", "64,32", "--local-patch", "9", "--epochs", "80", "--lr", "0.005"]
    code, text, error = call("train", *base, "--half", "--out", tmp_path / "run", "--json")
    assert code == 0, error
    result = json.loads(text)
    assert result["grid"] == [8, 8, 128] and result["n"] == 10
    assert result["r2"] > 0.05
    losses = [r["feature_loss"] for r in read_results(tmp_path / "run")]
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:3])
    assert all((tmp_path / "run" / f).stat().st_size > 5000 for f in ("grids.png", "curve.png"))
    _, meta = load_apm(tmp_path / "run")
    assert meta["teacher"] == "glom-tiny" and meta["results"]["r2"] == result["r2"]
    assert str(tmp_path) not in json.dumps(meta)
    assert load_file(tmp_path / "run" / "apm.safetensors")["trunk.0.weight"].dtype == torch.float16
    # The same figures from the checkpoint alone, on the same held-out pictures.
    evaluate = ["eval", tmp_path / "run", data, "--limit", 10, "--out", tmp_path / "e"]
    code, text, error = call(*evaluate, "--json")
    assert code == 0, error
    again = json.loads(text)
    assert again["r2"] == pytest.approx(result["r2"], abs=2e-3)
    assert again["rgb"]["psnr"] == pytest.approx(result["rgb"]["psnr"], abs=0.05)
    assert result["rgb"]["psnr"] > result["rgb"]["psnr_mean_colour"] + 1  # it sees a patch of 9 pixels at each place
    assert again["cosine"] == pytest.approx(result["cosine"], abs=2e-3)
    assert (tmp_path / "e" / "grids.png").stat().st_size > 5000
    drawn_again(tmp_path / "e")
    drawn_again(tmp_path / "run")
    assert call(*evaluate)[0] == 2


def test_the_shipped_machine_is_as_good_as_its_record_says():
    record = json.loads((ROOT / "benchmarks" / "results" / "grid-apm-cifar10.json").read_text())["results"]
    apm, meta = load_apm("apm-cifar10")
    assert record["r2"] >= 0.5 and record["n"] == 1000
    for name in ("r2", "cosine"):
        assert meta["results"][name] == pytest.approx(record[name], abs=1e-3)
    data = open_dataset("cifar10-sample")
    teacher = grid_teacher(meta["teacher"], device="cpu")
    grids, frames = Encoder(teacher, apm.config.image_size)([s.image() for s in data.samples[::3]])
    assert compare(grids, unfold(apm, to_input(torch.from_numpy(frames)), 8, 8).numpy())["r2"] > 0.4


def test_whatever_goes_wrong_in_measuring_the_machine_is_there(call, tmp_path, monkeypatch):
    base = ["cifar10-sample", "--limit", "32", *SMALL, "--out", tmp_path / "run"]

    def broken(*arguments):
        raise RunError("the measuring failed")

    with monkeypatch.context() as patch:
        patch.setattr(grid_run, "measure", broken)
        code, _, error = call("train", *base)
        assert code == 1 and "the measuring failed" in error
    _, meta = load_apm(tmp_path / "run")
    assert meta["teacher"] == "glom-tiny" and meta["results"] is None
    before = load_file(tmp_path / "run" / "apm.safetensors")
    assert call("train", *base, "--resume")[0] == 0
    after = load_file(tmp_path / "run" / "apm.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert load_apm(tmp_path / "run")[1]["results"]["n"] == 10


def test_without_a_colour_loss_there_are_no_colours_to_measure(call, tmp_path):
    base = ["cifar10-sample", "--limit", "32", *SMALL, "--rgb-weight", "0", "--out", tmp_path / "run"]
    code, text, error = call("train", *base)
    assert code == 0 and "no colour head" in text, error
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rgb"] is None
    code, text, error = call(
        "eval", tmp_path / "run", "cifar10-sample", "--limit", 4, "--out", tmp_path / "e", "--json"
    )
    assert code == 0 and json.loads(text)["rgb"] is None, error


def test_one_unreadable_picture_is_said_and_costs_nothing_else(call, tmp_path, image_folder):
    for name in ("cat", "ship"):
        for i in range(3, 8):
            make_image(i).save(image_folder / name / f"{i}.png")
    seen = {}
    for kind in ("whole", "spoilt"):
        out = tmp_path / kind
        options = [*SMALL, "--held-out", 5, "--batch", 1, "--epochs", 1, "--views", 1, "--no-cache"]
        code, _, error = call("train", image_folder, *options, "--out", out)
        assert code == 0, error
        seen[kind] = json.loads((out / "result.json").read_text())
        assert (seen[kind]["n"], seen[kind]["knn"]["bank"]) == ((5, 11) if kind == "whole" else (4, 10))
        assert ("1 of 11 training pictures could not be read" in error) == (kind == "spoilt")
        assert ("1 of 5 held-out pictures could not be read" in error) == (kind == "spoilt")
        code, _, error = call("eval", out, image_folder, "--limit", 5, "--out", tmp_path / f"e-{kind}")
        again = json.loads((tmp_path / f"e-{kind}" / "result.json").read_text())
        assert code == 0 and again["n"] == seen[kind]["n"] and again["knn"]["bank"] == seen[kind]["knn"]["bank"]
        assert error.count("could not be read") == (2 if kind == "spoilt" else 0)
        split = split_data(str(image_folder), held_out=5)
        for part in (split.train, split.held_out):
            part.samples[1].source.path.write_bytes(b"no picture")


def test_r2_and_cosine_on_known_answers():
    grids = np.random.default_rng(0).normal(size=(50, 2, 2, 3)).astype(np.float32)
    perfect, constant = compare(grids, grids), compare(grids, np.broadcast_to(grids.mean(0), grids.shape))
    assert perfect["r2"] == 1 and perfect["cosine"] == pytest.approx(1)
    assert constant["r2"] == pytest.approx(0, abs=1e-6)
    assert constant["cosine"] == pytest.approx(constant["cosine_mean_grid"])
    half = compare(grids, (grids + grids.mean(0)) / 2)
    assert half["r2"] == pytest.approx(0.75, abs=1e-5)
    with pytest.raises(InputError, match="all alike"):
        compare(grids[:1], grids[:1])


def test_knn_on_separate_clouds():
    rng = np.random.default_rng(0)
    centres = np.eye(4, dtype=np.float32) * 5
    labels = np.repeat(np.arange(4), 25)
    cloud = lambda: centres[labels] + rng.normal(size=(100, 4)).astype(np.float32) * 0.3  # noqa: E731
    assert knn_accuracy(cloud(), labels, cloud(), labels) == 100
    assert knn_accuracy(cloud(), labels, cloud(), (labels + 1) % 4) == 0


# -- parts ---------------------------------------------------------------------------------------------------------


def test_queries_cover_the_picture_and_lie_where_they_should():
    settings = GridTrainSettings.of("tiny", data="x", queries=16, anywhere=0.5)
    seen = torch.cat([draw_queries(8, 8, settings, step) for step in range(50)])
    assert torch.equal(draw_queries(8, 8, settings, 3), draw_queries(8, 8, settings, 3))
    at_centres = ((seen * 8 - 0.5).remainder(1).abs() < 1e-5).all(1).float().mean()
    assert 0.4 < float(at_centres) < 0.6
    for points in seen.split(16):  # one in every cell of a 4 x 4 lattice
        assert len((points * 4).floor().clamp_max(3).unique(dim=0)) == 16
    whole = GridTrainSettings.of("tiny", data="x", queries=0, anywhere=0.0)
    assert draw_queries(3, 5, whole, 0).shape == (15, 2)


def test_an_epoch_sees_every_picture_once_in_its_own_view():
    settings = GridTrainSettings.of("tiny", data="x", batch=8, views=3)
    usable = np.setdiff1d(np.arange(3 * 40), [2, 41])  # two rows could not be read
    for epoch in range(4):
        rows = np.concatenate(batches(usable, 40, settings, epoch))
        assert len(set(rows)) == len(rows) >= 32
        assert set(rows // 40) == {epoch % 3} and not {2, 41} & set(rows)
    assert rate(0, 100, settings) < rate(5, 100, settings) > rate(60, 100, settings) > rate(99, 100, settings) > 0


def test_views_are_the_pictures_own_pixels_and_repeat():
    image = make_image(3, (32, 32))
    assert view_of(image, 0, 0, "a") is image
    one, again, other = (np.asarray(view_of(image, v, 0, "a")) for v in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    known = {tuple(p) for p in np.asarray(image).reshape(-1, 3)}
    assert {tuple(p) for p in one.reshape(-1, 3)} <= known


def test_what_is_folded_is_what_the_teacher_saw():
    teacher = grid_teacher("glom-tiny", device="cpu")
    image = make_image(5, (32, 32))
    grids, frames = Encoder(teacher, 32)([image])
    torch.testing.assert_close(to_input(torch.from_numpy(frames))[0], picture(image, 32), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(grids), teacher.grid(teacher.preprocess(image)[None]), rtol=1e-3, atol=1e-3
    )
    assert Encoder(teacher, 16)([image])[1].shape == (1, 16, 16, 3)


def test_a_teacher_at_another_size_is_another_teacher():
    own, larger = grid_teacher("glom-tiny", 32, "cpu"), grid_teacher("glom-tiny", 64, "cpu")
    assert (grid_shape(own), grid_shape(larger)) == ((8, 8, 128), (16, 16, 128))
    assert own.fingerprint != larger.fingerprint
    assert own.image_size == 32  # the twin has left it alone
    with pytest.raises(InputError, match="cannot read 33 px"):
        grid_teacher("timm:test_vit@random", 33, "cpu")


def test_dinov2_at_another_size_has_a_finer_grid(tmp_path):
    """The coco preset's kind of teacher: 448 px for a model whose own pictures are smaller."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    tiny = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    Dinov2Model(tiny).save_pretrained(tmp_path)
    assert grid_shape(grid_teacher(f"hf:{tmp_path}", 0, "cpu")) == (4, 4, 16)
    assert grid_shape(grid_teacher(f"hf:{tmp_path}", 448, "cpu")) == (32, 32, 16)
    coco = GridTrainSettings.of("coco", data="x")
    assert (coco.size, coco.teacher, coco.apm.features) == (448, "hf:facebook/dinov2-large", 1024)


def test_unreadable_pictures_are_marked_and_passed_over(tmp_path, image_folder):
    (image_folder / "cat" / "bad.png").write_bytes(b"no picture")
    teacher, split = grid_teacher("glom-tiny", device="cpu"), split_data(str(image_folder), held_out=2)
    data = split.train if any("bad" in s.id for s in split.train.samples) else split.held_out
    bad = next(i for i, s in enumerate(data.samples) if "bad" in s.id)
    cache = open_cache(tmp_path / "grids", teacher, data, 32, 2, 0, "fp16")
    list(fill(cache, data, Encoder(teacher, 32), 0))
    marks = cache.marks()
    assert [i for i, mark in enumerate(marks) if mark == SKIPPED] == [bad, len(data) + bad]
    live = OnTheFly(data, Encoder(teacher, 32), 2, 0)
    grids, _ = live.fetch(np.arange(len(data)))
    assert len(grids) == len(data) - 1
    good = [i for i in range(len(data)) if i != bad]
    np.testing.assert_allclose(cache.read("grid")[good], grids.numpy(), rtol=2e-3, atol=2e-2)


def test_pictures_are_held_out_once_and_for_all(image_folder):
    a, b = (split_data(str(image_folder), held_out=2, seed=s) for s in (0, 0))
    assert [s.id for s in a.held_out.samples] == [s.id for s in b.held_out.samples]
    assert not {s.id for s in a.train.samples} & {s.id for s in a.held_out.samples}
    assert (len(a.train), len(a.held_out)) == (4, 2)
    for split in ("train", "test"):
        for name in ("cat", "ship"):
            (image_folder / "parts" / split / name).mkdir(parents=True)
            make_image(len(split)).save(image_folder / "parts" / split / name / "0.png")
    own = split_data(str(image_folder / "parts"))
    assert "own train and test" in own.how and (len(own.train), len(own.held_out)) == (2, 2)


# -- wrong requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preset", "imagenet"], "unknown preset"),
        (["--teacher", "nobody"], "unknown teacher"),
        (["--trunk", "8,x"], "--trunk"),
        (["--queries", "10"], "square number"),
        (["--lr", "0"], "--lr"),
        (["--precision", "fp8"], "precision"),
        (["--accumulate", "3"], "cannot be shared"),
        (["--cache-precision", "fp4"], "--cache-precision"),
        (["--anywhere", "2"], "--anywhere must be at most 1"),
        (["--patch", "5"], "must divide"),
        (["--held-out", "1"], "at least 2"),
        (["--channels", "99999"], "--channels"),
        (["--trunk", "²"], "--trunk"),
        (["--cache", "c", "--no-cache"], "give one of them"),
        (["--record", f"{__file__}/x.json"], "is a file"),
    ],
)
def test_wrong_trainings(call, tmp_path, options, says):
    code, out, error = call("train", "cifar10-sample", "--limit", 32, *SMALL, *options, "--out", tmp_path / "run")
    assert (code, out) == (2, "") and says in error and error.count("\n") == 1


def test_wrong_evaluations(call, tmp_path):
    apm = APM(preset("apm-tiny", features=16, readout="mean", heads=4))
    nameless = save_apm(tmp_path / "a", apm)
    narrow = save_apm(tmp_path / "b", apm, {"teacher": "glom-tiny", "teacher_fingerprint": "x"})
    for checkpoint, says in ((nameless, "whose grid"), (narrow, "128 wide"), (tmp_path / "c", "no such checkpoint")):
        code, _, error = call("eval", checkpoint, "cifar10-sample", "--limit", 4, "--out", tmp_path / "run", "--quiet")
        assert code == 2 and says in error and error.count("\n") == 1
