"""Every command that reads pictures gives the same for any number of reading processes, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from experiments.pretraining.data import OnTheFly
from glom.datasets.base import Sample
from glom.datasets.registry import open_dataset
from glom.runs.artifacts import read_results
from glom.teachers.corrupted import shown
from glom.teachers.grids import Encoder
from glom.teachers.registry import load_teacher
from tests.conftest import make_image, one_error, start

TTT = ("ttt", "run", "--objective", "token+grid", "--iterations", "2", "--corruption", "gaussian_noise:3")
BENCHMARK = ("benchmark", "--methods", "zero-shot,lame", "--corruptions", "gaussian_noise:3")


@pytest.fixture
def pictures(image_folder: Path) -> Path:
    """Six pictures, and one that cannot be read."""
    (image_folder / "ship" / "broken.png").write_bytes(b"no picture")
    return image_folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("command", "numbers"), [(TTT, (0, 1, 2, 4)), (BENCHMARK, (0, 2))], ids=["ttt", "benchmark"])
def test_lines_are_the_same(call, pictures, tmp_path, command, numbers):
    found = []
    for workers in numbers:
        out = tmp_path / str(workers)
        code, _, error = call(*command, pictures, "--workers", workers, "--out", out, "-q")
        assert code == 0, error
        found.append({str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("results.jsonl"))})
    assert all(one == found[0] for one in found)
    assert found[0] and all(b"skipped" in text for text in found[0].values())


def test_a_teachers_score_is_the_same(call, pictures):
    said = [call("teachers", "score", "glom-tiny", pictures, "--workers", n, "--json", "-q") for n in (0, 2)]
    assert said[0][0] == 0 and said[0][1] == said[1][1]
    assert json.loads(said[0][1])["rows"][0]["skipped"] == 1


def test_jpegs_are_reduced_only_where_that_is_asked_for_and_kept_with_the_run(call, tmp_path):
    (tmp_path / "cat").mkdir()
    make_image(1, (160, 160)).save(tmp_path / "cat" / "large.jpg")
    found = []
    for n, options in enumerate(((), ("--draft", "1"))):
        run = ("ttt", "run", tmp_path / "cat", "--iterations", "1", "--classes", classes(tmp_path), "-q")
        code, _, error = call(*run, *options, "--out", tmp_path / str(n))
        assert code == 0, error
        found.append(json.loads((tmp_path / str(n) / "manifest.json").read_text())["settings"].get("draft"))
    assert found == [None, 1]
    teacher, sample = load_teacher("glom-tiny", "cpu"), open_dataset(str(tmp_path / "cat"))[0]
    sizes = [shown(teacher, sample, None, 0, least=least)[0].size for least in (0, 64)]
    assert sizes == [(160, 160), (80, 80)]


def classes(folder: Path) -> Path:
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder / "classes.txt"


def test_rows_that_are_expected_are_the_same_and_others_are_made_as_ever(pictures):
    data, rows = open_dataset(str(pictures)), np.array([5, 2, 9, 6, 0])
    encoder = Encoder(load_teacher("glom-tiny", "cpu"), 16)
    found = []
    for workers in (0, 1):
        source = OnTheFly(data, encoder, 2, 0, workers)
        source.expect(iter(rows.tolist()))
        parts = [source.fetch(rows[:3]), source.fetch(rows[3:]), source.fetch(rows[:2])]
        found.append([x for part in parts for x in part])
        assert source.unread() == 1 and [len(grids) for grids, _ in parts] == [3, 1, 2]
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_islands_are_the_same(call, tmp_path):
    lines = []
    for workers in (0, 1):
        out = tmp_path / str(workers)
        options = ("--limit", "1", "--layers", "0", "--grid", "8", "--partition", "kmeans:3", "--jobs", "1")
        code, _, error = call(
            *("islands", "score", "tetrominoes", "--backbone", "glom-tiny", "--size", "32", *options),
            *("--workers", workers, "--out", out, "-q"),
        )
        assert code == 0, error
        lines.append(read_results(out))
    assert lines[0] == lines[1]


def test_a_reader_that_dies_ends_the_run_and_the_next_goes_on(call, pictures, tmp_path, monkeypatch):
    whole, out, own = tmp_path / "whole", tmp_path / "out", Sample.image

    def fatal(self, max_pixels=None):
        if self.id == "ship/1.png" and get_worker_info():
            deadline = time.monotonic() + 60
            while not any(p.stat().st_size for p in lines()) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGKILL)
        return own(self, max_pixels)

    def lines() -> list[Path]:
        return list(out.glob("*/*/results.jsonl"))

    options = (*BENCHMARK[:2], "zero-shot", pictures, "-q")
    assert call(*options, "--out", whole)[0] == 0
    monkeypatch.setattr(Sample, "image", fatal)
    code, _, error = call(*options, "--workers", "1", "--out", out)
    assert code == 1 and one_error(error) and "--workers" in error, error
    assert any(p.stat().st_size for p in lines())
    monkeypatch.undo()
    assert call(*options, "--out", out, "--resume")[0] == 0
    for path in whole.rglob("results.jsonl"):
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()


WAITING = """
import os, sys, time
from pathlib import Path
from torch.utils.data import get_worker_info
from cli import app
from commands.ending import guard
from glom.datasets.base import Sample

own, who = Sample.image, Path(sys.argv[1])

def image(self, max_pixels=None):
    if self.id == "ship/2.png" and get_worker_info() and not who.exists():
        who.write_text(str(os.getpid()))
        time.sleep(100)
    return own(self, max_pixels)

Sample.image = image
sys.exit(guard(app, sys.argv[2:]))
"""


def test_a_reader_killed_from_outside_ends_the_run_or_not_as_asked(call, image_folder, tmp_path):
    for n in range(14):  # twenty: a block of sixteen is done when the last one is waited for
        make_image(50 + n).save(image_folder / "cat" / f"more-{n}.png")
    base = ("ttt", "run", image_folder, "--iterations", "1", "--queries", "4", "--stack", "16", "--jobs", "1", "-q")
    whole = tmp_path / "whole"
    assert call(*base, "--out", whole)[0] == 0
    for asked in ("end", "continue"):
        out, who = tmp_path / asked, tmp_path / f"{asked}.pid"
        words = (who, *base, "--workers", "2", "--on-dead-worker", asked, "--out", out)
        run = start([sys.executable, "-c", WAITING, *map(str, words)])
        deadline = time.monotonic() + 200
        while not who.exists() or not (out / "results.jsonl").exists() or len(read_results(out)) < 16:
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(int(who.read_text()), signal.SIGKILL)
        _, error = run.communicate(timeout=200)
        assert error.count("a process that reads pictures died") == 1, error
        if asked == "end":
            assert run.returncode == 1 and one_error(error) and "--on-dead-worker continue" in error, error
            assert len(read_results(out)) == 16
        else:
            assert run.returncode == 0 and "reading goes on with 1" in error, error
            assert (out / "results.jsonl").read_bytes() == (whole / "results.jsonl").read_bytes()
