"""Layer skipping measured: students from an early grid to a later one, on held-out pictures.

result.json      R², cosine, accuracy kept, islands' agreement, FLOPs and time for every student and both baselines
matrix.png       with --matrix: R² from every layer to every later one, also in result.json
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from torch import Tensor

from experiments.pretraining.data import split_data
from experiments.pretraining.evaluate import compare
from experiments.shortcut.data import Grids, layer_grids, layer_pair
from experiments.shortcut.model import (
    Cost,
    Head,
    class_head,
    mean_output,
    skipped_cost,
    student_cost,
    substitute,
)
from experiments.shortcut.settings import ShortcutSettings
from glom.backbones.shortcuts import Shape, Student, fit, make_student
from glom.backbones.video import Backbone, clip_for, default_backbone, load_backbone, select_layers
from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.settings import write_settings
from probes.figures.grids import matrix_figure, shortcut_figure
from probes.metrics import adjusted_rand
from probes.partition import Partition, parse_partition, partition

NEUTRAL = 32  # training pictures that stand-ins for class tokens are averaged over
ISLANDS = 100  # held-out pictures whose islands are compared


@dataclass(frozen=True)
class Task:
    """Everything a measurement needs: settings, the backbone at its size, grids of both parts, how islands are cut."""

    settings: ShortcutSettings
    backbone: Backbone
    layers: Sequence[int]
    size: int
    how: Partition
    train: Grids
    held: Grids


class Layers(TypedDict):
    """A backbone's layers, learned from `n_train` pictures and measured on `n`."""

    backbone: str
    data: str
    n_train: int
    views: int
    n: int
    size: int


Pair = TypedDict("Pair", {"from": int, "to": int})


class Skipped(Layers, Pair):
    """From one layer to a later one: the model itself, both baselines and every student, by every measure."""

    names: list[str]
    grids: list[list[int]]
    head: str
    skipped_flops: int
    skipped_seconds: float
    resampled: bool
    model: dict[str, float | None]
    baselines: dict[str, dict[str, Any]]
    students: list[dict[str, Any]]


class Matrix(Layers):
    """Every pair of `layers`: each student's R² and cosine, a row a pair."""

    layers: list[int]
    names: dict[str, str]
    students: list[str]
    pairs: list[dict[str, Any]]


def run(settings: ShortcutSettings, out: Path) -> Iterator[Event[Skipped | Matrix]]:
    """Train and measure.

    Raises:
        InputError: a wrong request: layers, students, data, a folder with another run.
        RunError: the disk is full, a loss that is not finite.
    """
    how = parse_partition(settings.partition)
    backbone = load_backbone(settings.backbone or default_backbone()[0], settings.device)
    if settings.matrix:
        layers = select_layers(backbone, settings.layers)
        if len(layers) < 2:
            raise InputError(f"a matrix needs at least two layers, got --layers {settings.layers}")
    else:
        layers = list(layer_pair(backbone, settings.early, settings.late))
    split = split_data(settings.data, settings.limit, settings.held_out, settings.seed)
    size = settings.size or backbone.size
    notes = [f"{len(split.train)} pictures to learn from, {len(split.held_out)} held out ({split.how})"]
    notes += backbone.fit(backbone.frames, size)
    held = settings.manifest("cache", "no_cache", data=split.train.name, backbone=backbone.name, size=size)
    held |= {"layers": layers, "train_fingerprint": split.train.fingerprint()}
    held["held_out_fingerprint"] = split.held_out.fingerprint()
    kind = "shortcut-matrix" if settings.matrix else "shortcut"
    with RunFolder(out, kind, held, extra={"what": backbone.what}) as folder:
        write_settings(out, settings)
        for note in notes:
            yield Event(message=note)
        parts = []
        for stage, data, views in (("train grids", split.train, settings.views), ("held-out grids", split.held_out, 1)):
            found: Grids | None = None
            for made in layer_grids(
                backbone, data, layers, size, settings, settings.cache, not settings.no_cache, views
            ):
                if isinstance(made, Grids):
                    found = made
                else:
                    yield Event(stage, made[0], made[1])
            assert found is not None
            parts.append(found)
            lost = len(data) - len(found.samples)
            if lost:
                yield Event(message=f"{lost} of {len(data)} pictures could not be read and are left out ({stage})")
        task = Task(settings, backbone, layers, size, how, *parts)
        for event in measure_matrix(task, out) if settings.matrix else measure_pair(task, out):
            if event.result is not None:
                folder.conclude(event.result)
            yield event


