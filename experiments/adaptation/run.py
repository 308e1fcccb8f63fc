"""Test-time training over a data set: honest, resumable, sharded over processes.

A run folder is all there is: the table comes from its lines alone (`experiments.adaptation.summary`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.adaptation.settings import TTTRun
from experiments.adaptation.summary import Summary, summary
from glom.adaptation.case import Case
from glom.adaptation.objectives import get_objective, require
from glom.adaptation.settings import settings_dict
from glom.adaptation.ttt import BLOCK, adapt_group, stack_size
from glom.columns import picture
from glom.datasets.base import ImageDataset, Sample
from glom.datasets.corruptions import Corruption, parse_corruption
from glom.datasets.loading import read_ahead, readers, to_device
from glom.datasets.registry import open_dataset
from glom.devices import ranks, resolve_device, tell_if_slow
from glom.errors import GlomError, InputError, lost
from glom.execution import Ranks, init_group
from glom.runs.artifacts import RESULT, RunFolder, read_results, write_json
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings
from glom.teachers.align import aligned_head, gathered, name_rows, nameable
from glom.teachers.asked import Asked, asked_of
from glom.teachers.base import Teacher
from glom.teachers.corrupted import described, shown
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.superclasses import record_of
from glom.teachers.views import seen
from glom.teachers.zero_shot import choose_templates, read_class_file, templates_record

Block = Sequence[tuple[int, Sample]]


@dataclass(frozen=True)
class Prepared:
    """Everything a run needs, opened and checked before the first sample."""

    dataset: ImageDataset
    teacher: Teacher
    head: ZeroShotHead
    corruption: Corruption | None
    device: torch.device

    def asked(self, look: bool = True) -> Asked:
        """What is asked of the teacher; see `glom.teachers.asked.asked_of`."""
        return asked_of(self.dataset, self.head.classes, self.teacher.name, look, self.teacher.superclasses)


def prepare(request: TTTRun) -> Prepared:
    """Open data and teacher and check that they fit. Raises `InputError` for anything wrong with the request."""
    corruption = parse_corruption(request.corruption) if request.corruption else None
    device = resolve_device(request.device)
    tell_if_slow(request.ttt.precision, device)
    file = Path(request.classes) if request.classes else None
    teacher: Teacher | None = None
    try:
        dataset = open_dataset(request.data, split=request.split, classes_file=file)
    except InputError:
        if file is None or not file.is_file():
            raise
        teacher = _load_named(request, file)
        if teacher.classes is None or teacher.has_text:
            raise
        # A file that names a classifier's rows may name more classes than the data set has.
        dataset = open_dataset(request.data, split=request.split)
    teacher = teacher or _load_named(request, file)
    dataset = nameable(dataset, teacher, request.nameable)
    if request.limit:
        dataset = dataset.limit(request.limit)
    require(get_objective(request.ttt.objective), teacher.has_grid, teacher.name)
    return Prepared(dataset, teacher, make_head(teacher, dataset, request), corruption, device)


def _load_named(request: TTTRun, file: Path | None) -> Teacher:
    """The teacher; a classifier without class names has those of the file, in the order of its rows."""
    teacher = load_teacher(request.teacher, device=request.device, precision=request.teacher_precision)
    name_rows(teacher, file)
    return gathered(teacher, request.superclasses)


def make_head(teacher: Teacher, dataset: ImageDataset, request: TTTRun) -> ZeroShotHead:
    """The zero-shot head for the data set's classes, or a file's, or the classifier's own."""
    classes = dataset.classes
    if classes is None and request.classes:
        classes = read_class_file(Path(request.classes))
    if classes is None:
        classes = teacher.classes
    if classes is None:
        raise InputError(f"{dataset.name} has no class names; give them with --classes FILE")
    labels = [s.label for s in dataset.samples if s.label is not None]
    if labels and max(labels) >= len(classes):
        raise InputError(f"{dataset.name} has labels up to {max(labels)} but {len(classes)} class names")
    templates = choose_templates(request.templates)
    return aligned_head(teacher, dataset, templates) if dataset.classes else teacher.zero_shot_head(classes, templates)


def identity(request: TTTRun, ready: Prepared) -> dict[str, Any]:
    """Everything that decides the results: what a resumed run must match."""
    return {
        "data": ready.dataset.name,
        "data_fingerprint": ready.dataset.fingerprint(),
        "samples": len(ready.dataset),
        "teacher": ready.teacher.name,
        "teacher_fingerprint": ready.teacher.fingerprint,
        "teacher_precision": request.teacher_precision,
        "classes": len(ready.head.classes),
        **record_of(ready.teacher.superclasses),
        "templates": templates_record(choose_templates(request.templates)) if ready.teacher.has_text else None,
        **described(ready.corruption, request.corrupt),
        **({"draft": request.draft} if request.draft else {}),
        "seed": request.seed,
        **settings_dict(request.ttt),
        "stack": stack_size(request.ttt, ready.device),
    }


