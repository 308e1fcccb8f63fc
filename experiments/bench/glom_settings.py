"""What `apm bench glom` measures: apart from the work, so that a page of help loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class GlomBenchSettings(Settings):
    """The sizes of glom-pytorch's own example: 256 columns of 6 levels, 512 wide, nets four times as wide."""

    dim: int = setting(512, "Width of an embedding.", least=8)
    levels: int = setting(6, "Levels of a column.", least=2)
    side: int = setting(16, "Columns a side.", least=1)
    updates: tuple[int, ...] = setting((6, 12), "Updates a picture.", least=1)
    batches: tuple[int, ...] = setting((1, 8), "Pictures at a time.", least=1)
    rounds: int = setting(3, "Rounds, everything once in each.", least=1)
    threads: int = setting(1, "Of this process.", least=1)
