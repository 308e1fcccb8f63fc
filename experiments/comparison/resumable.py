"""One method over one leg of the run: a folder for each condition, a line for each picture, resumable at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file

from experiments.comparison.answers import answer_block, look_at
from experiments.comparison.conditions import Condition
from experiments.comparison.legs import Leg, Visit
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.stream import Stream
from glom.datasets.loading import readers
from glom.execution import Ranks
from glom.methods import Method
from glom.methods.few_shot import Learning
from glom.runs.artifacts import RunFolder, read_manifest, read_results, write_json
from glom.runs.events import Event
from glom.runs.saving import save_tensors
from glom.settings import defaults_of
from glom.teachers.asked import asked_of
from glom.teachers.corrupted import described
from glom.teachers.superclasses import record_of

STATE = "stream.safetensors"
EVERY = 100  # pictures after which what a stream has left in a method is saved
LARGEST = 2**28  # bytes of it beyond which it is not, and a stopped stream is seen again from its start


def run_leg(
    settings: BenchmarkSettings,
    leg: Leg,
    method: Method,
    out: Path,
    resume: bool,
    learning: Learning | None,
    group: Ranks,
) -> Iterator[Event[Any]]:
    """Answer for the leg's pictures that have no line yet; events as `run_benchmark`'s.

    Of an episodic method the ranks share out the pictures; a stream is the first rank's alone.
    """
    stream, rank = settings.as_stream(), group.rank
    if method.stateful:
        group = Ranks()
    if rank >= group.world:
        return
    if rank:
        group.wait()  # the first rank makes the folder, or refuses it
    # Pictures that are answered together are neighbours in the leg, whatever was done before and on however many ranks:
    # the very same sums are made. A record's index is the picture's place in the data set.
    if method.stateful and stream.batch:
        method.together = stream.batch
    size = max(1, method.together)
    blocks = [leg.visits[i : i + size] for i in range(0, len(leg.visits), size)][rank :: group.world]
    stage, total = f"{leg.name}: {method.name}", sum(map(len, blocks))
    with ExitStack() as stack:
        folders: dict[str, RunFolder] = {}
        for c in leg.conditions:
            asked = asked_of(c.dataset, method.task.classes, settings.teacher, False, method.task.teacher.superclasses)
            extra = {"asked": asked.record(), "constants": method.constants}
            identity = _identity(settings, c, leg, stream, method)
            defaults = {"settings": defaults_of(method.settings), "stream": defaults_of(stream)}
            place = out / c.name / method.name
            folder = RunFolder(place, "benchmark", identity, resume, extra, group.part, defaults)
            folders[c.name] = stack.enter_context(folder)
        if rank == 0:
            group.wait()
        done = {(name, r["id"]) for name, folder in folders.items() for r in folder.records()}
        count = sum(_key(visit) in done for block in blocks for visit in block)
        for folder in folders.values():
            for message in folder.warnings:
                if rank == 0:
                    _note(folder, message)
                yield Event(stage, count, total, message)
        yield Event(stage, count, total)
        place = out / leg.conditions[0].name / method.name
        if count < total and method.needs_shots:
            assert learning is not None
            _fit(method, learning, place)
        left, first = _left(blocks, done, method, place) if count < total else ([], 0)
        visits = [visit for block in left for visit in block]
        looks = look_at(visits, method.task, settings.seed, readers(settings.workers, method.task.device))
        for block in _kept(left, first, method, place):
            records, seconds, own = answer_block(method, block, looks, settings.seed)
            pairs = list(zip(block, records, strict=True))
            for name, folder in folders.items():  # what is seen again only brings a stream's state to where it was
                new = [r for v, r in pairs if v.condition.name == name and _key(v) not in done]
                folder.extend([(record, seconds, own) for record in new])
            for visit, record in pairs:
                count += _key(visit) not in done
                message = f"{record['id']}: {record['reason']}" if "reason" in record else ""
                yield Event(stage, count, total, message)
        for c in leg.conditions:
            if rank == 0 and len(read_results(out / c.name / method.name)) == len(c.dataset):
                folders[c.name].finish()


def finish_late(place: Path, count: int) -> None:
    """Call a condition complete whose first rank ended before the others did: once all are here, with so many lines."""
    manifest = read_manifest(place)
    if manifest["status"] != "complete" and len(read_results(place)) == count:
        write_json(place / "manifest.json", manifest | {"status": "complete"})


def _key(visit: Visit) -> tuple[str, str]:
    return visit.condition.name, visit.sample.id


def _identity(
    settings: BenchmarkSettings, condition: Condition, leg: Leg, stream: Stream, method: Method
) -> dict[str, Any]:
    """What decides the answers, as the folder keeps it."""
    held = {
        "method": method.name,
        "settings": {name: value for name, value in asdict(method.settings).items() if name != "graphs"},
        "data": condition.name,
        "data_fingerprint": condition.dataset.fingerprint(),
        **described(condition.corruption, condition.corrupt),
        "teacher_fingerprint": method.task.teacher.fingerprint,
        "teacher": settings.teacher,
        **record_of(method.task.teacher.superclasses),
        "train": Path(settings.train).name if method.needs_shots else "",
        "shots": settings.shots if method.needs_shots else 0,
        "seed": settings.seed,
        **({"second_teacher": settings.second} if method.needs_second else {}),
        **({"augment": settings.augment} if settings.augment != "crops" else {}),
    }
    if method.stateful:
        held["stream"] = {**asdict(stream), "batch": method.together}
        held["stream"]["through"] = [[c.name, c.dataset.fingerprint()] for c in leg.conditions]
    return held


def _left(
    blocks: list[tuple[Visit, ...]], done: set[tuple[str, str]], method: Method, place: Path
) -> tuple[list[tuple[Visit, ...]], int]:
    """The blocks that are to be answered; of a stream every one from where its state was last saved, and that place."""
    if not method.stateful:
        return [block for block in blocks if any(_key(visit) not in done for visit in block)], 0
    path = place / STATE
    if path.is_file():
        state = load_file(path)
        saved = int(state.pop("blocks"))
        if all(_key(visit) in done for block in blocks[:saved] for visit in block):
            method.load_stream_state(state)
            return blocks[saved:], saved
    return blocks, 0


def _kept(left: list[tuple[Visit, ...]], first: int, method: Method, place: Path) -> Iterator[tuple[Visit, ...]]:
    """These blocks, of a stream `first` behind its start, whose state is saved now and then."""
    since = 0
    for number, block in enumerate(left, 1):
        yield block  # what follows happens once the block's lines are written
        since += len(block)
        if method.stateful and since >= EVERY and number < len(left):
            _save(method, place / STATE, first + number)
            since = 0
    if method.stateful and left:
        (place / STATE).unlink(missing_ok=True)


def _save(method: Method, path: Path, blocks: int) -> None:
    """Keep what the stream has left in the method after so many blocks, in the place of what was kept before."""
    state = method.stream_state()
    if state is not None and sum(x.numel() * x.element_size() for x in state.values()) <= LARGEST:
        save_tensors(path, {**state, "blocks": torch.tensor(blocks)})


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