def join_ranks(request: TTTRun) -> tuple[TTTRun, Ranks]:
    """Join the other processes of this job, if there are any: the request as this rank runs it, and the ranks.

    Raises:
        InputError: columns to share out and nobody to share them with.
        RankLost: the others did not come.
    """
    if request.shard != "columns" and request.ttt.execution != "sharded":
        return request, Ranks.join()
    init_group()  # ranks that share columns meet at every step: a silent one is dead
    return replace(request, shard="columns", ttt=replace(request.ttt, execution="sharded")), Ranks(*ranks())


def run(request: TTTRun, out: Path, *, resume: bool = False) -> Iterator[Event[Summary]]:
    """Adapt every sample that has no result yet; the first rank's result is the `summary`.

    Under torchrun the ranks share out the samples, each writing a part of its own (the parts together are the run),
    or the columns of each sample, the first rank writing. Any number of ranks can go on with a run.

    Raises:
        InputError: a wrong request; with `strict`, the first unreadable picture.
        RunError: the disk is full, or a rank died; what was written stays.
    """
    request, group = join_ranks(request)
    ready = prepare(request)
    together = request.shard == "columns"
    if together and group.rank:
        yield from _assist(request, ready, group)
        return
    share = Ranks() if together else group
    asked = ready.asked(look=not group.rank).say()
    extra = {"device": str(ready.device), "data_spec": request.data, "world": group.world}
    extra["asked"] = asked.record()
    if share.rank:
        share.wait()  # the first rank makes the folder, or refuses it, before the others look at it
    held, defaults = identity(request, ready), defaults_of(request)
    with RunFolder(out, "ttt", held, resume, extra, share.part, defaults) as folder:
        if not group.rank:
            write_settings(out, request)
        if not share.rank:
            share.wait()
        if together:
            group.told(sorted(record["id"] for record in folder.records()))
        done = {record["id"] for record in folder.records()}
        mine = make_blocks(request, ready)[share.rank :: share.world]
        todo = unfinished(mine, done)
        total = sum(map(len, mine))
        count = sum(sample.id in done for block in mine for _, sample in block)
        for message in folder.warnings:
            yield Event("adapting", count, total, f"warning: {message}")
        yield Event("adapting", count, total)
        right = Right()
        for rows in _results(todo, done, request, ready):
            rows = [(record, seconds) for record, seconds in rows if record["id"] not in done]
            folder.extend([(*row, None) for row in rows])
            for record, _ in rows:
                count += 1
                message = "" if record["status"] == "ok" else f"{record['status']}: {record['id']}: {record['reason']}"
                yield Event("adapting", count, total, message, right.after(record))
        share.wait()
        if group.rank == 0 and len(read_results(out)) == len(ready.dataset):
            folder.finish()
    if group.rank == 0:
        found = summary(out)  # after the manifest's last notices
        write_json(out / RESULT, found)
        yield Event(result=found)


