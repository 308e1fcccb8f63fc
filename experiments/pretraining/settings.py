"""What pre-training an APM on a teacher's grids is asked for, with two presets, and what comparing one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar, Self

from glom import settings
from glom.apm_config import OF_PRESET, APMConfig, preset
from glom.errors import InputError
from glom.settings import Settings, part, setting

# The shipped machine: three numbers a 2 x 2 patch in the fold, and the pixels around each location in its column.
TINY = replace(preset("apm-tiny"), channels=3, cells=32, local_patch=21, trunk=(768, 512), readout="mean", rgb=(64, 64))
MACHINES = {"tiny": TINY, "coco": preset("apm-full")}


def held_out() -> Any:
    """How many pictures are kept from learning."""
    return setting(0, "Held-out pictures; 0: 1,000, or a fifth.", least=0, metavar="N")


@dataclass(frozen=True, kw_only=True)
class Caching(Settings):
    """Where grids are kept between runs; it decides no result."""

    cache: Path | None = setting(None, "Where grids are kept; otherwise the user's cache.", metavar="DIR")
    no_cache: bool = setting(False, "Compute grids when they are needed; keep none.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache is not None and self.no_cache:
            raise InputError("`cache` says where grids are kept and `no_cache` that none are; give one of them")


@dataclass(frozen=True, kw_only=True)
class GridTrainSettings(Caching):
    """What decides the weights; where they are computed does not.

    A batch is over all ranks and micro-batches together. Between centres the target is the grid read bilinearly. The
    rate rises linearly over `warmup` of the steps and falls to nothing as a cosine; weight decay is of the weights, not
    of biases. Versions of a picture are seen in turn, epoch by epoch.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        # glom-tiny's 8 x 8 x 128 grid on CIFAR-10, for two cores.
        "tiny": {"teacher": "glom-tiny", "machine": "tiny", "epochs": 7, "batch": 128, "lr": 2.5e-3, "anywhere": 0.25},
        # The poster's: DINOv2 ViT-L/14 on 448 px, 32 x 32 x 1024, on COCO or any folder.
        "coco": {
            "teacher": "hf:facebook/dinov2-large",
            "machine": "coco",
            "size": 448,
            "epochs": 20,
            "batch": 64,
            "accumulate": 2,
            "queries": 256,
            "lr": 3e-4,
        },
    }
    PRESET: ClassVar[str] = "tiny"

    data: str = settings.data()
    teacher: str = setting("glom-tiny", "Whose grid.", letter="t", metavar="T", shown=OF_PRESET)
    machine: str = setting("tiny", "What is trained: tiny or coco.", choices=tuple(MACHINES), shown=OF_PRESET)
    apm: APMConfig = part(TINY, keys=("patch", "channels", "local_patch", "trunk"))
    size: int = setting(0, "Side of the teacher's picture; 0: its own.", least=0, shown=OF_PRESET)
    epochs: int = setting(12, "Passes over the training pictures.", least=1, shown=OF_PRESET)
    batch: int = setting(256, "Pictures a step, all ranks together.", least=1, shown=OF_PRESET)
    accumulate: int = setting(1, "Micro-batches a step on a rank.", least=1, shown=OF_PRESET)
    queries: int = setting(16, "Locations a step, a square number; 0: the grid.", least=0, shown=OF_PRESET)
    anywhere: float = setting(0.5, "Share of them between centres.", least=0, most=1, shown=OF_PRESET)
    lr: float = setting(1e-3, "Peak learning rate.", above=0, shown=OF_PRESET)
    weight_decay: float = setting(0.01, "AdamW's, on weights.", least=0)
    warmup: float = setting(0.05, "Share of the steps that the rate rises over.", least=0, below=1)
    rgb_weight: float = setting(0.5, "Of the colour loss; 0: none.", least=0)
    precision: str = setting("auto", "auto, fp32 or bf16 products.", choices=("auto", "fp32", "bf16"))
    views: int = setting(1, "Flipped and shifted versions, in turn.", least=1)
    cache_precision: str = setting("fp16", "fp16 or fp32 numbers.", choices=("fp16", "fp32"))
    limit: int = settings.limit("Training pictures")
    held_out: int = held_out()
    seed: int = settings.seed()
    device: str = settings.device()
    workers: int | None = settings.workers()
    init: str = setting("", "Checkpoint whose weights are the start.", metavar="C")
    half: bool = setting(False, "Write the machine in float16, half the size.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isqrt(self.queries) ** 2 != self.queries:
            raise InputError(
                f"`queries` must be a square number, a location in each cell of a lattice, got {self.queries}"
            )
        if not self.queries and self.anywhere:
            raise InputError("`queries` 0 asks the whole grid at its cells' centres; give `anywhere` 0 with it")
        most = 3 * self.apm.patch**2
        if self.apm.channels > most:
            raise InputError(f"`channels` must be at most {most}, all the numbers of a patch, got {self.apm.channels}")

    @classmethod
    def of(cls, preset: str = "", **given: Any) -> Self:
        """A preset's settings with some replaced.

        No loss reaches an attention read-out or, without a colour loss, a colour head: neither is made.
        """
        if given.get("queries") == 0:
            given.setdefault("anywhere", 0.0)
        start = {**cls.PRESETS.get(preset or cls.PRESET, {}), **given}
        found = super().of(preset, **{"apm": MACHINES.get(start.get("machine", ""), TINY), **given})
        rgb = found.apm.rgb if found.rgb_weight else None
        return replace(found, apm=replace(found.apm, readout="mean", rgb=rgb))

    def deciding(self, **instead: Any) -> dict[str, Any]:
        """What decides the weights, by field."""
        return self.manifest("cache", "no_cache", "machine", "half", **instead)


@dataclass(frozen=True, kw_only=True)
class EvalSettings(Settings):
    """A checkpoint, and the pictures it is compared with its teacher on."""

    checkpoint: str = setting(
        help="A checkpoint of `apm grid train`, or apm-cifar10.", argument=True, metavar="CHECKPOINT"
    )
    data: str = settings.data()
    limit: int = held_out()
    bank: int = setting(5000, "Training pictures k-NN compares with.", least=1)
    size: int = setting(0, "Side of the teacher's picture; 0: as trained.", least=0)
    seed: int = settings.seed()
    device: str = settings.device()
