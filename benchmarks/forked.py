"""The program in forks of this process, which has imported everything: a run then costs no start."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from glom.runs.artifacts import LineFile, make_parent, read_lines, write_record

# What commands load when they are called.
LOADED = (
    "cli", "torch", "open_clip", "timm", "skimage", "sklearn.cluster", "scipy.stats", "submitit", "torch.distributed",
    "experiments.adaptation.run", "experiments.comparison.run", "experiments.pretraining.train",
    "experiments.forward_forward.train", "experiments.consensus.train", "experiments.sweep.run",
    "experiments.folding.run", "probes.figures.sweep", "commands.ttt", "commands.benchmark", "commands.grid",
    "commands.ff", "commands.glom", "commands.sweep", "commands.ablate", "glom.teachers.tiny", "glom.datasets.folder",
    "matplotlib.backends.backend_agg", "seaborn",
)  # fmt: skip


def load() -> None:
    """Import whatever the commands would, and start no thread: a fork has only the one that made it."""
    import torch

    torch.set_num_threads(1)
    for name in LOADED:
        import_module(name)


@dataclass
class Fork:
    """A child: its number, where it writes, and how it ended, once it has."""

    pid: int
    log: Path
    found: tuple[int, float, int] | None = None

    def ended(self) -> tuple[int, float, int] | None:
        """(exit code, negative for a signal; processor seconds; KiB at its largest) once it has ended."""
        if self.found is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.found = (code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
        return self.found

    def wait(self, seconds: float, every: float = 0.01) -> tuple[int, float, int] | None:
        """The same, waiting for it; None where it has not ended by then."""
        until = time.monotonic() + seconds
        while (found := self.ended()) is None and time.monotonic() < until:
            time.sleep(every)
        return found

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        if self.ended() is None:
            os.kill(self.pid, 9)
            _, status = os.waitpid(self.pid, 0)
            self.found = (os.waitstatus_to_exitcode(status), 0.0, 0)


class Asked:
    """A child that is asked again and again, and after so many times another: a fork of a large process takes as long
    as a small piece of work. Each request begins with an empty log.

    Args:
        call: of a request, in the child; what it returns is its exit code, 70 where it raises.
        log: where it writes. cpu_seconds: of one request; more is a signal. most: requests of one child.
    """

    def __init__(self, call: Callable[[str], int], log: Path, cpu_seconds: int, most: int = 100) -> None:
        self.call, self.log, self.cpu_seconds, self.most = call, log, cpu_seconds, most
        self.child: Fork | None = None
        self.left = 0

    def ask(self, request: str, seconds: float) -> tuple[int, float, int] | None:
        """As `Fork.ended`, of one request; None where there is no answer in time. A child that is lost is replaced."""
        if not self.left:
            self.close()
            self._begin()
        self.left -= 1
        os.write(self.requests, f"{request}\n".encode())
        answered, _, _ = select.select([self.answers], [], [], seconds)
        text = os.read(self.answers, 200).decode() if answered else ""
        if text:
            code, used, most = text.split()
            return int(code), float(used), int(most)
        assert self.child is not None
        found = self.child.wait(1.0) if answered else None
        self.close(kill=True)
        return found

    def close(self, kill: bool = False) -> None:
        """End the child."""
        self.left = 0
        if self.child is None:
            return
        os.close(self.requests)
        if kill or self.child.wait(10.0) is None:
            self.child.kill()
        os.close(self.answers)
        self.child = None

    def _begin(self) -> None:
        theirs, self.requests = os.pipe()
        self.answers, mine = os.pipe()

        def serve() -> int:
            os.close(self.requests)
            for line in os.fdopen(theirs):
                os.ftruncate(1, 0)
                os.lseek(1, 0, os.SEEK_SET)
                os.write(mine, self._answer(line.rstrip("\n")).encode())
            return 0

        self.child, self.left = fork(serve, self.log), self.most
        os.close(theirs)
        os.close(mine)

    def _answer(self, request: str) -> str:
        begun = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, self.cpu_seconds)
        try:
            code = self.call(request)
        except BaseException:
            traceback.print_exc()
            code = 70
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.flush()
        sys.stderr.flush()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return f"{code} {time.process_time() - begun:.4f} {most}"


class Kept:
    """Rows of a long benchmark, kept beside its record as they come, so that a stopped one goes on.

    Attributes:
        rows: those there are, earlier ones among them.
    """

    def __init__(self, record: Path | None) -> None:
        self._record, self.rows = record, list[dict[str, Any]]()
        self._file: LineFile | None = None
        if record is not None:
            make_parent(record)
            path = record.with_suffix(".rows.jsonl")
            self.rows = list(read_lines(path)) if path.is_file() else []
            self._file = LineFile(path)

    def append(self, row: dict[str, Any]) -> None:
        """One more."""
        self.rows.append(row)
        if self._file is not None:
            self._file.append(row)

    def record(self, found: dict[str, Any]) -> None:
        """Write what they come to; they are of no use any more."""
        if self._record is not None and self._file is not None:
            write_record(self._record, found)
            self._file.path.unlink()


def fork(call: Callable[[], int], log: Path, environment: Mapping[str, str] | None = None) -> Fork:
    """Call something in a child, which ends with the number it returns; what it prints goes into `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Fork(pid, log)
    code = 70
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(environment or {})
        code = call()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def program(arguments: list[str]) -> Callable[[], int]:
    """`apm ARGUMENTS` as a function."""

    def call() -> int:
        from cli import app
        from commands.ending import guard

        sys.argv = ["apm", *arguments]
        return guard(app, arguments)

    return call
