"""`apm ff` as a person types it, on miniature data in torchvision's own raw layout."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import experiments.forward_forward.train as ff_train
from glom.forward_forward import Diverged, Learner
from tests.conftest import make_image, one_error
from tests.helpers_results import drawn_again

ROOT = Path(__file__).parents[3]
TINY = {
    "supervised": ["--widths", "40,30", "--batch", "20"],
    "unsupervised": ["--mode", "unsupervised", "--widths", "40,30", "--batch", "20"],
    "recurrent": ["--mode", "recurrent", "--widths", "30,20", "--batch", "20", "--iterations", "4", "--read", "2,3"],
    "conv": ["--mode", "conv", "--widths", "10,20", "--batch", "20"],
    "local": ["--mode", "local", "--widths", "2,1", "--field", "3", "--iterations", "3", "--read", "1,2"],
}


@pytest.fixture
def call(call_ff):
    """Run `apm ff ...`."""
    return call_ff


def digits(n: int, seed: int, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """(n, side, side) uint8 and labels: class c has its own bright row and column, under noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    images = rng.integers(0, 60, (n, side, side), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 + label % 5, :] = 250
        image[:, 1 + label // 5 * 4] = 250
    return images, labels


def raw_mnist(root: Path, train: int = 200, test: int = 60, folder: str = "MNIST", side: int = 8) -> Path:
    """MNIST's files as torchvision unpacks them: a big-endian header (magic number, sizes), then bytes."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for name, n, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = digits(n, seed, side)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, n) + labels.tobytes())
    return root


def colour_folder(root: Path, each: int = 4, side: int = 6) -> Path:
    """train/CLASS/N.png and test/CLASS/N.png, three classes by colour."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for c, name in enumerate(("blue", "green", "red")):
            (root / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 90, (side, side, 3), dtype=np.uint8)
                pixels[..., 2 - c] += 120
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def train(data: Path, out: Path, *more: object, mode: str = "supervised", epochs: int = 2) -> list[object]:
    tiny = TINY[mode]
    if "--widths" in more:  # a list that is given twice is one list
        tiny = [x for x in tiny if x not in ("--widths", tiny[tiny.index("--widths") + 1])]
    return ["train", "--data-root", data, "--out", out, "--epochs", epochs, "--lr", 0.02, *tiny, *more, "--quiet"]


def test_train_then_eval_give_the_numbers_that_were_promised(call, tmp_path):
    data, out, record = raw_mnist(tmp_path / "data", 400), tmp_path / "run", tmp_path / "records" / "a.json"
    code, text, error = call(
        *train(data, out, "--baseline", "--baseline-epochs", 3, "--record", record, "--json", epochs=10)
    )
    asked = "60 pictures, 10 classes (0, 1, 2, ...)"
    assert code == 0 and f"note: mnist/test: {asked}; asked of run" in error.splitlines()
    result = json.loads(text)
    assert set(result) >= {"test_error", "baseline_test_error", "epochs", "seconds_per_epoch"}
    assert result["epochs"] == 10 and result["complete"] and result["test_pictures"] == 60
    assert result["test_error"] == result["readouts"]["goodness"] < 30  # nine in ten would be chance
    assert result["baseline_test_error"] < 30
    lines = [json.loads(x) for x in (out / "results.jsonl").read_text().splitlines()]
    assert [x["id"] for x in lines] == [f"forward-forward-{i}" for i in range(1, 11)] + [
        f"backprop-{i}" for i in (1, 2, 3)
    ]
    assert lines[9]["train_error"] < lines[0]["train_error"]
    assert len(lines[0]["mean_square"]) == 2
    code, text, _ = call("eval", out, "--data-root", data, "--json")
    assert code == 0 and json.loads(text) == json.loads((out / "result.json").read_text()) == result
    kept = json.loads(record.read_text())
    assert kept["result"] == result and len(kept["curve"]) == 13 and kept["settings"]["widths"] == [40, 30]
    assert str(tmp_path) not in record.read_text()
    code, text, _ = call("eval", out, "--data-root", data, "--limit", 20)
    assert code == 0 and "20 test pictures" in text and "backpropagation twin" in text
    assert max(map(len, text.splitlines())) <= 80


class Stop:
    """Stops a training like a person would, when its n-th checkpoint is about to be written."""

    def __init__(self, at: int) -> None:
        self.left, self.write = at, ff_train.save_state

    def __call__(self, path: Path, state: dict[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        self.write(path, state)


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit; seconds aside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(
    ("mode", "more", "at"),
    [
        ("supervised", ["--jitter", 2, "--input-dropout", 0.2, "--holdout", 50], 3),
        ("supervised", ["--precision", "bf16", "--goodness", "mean"], 2),
        ("supervised", ["--baseline", "--baseline-epochs", 2], 5),
        ("unsupervised", [], 2),
        ("recurrent", [], 3),
        ("local", ["--limit", 40, "--baseline", "--baseline-epochs", 2], 2),
        ("conv", ["--baseline", "--baseline-epochs", 2, "--flip", "--holdout", 50], 3),
        ("conv", ["--objective", "scff", "--readout-epochs", 2], 5),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(call, tmp_path, monkeypatch, mode, more, at):
    data = raw_mnist(tmp_path / "data", 130)
    if mode in ("local", "conv"):
        more = ["--data", "mnist", *more]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call(*train(data, whole, *more, mode=mode, epochs=3))[0] == 0
    monkeypatch.setattr(ff_train, "save_state", Stop(at))
    code, _, error = call(*train(data, parts, *more, mode=mode, epochs=3))
    assert code == 130 and "--resume" in error
    monkeypatch.undo()
    lines = parts / "results.jsonl"
    if lines.exists():  # a kill may also come between a checkpoint and its line
        lines.write_text("".join(lines.read_text().splitlines(keepends=True)[:-1]))
    assert call(*train(data, parts, *more, mode=mode, epochs=3))[0] == 2
    monkeypatch.setenv("APM_DATA", str(data))
    code, _, error = call(*train(data, parts, *more, "--resume", mode=mode, epochs=3))
    assert code == 0, error
    one, other = (torch.load(x / "checkpoint.pt", weights_only=True) for x in (whole, parts))
    assert same(one, other)
    assert (whole / "results.jsonl").read_text() == (parts / "results.jsonl").read_text()
    results = [json.loads((x / "result.json").read_text()) for x in (whole, parts)]
    assert results[0]["readouts"] == results[1]["readouts"]
    assert results[0]["baseline_test_error"] == results[1]["baseline_test_error"]


def test_other_settings_are_refused_and_a_baseline_may_follow(call, tmp_path):
    data, out = raw_mnist(tmp_path / "data"), tmp_path / "run"
    assert call(*train(data, out))[0] == 0
    code, text, error = call(*train(data, out, "--resume", "--peer", 0.5))
    assert (code, text) == (2, "") and "peer: 0.03 -> 0.5" in error
    code, _, error = call(*train(data, out, "--resume", "--flip"))
    assert code == 2 and "flip: False -> True" in error, error
    code, _, error = call(*train(data, out, "--resume", epochs=3))
    assert code == 2 and "epochs: 2 -> 3" in error
    other = raw_mnist(tmp_path / "other", 150)
    code, _, error = call(*train(other, out, "--resume"))
    assert code == 2 and "data_sha256" in error
    # How long a twin would be trained counts for nothing until there is one.
    assert call(*train(data, out, "--resume", "--baseline-epochs", 7))[0] == 0
    assert "baseline_epochs" not in json.loads((out / "manifest.json").read_text())["settings"]
    code, text, _ = call(*train(data, out, "--resume", "--baseline", "--baseline-epochs", 2, "--json"))
    assert code == 0 and json.loads(text)["baseline_test_error"] is not None
    assert (json.loads(text)["epochs"], json.loads(text)["baseline_epochs"]) == (2, 2)
    code, _, error = call(*train(data, out, "--resume", "--baseline", "--baseline-epochs", 3))
    assert code == 2 and "baseline_epochs: 2 -> 3" in error
    assert json.loads((out / "manifest.json").read_text())["settings"]["baseline_epochs"] == 2
    assert call(*train(data, out, "--resume"))[0] == 0


def test_folders_of_before_a_setting_go_on(call, tmp_path):
    data, out = raw_mnist(tmp_path / "data"), tmp_path / "run"
    assert call(*train(data, out))[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    for name in ("flip", "input_dropout"):
        del manifest["settings"][name]
    (out / "manifest.json").write_text(json.dumps(manifest))
    code, _, error = call(*train(data, out, "--resume", "--input-dropout", 0.1))
    assert code == 2 and "input_dropout" in error
    assert call(*train(data, out, "--resume"))[0] == 0


@pytest.mark.parametrize("with_twin", [False, True])
def test_folders_that_hold_a_twins_settings_from_the_start_go_on(call, tmp_path, with_twin):
    """As those did that were made before a twin's settings waited for the twin."""
    data, out = raw_mnist(tmp_path / "data"), tmp_path / "run"
    asked = ["--baseline", "--baseline-epochs", 2] if with_twin else []
    assert call(*train(data, out, *asked))[0] == 0
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["settings"] |= {"baseline_epochs": 2 if with_twin else 20, "baseline_lr": 0.001}
    (out / "manifest.json").write_text(json.dumps(manifest))
    code, _, error = call(*train(data, out, "--resume", "--baseline", "--baseline-epochs", 3))
    assert code == (2 if with_twin else 0), error
    assert ("baseline_epochs: 2 -> 3" in error) == with_twin


def test_the_twin_does_not_depend_on_how_long_the_other_was_trained(call, tmp_path):
    data, found = raw_mnist(tmp_path / "data"), []
    for epochs in (1, 3):
        out = tmp_path / f"run {epochs}"
        assert call(*train(data, out, "--baseline", "--baseline-epochs", 2, mode="recurrent", epochs=epochs))[0] == 0
        found.append(torch.load(out / "checkpoint.pt", weights_only=True))
    assert same(found[0]["twin"], found[1]["twin"]) and not same(found[0]["network"], found[1]["network"])


def test_divergence_names_layer_and_step_and_keeps_the_last_good_epoch(call, tmp_path, monkeypatch):
    data = raw_mnist(tmp_path / "data", 100)
    code, text, error = call(*train(data, tmp_path / "a", "--json", "--lr", 1e30))
    assert (code, text) == (1, "") and one_error(error)
    assert "goodness of layer 1 diverged at step 2 (epoch 1); no epoch was complete" in error
    # The step that ends an epoch is looked at before it is kept: nothing comes after it that would notice.
    code, text, error = call(*train(data, tmp_path / "one", "--json", "--lr", 1e30, "--batch", 100, epochs=1))
    assert (code, text) == (1, "") and one_error(error)
    assert "weights of layer 1 diverged at step 1 (epoch 1); no epoch was complete" in error
    assert not (tmp_path / "one" / "checkpoint.pt").exists()
    learn, calls = Learner.learn, iter(range(1000))

    def bursts(self: Learner, *arguments: Any) -> Any:
        if next(calls) == 7:
            raise Diverged(2)
        return learn(self, *arguments)

    monkeypatch.setattr(Learner, "learn", bursts)
    code, _, error = call(*train(data, tmp_path / "b"))
    assert code == 1 and "layer 2 diverged at step 8 (epoch 2); the checkpoint of epoch 1 is kept" in error
    assert torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)["epoch"] == 1
    code, text, _ = call("eval", tmp_path / "b", "--data-root", data)
    assert code == 0 and "training not complete" in " ".join(text.split())
    monkeypatch.undo()
    step = Learner.learn

    def ruined(self: Learner, *arguments: Any) -> Any:
        found = step(self, *arguments)
        if next(calls) > 18:  # the last of the second epoch's five
            self.network.layers[1].bias.value.fill_(float("nan"))
        return found

    calls = iter(range(10, 1000))
    monkeypatch.setattr(Learner, "learn", ruined)
    code, _, error = call(*train(data, tmp_path / "c"))
    assert code == 1 and "weights of layer 2 diverged at step 10 (epoch 2); the checkpoint of epoch 1 is kept" in error
    kept = torch.load(tmp_path / "c" / "checkpoint.pt", weights_only=True)
    assert kept["epoch"] == 1 and all(layer["bias"]["value"].isfinite().all() for layer in kept["network"]["layers"])


def test_unsupervised_pictures_are_never_mixed_with_themselves(call, tmp_path, monkeypatch):
    data = raw_mnist(tmp_path / "data", 41)
    sizes: list[int] = []
    learn = Learner.learn

    def counted(self: Learner, images: torch.Tensor, *arguments: Any) -> Any:
        sizes.append(len(images))
        return learn(self, images, *arguments)

    monkeypatch.setattr(Learner, "learn", counted)
    for mode, wanted in (("unsupervised", [20, 21]), ("supervised", [20, 20, 1])):
        sizes.clear()
        assert call(*train(data, tmp_path / mode, mode=mode, epochs=1))[0] == 0
        assert sizes == wanted
    for more in (["--batch", 1], ["--limit", 1], ["--holdout", 40]):
        code, text, error = call(*train(data, tmp_path / "run", *more, mode="unsupervised"))
        assert (code, text) == (2, "") and "made of two pictures" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--data", "mnits"], "did you mean mnist"),
        (["--mode", "superwised"], "did you mean supervised"),
        (["--preset", "papier"], "did you mean paper"),
        (["--widths", "10,x"], "--widths"),
        (["--read", "3"], "--read"),
        (["--mode", "recurrent", "--read", "9,12"], "iterations 1 to 8"),
        (["--mode", "recurrent", "--iterations", "4", "--read", "3,5"], "iterations 1 to 4"),
        (["--lr", "inf"], "--lr must be finite"),
        (["--damping", "0.5"], "does nothing in supervised mode"),
        (["--mode", "unsupervised", "--negatives", "hard"], "does nothing in unsupervised mode"),
        (["--negatives", "kind"], "negatives"),
        (["--objective", "scff"], "does nothing in supervised mode"),
        (["--set", "field=5"], "does nothing in supervised mode"),
        (["--readout-epochs", "0"], "--readout-epochs does nothing in supervised mode"),
        (["--input-dropout", "1"], "--input-dropout"),
        (["--mode", "conv", "--negatives", "hard"], "does nothing in conv mode"),
        (
            ["--mode", "conv", "--data", "mnist", "--widths", "10,25"],
            "10 classes do not divide all of them; 40,30,10,20 would do",
        ),
        (["--holdout", "200"], "leaves none of the 200"),
        (["--device", "tpu"], "device"),
        (["--precision", "fp8"], "precision"),
    ],
)
def test_wrong_requests(call, tmp_path, more, says):
    code, text, error = call(*train(raw_mnist(tmp_path / "data"), tmp_path / "run"), *more)
    assert (code, text) == (2, "") and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_data_that_are_not_there_or_not_right(call, tmp_path):
    code, _, error = call(*train(tmp_path / "nowhere", tmp_path / "run"))
    assert code == 2 and "mnist: not there" in error and not (tmp_path / "run").exists()
    data = raw_mnist(tmp_path / "data", 50)
    labels = data / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + bytes([12]))
    code, _, error = call(*train(data, tmp_path / "run"))
    assert code == 2 and "label 12, but there are 10 classes" in error
    pictures = colour_folder(tmp_path / "odd")
    Image.new("RGB", (7, 6)).save(pictures / "train" / "red" / "0.png")
    code, _, error = call(*train(pictures, tmp_path / "run"))
    assert code == 2 and "all pictures must be of one size" in error
    code, _, error = call(*train(colour_folder(tmp_path / "dots", side=1), tmp_path / "run"))
    assert code == 2 and "the label of 3 classes takes the first 3 pixels" in error


@pytest.mark.parametrize("mode", ["supervised", "local"])
def test_colour_pictures_from_a_folder(call, tmp_path, mode):
    data, out = colour_folder(tmp_path / "data"), tmp_path / "run"
    code, text, error = call(*train(data, out, "--json", "--limit", 9, mode=mode))
    assert code == 0, error
    assert json.loads(text)["test_pictures"] == 12
    assert torch.load(out / "checkpoint.pt", weights_only=True)["shape"] == [3, 6, 6]
    code, _, error = call("eval", out, "--data", "mnist", "--data-root", raw_mnist(tmp_path / "other"))
    assert code == 2 and "trained on pictures [3, 6, 6]" in error


def test_convolutional_layers_say_what_each_knows_and_refuse_what_they_cannot_learn(call, tmp_path):
    data, out = colour_folder(tmp_path / "data", side=16), tmp_path / "run"
    asked = train(data, out, "--widths", "6,9", "--holdout", 2, "--readout-epochs", 2, mode="conv")
    code, _, error = call(*asked)
    assert code == 0, error
    assert (out / "layers.png").stat().st_size > 10_000
    drawn_again(out)
    code, text, _ = call("eval", out, "--data", data, "--json")
    layers = json.loads(text)["layers"]
    assert code == 0 and [row["layer"] for row in layers] == [1, 2]
    assert all(set(row) >= {"layer", "readout_error", "goodness_auroc"} for row in layers)
    assert layers[0]["goodness_error"] == layers[0]["summed_error"]
    lines = [json.loads(x) for x in (out / "results.jsonl").read_text().splitlines()]
    assert all(len(line["layers"]) == 2 for line in lines)
    assert [line["stage"] for line in lines] == ["forward-forward"] * 2 + ["read-out"] * 2

    def refused(says: str, *more: object) -> None:
        code, text, error = call(*more)
        assert (code, text) == (2, "") and says in error and one_error(error), error

    refused("objective", *asked, "--resume", "--objective", "symba")
    for path in sorted((data / "train" / "green").iterdir())[1:]:
        path.unlink()
    refused("class 'green' has 1 training pictures", *train(data, tmp_path / "few", "--widths", "6,9", mode="conv"))
    small = colour_folder(tmp_path / "small", side=3)
    refused("4 px or more, these have 3", *train(small, tmp_path / "few", "--widths", "6,9", mode="conv"))


def test_other_classes_are_named_where_they_begin_to_differ(call, tmp_path):
    data, out = colour_folder(tmp_path / "data"), tmp_path / "run"
    assert call(*train(data, out))[0] == 0
    other = colour_folder(tmp_path / "other")
    (other / "test" / "red").rename(other / "test" / "violet")
    code, _, error = call("eval", out, "--data", other)
    assert code == 2 and "3 classes, here are 3; the first that differs is class 3: 'red' there, 'violet' here" in error
    shutil.rmtree(other / "test" / "violet")
    code, _, error = call("eval", out, "--data", other)
    assert code == 2 and "3 classes, here are 2; the first that differs is class 3: 'red' there, 'none' here" in error


def test_a_folder_is_found_again_or_asked_for(call, tmp_path, monkeypatch):
    data, out, record = colour_folder(tmp_path / "data" / "small"), tmp_path / "run", tmp_path / "record.json"
    code, _, error = call("train", "--data", data, "--out", out, "--epochs", 1, "--widths", "9", "--record", record)
    assert code == 0, error
    assert str(tmp_path) not in record.read_text()
    code, text, error = call("eval", out)
    assert (code, text) == (2, "") and "trained on a folder 'small'" in error and "--data FOLDER" in error
    assert error.count("\n") == 1
    assert call("eval", out, "--data", data)[0] == 0
    monkeypatch.chdir(data.parent)
    assert call("eval", out)[0] == 0


def test_the_test_set_is_looked_at_before_the_training(call, tmp_path):
    def refused(says: str, data: Path, *more: object) -> None:
        code, text, error = call(*train(data, tmp_path / "run", *more))
        assert (code, text) == (2, "") and says in error and error.count("\n") == 1, error
        assert not (tmp_path / "run").exists()

    data = colour_folder(tmp_path / "missing")
    shutil.rmtree(data / "test")
    refused("no 'test' split", data)
    undivided = colour_folder(tmp_path / "undivided") / "train"
    refused("test pictures are training pictures", tmp_path, "--data", undivided)
    data = colour_folder(tmp_path / "classes")
    shutil.rmtree(data / "test" / "red")
    refused("the training split has 3 classes, here are 2", data)
    data = colour_folder(tmp_path / "sizes")
    for path in (data / "test").rglob("*.png"):
        Image.new("RGB", (7, 6)).save(path)
    refused("the training split has pictures [3, 6, 6] (C, H, W), these are [3, 6, 7]", data)
    data = raw_mnist(tmp_path / "labels")
    labels = data / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + bytes([12]))
    refused("label 12, but there are 10 classes", data)
    (tmp_path / "file").write_text("")
    good = raw_mnist(tmp_path / "good")
    refused("is a folder; name a file in it", good, "--record", tmp_path)
    refused("is a file, not a folder", good, "--record", tmp_path / "file" / "record.json")


@pytest.mark.parametrize("mode", list(TINY))
def test_goodness_of_a_picture_as_figure_and_numbers(call, tmp_path, mode):
    data, out, picture = raw_mnist(tmp_path / "data", 60), tmp_path / "run", tmp_path / "a seven.png"
    more = ["--data", "mnist"] if mode in ("local", "conv") else []
    assert call(*train(data, out, *more, mode=mode, epochs=1))[0] == 0
    Image.fromarray(digits(1, 5)[0][0]).resize((30, 20)).save(picture)
    code, text, error = call("goodness", out, picture, "--json", "-q")
    assert code == 0 and error.splitlines() == ["note: a seven.png: 1 picture, 10 classes (0, 1, 2, ...); asked of run"]
    found = json.loads(text)
    assert 0.1 <= found["softmax"] <= 1 and found["among"] == 10 and found["warnings"] == []
    assert np.array(found["goodness"]).shape == (1 if mode == "unsupervised" else 10, 2)
    numbers = json.loads(Path(found["numbers"]).read_text())
    iterations = {"recurrent": 4, "local": 3}.get(mode)
    if iterations:
        steps = np.array(found["by_iteration"])
        assert steps.shape == (10, iterations, 2)
        first, last = numbers["read"]
        assert np.allclose(steps[:, first - 1 : last].mean(1), found["goodness"], rtol=1e-4)
    else:
        assert found["by_iteration"] is None
    shape = {"local": (3, 2, 8, 8), "conv": (1, 2, 8, 8)}.get(mode, (1, 2, 4, 4))
    maps = np.array(numbers["maps"])
    assert maps.shape == shape and np.isfinite(maps).all() and np.ptp(maps) > 0
    with Image.open(found["figure"]) as figure:
        assert figure.width > 600 and len(set(figure.convert("L").resize((64, 64)).tobytes())) > 20
    if mode == "local":  # squared states at their places are the layer's goodness
        assert np.allclose(maps.sum((2, 3))[:, 0] * 2, steps[found["guess"], :, 0], rtol=1e-3)
        drawn_again(out)
    code, text, error = call("goodness", out, picture, "--out", tmp_path / "b.png")
    assert code == 0 and "layer 2" in text and (tmp_path / "b.png").exists() and "figure: " in error
    assert (tmp_path / "b.json").exists()
    assert "softmax" in text and f"{100 * found['softmax']:.0f} %, among 10 classes" in " ".join(text.split())
    Image.effect_noise((200, 120), 60).convert("RGB").point(lambda v: v // 2).save(tmp_path / "large.png")
    Image.new("RGB", (16, 16), "red").save(tmp_path / "red.png")
    for name, what in (("large", "large.png is 200x120"), ("red", "red.png is in colour")):
        code, text, error = call("goodness", out, tmp_path / f"{name}.png", "--json")
        warning = f"run was trained on grey pictures of 8x8; {what}"
        assert code == 0 and f"note: {warning}" in error and json.loads(text)["warnings"] == [warning]
    assert call("goodness", out, tmp_path / "gone.png")[0] == 2
    assert call("goodness", out, picture, "--patch", 0)[0] == 2


def test_goodness_is_written_where_it_was_asked_for_and_never_over_anything(call, tmp_path):
    data, out, picture = raw_mnist(tmp_path / "data", 60), tmp_path / "run", tmp_path / "seven.png"
    assert call(*train(data, out, epochs=1))[0] == 0
    Image.fromarray(digits(1, 5)[0][0]).save(picture)
    folder = tmp_path / "figures"
    folder.mkdir()
    for to, wanted in ((None, out / "goodness-seven.png"), (folder, folder / "goodness-seven.png"),
                       (folder / "a.pdf", folder / "a.pdf"), (tmp_path / "new" / "a.PNG", None)):  # fmt: skip
        code, text, error = call("goodness", out, picture, "--json", *(["--out", to] if to else []))
        assert code == 0, error
        figure = Path(json.loads(text)["figure"])
        assert figure == (wanted or to) and figure.stat().st_size > 1000
        before = figure.read_bytes()
        code, _, error = call("goodness", out, picture, *(["--out", to] if to else []))
        assert code == 2 and "not overwritten" in error and error.count("\n") == 1
        assert figure.read_bytes() == before
    (folder / "b.json").write_text("mine")
    for to, says in (
        (folder / "b.png", "b.json is there already"),
        (folder / "g.json", "name a figure (.png"),
        (folder / "g", "name a figure (.png"),
        (picture / "g.png", "is a file"),
    ):
        code, _, error = call("goodness", out, picture, "--out", to)
        assert code == 2 and says in error and error.count("\n") == 1, error
    assert (folder / "b.json").read_text() == "mine" and not (folder / "g.png").exists()


def test_folders_that_hold_no_training(call, tmp_path):
    data = raw_mnist(tmp_path / "data", 60)
    make_image().save(tmp_path / "a.png")
    for command in (["eval", tmp_path], ["eval", tmp_path / "x"], ["goodness", tmp_path, tmp_path / "a.png"]):
        code, _, error = call(*command)
        assert code == 2 and "does not exist" in error
    out = tmp_path / "run"
    assert call(*train(data, out))[0] == 0
    (out / "checkpoint.pt").write_bytes(b"PK nothing")
    code, _, error = call("eval", out, "--data-root", data)
    assert code == 2 and "is damaged" in error and error.count("\n") == 1
    code, _, error = call(*train(data, out, "--resume"))
    assert code == 2 and "is damaged" in error


def test_as_a_process_results_and_progress_keep_apart(tmp_path):
    data = raw_mnist(tmp_path / "data", 60, folder="FashionMNIST")
    command = [sys.executable, "-m", "cli", "ff", "train", "--data", "fashion-mnist", "--data-root", str(data)]
    command += ["--out", str(tmp_path / "run"), "--widths", "20,20", "--epochs", "2", "--json", "--threads", "1"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 2 and done.stdout.count("\n") == 1
    assert "forward-forward" in done.stderr and "training" in done.stderr
