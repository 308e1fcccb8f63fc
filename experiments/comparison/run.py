"""Methods x data sets x samples: one resumable folder, one paired table.

    DIR/CONDITION/METHOD/    results.jsonl: a line a sample; a method's fit beside it as fit.safetensors
    DIR/table.json           the table, from those lines alone

Every method sees the same pictures with the same corruption. Differences are paired with the first method's (the
teacher, unless another is named first), with 95 % bootstrap intervals, exact McNemar p-values, and Holm's correction
over all comparisons of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file

from experiments.comparison.answers import answer_block
from experiments.comparison.conditions import (
    BenchmarkSettings,
    Condition,
    class_names,
    classes_of,
    make_all,
    open_conditions,
    task_of,
)
from experiments.comparison.table import averages, make_table
from experiments.comparison.untouched import shares_pictures_with
from glom.devices import ranks, resolve_device
from glom.errors import InputError
from glom.execution import init_group
from glom.methods import METHODS, Method, Task, make_method
from glom.methods.few_shot import Learning
from glom.runs.artifacts import RunFolder, command_line, read_results, write_json
from glom.runs.saving import save_tensors
from glom.teachers.align import gathered, name_rows
from glom.teachers.asked import asked_of
from glom.teachers.corrupted import described
from glom.teachers.frozen import FrozenTeacher
from glom.teachers.registry import load_teacher
from glom.teachers.superclasses import record_of

__all__ = [
    "TABLE",
    "BenchmarkSettings",
    "Condition",
    "averages",
    "class_names",
    "open_conditions",
    "run_benchmark",
]

TABLE = "table.json"


def run_benchmark(
    settings: BenchmarkSettings, out: Path, resume: bool = False, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Run every method on every condition; events `{"stage", "done", "total", "message"}`, last `{"table": ...}`.

    Under torchrun the ranks share out the samples; a method whose answers depend on the stream is the first rank's.

    Raises:
        InputError: a wrong request, or labelled pictures that are also test pictures; before the first answer.
    """
    rank, world = ranks()
    if world > 1:
        init_group(timeout=7 * 86_400.0)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    if rank == 0 and not resume and next(out.glob("*/*/manifest.json"), None):
        raise InputError(f"{out} already holds a run; add --resume to go on, or choose another --out")
    where = resolve_device(device)
    loaded = load_teacher(settings.teacher, device=str(where))
    assert isinstance(loaded, FrozenTeacher)
    name_rows(loaded, settings.classes)
    loaded = gathered(loaded, settings.superclasses)
    conditions = open_conditions(settings, loaded)
    base = Task(loaded, (), where, settings.seed, settings.mae, settings.preset)
    made, learning = make_all(settings, conditions, base)
    if settings.train and learning is None:
        yield {"message": f"--train {settings.train} is not used: none of these methods learns from labelled pictures"}
    for dataset, names in {id(c.dataset): (c.dataset, class_names(c, loaded)) for c in conditions}.values():
        asked_of(dataset, names, settings.teacher, not rank, loaded.superclasses).say()
    warned: set[str] = set()
    for number, condition in enumerate(conditions):
        task, classes = task_of(condition, base), classes_of(condition, base)
        for name in settings.methods:
            if (name, classes) not in made or METHODS[name].stateful:
                made[name, classes] = make_method(name, task, bool(settings.train))
            method = made[name, classes]
            for event in _run_one(settings, condition, method, out / condition.name / name, resume, learning):
                message = event.get("message", "")
                if message in warned:
                    event = {**event, "message": ""}
                elif message.startswith("package versions"):  # the same for every folder of the run
                    warned.add(message)
                yield event
        # Other pictures ask for other views; small blocks that live long split the heap for the large ones.
        base.views.clear()
        later = [classes_of(c, base) for c in conditions[number + 1 :]]
        made = {key: method for key, method in made.items() if key[1] in later}
    if world > 1:
        torch.distributed.barrier()
    if rank == 0:
        table = make_table(out, asdict(settings), [c.name for c in conditions])
        table["shares pictures with"] = shares_pictures_with(list({c.spec: c.dataset for c in conditions}.values()))
        write_json(out / TABLE, table)
        yield {"table": table}


