"""The protocol every method keeps, and the table of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from glom.errors import InputError, unknown
from glom.teachers.base import ZeroShotHead
from glom.teachers.frozen import FrozenTeacher
from glom.zero_shot import choose_templates


@dataclass(frozen=True)
class Task:
    """What a method is given before the first picture.

    Attributes:
        teacher: the frozen encoder all methods share.
        classes: C names.
        device: where everything runs.
        seed: of the run.
    """

    teacher: FrozenTeacher
    classes: tuple[str, ...]
    device: torch.device
    seed: int = 0

    def head(self, templates: str = "photo") -> ZeroShotHead:
        """The zero-shot head from a named set of templates; a classifier's own rows where there is no text encoder."""
        return self.teacher.zero_shot_head(self.classes, choose_templates(templates))

    def logits(self, tokens: Tensor, features: Tensor) -> Tensor:
        """CLIP's class scores: tokens (..., F) and class features (C, F) or (B, C, F), none normalised -> (..., C)."""
        tokens, features = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (tokens, features))
        scores = features @ tokens[..., None] if features.ndim == 3 else tokens @ features.T
        scores = self.teacher.scale * (scores.squeeze(-1) if features.ndim == 3 else scores)
        return scores if self.teacher.logit_bias is None else scores + self.teacher.logit_bias

    def read(self, images: list[Image.Image]) -> Tensor:
        """(B, 3, S, S) on the device."""
        return torch.stack([self.teacher.preprocess(image) for image in images]).to(self.device)


@dataclass(frozen=True)
class FewShot:
    """Labelled pictures of the task's training split: (n, 3, S, S) preprocessed, (n,) labels, and the pictures."""

    images: Tensor
    labels: Tensor
    pictures: tuple[Image.Image, ...]


class Method:
    """One way to classify a test picture.

    Attributes:
        name: in tables and on the command line. what: in a few words, with the paper. source: where settings are from.
        needs_text: only for teachers with a text encoder. needs_shots: only with labelled pictures.
        stateful: whether earlier test pictures change later answers; then order matters, and one process sees them all.
        settings: what decides its answers, as recorded.
    """

    name: ClassVar[str] = ""
    what: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs_text: ClassVar[bool] = False
    needs_shots: ClassVar[bool] = False
    stateful: ClassVar[bool] = False
    settings: Any = None

    def prepare(self, task: Task) -> None:
        """Take the task; everything that is the same for all pictures is made here."""
        self.task = task

    def fit(self, shots: FewShot) -> list[float]:
        """Learn from labelled pictures; the losses, step by step. Only called where `needs_shots`."""
        raise InputError(f"{self.name} does not learn from labelled pictures")

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        """(C,) logits of one picture. `seed` is the picture's own, so that order and sharding change nothing."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what an earlier `fit` learned."""


METHODS: dict[str, type[Method]] = {}


def register(make: type[Method]) -> type[Method]:
    """Put a class into the table under its name."""
    METHODS[make.name] = make
    return make


def make_method(name: str, task: Task, shots: bool) -> Method:
    """A method, ready for its task.

    Raises:
        InputError: an unknown name, a teacher without the text encoder it needs, or no labelled pictures to learn from.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    method = METHODS[name]()
    if method.needs_text and not task.teacher.has_text:
        raise InputError(f"{name} needs a teacher with a text encoder; {task.teacher.name}: {task.teacher.no_text}")
    if method.needs_shots and not shots:
        raise InputError(f"{name} learns from labelled pictures: name them with --train DATA and --shots K")
    method.prepare(task)
    return method
