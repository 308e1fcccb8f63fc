"""What decides a network with slots."""

from __future__ import annotations

from dataclasses import dataclass

from glom.settings import Settings, setting

BEGINNINGS = ("drawn", "learned")
CELL = 4  # pixels a side that one location of the pixel network reads and writes


@dataclass(frozen=True, kw_only=True)
class SlotConfig(Settings):
    """Settings of `glom.slots.model`; `side` (of the pixels, or of a grid) and `features` (of a location; 0 for pixels)
    follow from the data.

    A set that is made has a slot for each object that a picture can have, and one for the ground; photographs have
    seven, as DINOSAUR's do.
    """

    slots: int = setting(0, "Slots; 0: objects and ground of a made set, else 7.", least=0)
    dim: int = setting(64, "Width of a slot.", least=1)
    hidden: int = setting(128, "Hidden width of the slots' MLP.", least=1)
    width: int = setting(64, "Channels of the pixel network; of the features' decoder four times that.", least=1)
    iterations: int = setting(3, "Rounds of attention.", least=1)
    beginning: str = setting("drawn", "Slots begin drawn from one distribution, or learned.", choices=BEGINNINGS)
    side: int = 35
    features: int = 0

    @property
    def grid(self) -> int:
        """Locations a side that slots compete for."""
        return self.side if self.features else -(-self.side // CELL)