@dataclass
class Right:
    """How often teacher and machine were right so far."""

    seen: int = 0
    teacher: int = 0
    apm: int = 0

    def after(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Both accuracies in percent with one more line counted; nothing before the first label."""
        if record["status"] == "ok" and record["label"] is not None:
            self.seen += 1
            self.teacher += record["teacher"] == record["label"]
            self.apm += record["apm"] == record["label"]
        return {"teacher": 100 * self.teacher / self.seen, "APM": 100 * self.apm / self.seen} if self.seen else {}


def _assist(request: TTTRun, ready: Prepared, group: Ranks) -> Iterator[Event[Summary]]:
    """A further rank of a run over columns: the same samples in the same order, nothing written."""
    done = set(group.told(list[str]()))
    todo = unfinished(make_blocks(request, ready), done)
    count, total = len(done), len(ready.dataset)
    for rows in _results(todo, done, request, ready):
        count += sum(record["id"] not in done for record, _ in rows)
        yield Event("adapting", count, total)


def unfinished(blocks: Sequence[Block], done: set[str]) -> list[Block]:
    """The blocks that have a sample without a result."""
    return [block for block in blocks if any(sample.id not in done for _, sample in block)]


def make_blocks(request: TTTRun, ready: Prepared) -> list[Block]:
    """Consecutive samples in blocks of whole stacks, shuffled as blocks where that is asked for.

    A sample's company is fixed by its place in the data set: whatever was done before, in whatever order, on however
    many ranks, the very same sums are made, so results are equal to the last digit.
    """
    stack = stack_size(request.ttt, ready.device)
    size = stack * max(1, BLOCK // stack)
    numbered = list(enumerate(ready.dataset.samples))
    blocks: list[Block] = [numbered[i : i + size] for i in range(0, len(numbered), size)]
    if request.shuffle:
        blocks = [blocks[i] for i in np.random.default_rng(request.seed).permutation(len(blocks))]
    return blocks


Rows = list[tuple[dict[str, Any], float | None]]
"""Lines of `results.jsonl`, of samples adapted together, and the seconds that each took."""


def _results(todo: Sequence[Block], done: set[str], request: TTTRun, ready: Prepared) -> Iterator[Rows]:
    stack = stack_size(request.ttt, ready.device)
    shuffle = np.random.default_rng(request.seed + 1) if request.shuffle else None
    looks = _looks(todo, request, ready)
    # One thread waits for what is read and encodes the next block while this one is adapted.
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(_load, block, looks, request, ready) for block in todo[:1]]
        for number, block in enumerate(todo):
            loaded = pending.pop().result()
            pending += [pool.submit(_load, after, looks, request, ready) for after in todo[number + 1 : number + 2]]
            starts = list(range(0, len(block), stack))
            for start in starts if shuffle is None else shuffle.permutation(starts).tolist():
                group = slice(start, start + stack)
                if any(sample.id not in done for _, sample in block[group]):
                    yield _adapted(block[group], loaded[group], request, ready)


def _adapted(block: Block, loaded: Sequence[Case | GlomError], request: TTTRun, ready: Prepared) -> Rows:
    for case in loaded:
        if request.strict and isinstance(case, GlomError):
            raise case
    cases = [case for case in loaded if isinstance(case, Case)]
    started = time.perf_counter()
    results = iter(adapt_group(cases, request.ttt, ready.head, request.seed, ready.device) if cases else [])
    seconds = (time.perf_counter() - started) / max(len(cases), 1)
    rows: Rows = []
    for (index, sample), case in zip(block, loaded, strict=True):
        if isinstance(case, Case):
            scale = {"scale": case.scale} if case.scale else {}
            rows.append(({"index": index, **next(results).record(), **scale}, seconds))
        else:
            rows.append(({"id": sample.id, "index": index, **lost(case)}, None))
    return rows


def load_cases(request: TTTRun, ready: Prepared) -> list[Case]:
    """Every readable sample, ready to be adapted; for studies that adapt the same samples many times."""
    blocks = make_blocks(request, ready)
    looks = _looks(blocks, request, ready)
    loaded = [case for block in blocks for case in _load(block, looks, request, ready)]
    return [case for case in loaded if isinstance(case, Case)]


Look = tuple[torch.Tensor, torch.Tensor, str]
"""Of a picture: what is folded, what the teacher reads, and the scale of its corruption."""


def _looks(blocks: Sequence[Block], request: TTTRun, ready: Prepared) -> Iterator[Look | GlomError]:
    """Every picture of these blocks in turn: read, corrupted and preprocessed."""
    samples, teacher = [sample for block in blocks for _, sample in block], ready.teacher
    size = request.ttt.config(teacher.width).image_size
    needs_grid = "grid" in get_objective(request.ttt.objective).needs

    least = request.draft * max(size, teacher.image_size)

    def look(number: int) -> Look:
        image, scale = shown(teacher, samples[number], ready.corruption, request.seed, request.corrupt, least)
        # A grid lies over the teacher's crop; a token stands for the picture, which is folded whole as published.
        folded = picture(seen(teacher, image) if needs_grid else image, size)
        return folded, teacher.preprocess(image), scale

    workers = readers(request.workers, ready.device)
    return read_ahead(look, range(len(samples)), workers, ready.device.type == "cuda")


def _load(block: Block, looks: Iterator[Look | GlomError], request: TTTRun, ready: Prepared) -> list[Case | GlomError]:
    """Take a block's pictures and encode them; an unreadable one becomes its error."""
    found = list(islice(looks, len(block)))
    good = [look for look in found if not isinstance(look, GlomError)]
    if good:
        images = to_device([image for _, image, _ in good], ready.device)
        tokens = iter(ready.teacher.token(images))
        grids = None
        if "grid" in get_objective(request.ttt.objective).needs:
            grids = iter(ready.teacher.grid(images))
    loaded: list[Case | GlomError] = []
    for (_, sample), look in zip(block, found, strict=True):
        if isinstance(look, GlomError):
            loaded.append(look)
            continue
        grid = None if grids is None else next(grids).clone()
        loaded.append(Case(sample.id, sample.label, look[0], next(tokens).clone(), grid, look[2]))
    return loaded
