"""Training a GLOM: one run folder, resumable bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from experiments.consensus.data import batches
from glom.consensus.checkpoint import save_glom
from glom.consensus.columns import Columns
from glom.consensus.config import TrainSettings
from glom.consensus.training import Draw, Trainer, new_ellipse_glom, new_glom
from glom.datasets.ellipses import Ellipses
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings
from glom.training.loop import STATE

SAVE_EVERY = 100
LOG_EVERY = 20


class Trained(TypedDict):
    """The last step's loss, and what each level contributes to it; see `glom.consensus.objectives.Loss`."""

    objective: str
    data: dict[str, Any]
    steps: int
    parameters: int
    loss: float
    levels: list[float]
    measure: str
    seconds: float


def run(settings: TrainSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Trained]]:
    """Train; the first line of the log says the loss of the first step.

    Raises:
        InputError: the request is wrong, `out` holds another run, or this one without `resume`.
        RunError: the loss or the weights are no sensible numbers any more; the last good checkpoint stays.
    """
    where = resolve_device(settings.device)
    glom, draw, facts, notes = _set_up(settings)
    glom = glom.to(where)
    trainer = Trainer(glom, settings, draw, out / STATE)
    training = trainer.training
    held = _held(settings, facts) | {"precision": trainer.precision}
    told = ("objective", "data", "size", "seed", "steps", "task", "ellipses")
    about = {k: held[k] for k in told if k in held}
    about |= {"source": facts.get("source", "") if settings.data == "composites" else ""}
    with RunFolder(out, "glom-train", held, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        begun, started, log = training.restore(), time.perf_counter(), folder.records()
        known, event = {record["id"] for record in log}, dict(log[-1]) if log else {}
        if not begun:
            save_glom(out, glom, {**about, "step": 0})
        for message in [*notes, *folder.warnings]:
            yield Event("training", begun, settings.steps, message)

        def keep(done: int) -> bool:
            return done % SAVE_EVERY == 0 or done == settings.steps

        def note(values: list[float]) -> None:
            step = training.done
            event.update({"id": f"step-{step}", "index": step, "step": step, "loss": values[0], "levels": values[1:]})
            event["measure"] = trainer.measure
            if (step % LOG_EVERY == 0 or step in (1, settings.steps)) and event["id"] not in known:
                folder.append(event)
            if keep(step):
                save_glom(out, glom, {**about, "step": step})

        for _ in training.run(trainer.loss, keep, note):
            yield Event("training", training.done, settings.steps, values={"loss": event["loss"]})
        seconds = time.perf_counter() - started
        result: Trained = {
            "objective": settings.objective,
            "data": facts,
            "steps": settings.steps,
            "parameters": sum(p.numel() for p in glom.parameters()),
            "loss": event["loss"],
            "levels": event["levels"],
            "measure": event["measure"],
            "seconds": round(seconds, 3),
        }
        folder.conclude(result, seconds=round(seconds + folder.manifest.get("seconds", 0.0), 3))
    yield Event(result=result)


def _set_up(settings: TrainSettings) -> tuple[Columns, Draw, dict[str, Any], list[str]]:
    """The network, where its batches come from, what the data are, and notes."""
    if settings.world == "ellipses":
        made = Ellipses(settings.ellipses)
        return new_ellipse_glom(settings.config, settings.ellipses, settings.seed), made.batch, {"data": "ellipses"}, []
    found = batches(settings.data, settings.source, settings.size, settings.limit, settings.seed)
    return new_glom(settings.config, settings.seed), *found


def _held(settings: TrainSettings, facts: dict[str, Any]) -> dict[str, Any]:
    """The settings as the manifest holds them: of a world those alone that have a say there."""
    idle = ("world", "ellipses") if settings.world == "pictures" else ("size", "source", "limit", "task")
    held = settings.manifest(*idle) | facts | {"config": settings.config.as_dict()}
    return held if "task" in idle else held | {"task": settings.task.manifest()}
