"""A command shares its pictures out over processes by itself: the same results, one line where one of them fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from commands.jobs import shared_out
from commands.ranks import speaks, take_place
from glom.errors import InputError
from glom.runs import parallel
from tests.commands.test_cli import ROOT


def test_how_many_pay(monkeypatch):
    memory = SimpleNamespace(available=64 * parallel.GIB)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert parallel.shares("auto", 0, True, False) == 16  # a core each
    assert parallel.shares("auto", 0, False, False) == 8  # as many as there is room for
    assert parallel.shares("auto", 20, True, False) == 2 and parallel.shares("auto", 4, True, False) == 1
    assert parallel.shares("auto", 0, True, True) == 1 and parallel.shares("3", 0, True, True) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert parallel.shares("auto", 0, True, False) == 1  # told to keep to one core
    for wrong in ("0", "-1", "many", "9999"):
        with pytest.raises(InputError, match="`jobs` is auto, or a number"):
            parallel.shares(wrong, 0, True, False)


def run(monkeypatch, code: str) -> int:
    """Two processes of this program; the exit code."""
    begin = "import os, sys, time, signal, pathlib; rank = int(os.environ['RANK'])\n"
    begin += f"sys.path.insert(0, {str(ROOT)!r})\nfrom commands.ranks import end_when_told, speaks\n"
    begin += "def fail(text):\n    if speaks(): print('error:', text, file=sys.stderr)\n    sys.exit(2)\n"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-S", "-c", begin + code])
    try:
        return 0 if shared_out("2", "cpu", 0, True) else -1
    except typer.Exit as left:
        return left.exit_code


def test_the_processes_are_ranks_of_one_thread(monkeypatch, tmp_path):
    names = "('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'OMP_NUM_THREADS')"
    write = f"(pathlib.Path({str(tmp_path)!r}) / str(rank)).write_text(' '.join(os.environ[n] for n in {names}))"
    assert run(monkeypatch, write) == 0
    assert [(tmp_path / str(n)).read_text() for n in range(2)] == ["0 2 127.0.0.1 1", "1 2 127.0.0.1 1"]
    monkeypatch.setenv("RANK", "0")
    assert not shared_out("2", "cpu", 0, True)  # it is one of them


DEAF = "end_when_told(); import ctypes; rank or ctypes.CDLL(None).system(b'exec sleep 20')\n"  # waits inside a library


@pytest.mark.parametrize(
    ("code", "left", "said"),
    [
        ("fail('wrong')", 2, "error: wrong\n"),
        ("rank and fail('mine')\ntime.sleep(60)", 2, "error: mine\n"),
        (DEAF + "time.sleep(0.2); fail('mine')", 2, "error: mine\n"),
        (DEAF + "time.sleep(0.2); os.kill(os.getpid(), signal.SIGKILL)", 1, "error: one of the processes .* died.*\n"),
        ("rank and os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)", 1, "error: one of the processes .* died.*\n"),
    ],
    ids=["both", "another", "deaf", "deaf-killed", "killed"],
)
def test_one_that_fails_ends_all_and_is_said_once(monkeypatch, capfd, code, left, said):
    begun = time.monotonic()
    assert run(monkeypatch, code) == left
    assert time.monotonic() - begun < 15
    error = capfd.readouterr().err
    assert re.fullmatch(said, error), error


def test_places_in_a_job(monkeypatch, tmp_path):
    """MPI's names, as `accelerate launch --cpu` has them, become torchrun's; what shares nothing is the first one's."""
    monkeypatch.setattr(os, "environ", mpi := {f"OMPI_COMM_WORLD_{n}": "1" for n in ("RANK", "LOCAL_RANK")})
    mpi |= {"OMPI_COMM_WORLD_SIZE": "2"}
    assert take_place(["datasets"]) and "RANK" not in mpi  # mpirun of something else
    mpi["MASTER_ADDR"] = "127.0.0.1"
    assert take_place(["--debug", "ttt", "run", "cifar10"]) and not take_place(["datasets"])
    assert (mpi["RANK"], mpi["WORLD_SIZE"], mpi["LOCAL_RANK"]) == ("1", "2", "1")
    first = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_ERROR_FILE": str(tmp_path / "0" / "error.json")}
    monkeypatch.setattr(os, "environ", first)
    assert [speaks(), speaks()] == [True, False]
    assert take_place(["datasets"]) and "WORLD_SIZE" not in first and speaks()


def test_ctrl_c_is_told_to_each(monkeypatch, tmp_path):
    code = f"""
def end(*_):
    (pathlib.Path({str(tmp_path)!r}) / f"ended-{{rank}}").write_text("")
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
(pathlib.Path({str(tmp_path)!r}) / f"begun-{{rank}}").write_text("")
time.sleep(60)
"""

    def interrupt() -> None:
        while len(list(tmp_path.glob("begun-*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's children ignore it
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        assert run(monkeypatch, code) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list(tmp_path.glob("ended-*"))) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes end with who started them on Linux alone")
def test_processes_end_with_who_started_them(tmp_path: Path):
    one = f"import os, time; open(r'{tmp_path}/' + str(os.getpid()), 'w').close(); time.sleep(60)"
    code = f"import sys; from commands.jobs import shared_out; sys.orig_argv = [sys.executable, '-S', '-c', {one!r}]\n"
    started = subprocess.Popen([sys.executable, "-c", code + "shared_out('2', 'cpu', 0, True)"], cwd=ROOT)
    while len(ranks := [path.name for path in tmp_path.iterdir()]) < 2:
        time.sleep(0.02)
    started.kill()
    started.wait()
    deadline = time.monotonic() + 30
    while any(running(rank) for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(running(rank) for rank in ranks)


def running(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
