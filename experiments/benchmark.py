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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from experiments.benchmark_answers import answer_block
from experiments.benchmark_table import averages, make_table
from experiments.few_shot import Learning, check_classes, few_shot
from experiments.methods import METHODS, Method, Task, make_method
from experiments.ttt_run import ranks
from glom.artifacts import RunFolder, command_line, read_results, write_json
from glom.datasets.base import ImageDataset
from glom.datasets.corruptions import Corruption, parse_corruption
from glom.datasets.registry import open_dataset
from glom.devices import resolve_device
from glom.errors import InputError, unknown
from glom.execution import init_group
from glom.teachers.frozen import FrozenTeacher
from glom.teachers.registry import load_teacher

__all__ = ["TABLE", "BenchmarkSettings", "Condition", "averages", "open_conditions", "run_benchmark"]

TABLE = "table.json"
PRESETS = ("fast", "published")


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is compared.

    Attributes:
        methods: names in `METHODS`; differences are taken from the first.
        data: data sets, each `NAME_OR_FOLDER`.
        corruptions: "" for the pictures as they are, or `name:severity`; every data set is seen under each.
        teacher: see `apm teachers`. split: of the data sets.
        train, shots: where labelled pictures come from (split `train`), and how many a class.
        limit: samples at most for each data set, spread evenly over the classes; 0 for all.
        seed: of the run.
        mae: the masked autoencoder of `joint-train`, `fine-tune`, `vit-probe` and `ttt-mae` (`glom.masked`).
        transfer: prompts learned on `train`'s classes are used on data sets with other classes.
        preset: of test-time training, for the APM: "fast" or "published".
    """

    methods: tuple[str, ...]
    data: tuple[str, ...]
    corruptions: tuple[str, ...] = ("",)
    teacher: str = "glom-tiny"
    split: str = "test"
    train: str = ""
    shots: int = 16
    limit: int = 0
    seed: int = 0
    mae: str = "mae-tiny"
    transfer: bool = False
    preset: str = "fast"

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise unknown("method", name, METHODS)
        for what, values in (("methods", self.methods), ("data sets", self.data), ("corruptions", self.corruptions)):
            if not values or len(set(values)) != len(values):
                raise InputError(f"name at least one of the {what}, and each once; got {', '.join(values) or 'none'}")
        for corruption in filter(None, self.corruptions):
            parse_corruption(corruption)
        if self.limit < 0 or self.shots < 1:
            raise InputError(f"--limit must not be negative and --shots at least 1, got {self.limit} and {self.shots}")
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)


@dataclass(frozen=True)
class Condition:
    """One data set under one corruption; `spec` is what opened it."""

    name: str
    spec: str
    dataset: ImageDataset
    corruption: Corruption | None


def run_benchmark(
    settings: BenchmarkSettings, out: Path, resume: bool = False, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Run every method on every condition; events `{"stage", "done", "total", "message"}`, last `{"table": ...}`.

    Under torchrun the ranks share out the samples; a method whose answers depend on the stream is the first rank's.

    Raises:
        InputError: a wrong request, or labelled pictures that are also test pictures.
    """
    rank, world = ranks()
    if world > 1:
        init_group(timeout=7 * 86_400.0)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    if rank == 0 and not resume and next(out.glob("*/*/manifest.json"), None):
        raise InputError(f"{out} already holds a run; add --resume to go on, or choose another --out")
    where = resolve_device(device)
    conditions = open_conditions(settings)
    loaded = load_teacher(settings.teacher, device=str(where))
    assert isinstance(loaded, FrozenTeacher)
    base = Task(loaded, (), where, settings.seed, settings.mae, settings.preset)
    prepared: dict[tuple[Any, ...], Method] = {}
    learning: Learning | None = None
    warned: set[str] = set()
    for condition in conditions:
        for name in settings.methods:
            task = replace(base, classes=class_names(condition, loaded), dataset=condition.dataset)
            key = (name, task.classes, condition.dataset.keys)
            if key not in prepared or METHODS[name].stateful:
                prepared[key] = make_method(name, task, bool(settings.train))
            method = prepared[key]
            if method.needs_shots:
                learning = learning or few_shot(
                    settings.train, settings.shots, task, [(c.dataset.name, c.dataset) for c in conditions]
                )
                check_classes(learning, method, condition.dataset.name, settings.transfer)
            for event in _run_one(settings, condition, method, out / condition.name / name, resume, learning):
                message = event.get("message", "")
                if message in warned:
                    event = {**event, "message": ""}
                elif message.startswith("package versions"):  # the same for every folder of the run
                    warned.add(message)
                yield event
        # Other pictures ask for other views; small blocks that live long split the heap for the large ones.
        base.views.clear()
    if world > 1:
        torch.distributed.barrier()
    if rank == 0:
        table = make_table(out, asdict(settings), [c.name for c in conditions])
        write_json(out / TABLE, table)
        yield {"table": table}


def open_conditions(settings: BenchmarkSettings) -> list[Condition]:
    """Every data set under every corruption, opened before the first hour is spent.

    Raises:
        InputError: a data set that cannot be opened, or has no labels.
    """
    found = []
    for spec in settings.data:
        dataset = open_dataset(spec, split=settings.split)
        if settings.limit:
            dataset = dataset.limit(settings.limit)
        if any(s.label is None for s in dataset.samples):
            raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
        for corruption in settings.corruptions:
            place = "-".join(Path(dataset.name).parts[-2:])
            name = f"{place}-{corruption.replace(':', '-')}" if corruption else place
            found.append(Condition(name, spec, dataset, parse_corruption(corruption) if corruption else None))
    if len({c.name for c in found}) < len(found):
        raise InputError("two data sets have the same name; give their folders different ones")
    return found


def class_names(condition: Condition, teacher: FrozenTeacher) -> tuple[str, ...]:
    """The data set's class names, or the classifier's own. Raises `InputError` where neither has any."""
    classes = condition.dataset.classes or teacher.classes
    if classes is None:
        raise InputError(f"{condition.dataset.name} has no class names")
    return tuple(classes)


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
    held = {
        "method": method.name,
        "settings": asdict(method.settings),
        "data": condition.name,
        "data_fingerprint": condition.dataset.fingerprint(),
        "corruption": str(condition.corruption) if condition.corruption else None,
        "teacher_fingerprint": method.task.teacher.fingerprint,
        "teacher": settings.teacher,
        "train": Path(settings.train).name if method.needs_shots else "",
        "shots": settings.shots if method.needs_shots else 0,
        "seed": settings.seed,
    }
    # Pictures that are answered together are neighbours in the data set, whatever was done before and on however many
    # ranks: the very same sums are made.
    numbered = list(enumerate(condition.dataset.samples))
    size = max(1, method.together)
    blocks = [numbered[i : i + size] for i in range(0, len(numbered), size)][rank::shares]
    total = sum(map(len, blocks))
    stage = f"{condition.name}: {method.name}"
    with RunFolder(place, "benchmark", held, resume, {"command": command_line()}, part) as folder:
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
        for block in blocks:
            if all(s.id in done for _, s in block) and not method.stateful:
                continue
            begun = time.perf_counter()
            records = answer_block(method, block, condition.corruption, settings.seed)
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
            save_file(state, path)
            write_json(place / "fit.json", {"losses": losses})
        method.load(load_file(path))
