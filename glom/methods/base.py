"""The protocol every method keeps, and the table of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glom.datasets.base import ImageDataset
from glom.datasets.classes import WNID
from glom.errors import GlomError, InputError, RunError
from glom.methods.augmix import augmix
from glom.methods.views import Key, ViewCache, augmented
from glom.methods_list import LISTED
from glom.registry import Registry
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
        views: what is made of a picture, kept for the next method that asks for the same.
        second: the stronger teacher of the methods that listen to two.
        start: the head that another method left (`Method.leaves`); None: the teacher's own.
        augment: what views are: "crops", "augmix", or "released", what each method's release takes for such data.
    """

    teacher: Teacher
    classes: tuple[str, ...]
    device: torch.device
    seed: int = 0
    mae: str = "mae-tiny"
    preset: str = "fast"
    dataset: ImageDataset | None = None
    views: ViewCache = field(default_factory=ViewCache, repr=False, compare=False)
    second: Teacher | None = None
    start: ZeroShotHead | None = None
    augment: str = "crops"

    def head(self, templates: str = "photo") -> ZeroShotHead:
        """The zero-shot head from a named set of templates; a classifier's own rows where there is no text encoder."""
        if self.start is not None:
            return self.start
        if self.dataset is not None:
            return aligned_head(self.teacher, self.dataset, choose_templates(templates))
        return self.teacher.zero_shot_head(self.classes, choose_templates(templates))

    def other(self) -> Task:
        """The same task for the second teacher. Raises `InputError` where it has other classes."""
        assert self.second is not None
        task = replace(self, teacher=self.second, second=None, start=None)
        try:
            named = task.head().classes
        except InputError as error:
            raise InputError(f"the second teacher cannot name the classes of {self.teacher.name}: {error}") from error
        if named != self.classes:
            raise InputError(
                f"the second teacher, {self.second.name}, has other classes than {self.teacher.name} "
                f"({len(named):,} and {len(self.classes):,}); two teachers must choose among the same"
            )
        return task

    def logits(self, tokens: Tensor, features: Tensor) -> Tensor:
        """CLIP's class scores: tokens (..., F) and class features (C, F) or (B, C, F), none normalised -> (..., C)."""
        tokens, features = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (tokens, features))
        scores = features @ tokens[..., None] if features.ndim == 3 else tokens @ features.T
        scores = self.teacher.scale * (scores.squeeze(-1) if features.ndim == 3 else scores)
        return scores if self.teacher.logit_bias is None else scores + self.teacher.logit_bias

    def token(self, image: Image.Image) -> Tensor:
        """(F,): the teacher's token of a picture."""
        return self.once(image, ("token",), lambda: self.teacher.token(self.read([image]))[0]).to(self.device)

    def encoded(self, views: Tensor, grid: bool = False) -> tuple[Tensor, Tensor | None]:
        """Pictures as `read` -> tokens (B, F) and, where asked for, grids (B, h, w, F); none changes another's."""
        parts = views.split(1 if self.teacher.by_batch else len(views))
        tokens = torch.cat([self.teacher.token(part) for part in parts])
        return tokens, torch.cat([self.teacher.grid(part) for part in parts]) if grid else None

    def view_tokens(self, image: Image.Image, count: int, seed: int, rows: tuple[int, ...] | None = None) -> Tensor:
        """(count, F): the teacher's tokens of `view_pictures`.

        Raises:
            RunError: they are not finite.
        """

        def make() -> Tensor:
            tokens = self.teacher.token(self.view_pictures(image, count, seed, rows))
            if not bool(torch.isfinite(tokens).all()):
                raise RunError(f"{self.teacher.name}'s tokens of this picture's views are not finite")
            return tokens

        return self.once(image, (self.augment, count, seed, rows), make).to(self.device)

    def view_pictures(self, image: Image.Image, count: int, seed: int, rows: tuple[int, ...] | None = None) -> Tensor:
        """(count, 3, S, S): the picture itself and its views as the teacher reads them, or some `rows` of these.

        For two teachers they are the same views, each at its own size: what is drawn depends on picture and seed alone.
        """
        size, read, random = self.teacher.image_size, self.teacher.preprocess, np.random.default_rng(seed)
        if self.augment == "augmix":
            views = [read(image), *(augmix(image, read, "resized", size, random, fill=0) for _ in range(count - 1))]
            return torch.stack(views if rows is None else [views[n] for n in rows]).to(self.device)
        crops = augmented(image, count, size, seed)
        return self.read(crops if rows is None else [crops[n] for n in rows])

    def read(self, images: list[Image.Image]) -> Tensor:
        """(B, 3, S, S) on the device."""
        return torch.stack([self.teacher.preprocess(image) for image in images]).to(self.device)

    def once(self, image: Image.Image, what: Key, make: Callable[[], Tensor]) -> Tensor:
        """What is made of a picture for this teacher, the first time that any method asks for it."""
        return self.views.get(self.key(image, what), make)

    def key(self, image: Image.Image, what: Key) -> Key:
        """What that is kept by in `views`."""
        pixels = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
        return (self.teacher.fingerprint, pixels, image.size, image.mode, *what)


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
            out whether this task needs them. why_shots: what is said where they are missing. needs_second: only with a
            second teacher. reads_labels: whether the classes of the pictures it learns from matter.
        starts: whether another method can start from what it `leaves`. follows: whether it can start from another's:
            it takes its head from `Task.head`, and asks `Task.teacher` for tokens.
        mixes: the kinds of data (`kind_of`) for which its release mixes views by AugMix.
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
    reads_labels: ClassVar[bool] = True
    needs_second: ClassVar[bool] = False
    starts: ClassVar[bool] = False
    follows: ClassVar[bool] = True
    mixes: ClassVar[tuple[str, ...]] = ()
    stateful: ClassVar[bool] = False
    together: int = 1
    settings: Any = None
    constants: str = ""

    def prepare(self, task: Task) -> None:
        """Take the task; everything that is the same for all pictures is made here."""
        if task.augment == "released":
            task = replace(task, augment="augmix" if kind_of(task.dataset) in self.mixes else "crops")
        self.task = task

    def leaves(self) -> Task:
        """The task as another method starts from it: with another head (`Task.start`) or another teacher.

        Called once this method is `prepare`d, and again when it has learned. Only where it `starts`.
        """
        raise InputError(f"{self.name} leaves no head and no teacher that another method could start from")

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

    def stream_state(self) -> dict[str, Tensor] | None:
        """What the pictures so far left in an online method, all of it, so that a stopped stream goes on exactly.

        Copies, on the CPU. None: it cannot be told, and a stream that was stopped is seen again from its start.
        """
        return None

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        """Take what `stream_state` gave, on a method that is `prepare`d and has seen nothing."""
        raise RunError(f"{self.name} tells no state of a stream, so that none can be its own")

    def learner(self) -> Method:
        """The method whose `fit` this one takes: itself, or the one it starts from."""
        return self

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take what an earlier `fit` learned."""
        del state


class Together(Method):
    """A method that answers several pictures at once; one alone is a batch of one."""

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        [answer] = self.predict_many([image], [seed])
        if isinstance(answer, GlomError):
            raise answer
        return answer

    @abstractmethod
    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> Sequence[Tensor | GlomError]:
        """See `Method.predict_many`."""


METHODS: Registry[type[Method]] = Registry("method")
AUGMENTS = ("crops", "augmix", "released")
SHIFTS = ("imagenet-a", "imagenet-v2", "imagenet-r", "imagenet-sketch")


def kind_of(dataset: ImageDataset | None) -> str:
    """What the releases tell apart: "imagenet", "shift" for its other test sets, "other"."""
    if dataset is None or not dataset.keys or not all(WNID.fullmatch(key) for key in dataset.keys):
        return "other"
    return "shift" if dataset.name.split("/")[0] in SHIFTS else "imagenet"


def register(make: type[Method]) -> type[Method]:
    """Put a class into the table under its name, with what the list of methods says of it."""
    listed = LISTED[make.name]
    make.what, make.source, make.stateful = listed.what, listed.source, listed.stateful
    make.needs_text, make.needs_shots, make.needs_second = listed.needs_text, listed.needs_shots, listed.needs_second
    make.constants = listed.constants
    return METHODS.register(make.name, make.what)(make)
