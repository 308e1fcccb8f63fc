"""The objective study: every candidate on one half of the pictures, the best of them once on the other half.

DIR/results.jsonl         a line a picture and condition: the class every candidate gave (the selection half)
DIR/result.json, select.png    differences from the teacher, corrected for how many were tried
DIR/confirm/              the chosen ones on the other half: see `experiments.objective.confirm`
DIR/tokens/               what the teachers said, for a run that is resumed
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.objective.candidates import CANDIDATES, answers, available
from experiments.objective.encode import Block, Case, Second, blocks_of, second_teacher
from experiments.objective.report import draw, summarise
from experiments.objective.settings import SELECT, ObjectiveSettings, conditions_of, half_of
from experiments.objective.trials import Seen
from glom.adaptation.settings import settings_for
from glom.apm import AsynchronousPerceptionMachine
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.methods.trained import trained_machine
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.settings import write_settings
from glom.teachers.align import gathered, nameable
from glom.teachers.asked import asked_of
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.zero_shot import choose_templates
from glom.weights import state_sha256


@dataclass(frozen=True)
class Ready:
    """Everything a half needs, opened and checked before the first picture."""

    dataset: ImageDataset
    teacher: Teacher
    head: ZeroShotHead
    second: Second | None
    prior: AsynchronousPerceptionMachine | None

    def held(self, settings: ObjectiveSettings, half: str) -> dict[str, Any]:
        """What a resumed run must match."""
        found = {**asdict(settings), "half": half, "data_fingerprint": self.dataset.fingerprint()}
        prior = None if self.prior is None else state_sha256(self.prior.state_dict(), "apm", "fp32")
        if not settings.superclasses and not settings.nameable:  # as runs of earlier versions, which lack them
            del found["superclasses"], found["nameable"]
        if self.teacher.superclasses is not None:
            found["superclasses_fingerprint"] = self.teacher.superclasses.fingerprint
        return found | {"teacher_fingerprint": self.teacher.fingerprint, "prior_fingerprint": prior}


def prepare(settings: ObjectiveSettings) -> Ready:
    """Open data and teacher.

    Raises:
        InputError: samples without labels, a teacher whose grid is not as wide as its token, no class names.
    """
    dataset = open_dataset(settings.data, split="test")
    if any(s.label is None for s in dataset.samples):
        raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
    teacher = load_teacher(settings.teacher, device="cpu")
    teacher = gathered(teacher, settings.superclasses)
    dataset = nameable(dataset, teacher, settings.nameable)
    blank = torch.zeros(1, 3, teacher.image_size, teacher.image_size)
    if not teacher.has_grid or teacher.grid(blank).shape[-1] != teacher.width:
        raise InputError(f"{teacher.name} has no grid as wide as its token, which half of the candidates need")
    classes = dataset.classes or teacher.classes
    if classes is None:
        raise InputError(f"{dataset.name} has no class names")
    asked_of(dataset, classes, teacher.name, superclasses=teacher.superclasses).say()
    head = teacher.zero_shot_head(classes, choose_templates("simple"))
    return Ready(dataset, teacher, head, second_teacher(classes), trained_machine(teacher))


def cases_of(dataset: ImageDataset, settings: ObjectiveSettings, half: str, limit: int) -> list[Case]:
    """The half's pictures under their conditions. Raises `InputError` where the half is empty."""
    ids = [s.id for s in dataset.samples if half_of(s.id) == half]
    if not ids:
        raise InputError(f"{dataset.name} is too small to be halved: it has {len(dataset)} pictures")
    own = dataset.select(ids)
    own = own.limit(limit) if limit else own
    return [Case(s, c) for s in own.samples for c in conditions_of(s.id, settings)]


def run(settings: ObjectiveSettings, out: Path, resume: bool = False) -> Iterator[Event]:
    """Every candidate on the selection half.

    Raises:
        InputError: a wrong request, or not one readable picture. RunError: the disk is full.
    """
    ready = prepare(settings)
    tried = available(ready.second, ready.prior)
    left_out = [c.name for c in CANDIDATES.values() if c not in tried]
    cases = cases_of(ready.dataset, settings, SELECT, settings.limit)
    names = [c.name for c in tried]
    extra = {"candidates": names, "left_out": left_out, "data_spec": settings.data}
    held = {**ready.held(settings, SELECT), "tried": names}
    with RunFolder(out, "objective-select", held, resume, extra) as folder:
        write_settings(out, settings)
        yield from run_half(folder, cases, names, settings, ready)
        result = summarise(folder.records(), tried) | {"settings": public_settings(settings), "left_out": left_out}
        result |= {k: v for k, v in held.items() if k.endswith("fingerprint")}
        draw(result, None, out / "select.png")
        folder.conclude(result)
    yield Event(result=result)


def run_half(
    folder: RunFolder, cases: Sequence[Case], names: Sequence[str], settings: ObjectiveSettings, ready: Ready
) -> Iterator[Event]:
    """Every case of a half that has no line yet, a line a case."""
    done = {r["id"] for r in folder.records()}
    size = settings_for(settings.teacher, "fast").config(ready.teacher.width).image_size
    stage, total = "adapting", len(cases)
    for message in folder.warnings:
        yield Event(stage, len(done), total, message)
    yield Event(stage, len(done), total)
    index = 0
    for number, part in enumerate(blocks_of(cases)):
        start, index = index, index + len(part)
        if all(case.id in done for case in part):
            continue
        begun = time.perf_counter()
        path = folder.path / "tokens" / f"{number:04d}.safetensors"
        block = Block(part, settings, ready.teacher, size, ready.second, path)
        found = answers(Seen(block, settings, ready.head, ready.second, ready.prior), names) if len(block) else {}
        block.keep()
        seconds = (time.perf_counter() - begun) / len(part)
        place = {case.id: start + i for i, case in enumerate(part)}
        for row, case in enumerate(block.cases):
            said = {name: classes[row] for name, classes in found.items()}
            record = {"id": case.id, "index": place[case.id], "status": "ok", "picture": case.sample.id}
            record |= {"condition": case.condition, "label": case.sample.label, "classes": said}
            if case.id not in done:
                folder.append(record, seconds)
                done.add(case.id)
        for case, reason in block.skipped:
            if case.id not in done:
                folder.append({"id": case.id, "index": place[case.id], "status": "skipped", "reason": reason})
                done.add(case.id)
                yield Event(stage, len(done), total, f"{case.id}: {reason}")
        yield Event(stage, len(done), total)


def public_settings(settings: ObjectiveSettings) -> dict[str, Any]:
    """The settings without places of this machine."""
    return {**asdict(settings), "data": Path(settings.data).name}
