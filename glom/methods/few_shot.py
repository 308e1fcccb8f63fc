"""Labelled pictures for the methods that learn from a few of them, and what is learned, once for all conditions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.registry import open_dataset, split_to_learn_from
from glom.errors import InputError
from glom.methods import FewShot, Method, Task, make_method
from glom.runs.seeds import sample_seed
from glom.teachers.align import nameable


class Pictures(Sequence[Image.Image]):
    """Samples' pictures, decoded whenever one is asked for: 16 a class of ImageNet's are nine GB decoded."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Pictures: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Pictures:
        return Pictures(self.samples[index]) if isinstance(index, slice) else self.samples[index].image()


@dataclass
class Learning:
    """Labelled pictures and their classes; `fit` learns once for each way to learn from them.

    Attributes:
        name: of the data set. classes: its, in the order of the labels. shots: the pictures.
    """

    name: str
    classes: tuple[str, ...]
    shots: FewShot
    _learned: dict[tuple[Any, ...], tuple[dict[str, Tensor], list[float]]] = field(default_factory=dict)

    def fit(self, method: Method) -> tuple[dict[str, Tensor], list[float]]:
        """What `method` learns here, on the CPU, and its losses.

        A method that starts from what another learns takes that one's; with other classes, the learner's twin learns.
        """
        learner = method.learner()
        key = (learner.name, learner.settings, None if learner.reads_labels else learner.task.classes)
        if key not in self._learned:
            if learner.reads_labels and learner.task.classes != self.classes:
                learner = make_method(learner.name, replace(learner.task, classes=self.classes, dataset=None), True)
            losses = learner.fit(self.shots)
            self._learned[key] = {k: v.detach().cpu().contiguous() for k, v in learner.state().items()}, losses
        return self._learned[key]


def few_shot(
    train: str,
    shots: int,
    task: Task,
    tested: Sequence[ImageDataset],
    classes_file: Path | None = None,
    leave_out: bool = False,
    exactly: bool = True,
) -> Learning:
    """`shots` labelled pictures a class, drawn by seed from the split `train`, or the only one that there is.

    Args:
        train: a data set. task: its seed draws. tested: data sets whose pictures must not be among them.
        classes_file: its class names, where they are not its own.
        exactly: refuse a class with fewer pictures; otherwise take what it has.
        leave_out: leave classes out that the task's teacher cannot name, see `glom.teachers.align.nameable`.

    Raises:
        InputError: no class names, too few pictures, one that cannot be read, or one that is also tested on (by
            content).
    """
    dataset = open_dataset(train, split=split_to_learn_from(train), classes_file=classes_file)
    if dataset.classes is None:
        raise InputError(f"{dataset.name} has no class names; nothing can be learned from it")
    dataset = nameable(dataset, task.teacher, True) if leave_out else dataset
    classes = dataset.classes or ()
    groups: dict[int | None, list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        groups[sample.label].append(sample)
    chosen: list[Sample] = []
    for label, name in enumerate(classes):
        own = groups[label]
        if exactly and len(own) < shots:
            raise InputError(f"{dataset.name} has {len(own)} pictures of '{name}', fewer than `shots` {shots}")
        order = np.random.default_rng(sample_seed(task.seed, name, "few-shot")).permutation(len(own))
        chosen += [own[i] for i in order[:shots]]
    for sample in chosen:  # opened and let go: one that cannot be read is found now, not after hours
        sample.image()
    forbidden = {s.source.digest() for data in tested for s in data.samples}
    twice = [s.id for s in chosen if s.source.digest() in forbidden]
    if twice:
        raise InputError(f"{len(twice)} labelled pictures are also test pictures ({twice[0]}); give another `train`")
    labels = torch.tensor([s.label for s in chosen], device=task.device)
    return Learning(dataset.name, tuple(classes), FewShot(None, labels, Pictures(chosen)))


def check_classes(learning: Learning, method: Method, data: str, transfer: bool) -> None:
    """Raise `InputError` for labelled pictures of other classes than `data`'s, unless prompts are to be transferred.

    A prompt learned on other classes can be read with any; a head of rows, one a class, cannot. Where labels are not
    read they may be any.
    """
    if not method.reads_labels or learning.classes == method.task.classes or (transfer and method.needs_text):
        return
    hint = "; `transfer` uses prompts learned on other classes" if method.needs_text else ""
    raise InputError(f"{learning.name} and {data} do not have the same classes in the same order{hint}")
