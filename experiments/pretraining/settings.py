"""Settings of pre-training an APM on a teacher's grids, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from glom.apm import APMConfig, preset
from glom.errors import InputError, unknown


@dataclass(frozen=True)
class GridTrainSettings:
    """What decides the weights.

    Attributes:
        data: a folder, a manifest or a registered name.
        teacher: whose grid is learnt, see `apm teachers`.
        apm: the machine; its feature width is set to the grid's.
        size: side of the teacher's picture in pixels, 0 for its own.
        epochs: passes over the training pictures.
        batch: pictures a step, over all ranks and micro-batches together.
        accumulate: micro-batches a step on each rank.
        queries: locations asked of every picture in a step, a square number; 0 for the whole grid's centres.
        anywhere: share of them that may lie anywhere, the others at cells' centres. Between centres the target is the
            grid read bilinearly.
        lr: AdamW's peak rate, linear up over `warmup` of the steps and down to nothing as a cosine.
        weight_decay: of the weights, not of biases.
        rgb_weight: of the colour loss beside the feature loss; 0 for no colour head.
        precision: "fp32" or "bf16" products; "auto" for bf16 where the machine multiplies it in hardware.
        views: flipped and shifted versions of each picture, seen in turn epoch by epoch; 1 for the picture alone.
        cache_precision: "fp32" or "fp16" numbers of the cached grids.
        limit, held_out: training and held-out pictures at most; 0 for all, and for 1,000 (a fifth of few).
        seed: of weights, order, locations and views.
        init: a checkpoint whose weights are the start, see `glom.checkpoints.load_apm`; "" for random ones.
    """

    data: str
    teacher: str
    apm: APMConfig
    size: int = 0
    epochs: int = 12
    batch: int = 256
    accumulate: int = 1
    queries: int = 16
    anywhere: float = 0.5
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    rgb_weight: float = 0.5
    precision: str = "auto"
    views: int = 1
    cache_precision: str = "fp16"
    limit: int = 0
    held_out: int = 0
    seed: int = 0
    init: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "accumulate", "views"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, got {getattr(self, name)}")
        for name in ("size", "queries", "limit", "held_out", "rgb_weight", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name.replace('_', '-')} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.anywhere <= 1 or not 0 <= self.warmup < 1:
            raise InputError(f"--anywhere and --warmup are shares, got {self.anywhere} and {self.warmup}")
        if isqrt(self.queries) ** 2 != self.queries:
            raise InputError(
                f"--queries must be a square number, a location in each cell of a lattice, got {self.queries}"
            )
        if not self.queries and self.anywhere:
            raise InputError("--queries 0 asks the whole grid at its cells' centres; give --anywhere 0 with it")
        if not 0 < self.lr < float("inf"):
            raise InputError(f"--lr must be positive and finite, got {self.lr}")
        most = 3 * self.apm.patch**2
        if self.apm.channels > most:
            raise InputError(f"--channels must be at most {most}, all the numbers of a patch, got {self.apm.channels}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise unknown("precision", self.precision, ("auto", "fp32", "bf16"))


# The shipped machine: three numbers a 2 x 2 patch in the fold, and the pixels around each location in its column.
TINY = replace(preset("apm-tiny"), channels=3, cells=32, local_patch=21, trunk=(768, 512), readout="mean", rgb=(64, 64))
PRESETS: dict[str, dict[str, Any]] = {
    # glom-tiny's 8 x 8 x 128 grid on CIFAR-10, for two cores.
    "tiny": {"teacher": "glom-tiny", "apm": TINY, "epochs": 7, "batch": 128, "lr": 2.5e-3, "anywhere": 0.25},
    # The poster's: DINOv2 ViT-L/14 on 448 px, 32 x 32 x 1024, on COCO or any folder.
    "coco": {
        "teacher": "hf:facebook/dinov2-large",
        "apm": preset("apm-full"),
        "size": 448,
        "epochs": 20,
        "batch": 64,
        "accumulate": 2,
        "queries": 256,
        "lr": 3e-4,
    },
}


def grid_settings(name: str, data: str, apm: dict[str, Any], **changes: Any) -> GridTrainSettings:
    """A preset's settings with some replaced; None means the preset's.

    Args:
        apm: changes of the machine.

    Raises:
        InputError: an unknown preset, or settings that make no sense.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    values = {**PRESETS[name], **{k: v for k, v in changes.items() if v is not None}}
    machine = replace(values.pop("apm"), **{k: v for k, v in apm.items() if v is not None})
    # No loss reaches an attention read-out or, without a colour loss, a colour head: neither is made.
    machine = replace(machine, readout="mean", rgb=machine.rgb if values.get("rgb_weight", 0.5) else None)
    return GridTrainSettings(data=data, apm=machine, **values)
