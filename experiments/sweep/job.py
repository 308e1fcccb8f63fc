"""One run of a sweep, as an executor is given it: run once, by whoever comes first; gone on with after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from glom.errors import InputError
from glom.runs.artifacts import read_json, read_manifest, write_json

INTERRUPTED = 130
ENDS = ("done", "failed")


def state_of(sweep: Path, name: str) -> dict[str, Any] | None:
    """What became of a run: `status` "done" or "failed", `error`, `seconds`; None while it has not ended.

    Raises:
        InputError: a file that says none of this.
    """
    path = sweep / "states" / f"{name}.json"
    found = read_json(path) if path.is_file() else None
    if found is None:
        return None
    if not isinstance(found, dict) or found.get("status") not in ENDS or not isinstance(found.get("error"), str):
        raise InputError(f"{path} does not say what became of a run; without that file the run is made again")
    return found


def end(sweep: Path, name: str, status: str, error: str = "", seconds: float | None = None) -> None:
    """Write down what became of a run."""
    write_json(sweep / "states" / f"{name}.json", {"status": status, "error": error, "seconds": seconds})


def complete(folder: Path) -> bool:
    """Whether a run folder says that its run is complete."""
    try:
        return bool(read_manifest(folder).get("status") == "complete")
    except InputError:
        return False


@dataclass(frozen=True)
class Job:
    """A call of the program that fills a run folder. Executors pickle it and call it, in any process.

    Attributes:
        sweep: the sweep's folder. name: the run's. arguments: of the program, without the one that goes on.
        resumes: whether the command can go on; where it cannot, what a kill left is removed first.
        begin: what a process of its own does first; told to be stopped by SIGTERM, or not.
        call: runs the program in this process and returns its exit code.
        environment: variables as the program is to find them; None for one that is not set.
    """

    sweep: Path
    name: str
    arguments: tuple[str, ...]
    resumes: bool
    begin: Callable[[bool], None]
    call: Callable[[list[str]], int]
    environment: Mapping[str, str | None]

    def __call__(self) -> str:
        """Run it, unless it is done, waiting for whoever has begun it. Returns "done", "failed" or "interrupted"."""
        if (where := os.environ.get("SUBMITIT_EXECUTOR")) in ("local", "slurm"):
            self.begin(where == "local")  # SIGTERM is how a sweep that is stopped here stops its jobs
        for name, value in self.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        folder = self.sweep / "runs" / self.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{self.name}.lock"):
            before = state_of(self.sweep, self.name)
            if before is not None:
                return str(before["status"])
            if complete(folder):
                end(self.sweep, self.name, "done")
                return "done"
            if not self.resumes and folder.exists():
                shutil.rmtree(folder)
            begun = time.monotonic()
            log = self.sweep / "logs" / f"{self.name}.log"
            log.parent.mkdir(exist_ok=True)
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file, _into(file, self.arguments):
                code = self.call([*self.arguments, *(["--resume"] if self.resumes else [])])
            if code == INTERRUPTED:
                return "interrupted"
            error = "" if code == 0 else _last_error(log, code)
            status = "done" if code == 0 else "failed"
            end(self.sweep, self.name, status, error, round(time.monotonic() - begun, 3))
            return status

    def checkpoint(self) -> Any:
        """What is put back into the queue when the time is over or the machine is taken: the same, which goes on."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@contextlib.contextmanager
def _into(file: Any, arguments: tuple[str, ...]) -> Iterator[None]:
    """What is printed goes into a file; the command that manifests record is the run's own."""
    before = sys.argv
    sys.argv = ["apm", *arguments]
    try:
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            yield
    finally:
        sys.argv = before


def _last_error(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else f"exit code {code}; see {log}"
