"""Training a GLOM: one run folder, resumable bit for bit.

Every step's pictures and random numbers come from the run's seed and the step's number alone, so that weights, Adam's
state and the step are all that a resumption needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.consensus.data import batches
from glom.consensus.checkpoint import load_training, save_glom, save_training
from glom.consensus.model import Glom
from glom.consensus.objectives import Loss, ObjectiveSettings
from glom.consensus.training import Trainer, TrainSettings, new_glom
from glom.devices import resolve_device
from glom.errors import RunError
from glom.runs.artifacts import RunFolder, public_command, read_json

SAVE_EVERY = 100
LOG_EVERY = 20


def run_train(
    settings: TrainSettings, out: Path, resume: bool = False, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Train, yielding `{"step", "loss", "levels", "measure", "message"}` and, last, `{"result": ...}`.

    Raises:
        InputError: the request is wrong, `out` holds another run, or this one without `resume`.
        RunError: the loss or the weights are no sensible numbers any more; the last good checkpoint stays.
    """
    where = resolve_device(device)
    draw, facts, notes = batches(settings.data, settings.source, settings.size, settings.limit, settings.seed)
    glom = new_glom(settings.config, settings.seed).to(where)
    trainer = Trainer(glom, settings, draw)
    held = {**asdict(settings), **facts, "config": settings.config.as_dict(), "precision": trainer.precision}
    held["task"] = _task(settings.task, out)
    about = {k: held[k] for k in ("objective", "data", "size", "seed", "steps", "task")}
    about |= {"source": facts.get("source", "") if settings.data == "composites" else ""}
    with RunFolder(out, "glom-train", held, resume, {"command": public_command()}) as folder:
        begun = load_training(out, glom, trainer.optimiser)
        started, log = time.perf_counter(), folder.records()
        event: dict[str, Any] = dict(log[-1]) if log else {}
        if not begun:
            _save(out, glom, trainer.optimiser, 0, about)
        for message in [*notes, *folder.warnings]:
            yield {"step": begun, "message": message}
        for step in range(begun, settings.steps):
            try:
                loss = trainer.step(step)
            except RunError as error:
                kept = step // SAVE_EVERY * SAVE_EVERY
                raise RunError(f"{error}; the checkpoint of step {kept} is kept in {out}; try a lower --lr") from error
            done = step + 1
            event = _record(done, loss)
            if done % LOG_EVERY == 0 or done in (1, settings.steps):
                folder.append(event)
            if done % SAVE_EVERY == 0 or done == settings.steps:
                _save(out, glom, trainer.optimiser, done, about)
            yield {**event, "message": ""}
        seconds = time.perf_counter() - started
        folder.finish(seconds=round(seconds + folder.manifest.get("seconds", 0.0), 3))
        result = {
            "objective": settings.objective,
            "data": facts,
            "steps": settings.steps,
            "parameters": sum(p.numel() for p in glom.parameters()),
            "loss": event.get("loss"),
            "levels": event.get("levels"),
            "measure": event.get("measure"),
            "seconds": round(seconds, 3),
        }
    yield {"result": result}


def _record(step: int, loss: Loss) -> dict[str, Any]:
    levels = [float(v) for v in loss.levels]
    return {"id": f"step-{step}", "index": step, "step": step, "loss": float(loss.total.detach()), "levels": levels,
            "measure": loss.measure}  # fmt: skip


def _task(task: ObjectiveSettings, out: Path) -> dict[str, Any]:
    """The objective's settings as the run folder `out` holds them.

    Runs made before negatives could be chosen hold none of them and had the kind that is the default. They go on, and
    so do later ones, which hold it.
    """
    held, manifest = asdict(task), out / "manifest.json"
    there = read_json(manifest).get("settings", {}).get("task", {}) if manifest.is_file() else {}
    if task.negatives == ObjectiveSettings.negatives and "negatives" not in there:
        del held["negatives"]
    return held


def _save(out: Path, glom: Glom, optimiser: torch.optim.Optimizer, step: int, about: dict[str, Any]) -> None:
    save_glom(out, glom, {**about, "step": step})
    save_training(out, glom, optimiser, step)
