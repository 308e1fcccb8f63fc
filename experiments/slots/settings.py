"""What training slots and scoring their masks are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from glom import settings
from glom.settings import Settings, part, setting
from glom.slots.config import SlotConfig


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """What decides the weights. The rate rises linearly over `warmup` of the steps and falls to nothing as a cosine."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {},
        "published": {"steps": 500_000, "batch": 64, "lr": 4e-4, "warmup": 0.02},
        "quick": {"steps": 40, "batch": 8, "limit": 64, "width": 16, "dim": 16, "hidden": 32},
    }
    PRESET: ClassVar[str] = "small"

    data: str = settings.data(
        help="tetrominoes[:N] or multi-dsprites[:N]; under `backbone` any pictures, several with commas between.",
        kind="made or data sets",
    )
    backbone: str = setting("", "Whose frozen features are given back; otherwise pixels.", letter="b", metavar="B")
    layer: int = setting(-1, "Layer of the backbone; negative ones count from the end.")
    size: int = setting(0, "Side of what the backbone sees, pixels; 0: its own.", least=0)
    config: SlotConfig = part(SlotConfig(), keys=("slots", "dim", "hidden", "width", "iterations", "beginning"))
    steps: int = setting(8_000, "Steps.", least=1)
    batch: int = setting(32, "Pictures a step.", least=1)
    lr: float = setting(1e-3, "Peak learning rate.", above=0)
    warmup: float = setting(0.025, "Share of the steps that the rate rises over.", least=0, below=1)
    queries: int = setting(64, "Locations of a grid that a step asks for; 0: all. Pixels are all given back.", least=0)
    precision: str = setting("auto", "auto, fp32 or bf16 products.", choices=("auto", "fp32", "bf16"))
    limit: int = settings.limit("Pictures")
    init: str = setting("", "Slots trained before, whose weights are the start.", metavar="DIR")
    seed: int = settings.seed()
    device: str = settings.device()
    cache: Path | None = setting(None, "Where grids are kept; otherwise the user's cache.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """Pictures whose masks are known, cut by trained slots."""

    trained: str = setting(help="The --out of `apm slots train`.", argument=True, metavar="DIR")
    data: str = settings.data(help="bsds500 folder, pictures with masks, or a made set.", kind="outlines")
    split: str = setting("test", "Split, where there are several.")
    limit: int = settings.limit("Pictures", 320)
    seed: int = settings.seed()
    device: str = settings.device()
