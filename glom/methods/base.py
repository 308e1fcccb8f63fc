"""The protocol every method keeps, and the table of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from glom.datasets.base import ImageDataset
from glom.errors import GlomError, InputError, unknown
from glom.methods.views import ViewCache, augmented
from glom.methods_list import LISTED
from glom.runs.seeds import sample_seed
from glom.teachers.align import aligned_head
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.zero_shot import choose_templates


@dataclass(frozen=True)
class Task:
    """What a method is given before the first picture.

    Attributes:
        teacher: the frozen encoder all methods share.
        classes: C names.
        device: where everything runs.
        seed: of the run.
        mae: the masked autoencoder of the methods that have one.
        preset: of test-time training, for the APM: "fast" or "published".
        dataset: where the pictures are from; a classifier's rows are matched to its classes. None: by name alone.
        views: tokens of pictures' views, kept for the next method that asks for the same ones.
    """

    teacher: Teacher
    classes: tuple[str, ...]
    device: torch.device
    seed: int = 0
    mae: str = "mae-tiny"
    preset: str = "fast"
    dataset: ImageDataset | None = None
    views: ViewCache = field(default_factory=ViewCache, repr=False, compare=False)

    def head(self, templates: str = "photo") -> ZeroShotHead:
        """The zero-shot head from a named set of templates; a classifier's own rows where there is no text encoder."""
        if self.dataset is not None:
            return aligned_head(self.teacher, self.dataset, choose_templates(templates))
        return self.teacher.zero_shot_head(self.classes, choose_templates(templates))

    def logits(self, tokens: Tensor, features: Tensor) -> Tensor:
        """CLIP's class scores: tokens (..., F) and class features (C, F) or (B, C, F), none normalised -> (..., C)."""
        tokens, features = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (tokens, features))
        scores = features @ tokens[..., None] if features.ndim == 3 else tokens @ features.T
        scores = self.teacher.scale * (scores.squeeze(-1) if features.ndim == 3 else scores)
        return scores if self.teacher.logit_bias is None else scores + self.teacher.logit_bias

    def view_tokens(self, image: Image.Image, count: int, seed: int) -> Tensor:
        """(count, F): the teacher's tokens of `augmented` views, the picture itself first."""

        def make() -> Tensor:
            return self.teacher.token(self.read(augmented(image, count, self.teacher.image_size, seed)))

        return self.views.get((seed, count, image.size, image.mode, hash(image.tobytes())), make)

    def read(self, images: list[Image.Image]) -> Tensor:
        """(B, 3, S, S) on the device."""
        return torch.stack([self.teacher.preprocess(image) for image in images]).to(self.device)


@dataclass(frozen=True)
class FewShot:
    """Labelled pictures of the task's training split.

    Attributes:
        images: (n, 3, S, S) preprocessed, or None where they are to be read as they are needed: 16 a class of
            ImageNet's are ten GB.
        labels: (n,) on the task's device.
        pictures: n pictures; a sequence that decodes them when asked holds none of them.
    """

    images: Tensor | None
    labels: Tensor
    pictures: Sequence[Image.Image]

    def read(self, task: Task, rows: Sequence[int]) -> Tensor:
        """(len(rows), 3, S, S) preprocessed, on the task's device."""
        if self.images is not None:
            return self.images[list(rows)]
        return task.read([self.pictures[row] for row in rows])


class Method(ABC):
    """One way to classify a test picture.

    Attributes:
        name: in tables and on the command line. what, source: from `glom.methods_list`, as are the next two.
        needs_text: only for teachers with a text encoder. needs_shots: only with labelled pictures; `prepare` may find
            out whether this task needs them. why_shots: what is said where they are missing.
        stateful: whether other test pictures change an answer ("online"); then order matters, and one process sees them
            all in the order of `order`.
        together: pictures that `predict_many` is best given at once. Where they change each other's answers it is the
            batch; whoever runs the method may set it.
        settings: what decides its answers, as recorded.
        constants: where they come from, one of `glom.methods_list.CONSTANTS`; `prepare` may find out.
    """

    name: ClassVar[str] = ""
    what: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs_text: ClassVar[bool] = False
    needs_shots: bool = False
    why_shots: str = "learns from labelled pictures"
    stateful: ClassVar[bool] = False
    together: int = 1
    settings: Any = None
    constants: str = ""

    def prepare(self, task: Task) -> None:
        """Take the task; everything that is the same for all pictures is made here."""
        self.task = task

    def fit(self, shots: FewShot) -> list[float]:
        """Learn from labelled pictures; the losses, step by step. Only called where `needs_shots`."""
        raise InputError(f"{self.name} does not learn from labelled pictures")

    @abstractmethod
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        """(C,) logits of one picture. `seed` is the picture's own, so that order and sharding change nothing."""

    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> Sequence[Tensor | GlomError]:
        """`predict` of each picture, or why it has no answer, so that no other is asked for twice.

        A method that is faster with several at once answers them together.
        """

        def answer(image: Image.Image, seed: int) -> Tensor | GlomError:
            try:
                return self.predict(image, seed)
            except GlomError as error:
                return error

        return [answer(image, seed) for image, seed in zip(images, seeds, strict=True)]

    def order(self, ids: Sequence[str], seed: int) -> list[int]:
        """Indices of the pictures of a data set with these `ids` in the order in which they are to be given.

        A stateful method's are shuffled: two pictures come in the same order whatever others are among them.
        """
        if not self.stateful:
            return list(range(len(ids)))
        return sorted(range(len(ids)), key=lambda i: sample_seed(seed, ids[i], "stream"))

    def stream_state(self) -> dict[str, Tensor] | None:
        """What the pictures so far left in an online method, all of it, so that a stopped stream goes on exactly.

        Copies, on the CPU. None: it cannot be told, and a stream that was stopped is seen again from its start.
        """
        return None

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        """Take what `stream_state` gave, on a method that is `prepare`d and has seen nothing."""
        raise NotImplementedError(f"{self.name} has no state of a stream")

    def learner(self) -> Method:
        """The method whose `fit` this one takes: itself, or the one it starts from."""
        return self

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what an earlier `fit` learned."""
        del state


METHODS: dict[str, type[Method]] = {}


def register(make: type[Method]) -> type[Method]:
    """Put a class into the table under its name, with what the list of methods says of it."""
    listed = LISTED[make.name]
    make.what, make.source, make.stateful = listed.what, listed.source, listed.stateful
    make.needs_text, make.needs_shots, make.constants = listed.needs_text, listed.needs_shots, listed.constants
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
    method.prepare(task)
    if method.needs_shots and not shots:
        raise InputError(f"{name} {method.why_shots}: name them with `train` DATA and `shots` K")
    return method
