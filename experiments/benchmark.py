"""Methods x data sets x samples: one resumable folder, one paired table.

    DIR/CONDITION/METHOD/    results.jsonl: a line a sample; a method's fit beside it as fit.safetensors
    DIR/table.json           the table, from those lines alone

Every method sees the same pictures with the same corruption. Differences are paired with the first method's (the
teacher, unless another is named first), with 95 % bootstrap intervals, exact McNemar p-values, and Holm's correction
over all comparisons of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from experiments.methods import METHODS, FewShot, Method, Task, make_method
from experiments.ttt_run import ranks
from glom.artifacts import (
    RunFolder,
    command_line,
    machine,
    public_command,
    read_json,
    read_results,
    versions,
    write_json,
)
from glom.datasets.base import ImageDataset, Sample
from glom.datasets.corruptions import Corruption, corrupt, parse_corruption
from glom.datasets.registry import open_dataset
from glom.devices import resolve_device
from glom.errors import GlomError, InputError, unknown
from glom.execution import init_group
from glom.seeds import sample_seed
from glom.statistics import bootstrap_ci, holm, mcnemar_exact
from glom.teachers.frozen import FrozenTeacher
from glom.teachers.registry import load_teacher

TABLE = "table.json"


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


@dataclass(frozen=True)
class Condition:
    """One data set under one corruption."""

    name: str
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
    where = resolve_device(device)
    conditions = open_conditions(settings)
    loaded = load_teacher(settings.teacher, device=str(where))
    assert isinstance(loaded, FrozenTeacher)
    shots: dict[str, FewShot] = {}
    for condition in conditions:
        for name in settings.methods:
            place = out / condition.name / name
            task = Task(loaded, class_names(condition, loaded), where, settings.seed)
            method = make_method(name, task, bool(settings.train))
            if method.needs_shots and settings.train not in shots:
                shots[settings.train] = few_shot(settings, task, conditions)
            yield from _run_one(settings, condition, method, place, resume, shots.get(settings.train), rank, world)
    if world > 1:
        torch.distributed.barrier()
    if rank == 0:
        table = make_table(out, settings)
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
            found.append(Condition(name, dataset, parse_corruption(corruption) if corruption else None))
    if len({c.name for c in found}) < len(found):
        raise InputError("two data sets have the same name; give their folders different ones")
    return found


def class_names(condition: Condition, teacher: FrozenTeacher) -> tuple[str, ...]:
    """The data set's class names, or the classifier's own. Raises `InputError` where neither has any."""
    classes = condition.dataset.classes or teacher.classes
    if classes is None:
        raise InputError(f"{condition.dataset.name} has no class names")
    return tuple(classes)


def few_shot(settings: BenchmarkSettings, task: Task, conditions: Sequence[Condition]) -> FewShot:
    """`shots` labelled pictures a class, drawn by seed from the training split.

    Raises:
        InputError: classes in another order than the test set's, too few pictures, or a picture that is also tested on
            (by content).
    """
    dataset = open_dataset(settings.train, split="train")
    tested = {s.source.digest() for c in conditions for s in c.dataset.samples}
    for condition in conditions:
        if tuple(dataset.classes or ()) != class_names(condition, task.teacher):
            raise InputError(
                f"{dataset.name} and {condition.dataset.name} do not have the same classes in the same order"
            )
    chosen: list[Sample] = []
    for label, name in enumerate(dataset.classes or ()):
        own = [s for s in dataset.samples if s.label == label]
        if len(own) < settings.shots:
            raise InputError(f"{dataset.name} has {len(own)} pictures of '{name}', fewer than --shots {settings.shots}")
        order = np.random.default_rng(sample_seed(settings.seed, name, "few-shot")).permutation(len(own))
        chosen += [own[i] for i in order[: settings.shots]]
    twice = [s.id for s in chosen if s.source.digest() in tested]
    if twice:
        raise InputError(f"{len(twice)} labelled pictures are also test pictures ({twice[0]}); give another --train")
    pictures = tuple(s.image() for s in chosen)
    labels = torch.tensor([s.label for s in chosen], device=task.device)
    return FewShot(task.read(list(pictures)), labels, pictures)


def _run_one(
    settings: BenchmarkSettings,
    condition: Condition,
    method: Method,
    place: Path,
    resume: bool,
    shots: FewShot | None,
    rank: int,
    world: int,
) -> Iterator[dict[str, Any]]:
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
    samples = list(enumerate(condition.dataset.samples))[rank::shares]
    stage = f"{condition.name}: {method.name}"
    with RunFolder(place, "benchmark", held, resume, {"command": command_line()}, part) as folder:
        if shares > 1 and rank == 0:
            torch.distributed.barrier()
        done = {r["id"] for r in folder.records()}
        count = sum(s.id in done for _, s in samples)
        for message in folder.warnings:
            yield {"stage": stage, "done": count, "total": len(samples), "message": message}
        yield {"stage": stage, "done": count, "total": len(samples)}
        if count < len(samples) and method.needs_shots:
            assert shots is not None
            _fit(method, shots, place, part)
        for index, sample in samples:
            if sample.id in done and not method.stateful:
                continue
            begun = time.perf_counter()
            record: dict[str, Any] = {"id": sample.id, "index": index, "label": sample.label}
            message = ""
            try:
                image = sample.image()
                if condition.corruption is not None:
                    image = corrupt(image, condition.corruption, sample_seed(settings.seed, sample.id, "corruption"))
                logits = method.predict(image, sample_seed(settings.seed, sample.id, "method"))
                record |= {"status": "ok", "class": int(logits.argmax())}
            except GlomError as error:
                message = f"{sample.id}: {error}"
                record |= {"status": "skipped", "reason": str(error)}
            if sample.id not in done:  # seen again only to fill a cache that a kill emptied
                folder.append(record, time.perf_counter() - begun)
                count += 1
            yield {"stage": stage, "done": count, "total": len(samples), "message": message}
        if rank == 0 and len(read_results(place)) == len(condition.dataset):
            folder.finish()


def _fit(method: Method, shots: FewShot, place: Path, part: str) -> None:
    """Learn from the labelled pictures, or take what was learned before."""
    path = place / f"fit{part}.safetensors"
    if path.is_file():
        method.load(load_file(path))
        return
    losses = method.fit(shots)
    save_file({k: v.cpu().contiguous() for k, v in method.state().items()}, path)
    write_json(place / f"fit{part}.json", {"losses": losses})


def make_table(out: Path, settings: BenchmarkSettings) -> dict[str, Any]:
    """The table from the lines of all folders: a row a method and condition, on the pictures all methods could read.

    Returns:
        {"rows": [{"method", "dataset", "measured", "ci95", "n", "skipped", "difference", "difference_ci95", "p",
        "p_holm"}], "averages", ...}; accuracies and differences in points, `difference` from the first method.
    """
    rows: list[dict[str, Any]] = []
    names = sorted(
        {p.parent.parent.name for p in out.glob("*/*/manifest.json")}, key=lambda n: _order(out, n, settings)
    )
    for condition in names:
        runs = {m: {r["id"]: r for r in read_results(out / condition / m)} for m in settings.methods}
        good = [{i for i, r in run.items() if r["status"] == "ok"} for run in runs.values()]
        shared = sorted(set.intersection(*good))
        base: np.ndarray | None = None
        for method, run in runs.items():
            right = np.array([run[i]["class"] == run[i]["label"] for i in shared], dtype=float)
            base = right if base is None else base
            low, high = bootstrap_ci(100 * right)
            row = {
                "method": method,
                "dataset": condition,
                "measured": round(100 * float(right.mean()), 4) if len(right) else None,
                "ci95": [round(low, 4), round(high, 4)] if len(right) else None,
                "n": len(shared),
                "skipped": len(run) - len(shared),
            }
            if right is not base:
                low, high = bootstrap_ci(100 * (right - base))
                row |= {
                    "difference": round(100 * float((right - base).mean()), 4) if len(right) else None,
                    "difference_ci95": [round(low, 4), round(high, 4)] if len(right) else None,
                    "p": mcnemar_exact(right, base),
                }
            rows.append(row)
    compared = [r for r in rows if "p" in r]
    for row, p in zip(compared, holm([r["p"] for r in compared]), strict=True):
        row["p_holm"] = p
    return {
        "rows": rows,
        "averages": averages(rows, settings.methods),
        "settings": {
            **asdict(settings),
            "data": [Path(d).name for d in settings.data],
            "train": Path(settings.train).name,
        },
        "command": public_command(),
        "machine": machine(),
        "versions": versions(),
    }


def _order(out: Path, condition: str, settings: BenchmarkSettings) -> tuple[int, str]:
    """Conditions as they were asked for: by corruption, then by name."""
    held = read_json(next((out / condition).glob("*/manifest.json")))["settings"]["corruption"] or ""
    return (settings.corruptions.index(held) if held in settings.corruptions else len(settings.corruptions)), condition


def averages(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> dict[str, float | None]:
    """Each method's mean over the conditions, every condition counting alike."""
    found: dict[str, float | None] = {}
    for method in methods:
        values = [r["measured"] for r in rows if r["method"] == method and r["measured"] is not None]
        found[method] = round(float(np.mean(values)), 4) if values else None
    return found
