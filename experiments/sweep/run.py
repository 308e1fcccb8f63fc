"""A sweep's runs, given to an executor of submitit: processes here, Slurm's queue, or this very process.

A run is done when its state says so, and is then never run again: not after a kill of the sweep, whose jobs here live
on and are waited for, nor after one of a job, which goes on from what its run folder holds.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.sweep.job import Job, end, state_of
from experiments.sweep.plan import ASKED, Planned, Sweep
from experiments.sweep.report import SweepReport, report
from glom.datasets.loading import CONTINUE, asked_on_death
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, read_json, write_json
from glom.runs.events import Event
from glom.runs.files import write_whole
from glom.runs.tracking import asked_for
from glom.settings import values_of, write_settings

WAIT = 0.1  # seconds between two looks at the jobs
QUEUE = "queue.json"  # run: submitit's folder, Slurm's number of the job
ALIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "COMPLETING", "READY")


def run(request: Sweep, out: Path, *, resume: bool = False, retry: bool = False) -> Iterator[Event[SweepReport]]:
    """Make every run that is not done; with `retry`, those that failed again.

    Raises:
        InputError: the folder holds another sweep, no submitit, no Slurm; `on_dead_worker` "continue" for a command
            that reads by no processes. RunError: the disk is full.
    """
    check_executor(request.settings.executor)
    if asked_on_death() == CONTINUE and not request.command.reads:
        raise InputError(f"`on_dead_worker` {CONTINUE}: `apm {request.command.words}` reads by no processes")
    asked = {name: request.content[name] for name in ASKED if name in request.content}
    with RunFolder(out, "sweep", asked, resume or retry) as folder:
        write_settings(out, request.settings)
        write_plan(out, request)
        names = [one.name for one in request.runs]
        known = {r["id"]: r["status"] for r in folder.records()}

        def note(name: str) -> str:
            state = state_of(out, name)
            if state is not None and known.get(name) != state["status"]:
                known[name] = state["status"]
                folder.append({"id": name, "index": names.index(name), **_without_clock(state)}, state["seconds"])
            failed = state is not None and state["status"] == "failed"
            return f"{name} failed: {state['error']}" if state is not None and failed else ""

        for name in names:
            note(name)
        if retry:
            for name in [n for n in names if known.get(n) == "failed"]:
                (out / "states" / f"{name}.json").unlink()
                del known[name]
        left = [one for one in request.runs if one.name not in known]
        yield Event("runs", len(names) - len(left), len(names))
        for name in _made(request, out, left):
            yield Event("runs", sum(n in known for n in names) + 1, len(names), note(name))
        result = report(out)
        folder.conclude(result)
    yield Event(result=result)


def _without_clock(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": state["status"], **({"error": state["error"]} if state["error"] else {})}


def check_executor(name: str) -> None:
    """Raise `InputError` where an executor cannot be had here."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise InputError("a sweep needs submitit: pip install 'glom-apm[sweep]'") from error
    if name == "slurm" and not shutil.which("sbatch"):
        raise InputError("there is no Slurm on this machine (sbatch is not found); `executor` local runs it here")


def write_plan(out: Path, request: Sweep) -> None:
    """What the report needs of the file, and the settings file of every run."""
    for one in request.runs:
        text = "".join(f"{name} = {value}\n" for name, value in one.asked.items())
        write_whole(out / "asked" / f"{one.name}.toml", text.encode())
    kept = {name: request.content[name] for name in ("command", "measures", "pair", "base") if name in request.content}
    runs = [{"name": one.name, "settings": dict(one.varied), "seed": one.seed} for one in request.runs]
    write_json(out / "plan.json", {**kept, "runs": runs})


