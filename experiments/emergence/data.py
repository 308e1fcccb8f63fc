"""What an emergence run learns from and is scored on: composites, or a folder of class folders without masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.emergence.settings import EmergeSettings, Recipe
from glom.datasets.augment import augment
from glom.datasets.base import Sample
from glom.datasets.composites import (
    GARMENTS,
    SAMPLE,
    SOURCES,
    Composites,
    CompositeSettings,
    open_source,
    resolve_source,
)
from glom.datasets.folder import split_folder
from glom.datasets.registry import open_dataset
from glom.errors import InputError, demand_some, lost
from glom.runs.seeds import sample_seed

HOLD_OUT = 5  # of a folder without a test split, every fifth picture of a class is kept from training
MOST, MOST_HELD = 60_000, 2_000  # pictures of a folder held in memory


@dataclass(frozen=True)
class HeldOut:
    """Pictures no training step sees.

    Attributes:
        images: (n, 3, S, S) float32 in [0, 1].
        targets: (n, classes) multi-hot float32, or (n,) int64.
        masks: (n, S, S) int64, 0 the ground; None where nobody knows. counts: (n,) objects a picture, or None.
    """

    images: Tensor
    targets: Tensor
    masks: Tensor | None = None
    counts: Tensor | None = None


class Task(Protocol):
    """Pictures to learn from, by step, and held-out ones."""

    classes: tuple[str, ...]
    name: str
    notes: list[str]

    def train(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) in [0, 1] and targets of one step: a function of the step alone."""
        ...

    def held_out(self, count: int) -> HeldOut:
        """At most `count` held-out pictures, always the same ones first."""
        ...

    def fingerprint(self) -> str:
        """What the data are, for the manifest."""
        ...


class CompositeTask:
    """Composites of the training objects to learn from; of the test objects, at full difficulty, to score."""

    def __init__(self, settings: EmergeSettings, download: bool = False) -> None:
        self.plan, self.total = settings.plan, settings.total
        name, root, note = resolve_source(settings.source)
        self.notes = [note] if note else []
        self.name = f"composites of {name}"
        kind = "fashion-mnist" if name == SAMPLE else name

        def open_split(split: str) -> Composites:
            seed = sample_seed(settings.seed, split, "composites")
            images, labels = open_source(name, root, split, download)
            self._counts.append(len(images))
            return Composites(images, labels, composite_settings(self.plan, kind, seed))

        self._counts: list[int] = []
        self._train, self._test = open_split("train"), open_split("test")
        self.classes = self._train.settings.class_names

    def train(self, step: int) -> tuple[Tensor, Tensor]:
        rise = self.plan.curriculum * self.total
        difficulty = min(1.0, step / rise) if rise else 1.0
        first = step * self.plan.batch
        batch = self._train.batch(range(first, first + self.plan.batch), difficulty)
        return batch.images, batch.labels

    def held_out(self, count: int) -> HeldOut:
        parts = [self._test.batch(range(i, min(i + 64, count))) for i in range(0, count, 64)]
        fields = [torch.cat([getattr(p, f) for p in parts]) for f in ("images", "labels", "masks", "counts")]
        return HeldOut(*fields)

    def fingerprint(self) -> str:
        train, test = self._counts
        return f"{self.name}: {train} training and {test} test objects"


class FolderTask:
    """Pictures of class folders, squeezed onto a square; a `test` (or `val`) folder is held out, else every fifth."""

    def __init__(self, settings: EmergeSettings) -> None:
        self.plan, self._seed = settings.plan, settings.seed
        train = open_dataset(settings.data, split="train")
        if not train.labelled or train.classes is None or len(train.classes) < 2:
            raise InputError(
                f"{settings.data} has no classes to learn: give a folder of at least two class folders, or composites"
            )
        if len(train) > MOST:
            raise InputError(f"{settings.data} holds {len(train)} pictures; at most {MOST} are kept in memory")
        self.classes, self.name = train.classes, train.name
        root = Path(settings.data).expanduser()
        if split_folder(root, "train") != split_folder(root, "test"):
            test = open_dataset(settings.data, split="test")
            if test.classes != self.classes:
                raise InputError(f"{settings.data}: its training and its test folder do not have the same classes")
            chosen, held, kept = list(train.samples), list(test.limit(MOST_HELD).samples), "its test folder"
        else:
            chosen, held = _every(train.samples, HOLD_OUT)
            kept = f"every {HOLD_OUT}th picture of a class"
        if not held:
            raise InputError(f"{settings.data}: a class needs at least {HOLD_OUT} pictures, one of which is held out")
        told = "neighbour agreement, counts of islands and accuracy are all there is to see"
        self.notes = [f"{self.name} has no masks: {told}; held out is {kept}"]
        self._images, self._labels = _read(chosen, self.plan.size, self.notes)
        self._held = _read(held, self.plan.size, self.notes)
        self._print = train.fingerprint()

    def train(self, step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(sample_seed(self._seed, str(step), "emerge") % 2**63)
        index = torch.randint(len(self._images), (self.plan.batch,), generator=generator)
        images = augment(self._images[index].float() / 255, generator, self.plan.size // 8, 0)
        return images, self._labels[index]

    def held_out(self, count: int) -> HeldOut:
        images, labels = self._held
        generator = torch.Generator().manual_seed(0)  # classes lie one after another: the first of a shuffle
        some = torch.randperm(len(images), generator=generator)[:count]
        return HeldOut(images[some].float() / 255, labels[some])

    def fingerprint(self) -> str:
        return self._print


def _every(samples: Sequence[Sample], n: int) -> tuple[list[Sample], list[Sample]]:
    """All but every n-th sample of each class, and those."""
    seen: Counter[int | None] = Counter()
    kept: list[Sample] = []
    others: list[Sample] = []
    for sample in samples:
        seen[sample.label] += 1
        (others if seen[sample.label] % n == 0 else kept).append(sample)
    return kept, others


def _read(samples: Sequence[Sample], size: int, notes: list[str]) -> tuple[Tensor, Tensor]:
    """(n, 3, S, S) uint8 and labels (n,); what cannot be read is left out, and a note says so."""
    pictures, labels = [], []
    passed: list[dict[str, str]] = []
    for sample in samples:
        try:
            small = sample.image().resize((size, size), Image.Resampling.BICUBIC)
        except InputError as error:
            notes.append(f"left out: {sample.id}: {error}")
            passed.append(lost(error))
            continue
        pictures.append(np.asarray(small))
        labels.append(sample.label)
    if not pictures:
        demand_some(passed, "pictures")
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def open_task(settings: EmergeSettings, download: bool = False) -> Task:
    """The data of a run.

    Raises:
        InputError: a source that is missing, a folder that is missing or has no classes.
    """
    if settings.data == "composites":
        return CompositeTask(settings, download)
    if not Path(settings.data).expanduser().is_dir():
        raise InputError(f"{settings.data}: neither 'composites' nor a folder")
    return FolderTask(settings)


def composite_settings(plan: Recipe, source: str, seed: int) -> CompositeSettings:
    """The composites of a recipe. `source` is a name in `SOURCES`."""
    merged = plan.merged and source == "fashion-mnist"
    assert source in SOURCES
    return CompositeSettings(
        source=source,
        size=plan.size,
        objects=plan.objects,
        scale=plan.scale,
        texture=plan.texture,
        colour=plan.colour,
        fabrics=plan.fabrics,
        classes=GARMENTS if merged else (),
        seed=seed,
    )
