"""Programs that a test gives to a job, found by name in the job's own process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def stopped_once(arguments: list[str]) -> int:
    """The first time it is called it hangs, as what a queue takes the machine from; then it is done."""
    folder = Path(arguments[arguments.index("--out") + 1])
    begun = folder / "begun"
    if not begun.exists():
        folder.mkdir(parents=True)
        begun.write_text("")
        time.sleep(60)
    (folder / "ended").write_text(" ".join(arguments))
    return 0


class Stopped:
    """Stopped while it is taken away."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def stopped_in_a_destructor(arguments: list[str]) -> int:
    """Ends as the program does, if it is told."""
    try:
        Stopped()
        time.sleep(30)
    except KeyboardInterrupt:
        return 130
    return 0
