"""A command as several processes that share out its samples, as torchrun would start them, without being asked.

The processes are this very command again with `RANK` and `WORLD_SIZE`; who started them waits, and ends them all where
one fails. Before torch is loaded: it is loaded by them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import typer

from commands.ranks import FOLDER, LOST, first_in

PARENT_DIED = 1  # prctl's PR_SET_PDEATHSIG
GRACE = 30.0  # seconds in which a process that is told to end may say what is kept


def shared_out(jobs: str, device: str, limit: int, small: bool) -> bool:
    """Run the command in several processes where that pays, to its end; False where this process is to run it.

    Args:
        jobs: "auto" or a number. device: as asked for. limit: pictures at most, or 0.
        small: whether the networks are those that ship.

    Raises:
        Exit: with the code of the process that failed. KeyboardInterrupt: as it came, when all have ended.
        InputError: a number of processes that is none.
    """
    from glom.runs.parallel import cores, shares

    count = shares(jobs, limit, small, _on_gpu(device))
    if count == 1 or "RANK" in os.environ or not hasattr(os, "fork"):
        return False
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        code = _wait(_start(count, max(1, cores() // count), said, folder), said, Path(folder))
    if code:
        raise typer.Exit(code)
    return True


def _on_gpu(device: str) -> bool:
    """Whether a run computes on one, as far as can be told without torch: there it needs no second process."""
    if device != "auto":
        return device != "cpu"
    return sys.platform == "darwin" or any(Path("/dev").glob("nvidia[0-9]*"))


def _start(count: int, threads: int, said: IO[str], folder: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": str(threads)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), FOLDER: folder}
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def end_with_me() -> None:
        if libc is not None:  # where the system can: killed when who started it is killed
            libc.prctl(PARENT_DIED, signal.SIGKILL)

    return [
        subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL if rank else None,
            stderr=said if rank else None,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process alone, which tells each of them once
            preexec_fn=end_with_me,
        )
        for rank in range(count)
    ]


def _wait(started: list[subprocess.Popen[str]], said: IO[str], folder: Path) -> int:
    try:
        codes: list[int | None] = [None]
        while None in codes and not any(codes):
            time.sleep(0.05)
            codes = [one.poll() for one in started]
        if not any(codes):
            return 0
        time.sleep(0.5)  # a wrong request ends each of them in the same way
        wrong = [code for one in started if (code := one.poll())]
        _end(started)
        if not _passed_on(said) and first_in(folder):
            print(f"error: {LOST}, and a smaller --jobs", file=sys.stderr, flush=True)
        return max(1, *wrong)
    except KeyboardInterrupt:
        _end(started)
        _passed_on(said)
        return 130


def _end(started: list[subprocess.Popen[str]]) -> None:
    """Told as Ctrl-C tells; what does not end in time is killed."""
    for one in started:
        if one.poll() is None:
            one.terminate()
    end = time.monotonic() + GRACE
    for one in started:
        try:
            one.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()


def _passed_on(said: IO[str]) -> bool:
    """Show why the processes ended where one spoke that does not write to standard error itself; whether one did."""
    said.seek(0)
    lines = said.read().splitlines()
    last = next((n for n, line in enumerate(lines) if line.startswith(("error: ", "interrupted"))), len(lines))
    print(*lines[last:], sep="\n", end="\n" if last < len(lines) else "", file=sys.stderr, flush=True)
    return last < len(lines)
