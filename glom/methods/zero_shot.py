"""The teacher alone: one template, and templates averaged."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register


@dataclass(frozen=True)
class ZeroShotSettings:
    """`templates`: "photo" (1), "simple" (7), "imagenet" (80), or a file."""

    templates: str = "photo"


@register
class ZeroShot(Method):
    """CLIP with 'a photo of a {}.'; a classifier as it is."""

    name = "zero-shot"

    def __init__(self, settings: ZeroShotSettings | None = None) -> None:
        self.settings = settings or ZeroShotSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head(self.settings.templates)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        return self.head(self.task.teacher.token(self.task.read([image])))[0]


@register
class Ensemble(ZeroShot):
    """Class embeddings averaged over 80 templates."""

    name = "ensemble"

    def __init__(self) -> None:
        super().__init__(ZeroShotSettings("imagenet"))
