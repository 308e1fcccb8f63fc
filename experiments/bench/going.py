"""What a benchmark says while it goes on: rows as they are measured, kept at once, and the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glom.runs.artifacts import LineFile, make_parent
from glom.runs.events import Event


class Going:
    """Called with a sentence of progress; told of every row.

    Args:
        name: of the benchmark.
        show: is given what is said, and how many rows of how many are there; None: nobody is told.
        seconds: all that may be taken; 0 for as long as it takes. The clock starts here.
        keep: where rows are kept as they come, one a line; None for nowhere.

    Attributes:
        left_out: what did not fit into the time, each in words.

    Raises:
        InputError: the folder of `keep` cannot be made.
    """

    def __init__(
        self,
        name: str = "",
        show: Callable[[Event[Any]], None] | None = None,
        seconds: float = 0,
        keep: Path | None = None,
    ) -> None:
        self._name, self._show, self._begun = name, show, time.monotonic()
        self._end = self._begun + seconds if seconds else math.inf
        self._done = self._total = 0
        self.left_out: list[str] = []
        self._file: LineFile | None = None
        if keep is not None:
            make_parent(keep)
            keep.unlink(missing_ok=True)
            self._file = LineFile(keep)

    def __call__(self, message: str = "") -> None:
        """Say something, and how far it is."""
        if self._show is None:
            return
        now = time.monotonic()
        clock = f"{_minutes(now - self._begun)} gone"
        if self._end < math.inf:
            clock = f"{_minutes(max(self._end - now, 0))} left"
        said = f"{self._name}: [{clock}] {message}" if message else ""
        self._show(Event(self._name, self._done, self._total, said))

    def expect(self, rows: int) -> None:
        """So many rows are still to come at least; of several announcements the larger holds."""
        self._total = max(self._total, self._done + rows)
        self()

    def row(self, what: str, seconds: float | None = None, **figures: Any) -> None:
        """A row that has just been measured: shown, and kept."""
        took = {} if seconds is None else {"seconds": float(f"{seconds:.6g}")}
        if self._file is not None:
            self._file.append({"row": what, **took, **figures})
        self._done += 1
        shown = [] if seconds is None else [f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"]
        shown += [f"{name} {value}" for name, value in figures.items()]
        self(": ".join([what, ", ".join(shown)] if shown else [what]))

    def fits(self, seconds: float = 0) -> bool:
        """Whether so much may still be taken."""
        return time.monotonic() + seconds <= self._end

    def skip(self, what: str, rows: int = 1) -> None:
        """Say that something, of so many rows, is left out for want of time."""
        self.left_out.append(what)
        self._total -= rows
        self(f"left out for want of time: {what}")


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


SILENT = Going()
