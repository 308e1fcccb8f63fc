"""What the demo runs."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class DemoSettings(Settings):
    """What the demo runs."""

    limit: int = setting(200, "Pictures a condition.", least=1, most=200, metavar="N")
    corruptions: tuple[str, ...] = setting(("gaussian_noise:2", "snow:2"), "The twins.")
    pictures: int = setting(4, "How many are traced and unfolded.", least=1)
    photographs: int = setting(3, "Photographs that are looked at.", least=0, most=3)
    iterations: int | None = setting(None, "Steps a picture.", least=1, shown="the preset's")
    fold_iterations: int = setting(250, "Steps of the unfolding.", least=1)
    seed: int = settings.seed()
    device: str = settings.device()
