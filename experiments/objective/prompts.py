"""Settings of learned prompts for a teacher, compared on training pictures that nothing was learned from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from experiments.objective.settings import PromptChoice
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.methods import Task
from glom.methods.few_shot import few_shot
from glom.methods.prompts import PRESETS, READ, CoOp, PromptSettings
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.runs.statistics import bootstrap_ci
from glom.teachers.asked import asked_of
from glom.teachers.registry import load_teacher


class Score(TypedDict):
    """Top-1 in % on the held-out pictures."""

    top1: float
    ci95: list[float]


class Row(Score):
    """The same of one setting of learning, and its last loss."""

    settings: dict[str, Any]
    loss: float


class Choice(TypedDict):
    """Every setting, the best first, beside zero-shot, and what stands for this teacher."""

    data: str
    teacher: str
    shots: int
    held_out: int
    zero_shot: Score
    rows: list[Row]
    preset: dict[str, Any] | None


def run(settings: PromptChoice) -> Iterator[Event[Choice]]:
    """Score every setting; in the result the best comes first.

    Raises:
        InputError: no class names, too few pictures, a teacher without a text encoder.
    """
    teacher = load_teacher(settings.teacher, device="cpu")
    dataset = open_dataset(settings.data, split="train")
    if dataset.classes is None:
        raise InputError(f"{dataset.name} has no class names; nothing can be learned from it")
    asked_of(dataset, dataset.classes, teacher.name).say()
    task = Task(teacher, tuple(dataset.classes), torch.device("cpu"), settings.seed)
    learning = few_shot(settings.data, settings.shots, task, [])
    held = []
    for label, name in enumerate(dataset.classes):
        own = [s for s in dataset.samples if s.label == label]
        # The order in which shots are drawn: those behind them were not learned from.
        order = np.random.default_rng(sample_seed(settings.seed, name, "few-shot")).permutation(len(own))
        held += [own[i] for i in order[settings.shots : settings.shots + settings.held_out]]
    if not held:
        raise InputError(f"{dataset.name} has no training pictures beyond {settings.shots} a class")
    pictures = [s.image() for s in held]
    parts = [pictures[i : i + READ] for i in range(0, len(pictures), READ)]
    tokens = torch.cat([teacher.token(task.read(part)) for part in parts])
    labels = torch.tensor([s.label for s in held])
    tried = [
        PromptSettings(length or "a photo of a", epochs, lr=rate, augment=False, optimiser=optimiser)
        for length, (optimiser, rate), epochs in itertools.product(settings.lengths, settings.rates, settings.epochs)
    ]
    plain = CoOp(PRESETS["coop"]["published"])  # before it learns, 'a photo of a' is zero-shot
    plain.prepare(task)
    zero = _score(plain, tokens, labels)
    rows: list[Row] = []
    for number, one in enumerate(tried):
        yield Event("learning", number, len(tried))
        method = CoOp(one)
        method.prepare(task)
        losses = method.fit(learning.shots)
        rows.append({"settings": asdict(one), "loss": round(losses[-1], 4), **_score(method, tokens, labels)})
    yield Event("learning", len(tried), len(tried))
    rows.sort(key=lambda r: -r["top1"])
    preset = PRESETS["coop"].get(settings.teacher)
    yield Event(
        result={
            "data": dataset.name,
            "teacher": settings.teacher,
            "shots": settings.shots,
            "held_out": len(held),
            "zero_shot": zero,
            "rows": rows,
            "preset": None if preset is None else asdict(preset),
        }
    )


@torch.no_grad()
def _score(method: CoOp, tokens: Tensor, labels: Tensor) -> Score:
    right = (method.scores(tokens).argmax(-1) == labels).double().numpy()
    low, high = bootstrap_ci(100 * right)
    return {"top1": round(100 * float(right.mean()), 4), "ci95": [round(low, 4), round(high, 4)]}
