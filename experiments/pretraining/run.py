"""`apm grid train` from the request to the run folder.

manifest.json, results.jsonl    settings; the loss of every tenth step
state.pt                        weights and optimiser, so that a killed run goes on
apm.safetensors                 the machine
result.json, curve.png, grids.png    figures on the held-out pictures
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from experiments.pretraining.data import unread_message
from experiments.pretraining.evaluate import Measured, measure, panels
from experiments.pretraining.prepare import Prepared, identity, prepare
from experiments.pretraining.settings import GridTrainSettings
from experiments.pretraining.train import train
from glom.apm import AsynchronousPerceptionMachine
from glom.checkpoints import FILE, save_apm
from glom.devices import resolve_device
from glom.errors import InputError
from glom.execution import Ranks
from glom.runs.artifacts import RunFolder, read_results
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings
from glom.training.loop import STATE
from probes.figures.again import draw
from probes.figures.grids import grid_sheet, loss_curve

BANK = 5000  # pictures of the k-NN classifier's bank


class Trained(Measured):
    """What the machine that was trained gives beside its teacher."""

    teacher: str
    grid: list[int]
    parameters: int


def run(settings: GridTrainSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Trained]]:
    """Train, or go on; evaluate on the held-out pictures; the first rank has the result.

    Under torchrun every process calls this; the first one writes.

    Raises:
        InputError: a wrong request, a folder with another run, a cache of something else.
        RunError: the disk is full, a rank died, a loss that is not finite.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    if (out / "manifest.json").is_file() and not resume:
        raise InputError(f"{out} already holds a run; add --resume to go on, or choose another --out")
    group = Ranks.join()
    where = resolve_device(settings.device)
    ready = yield from prepare(settings, group, str(where))
    extra = {"device": str(where), "world": group.world, "split": ready.split.how}
    first = group.rank == 0
    defaults = defaults_of(settings)
    opened = RunFolder(out, "grid-train", identity(ready), resume, extra, "", defaults) if first else nullcontext()
    with opened as folder:
        group.wait()  # the folder is made, and its state is whole, before anyone looks for it
        if folder:
            write_settings(out, settings)
            told = _unread(ready)
            for message in [*folder.warnings, *told]:
                yield Event(message=message)
        started = time.perf_counter()
        apm = yield from train(ready, folder, out / STATE, group, where)
        if folder:
            yield Event(message=f"trained in {time.perf_counter() - started:.0f} s; now the held-out pictures")
            result = yield from finish(ready, apm, out)
            # Without a cache it is known only now which pictures could not be read.
            yield from (Event(message=message) for message in _unread(ready) if message not in told)
            folder.conclude(result)
            yield Event(result=result)
        group.wait()


def finish(ready: Prepared, apm: AsynchronousPerceptionMachine, out: Path) -> Generator[Event[Any], None, Trained]:
    """Write the checkpoint, measure (yielding events), and write the figures and the checkpoint with its results."""
    apm.eval()
    half = ready.settings.half
    if half:
        apm.half().float()  # what is measured is what is written
    precision = "fp16" if half else "fp32"
    # First without results: whatever goes wrong in measuring, the trained machine is there.
    save_apm(out / FILE, apm, checkpoint_meta(ready, None), precision)
    found, shown = yield from measure(apm, ready.held_out, ready.split.held_out, ready.train, ready.split.train, BANK)
    draw(out / "grids.png", grid_sheet, rows=panels(apm, shown))
    loss_curve(read_results(out), out / "curve.png")
    result: Trained = {
        "teacher": ready.teacher.name,
        "grid": list(ready.train.shape),
        **found,
        "parameters": sum(p.numel() for p in apm.parameters()),
    }
    save_apm(out / FILE, apm, checkpoint_meta(ready, result), precision)
    return result


def checkpoint_meta(ready: Prepared, result: Trained | None) -> dict[str, Any]:
    """What a checkpoint says of itself, `result` None before it was measured; no path of this machine."""
    kept = ready.settings.deciding(data=ready.split.train.name, init=Path(ready.settings.init).name)
    kept.pop("apm")
    return {
        "teacher": ready.teacher.name,
        "teacher_fingerprint": ready.teacher.fingerprint,
        "size": ready.teacher.image_size,
        "grid": list(ready.train.shape[:2]),
        "pictures": len(ready.split.train),
        "settings": kept,
        "results": result,
    }


def _unread(ready: Prepared) -> list[str]:
    """How many pictures of either part could not be read, as far as is known by now."""
    return [
        *unread_message(ready.train, ready.split.train, "training"),
        *unread_message(ready.held_out, ready.split.held_out, "held-out"),
    ]
