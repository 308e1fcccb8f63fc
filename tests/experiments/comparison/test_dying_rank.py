"""A rank that is killed under torchrun ends the job; any number of ranks goes on, to one process's results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glom.runs.artifacts import read_results
from tests.commands.test_cli import ROOT
from tests.conftest import make_image
from tests.helpers_ranks import ForkedRanks


def workers(pid: int) -> list[int]:
    """The processes that `pid` started and that run still."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def written(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("results*.jsonl"))


def launched(by: str, *arguments: object) -> subprocess.Popen[str]:
    """The program as two ranks, started by torchrun or by accelerate."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cli"]
    if by == "accelerate":
        command = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
        command += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m", "cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *command, *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def errors(said: str) -> list[str]:
    """What the program itself calls one; torchrun shows where it was itself, which is not ours to change."""
    rooms = [f'File "{ROOT / room}' for room in ("commands", "experiments", "glom")]
    assert [line for line in said.splitlines() if any(room in line for room in rooms)] == [], "a traceback"
    return [line for line in said.splitlines() if line.startswith(("error: ", "interrupted"))]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("shard", ["samples", "columns"])
def test_a_killed_rank_ends_the_job_and_others_go_on(
    call, ranks: ForkedRanks, image_folder: Path, tmp_path: Path, shard: str
) -> None:
    for i in range(3, 5):  # ten blocks of one sample, so that both ranks have some
        make_image(50 + i).save(image_folder / "cat" / f"{i}.png")
        make_image(70 + i).save(image_folder / "ship" / f"{i}.png")
    base = ["ttt", "run", image_folder, "--iterations", "20", "--queries", "8", "--stack", "1", "--quiet"]
    out = tmp_path / "run"
    job = launched("torchrun", *base, "--out", out, "--shard", shard)
    deadline = time.monotonic() + 120
    while written(out) < 2:
        assert job.poll() is None, f"the job ended before a rank could be killed: {job.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Ranks are started in order, and the first child may be torch's resource tracker: the last one is a rank.
    os.kill(workers(job.pid)[-1], signal.SIGKILL)
    begun = time.monotonic()
    _, said = job.communicate(timeout=120)
    assert time.monotonic() - begun < 15
    assert job.returncode == 1
    kept = written(out)
    assert 2 <= kept < 10
    assert len(errors(said)) == 1 and "--resume" in said
    again = [*base, "--out", out, "--resume", "--quiet"]
    if shard == "samples":
        assert call(*again, "--jobs", "1")[0] == 0
    else:
        assert ranks(2, *again, "--shard", shard).returncode == 0
    assert call(*base, "--out", tmp_path / "whole", "--jobs", "1")[0] == 0
    found, expected = read_results(out), read_results(tmp_path / "whole")
    assert len(found) == 10
    for a, b in zip(found, expected, strict=True):
        assert (a["id"], a["apm"]) == (b["id"], b["apm"])
        assert a["cosine"] == pytest.approx(b["cosine"], abs=1e-3)
    if shard == "samples":
        assert found == expected


def test_a_picture_that_one_rank_refuses_ends_all_at_once(image_folder: Path, tmp_path: Path) -> None:
    """As accelerate starts them; the other rank waits at the end of its share, one picture of two."""
    for name in ("cat", "ship"):
        for i in range(4):
            (image_folder / name / f"{i}.png").unlink(missing_ok=True)
    good, bad = image_folder / "cat" / "0.png", image_folder / "ship" / "1.png"
    make_image(1).save(good)
    bad.write_text("not a picture")
    base = ["ttt", "run", image_folder, "--iterations", "1", "--queries", "4", "--stack", "1", "--quiet", "--strict"]
    job = launched("accelerate", *base, "--out", tmp_path / "run")
    while not (tmp_path / "run" / "manifest.json").exists() and job.poll() is None:
        time.sleep(0.05)  # a slow machine takes its time to start two ranks
    begun = time.monotonic()
    _, said = job.communicate(timeout=120)
    assert time.monotonic() - begun < 30  # which is what a rank that is deaf would be left alone for
    [line] = errors(said)
    assert "1.png: not an image" in line
    assert "exitcode  : 2" in said
