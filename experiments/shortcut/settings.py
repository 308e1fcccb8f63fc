"""What layer skipping is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.pretraining.settings import Caching, held_out
from glom import settings
from glom.errors import InputError
from glom.settings import setting

STUDENTS = ("linear", "mlp", "apm", "conv")


@dataclass(frozen=True, kw_only=True)
class ShortcutSettings(Caching):
    """What decides the figures. Of a training picture's versions the first is itself, the others random crops."""

    data: str = settings.data()
    backbone: str = settings.backbone()
    early: int = setting(0, "Layer whose grid is read.", key="from", metavar="A")
    late: int = setting(-1, "Later layer; negative: from the end.", key="to", metavar="Z")
    matrix: bool = setting(False, "Every pair of --layers, as a figure.")
    layers: str = setting("all", "Of the matrix: all, or numbers such as 0,3,7.")
    students: tuple[str, ...] = setting(STUDENTS, "Who learns.", choices=STUDENTS)
    epochs: int = setting(20, "Passes over the training pictures.", least=1)
    batch: int = setting(32, "Pictures a step.", least=1)
    lr: float = setting(1e-3, "AdamW's rate.", above=0)
    partition: str = setting("kmeans:4", "How islands are cut.")
    size: int = setting(0, "Side of the pictures; 0: the backbone's.", least=0)
    views: int = setting(1, "Random crops of each training picture and itself.", least=1)
    limit: int = settings.limit("Training pictures")
    held_out: int = held_out()
    cache_precision: str = setting("fp16", "fp16 or fp32 numbers.", choices=("fp16", "fp32"))
    seed: int = settings.seed()
    device: str = settings.device()
    workers: int | None = settings.workers()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.students or len(set(self.students)) < len(self.students):
            raise InputError(f"`students` names at least one and each once, got {','.join(self.students)}")

    @property
    def fitting(self) -> dict[str, Any]:
        """What `glom.backbones.shortcuts.fit` is asked for."""
        return {name: getattr(self, name) for name in ("epochs", "batch", "lr", "seed", "views")}