def _job(request: Sweep, out: Path, one: Planned) -> Job:
    command, folder = request.command, out.absolute()
    arguments = [*command.words.split(), "--config", str(folder / "asked" / f"{one.name}.toml")]
    arguments += ["--out", str(folder / "runs" / one.name), *(["--quiet"] if command.quiet else [])]
    arguments += ["--track", asked_for()] if asked_for() else []
    arguments += ["--on-dead-worker", CONTINUE] if asked_on_death() == CONTINUE else []
    threads = os.environ.get("OMP_NUM_THREADS")
    environment: dict[str, str | None] = {}
    if request.settings.executor == "local":
        # Side by side, each takes its share of the cores; submitit would hide the GPUs that nobody asked it for.
        share = str(max(1, (os.cpu_count() or 1) // request.settings.jobs))
        environment = {
            "OMP_NUM_THREADS": threads or share,
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
    return Job(folder, one.name, tuple(arguments), command.resumes, command.begin, command.call, environment)


def executor(request: Sweep, folder: Path) -> Any:
    """submitit's, which keeps what it writes in a folder of its own."""
    import submitit

    if request.settings.executor == "debug":
        return submitit.DebugExecutor(folder)
    if request.settings.executor == "local":
        made = submitit.LocalExecutor(folder)
        made.update_parameters(timeout_min=60 * 24 * 365)
        return made
    asked = {name: value for name, value in values_of(request.slurm).items() if value not in (None, ())}
    slurm = submitit.SlurmExecutor(folder, max_num_timeout=asked.pop("requeues"))
    asked |= {"setup": list(asked["setup"])} if "setup" in asked else {}
    slurm.update_parameters(job_name="apm-sweep", array_parallelism=request.settings.jobs, **asked)
    return slurm


def _made(request: Sweep, out: Path, left: list[Planned]) -> Iterator[str]:
    """The names of runs as they end, in whatever order. What still runs here when this is left is stopped."""
    if not left:
        return
    # A folder a call: submitit names files by process numbers, which come again.
    made = executor(request, out.absolute() / "jobs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}")
    running = _queued(out, left) if request.settings.executor == "slurm" else {}
    waiting = [one for one in left if one.name not in running]
    at_once = len(left) if request.settings.executor == "slurm" else request.settings.jobs
    try:
        while waiting or running:
            count = min(at_once - len(running), len(waiting))
            if count:
                batch, waiting = waiting[:count], waiting[count:]
                running |= dict(zip([one.name for one in batch], _submitted(made, request, out, batch), strict=True))
            for name, job in list(running.items()):
                if job.done():
                    del running[name]
                    _ended(out, name, job, request.settings.executor)
                    yield name
            time.sleep(WAIT)
    finally:
        if request.settings.executor == "local":
            for job in running.values():
                with suppress(OSError):
                    os.kill(int(job.job_id), signal.SIGTERM)


def _queued(out: Path, left: list[Planned]) -> dict[str, Any]:
    """Jobs that an earlier call put into Slurm's queue, and that are still there."""
    import submitit

    if not (out / QUEUE).is_file():
        return {}
    known = read_json(out / QUEUE)
    jobs: dict[str, Any] = {one.name: submitit.SlurmJob(*known[one.name]) for one in left if one.name in known}
    return {name: job for name, job in jobs.items() if job.state in ALIVE}


def _submitted(made: Any, request: Sweep, out: Path, batch: list[Planned]) -> list[Any]:
    jobs = [_job(request, out, one) for one in batch]
    if request.settings.executor == "slurm":
        with made.batch():
            submitted = [made.submit(job) for job in jobs]
        ids = {one.name: [str(made.folder), job.job_id] for one, job in zip(batch, submitted, strict=True)}
        write_json(out / QUEUE, (read_json(out / QUEUE) if (out / QUEUE).is_file() else {}) | ids)
        return submitted
    with _deaf():
        return [made.submit(job) for job in jobs]


@contextmanager
def _deaf() -> Iterator[None]:
    """What is started inside does not hear Ctrl-C itself: the sweep stops it, and it says nothing of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ended(out: Path, name: str, job: Any, where: str) -> None:
    """See that a job's end is written down, also where it died."""
    if state_of(out, name) is not None:
        return
    error = job.exception()
    if error is not None:
        said = str(error).strip().splitlines()
        end(out, name, "failed", f"its process died: {said[0] if said else 'without a word'}")
    elif where == "debug":  # Ctrl-C was for the sweep
        raise KeyboardInterrupt
