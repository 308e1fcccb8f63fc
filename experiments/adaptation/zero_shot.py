"""A teacher's zero-shot accuracy on a data set, for several sets of templates over one encoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glom.datasets.corruptions import parse_corruption
from glom.datasets.registry import open_dataset
from glom.devices import resolve_device
from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.seeds import sample_seed
from glom.runs.statistics import interval
from glom.teachers.align import aligned_head, gathered, name_rows, nameable
from glom.teachers.asked import asked_of
from glom.teachers.corrupted import CROP, check_place, corrupted
from glom.teachers.registry import load_teacher
from glom.teachers.tiny import TRAIN_TEMPLATES
from glom.teachers.zero_shot import choose_templates, count_sentences

BATCH = 64


def score_teacher(
    teacher_name: str,
    data: str,
    templates: Sequence[str],
    split: str = "test",
    corruption: str | None = None,
    limit: int | None = None,
    device_name: str = "auto",
    seed: int = 0,
    place: str = CROP,
    classes: str | None = None,
    superclasses: str = "",
    leave_out: bool = False,
) -> Iterator[tuple[int, int] | dict[str, Any]]:
    """Encode every picture once, then score each set of templates. `classes` is a file of class names.

    Yields:
        (done, total) while encoding, then `{"templates", "count", "top1", "ci95", "n", "skipped", "scale"}` for each
        set.

    Args:
        place: where a corruption is applied, see `glom.teachers.corrupted`; `scale` says whose strengths it had.
        superclasses, leave_out: see `glom.teachers.align.gathered` and `nameable`.
    """
    # "seen": the sentences glom-tiny was trained on; any other set is new to it.
    sets = {name: TRAIN_TEMPLATES if name == "seen" else choose_templates(name) for name in templates}
    check_place(place)
    kind = parse_corruption(corruption) if corruption else None
    device = resolve_device(device_name)
    dataset = open_dataset(data, split=split, classes_file=Path(classes) if classes else None)
    teacher = load_teacher(teacher_name, str(device))
    name_rows(teacher, classes)
    teacher = gathered(teacher, superclasses)
    dataset = nameable(dataset, teacher, leave_out)
    if limit is not None:
        dataset = dataset.limit(limit)
    if any(s.label is None for s in dataset.samples):
        raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
    asked_of(dataset, dataset.classes or teacher.classes, teacher_name, superclasses=teacher.superclasses).say()
    heads = {name: aligned_head(teacher, dataset, chosen) for name, chosen in sets.items()}
    tokens, labels, skipped = [], [], []
    scales: set[str] = set()
    total = len(dataset)
    for start in range(0, total, BATCH):
        views = []
        for sample in dataset.samples[start : start + BATCH]:
            try:
                image = sample.image()
                if kind is not None:
                    image = corrupted(teacher, image, kind, sample_seed(seed, sample.id, "corruption"), place)
                    scales.add(kind.scale_for(image.size))
                views.append(teacher.preprocess(image))
                labels.append(sample.label)
            except GlomError as error:
                skipped.append(lost(error))
        if views:
            tokens.append(teacher.token(torch.stack(views).to(device)))
        yield min(start + BATCH, total), total
    if not tokens:
        demand_some(skipped, f"pictures of {dataset.name}")
    everything, truth = torch.cat(tokens), np.array(labels)
    for name, head in heads.items():
        right = 100.0 * (head(everything).argmax(-1).cpu().numpy() == truth)
        yield {
            "templates": name,
            "count": count_sentences(sets[name]),
            "top1": float(right.mean()),
            "ci95": interval(right),
            "n": len(right),
            "skipped": len(skipped),
            "scale": sorted(scales),
        }
