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
from tests.commands.test_cli import ROOT, apm, torchrun
from tests.conftest import make_image


def workers(pid: int) -> list[int]:
    """The processes that `pid` started and that run still."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def written(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("results*.jsonl"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("shard", ["samples", "columns"])
def test_a_killed_rank_ends_the_job_and_other_ranks_go_on(image_folder: Path, tmp_path: Path, shard: str) -> None:
    for i in range(3, 10):  # more than one block of samples, so that both ranks have some
        make_image(50 + i).save(image_folder / "cat" / f"{i}.png")
        make_image(70 + i).save(image_folder / "ship" / f"{i}.png")
    options = ["--iterations", "20", "--queries", "8", "--stack", "1", "--quiet"]
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cli"]
    base = ["ttt", "run", str(image_folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    job = subprocess.Popen(
        [*command, *base, "--out", str(out), "--shard", shard],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while written(out) < 3:
        assert job.poll() is None, f"the job ended before a rank could be killed: {job.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # Ranks are started in order, and the first child may be torch's resource tracker: the last one is a rank.
    os.kill(workers(job.pid)[-1], signal.SIGKILL)
    _, error = job.communicate(timeout=120)
    assert job.returncode == 1
    kept = written(out)
    assert 3 <= kept < 20
    says = "another rank died or did not answer" if shard == "columns" else "interrupted; everything above is kept"
    assert says in error or "interrupted" in error
    assert "--resume" in error or shard == "columns"
    for room in ("commands", "experiments", "glom"):  # torchrun shows where it was itself, which is not ours to change
        assert str(ROOT / room) not in error, "a traceback"
    if shard == "samples":
        resumed = apm(*base, "--out", out, "--resume")
    else:
        resumed = torchrun(3, *base, "--out", out, "--resume", "--shard", shard)
    assert resumed.returncode == 0, resumed.stderr
    whole = apm(*base, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    found, expected = read_results(out), read_results(tmp_path / "whole")
    assert len(found) == 20
    for a, b in zip(found, expected, strict=True):
        assert (a["id"], a["apm"]) == (b["id"], b["apm"])
        assert a["cosine"] == pytest.approx(b["cosine"], abs=1e-3)
    if shard == "samples":
        assert found == expected
