"""A command as one of several processes: which of them work, who speaks, and how all end when one does.

Whoever started the processes (torchrun, `accelerate launch`, `commands.jobs`, mpirun) tells the others by SIGTERM that
one has failed. Where a process waits for others inside a library, Python does not hear it, and it would be killed only
half a minute later: a thread hears it here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glom.devices import ranks

SHARED = (
    ("ttt", "run"),
    ("benchmark",),
    ("reproduce",),
    ("grid", "train"),
    ("ablate", "objective", "confirm"),
    ("teachers", "score"),
    ("islands", "score"),
)
"""What several processes do together: samples, columns or batches are shared out."""
MPI = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
FOLDER = "APM_JOB"  # what `commands.jobs` calls the folder that its processes share
DEAF = 1.0  # seconds in which Python hears a signal, unless it waits inside a library
AGAIN = 0.1  # seconds after which a signal is told once more that ended nothing
LOST = "one of the processes that share the work died or left; what was computed is kept: go on with --resume"


def take_place(arguments: Sequence[str]) -> bool:
    """Find this process's place in its job; False where it has nothing to do.

    `accelerate launch` starts processes on CPUs by MPI, whose names for ranks are then put as torchrun's. A command
    that shares nothing out is the first process's alone, which then is no part of a job.
    """
    for names in MPI:
        if "MASTER_ADDR" in os.environ and "RANK" not in os.environ and all(name in os.environ for name in names):
            os.environ.update(zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), map(os.environ.__getitem__, names)))
    rank, world = ranks()
    arguments = [word for word in arguments if word != "--debug"]
    if world > 1 and not any(tuple(arguments[: len(command)]) == command for command in SHARED):
        if rank:
            return False
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            os.environ.pop(name, None)
    return True


def speaks() -> bool:
    """Whether this process says why the job ends: the first of its machine that asks. One alone always does."""
    told = os.environ.get("TORCHELASTIC_ERROR_FILE")  # FOLDER/attempt_0/RANK/error.json
    folder = os.environ.get(FOLDER) or (told and Path(told).parents[1])
    if ranks()[1] == 1 or not folder:
        return True
    return first_in(Path(folder))


def first_in(folder: Path) -> bool:
    """Whether nobody has asked yet in a folder that the processes of one machine share."""
    try:
        (folder / "said").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # cleared away by who started the processes, or full
        return True
    return True


class Told:
    """What a process and its signals know of each other.

    Attributes:
        heard: set when Python has heard a signal.
        commands: how many run, one within another. ended: the outermost has ended and says so, which no signal stops:
            set by an assignment, since a call could be met by a signal before it did anything.
    """

    def __init__(self) -> None:
        self.heard, self.commands, self.ended = threading.Event(), 0, False

    def hear(self, number: int, frame: object) -> None:
        """A signal, as Python hears it."""
        self.heard.set()
        if not self.ended:
            raise KeyboardInterrupt

    def lost(self, what: Any) -> None:
        """Python's hook for what is raised where nothing can be: a signal heard inside of `__del__` is told again."""
        if what.exc_type is KeyboardInterrupt:
            self.heard.clear()
            again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGTERM))
            again.daemon = True
            again.start()
        else:
            sys.__unraisablehook__(what)


told = Told()


def end_when_told() -> None:
    """SIGTERM ends this process as Ctrl-C does; of several, even one that waits for the others inside a library.

    torchrun sends it when another rank died, and a cluster's scheduler before it takes the machine away: said and left
    as Ctrl-C is, with the line that goes on.
    """
    signal.signal(signal.SIGTERM, told.hear)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, told.hear)
    sys.unraisablehook = told.lost
    if ranks()[1] == 1:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own

    def watch() -> None:
        while number := os.read(reader, 1)[0]:
            if number in (signal.SIGTERM, signal.SIGINT) and not told.heard.wait(DEAF):
                if speaks():
                    print(f"error: {LOST}", file=sys.stderr, flush=True)
                os._exit(130)

    threading.Thread(target=watch, daemon=True, name="hears signals").start()
