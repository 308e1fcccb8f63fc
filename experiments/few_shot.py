"""Labelled pictures for the methods that learn from a few of them, and what is learned, once for all conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from experiments.methods import FewShot, Method, Task, make_method
from glom.datasets.base import ImageDataset, Sample
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.seeds import sample_seed


@dataclass
class Learning:
    """Labelled pictures and their classes; `fit` learns once for each method and set of classes.

    Attributes:
        name: of the data set. classes: its, in the order of the labels. shots: the pictures.
    """

    name: str
    classes: tuple[str, ...]
    shots: FewShot
    _learned: dict[str, tuple[dict[str, Tensor], list[float]]] = field(default_factory=dict)

    def fit(self, method: Method) -> tuple[dict[str, Tensor], list[float]]:
        """What `method` learns here, on the CPU, and its losses. With other classes, the method's twin learns."""
        if method.name not in self._learned:
            learner = method
            if method.task.classes != self.classes:
                learner = make_method(method.name, replace(method.task, classes=self.classes, dataset=None), True)
            losses = learner.fit(self.shots)
            state = {k: v.detach().cpu().contiguous() for k, v in learner.state().items()}
            self._learned[method.name] = state, losses
        return self._learned[method.name]


def few_shot(train: str, shots: int, task: Task, tested: Sequence[tuple[str, ImageDataset]]) -> Learning:
    """`shots` labelled pictures a class, drawn by seed from the split `train`.

    Args:
        train: a data set. task: how pictures are read. tested: data sets whose pictures must not be among them.

    Raises:
        InputError: no class names, too few pictures, or a picture that is also tested on (by content).
    """
    dataset = open_dataset(train, split="train")
    if dataset.classes is None:
        raise InputError(f"{dataset.name} has no class names; nothing can be learned from it")
    forbidden = {s.source.digest() for _, data in tested for s in data.samples}
    chosen: list[Sample] = []
    for label, name in enumerate(dataset.classes):
        own = [s for s in dataset.samples if s.label == label]
        if len(own) < shots:
            raise InputError(f"{dataset.name} has {len(own)} pictures of '{name}', fewer than --shots {shots}")
        order = np.random.default_rng(sample_seed(task.seed, name, "few-shot")).permutation(len(own))
        chosen += [own[i] for i in order[:shots]]
    twice = [s.id for s in chosen if s.source.digest() in forbidden]
    if twice:
        raise InputError(f"{len(twice)} labelled pictures are also test pictures ({twice[0]}); give another --train")
    pictures = tuple(s.image() for s in chosen)
    labels = torch.tensor([s.label for s in chosen], device=task.device)
    return Learning(dataset.name, tuple(dataset.classes), FewShot(task.read(list(pictures)), labels, pictures))


def check_classes(learning: Learning, method: Method, data: str, transfer: bool) -> None:
    """Raise `InputError` for labelled pictures of other classes than `data`'s, unless prompts are to be transferred.

    A prompt learned on other classes can be read with any; a head of rows, one a class, cannot.
    """
    if learning.classes == method.task.classes or (transfer and method.needs_text):
        return
    hint = "; --transfer uses prompts learned on other classes" if method.needs_text else ""
    raise InputError(f"{learning.name} and {data} do not have the same classes in the same order{hint}")
