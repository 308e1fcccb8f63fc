"""Islands of agreement while they emerge: a network learns to classify, and is looked at without stopping.

    settings = EmergeSettings(recipe="weave", steps=200)
    for event in run(settings, Path("runs/emerge")): ...

The folder: `manifest.json`, `results.jsonl` (a line a look), `state.pt` (written after each look), `curve.png`,
`islands.gif`, `result.json`, and the network as `mvit-v2-tiny@FOLDER` loads it: `config.json`, `model.safetensors`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.emergence.data import Task, open_task
from experiments.emergence.report import Emerged, draw, film_picture, keep_picture, make_film, measure, summarise
from experiments.emergence.settings import EmergeSettings
from experiments.emergence.train import BLOCKS, MEAN, STD, Trainer
from glom.backbones.mvit_shipped import CONFIG, WEIGHTS, TinyConfig
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder, read_timing, write_json
from glom.runs.events import Event
from glom.runs.saving import save_tensors
from glom.settings import defaults_of, write_settings
from glom.teachers.asked import Asked
from glom.training.loop import STATE
from probes.figures.film import check_format

WATCH_ACCURACY = 256  # held-out pictures the curve's accuracy is measured on


def run(
    settings: EmergeSettings, out: Path, *, resume: bool = False, download: bool = False
) -> Iterator[Event[Emerged]]:
    """Train and look; the result is what `summarise` gives.

    Raises:
        InputError: an unknown recipe, source or film format, data that are missing or have no classes, or a folder that
            holds another run; the settings that differ are named.
        RunError: the loss is not finite, the disk is full.
    """
    check_format(settings.film)
    where = resolve_device(settings.device)
    task = open_task(settings, download)
    Asked(task.name, 0, task.classes).say()
    total = settings.total
    held_settings = {**settings.record(), "data_fingerprint": task.fingerprint(), "device": where.type}
    held_settings["source"] = task.name
    if settings.data != "composites":
        held_settings["data"] = task.name
    with RunFolder(out, "islands-emerge", held_settings, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        trainer = Trainer(settings.plan, len(task.classes), total, settings.seed, where, out / STATE)
        done = trainer.training.restore()
        for message in [*task.notes, *folder.warnings]:
            yield Event("training", done, total, message)
        held = task.held_out(max(settings.watch, WATCH_ACCURACY))
        picture = film_picture(held)
        keep_picture(out, held, picture)
        records = {r["step"]: r for r in folder.records()}
        yield from _train(
            trainer, task, settings, folder, records, lambda: measure(trainer, held, settings, picture, out)
        )
        rows = [records[step] for step in sorted(records)]
        yield Event("verdict", 0, 3)
        result = summarise(trainer, task, settings, rows)
        yield Event("verdict", 1, 3)
        draw(out, result, rows)
        yield Event("verdict", 2, 3)
        at = result["verdict"]["trained"] if "verdict" in result else result["layers"][-1]
        best = (at["layer"], at["cut"])
        make_film(out, held, picture, best, settings, [r["step"] for r in rows])
        _save_weights(trainer, task, out)
        folder.conclude(result)
        yield Event("verdict", 3, 3)
    yield Event(result=result)


def _train(
    trainer: Trainer,
    task: Task,
    settings: EmergeSettings,
    folder: RunFolder,
    records: dict[int, dict[str, Any]],
    look: Callable[[], dict[str, Any]],
) -> Iterator[Event[Emerged]]:
    """Every step that is left; `records` gets a look at the beginning, at the end, and each `interval` in between."""
    training, losses = trainer.training, list[float]()
    begun, shown = time.perf_counter(), dict[str, float]()

    def due(done: int) -> bool:
        return done % settings.interval == 0 or done == training.total

    def told(values: list[float]) -> None:
        nonlocal begun, shown
        losses.extend(values)
        if not due(training.done):
            return
        # A kill between a look and the state leaves a line of a step that comes again.
        if training.done not in records:
            record = look() | {"id": f"step {training.done}", "index": training.done}
            record["loss"] = round(float(np.mean(losses)), 5) if losses else None
            folder.append(record, time.perf_counter() - begun)
            records[training.done] = record
        losses.clear()
        begun, shown = time.perf_counter(), _figures(records[training.done])

    if not training.done:
        told([])
    for _ in training.run(lambda step: trainer.loss(*task.train(step), step), due, told):
        yield Event("training", training.done, training.total, values=shown)


def _figures(record: dict[str, Any]) -> dict[str, float]:
    """What stands beside the bar: the best layer's islands, the accuracy in percent."""
    cuts = [rows for layer in record["layers"].values() for rows in layer.values()]
    name, short = ("ari", "ARI") if "ari" in cuts[0] else ("neighbour_agreement", "agreement")
    best = max(float(np.mean(rows[name])) for rows in cuts)
    return {short: round(best, 2), "accuracy": round(100 * record["accuracy"], 1)}


def _save_weights(trainer: Trainer, task: Task, out: Path) -> None:
    """The network as `mvit-v2-tiny@FOLDER` reads it: weights and `config.json`."""
    plan = trainer.plan
    config = TinyConfig(
        classes=task.classes,
        blocks=BLOCKS[plan.blocks],
        size=plan.size,
        frames=plan.frames,
        stride=plan.stride,
        pool=trainer.net.pool,
        view=plan.size,
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
    )
    write_json(out / CONFIG, config.to_json())
    save_tensors(out / WEIGHTS, trainer.net.state_dict())


def seconds_training(out: Path) -> int:
    """How long a run took to train and to look, from its lines."""
    return round(sum(read_timing(out).values()))
