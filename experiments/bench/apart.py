"""Functions run in fresh processes of their own, which wait without working until they are asked."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from glom.errors import RunError
from glom.lazy import libraries_later


class Apart:
    """`make(*arguments)` called in a new process; what it returns is then called there whenever `ask` is.

    Nothing of the asking process is inherited: neither its allocator's settings nor its memory.

    Args:
        make: a function of a module; returns the callable that `ask` calls.
        arguments: plain values.
        without: environment variables that the process does not inherit.
        wait: for the process to be ready; without it, call `answer` once before the first `ask`.

    Raises:
        RunError: from `ask`, when the process failed or died.
    """

    def __init__(
        self, make: Callable[..., Callable[..., Any]], *arguments: Any, wait: bool = True, without: Sequence[str] = ()
    ) -> None:
        context = get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, pickle.dumps((make, arguments))), daemon=True)
        kept = {name: os.environ.pop(name) for name in without if name in os.environ}
        try:
            self._process.start()
        finally:
            os.environ.update(kept)
        theirs.close()
        if wait:
            self.answer()

    def ask(self, *arguments: Any) -> Any:
        """Call it there, wait, and return what it returned."""
        self.begin(*arguments)
        return self.answer()

    def begin(self, *arguments: Any) -> None:
        """Have it called there, without waiting; `answer` waits. For several processes at once."""
        try:
            self._mine.send(arguments)
        except OSError as error:
            raise RunError(f"a benchmark's process died (exit code {self._process.exitcode})") from error

    def answer(self) -> Any:
        """Wait for what was begun, and return what it returned."""
        try:
            fine, value = self._mine.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RunError(f"a benchmark's process died (exit code {self._process.exitcode})") from error
        if not fine:
            raise RunError(f"a benchmark's process failed: {value}")
        return value

    def close(self) -> None:
        """End the process."""
        self._mine.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _serve(pipe: Connection, asked: bytes) -> None:
    libraries_later()  # before what is asked for loads torch, as the program begins
    try:
        make, arguments = pickle.loads(asked)
        run = make(*arguments)
        pipe.send((True, None))
        while True:
            pipe.send((True, run(*pipe.recv())))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return
    except Exception as error:
        pipe.send((False, f"{type(error).__name__}: {error}"))
