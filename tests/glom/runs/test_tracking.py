"""Trackers: what their own files hold is what `results.jsonl` holds, and a tracker that fails stops no run."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from glom.errors import InputError
from glom.runs import tracking as module
from glom.runs.artifacts import RunFolder, read_lines
from glom.runs.events import Event
from glom.runs.tracking import numbers, seen, track, tracking
from tests.conftest import make_image, one_error


def run(out: Path, count: int, resume: bool = False, begin: int = 0) -> None:
    with RunFolder(out, "test", {"lr": 0.1, "sizes": [1, 2], "none": None}, resume) as folder:
        for n in range(begin, count):
            folder.append({"id": f"{n}.png", "loss": 1 / (n + 3), "right": n % 2 == 0, "words": "no"}, 0.1)
            seen(Event("training", n, count, values={"rate": 0.1 * n, "": "memory"}))
        make_image().save(out / "figure.png")
        if resume or begin == 0:
            folder.conclude({"top1": 0.1 + 0.2, "rows": [{"name": "a|b", "top1": 1.0}]})


def board(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What a folder's event files hold: values by tag, in their order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    found = {tag: [(e.step, make_ndarray(e.tensor_proto).tolist()) for e in events.Tensors(tag)]
             for tag in events.Tags()["tensors"]}  # fmt: skip
    return found | {tag: [(e.step, e.width) for e in events.Images(tag)] for tag in events.Tags()["images"]}


def held(out: Path, name: str) -> list[tuple[int, float]]:
    return [(n, line[name]) for n, line in enumerate(read_lines(out / "results.jsonl"))]


def test_tensorboards_own_file_holds_the_results_to_the_last_bit(tmp_path):
    with tracking("tensorboard"):
        run(tmp_path / "run", 3)
    found = board(tmp_path / "run" / "tensorboard")
    assert found["loss"] == held(tmp_path / "run", "loss") and len(found["loss"]) == 3
    assert found["right"] == held(tmp_path / "run", "right")
    assert found["result/top1"] == [(3, 0.1 + 0.2)] and found["training/rate"] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert found["figure"] == [(3, 32)]
    assert any("a/b" in str(value) for value in found["table/text_summary"])
    assert "words" not in found
    (hparams,) = (tmp_path / "run").rglob("hparams.yml")
    assert "lr: 0.1" in hparams.read_text()
    run(tmp_path / "plain", 3)
    assert (tmp_path / "plain" / "results.jsonl").read_bytes() == (tmp_path / "run" / "results.jsonl").read_bytes()
    assert not (tmp_path / "plain" / "tensorboard").exists() and track(tmp_path, {}, []) is None


def test_a_run_that_goes_on_is_sent_with_every_line_there_is(tmp_path):
    run(tmp_path, 2)
    with tracking("tensorboard"):
        run(tmp_path, 4, resume=True, begin=2)
    assert board(tmp_path / "tensorboard")["loss"] == held(tmp_path, "loss")


def test_what_other_ranks_wrote_is_sent_at_the_end(tmp_path, monkeypatch):
    with tracking("tensorboard"), RunFolder(tmp_path, "test", {}, part="-0-of-2") as first:
        first.append({"id": "a", "loss": 0.5})
        monkeypatch.setenv("RANK", "1")
        with RunFolder(tmp_path, "test", {}, part="-1-of-2") as second:
            second.append({"id": "b", "loss": 0.25})
        first.conclude({})
    assert board(tmp_path / "tensorboard")["loss"] == [(0, 0.5), (1, 0.25)]


def test_trackios_own_file_holds_the_results(tmp_path, monkeypatch):
    if importlib.util.find_spec("trackio") is None:
        pytest.skip("trackio is not installed: its gradio wants an older pillow than ours")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    with tracking("trackio:mine"):
        run(tmp_path / "run", 3)
    (file,) = (tmp_path / "trackio").glob("mine*.db")
    rows = [json.loads(row[0]) for row in sqlite3.connect(file).execute("select metrics from metrics order by step")]
    assert [row["loss"] for row in rows if "loss" in row] == [value for _, value in held(tmp_path / "run", "loss")]


def test_a_tracker_that_fails_in_mid_run_is_a_warning(tmp_path, monkeypatch, caplog):
    from accelerate.tracking import TensorBoardTracker

    sent = []

    def log(self: object, values: dict[str, float], step: int, **_: object) -> None:
        sent.append(step)
        if len(sent) > 2:
            raise ConnectionError("no route\nto the host")

    monkeypatch.setattr(TensorBoardTracker, "log", log)
    with tracking("tensorboard"):
        run(tmp_path / "run", 5)
    assert len(sent) == 3 and len(read_lines(tmp_path / "run" / "results.jsonl")) == 5
    assert sum("tensorboard failed (no route to the host); the run goes on" in m for m in caplog.messages) == 1
    assert (tmp_path / "run" / "result.json").is_file()


def test_a_tracker_that_is_not_there_is_said(call, tmp_path, monkeypatch):
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "wandb" else find(name))
    arguments = ("ttt", "run", "cifar10-sample", "--limit", 1, "--out", tmp_path / "run", "--track")
    for asked, says in (("wandb:x", "'glom-apm[wandb]'"), ("tensorbord", "did you mean tensorboard")):
        code, out, error = call(*arguments, asked)
        assert (code, out) == (2, "") and says in error and one_error(error)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="no /"), tracking("tensorboard:../x"):
        pass


def test_a_command_is_tracked_and_nothing_is_imported_unasked(call, tmp_path):
    arguments = ("ttt", "run", "cifar10-sample", "--limit", 2, "--iterations", 1, "--quiet")
    assert call(*arguments, "--out", tmp_path / "run", "--track", "tensorboard")[0] == 0
    names = numbers(read_lines(tmp_path / "run" / "results.jsonl")[0])
    found = board(tmp_path / "run" / "tensorboard")
    assert names and all(found[name] == held(tmp_path / "run", name) for name in names)
    code = "import sys, glom.runs.artifacts; print({'accelerate', 'tensorboard', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
