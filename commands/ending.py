"""How every command ends: one way to fail, one way to stop.

Exit codes: 0 done, 1 the run failed, 2 the request was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from commands.common import as_options, say
from commands.ranks import speaks, told


class Interrupted(Exception):
    """Ctrl-C, after everything done so far was reported."""


@contextmanager
def resumable(kept: str = "everything above is kept", before: Callable[[], None] | None = None) -> Iterator[None]:
    """Ctrl-C inside says what is kept and the command that goes on; `before` runs first, to report what there is."""
    from glom.errors import RankLost
    from glom.runs.artifacts import command_line

    command = command_line()
    again = command if "--resume" in command else f"{command} --resume"
    try:
        yield
    except KeyboardInterrupt as stop:
        if before is not None:
            before()
        raise Interrupted(f"interrupted; {kept}. To go on:\n  {again}") from stop
    except RankLost as error:
        raise RankLost(f"{error}; {kept}: go on with --resume") from error


def guard(app: typer.Typer, arguments: list[str]) -> int:
    """Run the application; turn every way it can end into one line and an exit code."""
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold what a terminal's encoding cannot write: better spelled out than fatal.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    told.commands += 1
    told.ended = False
    try:
        code = _ended(app, arguments, debug)
        _flush()
    finally:
        told.commands -= 1
    return code


def _note(text: str) -> None:
    """A notice on standard error; under torchrun the first process speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        say(f"note: {as_options(text)}")


def _ended(app: typer.Typer, arguments: list[str], debug: bool) -> int:
    result: object = 0
    try:
        from glom.runs.notices import listening

        with _unread(), listening(_note):
            result = app(args=arguments, standalone_mode=False)
        told.ended = told.commands == 1
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, Interrupted) as error:
        told.ended = told.commands == 1
        with _unread():
            if str(error) and speaks():
                say(str(error))
        return 130
    except Exception as error:
        told.ended = told.commands == 1
        # Typer carries a Click of its own: its usage errors are known by what they can do, not by their class.
        with _unread():
            if type(error).__name__ == "Abort" or speaks():
                _report(error, debug)
        return 130 if type(error).__name__ == "Abort" else int(getattr(error, "exit_code", 1))


@contextmanager
def _unread() -> Iterator[None]:
    """Where the reader went away (`| head`), nothing is wrong, and nothing more can be said: what is inside ends."""
    try:
        yield
    except BrokenPipeError:
        return
    except SystemExit as error:  # Typer and rich leave so when it happens under them
        if not isinstance(error.__context__, BrokenPipeError):
            raise


def _flush() -> None:
    """Write what is held back; where nobody reads any more it goes nowhere, now and at the interpreter's end."""
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _report(error: Exception, debug: bool) -> None:
    """What went wrong, in one line on standard error."""
    from glom.errors import GlomError

    show = getattr(error, "show", None)
    if type(error).__name__ == "Abort":
        return
    if callable(show):
        show()
        return
    if debug:
        import traceback

        traceback.print_exception(error)
    text = as_options(" ".join(str(error).split()))
    if isinstance(error, OSError) and error.errno == 28:
        text = f"the disk is full ({error.filename or 'a file'} could not be written)"
    elif not isinstance(error, GlomError):
        text = f"{type(error).__name__}: {text or type(error).__name__} (--debug shows where)"
    print(f"error: {text}", file=sys.stderr)
