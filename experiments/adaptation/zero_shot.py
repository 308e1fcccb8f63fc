"""A teacher's zero-shot accuracy on a data set, for several sets of templates over one encoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from experiments.adaptation.settings import ZeroShotSettings
from glom.datasets.corruptions import parse_corruption
from glom.datasets.registry import open_dataset
from glom.devices import resolve_device
from glom.errors import GlomError, InputError, demand_some, lost
from glom.execution import Ranks
from glom.runs.events import Event
from glom.runs.statistics import interval
from glom.teachers.align import aligned_head, gathered, name_rows, nameable
from glom.teachers.asked import asked_of
from glom.teachers.corrupted import BATCH, encode_ahead
from glom.teachers.registry import load_teacher
from glom.teachers.tiny import TRAIN_TEMPLATES
from glom.teachers.zero_shot import choose_templates, count_sentences


class Row(TypedDict):
    """What one set of `count` sentences gave: top-1 in %, and whose strengths the corruption had."""

    templates: str
    count: int
    top1: float
    ci95: list[float] | None
    n: int
    skipped: int
    scale: list[str]


class Scores(TypedDict):
    """A row a set of sentences."""

    rows: list[Row]


def run(settings: ZeroShotSettings) -> Iterator[Event[Scores]]:
    """Encode every picture once, then score each set of templates; the first rank has the result.

    Under torchrun the ranks share out the batches, so that the very same sums are made on any number of them.

    Raises:
        InputError: a data set without labels, or one of which no picture can be read.
    """
    # "seen": the sentences glom-tiny was trained on; any other set is new to it.
    sets = {name: TRAIN_TEMPLATES if name == "seen" else choose_templates(name) for name in settings.templates}
    kind = parse_corruption(settings.corruption) if settings.corruption else None
    where = resolve_device(settings.device)
    file = Path(settings.classes) if settings.classes else None
    dataset = open_dataset(settings.data, split=settings.split, classes_file=file)
    teacher = load_teacher(settings.teacher, str(where))
    name_rows(teacher, settings.classes)
    teacher = gathered(teacher, settings.superclasses)
    dataset = nameable(dataset, teacher, settings.nameable)
    if settings.limit:
        dataset = dataset.limit(settings.limit)
    if any(s.label is None for s in dataset.samples):
        raise InputError(f"{dataset.name} has samples without labels; accuracy needs them all")
    group, names = Ranks.join(), dataset.classes or teacher.classes
    asked_of(dataset, names, settings.teacher, not group.rank, teacher.superclasses).say()
    heads = {name: aligned_head(teacher, dataset, chosen) for name, chosen in sets.items()}
    tokens, labels, skipped = [], [], []
    scales: set[str] = set()
    starts = range(group.rank * BATCH, len(dataset), group.world * BATCH)
    mine = [sample for start in starts for sample in dataset.samples[start : start + BATCH]]
    done, total = 0, len(mine)
    s = settings
    for batch in encode_ahead(teacher, mine, kind, s.seed, s.corrupt, s.workers, BATCH, s.draft):
        for sample, found in zip(mine[done:], batch):
            if isinstance(found, GlomError):
                skipped.append(lost(found))
                continue
            tokens.append(found[0])
            scales |= {found[1]} - {""}
            labels.append(sample.label)
        done += len(batch)
        yield Event("encoding", done, total)
    shares = group.gathered((tokens, labels, skipped, scales))
    if group.rank:
        return
    tokens, labels = [x for share in shares for x in share[0]], [x for share in shares for x in share[1]]
    skipped, scales = [x for share in shares for x in share[2]], {x for share in shares for x in share[3]}
    if not tokens:
        demand_some(skipped, f"pictures of {dataset.name}")
    everything, truth = torch.stack(tokens), np.array(labels)
    rows: list[Row] = []
    for name, head in heads.items():
        right = 100.0 * (head(everything).argmax(-1).cpu().numpy() == truth)
        row: Row = {
            "templates": name,
            "count": count_sentences(sets[name]),
            "top1": float(right.mean()),
            "ci95": interval(right),
            "n": len(right),
            "skipped": len(skipped),
            "scale": sorted(scales),
        }
        rows.append(row)
    yield Event(result={"rows": rows})
