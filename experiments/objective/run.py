"""The objective study: every candidate on one half of the pictures, the best of them once on the other half.

DIR/results.jsonl         a line a picture and condition: the class every candidate gave (the selection half)
DIR/result.json, select.png    differences from the teacher, corrected for how many were tried
DIR/confirm/              the chosen ones on the other half: see `experiments.objective.confirm`
DIR/tokens/               what the teachers said, for a run that is resumed
DIR/prior/, shape/        APMs trained on photographs, where these are named: see `experiments.objective.photographs`
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Required, cast

import torch

from experiments.objective.candidates import CANDIDATES, answers, available
from experiments.objective.encode import Block, Case, Second, blocks_of, named_second, second_teacher
from experiments.objective.photographs import KINDS, fingerprints, open_photographs, read_machines, trained
from experiments.objective.report import Judged, by_set, draw, summarise
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
from glom.settings import defaults_of, write_settings
from glom.teachers.align import gathered, nameable
from glom.teachers.asked import asked_of
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.zero_shot import choose_templates
from glom.weights import state_sha256

DEFAULTS = ObjectiveSettings()
LATER = ("superclasses", "nameable", "second", "photographs", "each_set", "steps", "candidates")


@dataclass(frozen=True)
class Ready:
    """What the pictures of one data set need, opened and checked before the first of them."""

    dataset: ImageDataset
    teacher: Teacher
    head: ZeroShotHead
    second: Second | None


@dataclass(frozen=True)
class Study:
    """Everything the study needs.

    Attributes:
        sets: the data sets, in the order in which they are named.
        prior: the APM that ships for this teacher, or None. photographs: what APMs are trained on.
    """

    settings: ObjectiveSettings
    sets: tuple[Ready, ...]
    prior: AsynchronousPerceptionMachine | None
    photographs: tuple[ImageDataset, ...]

    @property
    def teacher(self) -> Teacher:
        """The first one, before its classes are gathered for one data set or another."""
        return self.sets[0].teacher

    @property
    def there(self) -> set[str]:
        """What there is of the candidates' needs; see `Candidate.needs`."""
        second = {"second"} if all(one.second for one in self.sets) else set()
        prior = {"prior"} if self.prior or self.photographs else set()
        return second | prior | ({"shape"} if self.photographs else set())

    def held(self, half: str) -> dict[str, Any]:
        """What a resumed run must match."""
        given = asdict(self.settings)
        for name in LATER:  # as runs of earlier versions, which lack them
            if given[name] == getattr(DEFAULTS, name):
                del given[name]
        if self.settings.superclasses or self.settings.nameable:
            given |= {name: getattr(self.settings, name) for name in ("superclasses", "nameable")}
        prints = [one.dataset.fingerprint() for one in self.sets]
        if len(self.settings.data) == 1:
            given["data"] = self.settings.data[0]
        found = {**given, "half": half, "data_fingerprint": prints[0] if len(prints) == 1 else prints}
        prior = None if self.prior is None else state_sha256(self.prior.state_dict(), "apm", "fp32")
        tables = [t.fingerprint for one in self.sets if (t := one.teacher.superclasses)]
        if tables:
            found["superclasses_fingerprint"] = tables[0] if len(set(tables)) == 1 else tables
        if self.photographs:
            found["photographs_fingerprint"] = fingerprints(self.photographs)
        return found | {"teacher_fingerprint": self.teacher.fingerprint, "prior_fingerprint": prior}


def prepare(settings: ObjectiveSettings, further: Sequence[str] = ()) -> Study:
    """Open data and teachers.

    Args:
        further: more data sets, DATA or DATA@SUPERCLASSES where these are others than the settings'.

    Raises:
        InputError: samples without labels, a teacher whose grid is not as wide as its token, no class names, the same
            teacher twice.
    """
    teacher = load_teacher(settings.teacher, device="cpu")
    blank = torch.zeros(1, 3, teacher.image_size, teacher.image_size)
    if not teacher.has_grid or teacher.grid(blank).shape[-1] != teacher.width:
        raise InputError(f"{teacher.name} has no grid as wide as its token, which half of the candidates need")
    if settings.second == settings.teacher:
        raise InputError(f"the second teacher has to be another one than {settings.teacher}")
    pairs = [
        *((spec, settings.superclasses) for spec in settings.data),
        *(_with_table(one, settings) for one in further),
    ]
    sets = tuple(_open(spec, teacher, table, settings) for spec, table in pairs)
    photographs = tuple(open_photographs(settings))
    return Study(settings, sets, None if photographs else trained_machine(teacher), photographs)


def _with_table(further: str, settings: ObjectiveSettings) -> tuple[str, str]:
    spec, at, table = further.rpartition("@")
    return (spec, table) if at else (further, settings.superclasses)


