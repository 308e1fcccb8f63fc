"""The teacher alone: one template, and templates averaged."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register


@dataclass(frozen=True)
class ZeroShotSettings:
    """`templates`: "photo" (1), "simple" (7), "imagenet" (80), or a file."""

    templates: str = "photo"


@dataclass(frozen=True)
class SecondSettings:
    """`second`: the second teacher's fingerprint."""

    second: str


@register
class ZeroShot(Method):
    """CLIP with 'a photo of a {}.'; a classifier as it is."""

    name = "zero-shot"
    follows = False

    def __init__(self, settings: ZeroShotSettings | None = None) -> None:
        self.settings = settings or ZeroShotSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head(self.settings.templates)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        return self.head(self.task.token(image)[None])[0]


@register
class Ensemble(ZeroShot):
    """Class embeddings averaged over 80 templates."""

    name = "ensemble"

    starts = True

    def __init__(self) -> None:
        super().__init__(ZeroShotSettings("imagenet"))

    def leaves(self) -> Task:
        return replace(self.task, start=self.head)


@register
class SecondZeroShot(Method):
    """The second teacher alone: what a method that listens to it must beat."""

    name = "second-zero-shot"
    follows = False

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.second = task.other()
        self.head, self.settings = self.second.head(), SecondSettings(self.second.teacher.fingerprint)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        return self.head(self.second.token(image)[None])[0]
