"""What showing and scoring a GLOM's islands are asked for; what training is, `glom.consensus.config` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glom import settings
from glom.settings import Settings, setting


def threshold() -> Any:
    """From which agreement on two neighbours are of one island."""
    return setting(0.9, "Cosine from which neighbours are one island.", above=-1, below=1)


def held_out() -> Any:
    """How many composites are scored: there is no end of them."""
    return setting(200, "Held-out composites.", least=2, metavar="N")


def source() -> Any:
    """What the composites of a scoring are made of."""
    return setting("", "Objects of the composites, e.g. fashion-mnist:ROOT.", metavar="S", shown="the trained one's")


def pictures() -> Any:
    """Pictures of which those that cannot be read are passed over."""
    return setting(help="Pictures.", kind="any pictures", argument=True, metavar="IMAGE...")


@dataclass(frozen=True, kw_only=True)
class Looking(Settings):
    """A trained GLOM, and how long it looks."""

    trained: str = setting(help="The --out of `apm glom train`.", argument=True, metavar="DIR")
    iterations: int = setting(0, "Updates; 0: as trained.", least=0)
    threshold: float = threshold()
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class IslandSettings(Looking):
    """What is shown; `size` is a multiple of the patch."""

    images: tuple[str, ...] = pictures()
    size: int = setting(0, "Side of what is seen, pixels; 0: as trained.", least=0)
    untrained: bool = setting(False, "The same GLOM with random weights.")
    patch: str = setting(
        "",
        "What a button of the page swaps the islands for: a level held to zero, to its mean or to another picture's "
        "from the first update on; several with ; between, at most 8.",
        metavar="'LEVEL REGION VALUE'",
    )


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Looking):
    """What decides the scores. The seed is that of the composites, of k-means and of the untrained twin."""

    source: str = source()
    limit: int = held_out()
    seed: int = settings.seed()