def _run_one(
    settings: BenchmarkSettings,
    condition: Condition,
    method: Method,
    place: Path,
    resume: bool,
    learning: Learning | None,
) -> Iterator[dict[str, Any]]:
    rank, world = ranks()
    shares = 1 if method.stateful else world
    if rank >= shares:
        return
    part = f"-{rank}-of-{shares}" if shares > 1 else ""
    if rank:
        torch.distributed.barrier()  # the first rank makes the folder, or refuses it
    superclasses = method.task.teacher.superclasses
    held = {
        "method": method.name,
        "settings": asdict(method.settings),
        "data": condition.name,
        "data_fingerprint": condition.dataset.fingerprint(),
        **described(condition.corruption, condition.corrupt),
        "teacher_fingerprint": method.task.teacher.fingerprint,
        "teacher": settings.teacher,
        **record_of(superclasses),
        "train": Path(settings.train).name if method.needs_shots else "",
        "shots": settings.shots if method.needs_shots else 0,
        "seed": settings.seed,
    }
    # Pictures that are answered together are neighbours in the method's order, whatever was done before and on however
    # many ranks: the very same sums are made. A record's index is the picture's place in the data set.
    samples = condition.dataset.samples
    numbered = [(i, samples[i]) for i in method.order([s.id for s in samples], settings.seed)]
    size = max(1, method.together)
    blocks = [numbered[i : i + size] for i in range(0, len(numbered), size)][rank::shares]
    total = sum(map(len, blocks))
    stage = f"{condition.name}: {method.name}"
    asked = asked_of(condition.dataset, method.task.classes, settings.teacher, False, superclasses)
    extra = {"command": command_line(), "asked": asked.record()}
    with RunFolder(place, "benchmark", held, resume, extra, part) as folder:
        if shares > 1 and rank == 0:
            torch.distributed.barrier()
        done = {r["id"] for r in folder.records()}
        count = sum(s.id in done for block in blocks for _, s in block)
        for message in folder.warnings:
            if rank == 0:
                _note(folder, message)
            yield {"stage": stage, "done": count, "total": total, "message": message}
        yield {"stage": stage, "done": count, "total": total}
        if count < total and method.needs_shots:
            assert learning is not None
            _fit(method, learning, place)
        for block in blocks if count < total else ():
            if all(s.id in done for _, s in block) and not method.stateful:
                continue
            begun = time.perf_counter()
            records = answer_block(method, block, condition, settings.seed)
            seconds = (time.perf_counter() - begun) / len(block)
            for record in records:
                if record["id"] not in done:  # seen again only to fill a cache that a kill emptied
                    folder.append(record, seconds)
                    count += 1
                message = f"{record['id']}: {record['reason']}" if "reason" in record else ""
                yield {"stage": stage, "done": count, "total": total, "message": message}
        if rank == 0 and len(read_results(place)) == len(condition.dataset):
            folder.finish()


def _note(folder: RunFolder, message: str) -> None:
    """Keep a warning in the manifest, where the table finds it."""
    kept = folder.manifest.setdefault("warnings", [])
    if message not in kept:
        kept.append(message)
        write_json(folder.path / "manifest.json", folder.manifest)


def _fit(method: Method, learning: Learning, place: Path) -> None:
    """Learn from the labelled pictures, or take what was learned before; of several ranks one learns."""
    path = place / "fit.safetensors"
    with FileLock(place / ".lock-fit"):
        if not path.is_file():
            state, losses = learning.fit(method)
            save_tensors(path, state)
            write_json(place / "fit.json", {"losses": losses})
        method.load(load_file(path))