def _open(spec: str, teacher: Teacher, table: str, settings: ObjectiveSettings) -> Ready:
    dataset = open_dataset(spec, split="test")
    if any(s.label is None for s in dataset.samples):
        raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
    own = gathered(teacher, table)
    dataset = nameable(dataset, own, settings.nameable)
    classes = dataset.classes or own.classes
    if classes is None:
        raise InputError(f"{dataset.name} has no class names")
    asked_of(dataset, classes, own.name, superclasses=own.superclasses).say()
    second = named_second(settings.second, table, classes) if settings.second else second_teacher(classes)
    return Ready(dataset, own, own.zero_shot_head(classes, choose_templates("simple")), second)


def cases_of(dataset: ImageDataset, settings: ObjectiveSettings, half: str, limit: int, name: str = "") -> list[Case]:
    """The half's pictures, or with "" all, under their conditions. Raises `InputError` where the half is empty.

    Args:
        name: of the data set, where a run has several.
    """
    ids = [s.id for s in dataset.samples if half in ("", half_of(s.id))]
    if not ids:
        raise InputError(f"{dataset.name} is too small to be halved: it has {len(dataset)} pictures")
    own = dataset.select(ids)
    own = own.limit(limit) if limit else own
    return [Case(s, c, name) for s in own.samples for c in conditions_of(s.id, settings)]


class Selected(Judged, total=False):
    """The selection half: with which settings, what could not be tried, and by data set where there are several."""

    settings: Required[dict[str, Any]]
    left_out: Required[list[str]]
    sets: dict[str, Judged]
    data_fingerprint: Required[str | list[str]]
    photographs_fingerprint: list[str]
    superclasses_fingerprint: str
    teacher_fingerprint: Required[str]
    prior_fingerprint: Required[str | None]


def run(settings: ObjectiveSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Selected]]:
    """Every candidate on the selection half.

    Raises:
        InputError: a wrong request, or not one readable picture. RunError: the disk is full.
    """
    study = prepare(settings)
    tried = available(study.there, settings.candidates)
    left_out = [c.name for c in CANDIDATES.values() if c not in tried]
    several = len(study.sets) > 1
    cases = [cases_of(s.dataset, settings, SELECT, settings.limit, s.dataset.name * several) for s in study.sets]
    names = [c.name for c in tried]
    extra = {"candidates": names, "left_out": left_out, "data_spec": ",".join(settings.data)}
    held = {**study.held(SELECT), "tried": names}
    with RunFolder(out, "objective-select", held, resume, extra, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        needed = [kind for kind in KINDS if any(c.needs == kind for c in tried)]
        if study.photographs:
            yield from trained(needed, out, study.photographs, study.teacher, settings)
        yield from run_half(folder, cases, names, study, out)
        records = folder.records()
        result: dict[str, Any] = {**summarise(records, tried), "settings": public_settings(settings)}
        result["left_out"] = left_out
        if several:
            result["sets"] = by_set(records, tried)
        result |= {k: v for k, v in held.items() if k.endswith("fingerprint")}
        draw(result, None, out / "select.png")
        folder.conclude(result)
    yield Event(result=cast(Selected, result))


def run_half(
    folder: RunFolder,
    cases: Sequence[Sequence[Case]],
    names: Sequence[str],
    study: Study,
    out: Path,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Event]:
    """Every case of a half that has no line yet, a line a case.

    Args:
        cases: of each of the study's data sets.
        out: where the machines trained on photographs lie.
        share: (rank, world) of the processes that share out the blocks.
    """
    settings = study.settings
    done = {r["id"] for r in folder.records()}
    size = settings_for(settings.teacher, "fast").config(study.teacher.width).image_size
    stage, total = "adapting", sum(map(len, cases))
    machines = {"prior": study.prior} | read_machines(out, study.photographs)
    blocks = [(ready, part) for ready, own in zip(study.sets, cases, strict=True) for part in blocks_of(own)]
    for message in folder.warnings:
        yield Event(stage, len(done), total, message)
    yield Event(stage, len(done), total)
    index = 0
    for number, (ready, part) in enumerate(blocks):
        start, index = index, index + len(part)
        if number % share[1] != share[0] or all(case.id in done for case in part):
            continue
        begun = time.perf_counter()
        path = folder.path / "tokens" / f"{number:04d}.safetensors"
        block = Block(part, settings, ready.teacher, size, ready.second, path)
        found = answers(Seen(block, settings, ready.head, ready.second, **machines), names) if len(block) else {}
        block.keep()
        seconds = (time.perf_counter() - begun) / len(part)
        place = {case.id: start + i for i, case in enumerate(part)}
        for row, case in enumerate(block.cases):
            said = {name: classes[row] for name, classes in found.items()}
            record = {"id": case.id, "index": place[case.id], "status": "ok", "picture": case.picture}
            record |= {"dataset": case.dataset} if case.dataset else {}
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
    names = [Path(one).name if Path(one).is_absolute() else one for one in settings.data]
    photographs = [Path(one).name if Path(one).is_absolute() else one for one in settings.photographs]
    return {**asdict(settings), "data": names[0] if len(names) == 1 else names, "photographs": photographs}
