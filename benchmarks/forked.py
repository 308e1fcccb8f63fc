"""The program in forks of this process, which has imported everything: a run then costs no start."""

from __future__ import annotations

import os
import resource
import sys
import time
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


def fork(
    call: Callable[[], int], log: Path, environment: Mapping[str, str] | None = None, cpu_seconds: int = 0
) -> Fork:
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
        if cpu_seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
        code = call()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def program(arguments: list[str]) -> Callable[[], int]:
    """`apm ARGUMENTS` as a function."""

    def call() -> int:
        from cli import app
        from commands.common import guard

        sys.argv = ["apm", *arguments]
        return guard(app, arguments)

    return call
