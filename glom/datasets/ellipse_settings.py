"""What decides the world of ellipses; apart from its pictures, so that a page of help loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from glom.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class EllipseSettings(Settings):
    """See `glom.datasets.ellipses`. The bounds of a pose are those of training; sizes are of a picture of side 1.

    `arrangements` seeds the kinds of whole: those who train and those who score mean the same ones.
    """

    classes: int = setting(10, "Kinds of whole in the world of ellipses.", least=2)
    objects: int = setting(2, "Wholes a picture there.", least=1)
    turn: float = setting(60.0, "Degrees that wholes are turned by at most, there.", least=0, most=180)
    jitter: float = setting(0.05, "Deviation of the noise on what is seen there.", least=0)
    scale: float = 0.18
    stretch: float = 0.25
    spread: float = 0.25
    arrangements: int = 0