def measure_pair(task: Task, out: Path) -> Iterator[Event[Skipped | Matrix]]:
    """One pair of layers: every student and the mean grid, by every measure."""
    settings, backbone, layers, size = task.settings, task.backbone, task.layers, task.size
    train, held = task.train, task.held
    a, z = layers
    early, late = train.layers[a], train.layers[z]
    clips = [clip_for(backbone, s.image(), size=size) for s in held.samples.samples]
    backbone.fit(backbone.frames, size)
    head, labelled, why = class_head(backbone, held.samples, size)
    truth = [s.label for s in held.samples.samples if s.label is not None] if labelled else None
    neutral = mean_output(
        backbone, z, [clip_for(backbone, s.image(), size=size) for s in train.samples.samples[:NEUTRAL]]
    )
    skipped = skipped_cost(backbone, clips[0], a, z)
    own = [int(head(clip).argmax()) for clip in clips] if head else None
    whole = held.layers[z].float().numpy()
    islands = [partition(g, task.how, settings.seed) for g in whole[:ISLANDS]]

    def figures(name: str, grids: Tensor, cost: Cost | None) -> dict[str, Any]:
        kept = accuracy(backbone, z, head, clips, grids, neutral, own, truth)
        again = [partition(g, task.how, settings.seed) for g in grids[:ISLANDS].numpy()]
        scores = [adjusted_rand(x, y) for x, y in zip(islands, again, strict=True)]
        row: dict[str, Any] = {"name": name, **compare(whole, grids.numpy())}
        row.pop("cosine_mean_grid")
        row |= {**kept, "islands_ari": float(np.mean(scores))}
        if cost is not None:
            row |= {"flops": cost.flops, "flops_ratio": cost.flops / skipped.flops if skipped.flops else None}
            row |= {"seconds": cost.seconds, "time_ratio": cost.seconds / skipped.seconds}
        return row

    result: dict[str, Any] = {"from": a, "to": z, "backbone": backbone.name, "data": train.samples.name}
    result |= {"names": [backbone.layers[i][0] for i in (a, z)], "grids": [list(g.shape[1:]) for g in (early, late)]}
    result |= {
        "n_train": len(train.samples),
        "views": settings.views,
        "n": len(whole),
        "size": size,
        "head": why or ("labels" if labelled else "own"),
    }
    result |= {"skipped_flops": skipped.flops, "skipped_seconds": skipped.seconds}
    result |= {"resampled": list(early.shape[1:3]) != list(late.shape[1:3])}
    mean = mean_grid(late).expand(len(whole), -1, -1, -1)
    result["model"] = accuracy(backbone, z, head, clips, held.layers[z], neutral, own, truth)
    result["baselines"] = {"mean_grid": figures("mean_grid", mean, None)}
    result["students"] = []
    total = settings.epochs * len(settings.students)
    for number, name in enumerate(settings.students):
        student = build_student(task, name, early, late)
        for step in fit(student, early, late, **settings.fitting):
            yield Event("students", number * settings.epochs + step.done, total, values=step.values)
        row = figures(name, predict(student, held.layers[a]), student_cost(student, held.layers[a][:1].float()))
        result["students"].append({**row, "parameters": sum(p.numel() for p in student.parameters())})
        if name == "linear":
            result["baselines"]["linear"] = row
    shortcut_figure(result, out / "students.png")
    yield Event(result=cast(Skipped, result))


def measure_matrix(task: Task, out: Path) -> Iterator[Event[Skipped | Matrix]]:
    """Every pair of layers: R² and cosine of every student."""
    settings, backbone, layers, size = task.settings, task.backbone, task.layers, task.size
    train, held = task.train, task.held
    pairs = [(a, z) for a in layers for z in layers if a < z]
    rows = []
    for number, (a, z) in enumerate(pairs):
        row: dict[str, Any] = {"from": a, "to": z}
        for name in settings.students:
            early, late = train.layers[a], train.layers[z]
            student = build_student(task, name, early, late)
            for _ in fit(student, early, late, **settings.fitting):
                pass
            found = compare(held.layers[z].float().numpy(), predict(student, held.layers[a]).numpy())
            row[name] = {"r2": found["r2"], "r2_ci95": found["r2_ci95"], "cosine": found["cosine"]}
        rows.append(row)
        yield Event("layer pairs", number + 1, len(pairs))
    names = {str(i): backbone.layers[i][0] for i in layers}
    result: dict[str, Any] = {
        "backbone": backbone.name,
        "data": train.samples.name,
        "layers": list(layers),
        "names": names,
    }
    result |= {"n_train": len(train.samples), "views": settings.views, "n": len(held.samples), "size": size}
    result |= {"students": list(settings.students), "pairs": rows}
    matrix_figure(result, out / "matrix.png")
    yield Event(result=cast(Matrix, result))


def build_student(task: Task, name: str, early: Tensor, late: Tensor) -> Student:
    """A student between (n, h, w, D) and (n, h', w', F) grids, on the backbone's device."""
    student = make_student(name, _shape(early), _shape(late), task.settings.seed)
    return student.to(task.backbone.device)


def _shape(grids: Tensor) -> Shape:
    _, h, w, d = grids.shape
    return h, w, d


@torch.no_grad()
def predict(student: Student, early: Tensor, batch: int = 64) -> Tensor:
    """(n, h, w, D) -> (n, h', w', F), float32 on the CPU."""
    device = student.late_mean.device
    return torch.cat([student(part.to(device, torch.float32)).cpu() for part in early.split(batch)])


def mean_grid(grids: Tensor, batch: int = 64) -> Tensor:
    """(n, h, w, D) of any precision -> their mean (h, w, D), float32."""
    return (torch.stack([part.double().sum(0) for part in grids.split(batch)]).sum(0) / len(grids)).float()


def accuracy(
    backbone: Backbone,
    layer: int,
    head: Head | None,
    clips: Sequence[Tensor],
    grids: Tensor,
    neutral: Tensor,
    own: Sequence[int] | None,
    truth: Sequence[int] | None,
) -> dict[str, float | None]:
    """The model's head on grids put in at a layer: accuracy in %, its share of the model's own, agreement in [0, 1]."""
    if head is None or own is None:
        return {"accuracy": None, "accuracy_kept": None, "agreement": None}
    found = []
    for clip, grid in zip(clips, grids, strict=True):
        with substitute(backbone, layer, grid, neutral):
            found.append(int(head(clip).argmax()))
    agreement = float(np.mean(np.equal(found, own)))
    if truth is None:
        return {"accuracy": None, "accuracy_kept": None, "agreement": agreement}
    right, full = float(np.mean(np.equal(found, truth))), float(np.mean(np.equal(own, truth)))
    return {"accuracy": 100 * right, "accuracy_kept": right / full if full else None, "agreement": agreement}
