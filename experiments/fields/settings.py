"""What the commands that ask a percept are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glom import settings
from glom.adaptation.settings import OverfitSettings
from glom.errors import InputError
from glom.settings import Settings, part, setting

LARGEST = 4096  # cells a side that may be asked for: beyond it a picture takes gigabytes
MOST = 512  # cells a side of a grid that is cut, and locations a side of a step
FITS = {"squeeze": "squeezed", "crop": "cropped"}
"""How a picture comes onto the square that is folded and that a teacher reads, and what is said of it then."""
SHIPPED = "apm-cifar10"
PATCH = 2  # side of the patches of a machine that is overfit on colours, in pixels
STUDY = ("token", "token+patch", "token+rgb", "token+grid", "token+fine", "token+fine+patch")


def fitting() -> Any:
    """How pictures come onto the square."""
    return setting(
        "squeeze", "Onto the square: squeeze the whole picture, or crop its middle.", choices=tuple(FITS), metavar="FIT"
    )


def pictures() -> Any:
    """Pictures, each of which is needed."""
    return setting(help="Pictures.", kind="every picture", argument=True, metavar="IMAGE...")


@dataclass(frozen=True, kw_only=True)
class Asking(Settings):
    """The machine that is asked: a trained one, or a fresh one that is overfit on what is shown."""

    checkpoint: str | None = setting(None, "A machine of `apm grid train`.", letter="c", metavar="C", shown=SHIPPED)
    overfit: bool = setting(False, "Overfit a fresh machine instead.")
    fit: str = fitting()
    seed: int = settings.seed()
    device: str = settings.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overfit and self.checkpoint is not None:
            raise InputError("`overfit` takes a fresh machine and `checkpoint` a trained one; give one of them")

    @property
    def machine(self) -> str:
        """Which checkpoint is asked; "" for a machine that is overfit."""
        return "" if self.overfit else self.checkpoint or SHIPPED


@dataclass(frozen=True, kw_only=True)
class DecodeSettings(Asking):
    """What is decoded, and how an overfit machine is made. Its trunk has no option."""

    images: tuple[str, ...] = pictures()
    size: tuple[int, int] = setting(
        (64, 64), "Grid that is asked: height x width.", least=1, most=LARGEST, metavar="HxW"
    )
    iterations: int = setting(400, "Steps of an overfit.", least=1)
    lr: float = setting(3e-3, "Of an overfit.", above=0)
    channels: int = setting(1, "Numbers an overfit machine's fold keeps a patch.", least=1, most=3 * PATCH**2)
    trunk: tuple[int, ...] = (256, 256)


@dataclass(frozen=True, kw_only=True)
class InterpolateSettings(Asking):
    """Two pictures and the way between them. With a checkpoint, "" is the teacher that it learned from."""

    first: str = setting(help="A picture.", kind="picture", argument=True, metavar="IMAGE")
    last: str = setting(help="Another.", kind="picture", argument=True, metavar="IMAGE")
    steps: int = setting(9, "Columns on the path, both ends included.", least=2, metavar="N")
    path: str = setting("linear", choices=("linear", "spherical"))
    teacher: str = settings.teacher("")
    classes: str = setting(
        "", "Data set whose classes are named.", key="classes_of", kind="data", shown="what the teacher knows"
    )
    size: int = setting(64, "Side of the grid that is asked.", least=2, metavar="N")
    iterations: int = setting(600, "Steps of an overfit.", least=1)
    resize: bool = setting(False, "Take pictures of different sizes.")


@dataclass(frozen=True, kw_only=True)
class UpsampleSettings(Settings):
    """What is fitted, and how many times finer than the teacher's own grid it is asked."""

    images: tuple[str, ...] = pictures()
    scales: tuple[int, ...] = setting((2, 4, 8), "How many times finer.", key="scale", least=2)
    teacher: str = settings.teacher("")
    views: int = setting(48, "Further crops to learn from; 0: the grid alone.", least=0)
    zoom: float = setting(0.5, "Smallest crop's side, a share of the picture's.", least=0.1, below=1)
    patch: int = setting(5, "Side of the local patch in the column; 0: none.", least=0)
    iterations: int = setting(500, "Steps of the fit.", least=1)
    lr: float = setting(2e-3, "Of the fit.", above=0)
    fit: str = fitting()
    seed: int = settings.seed()
    device: str = settings.device()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or len(set(self.scales)) < len(self.scales):
            raise InputError(f"`scale` takes at least one number and each once, got {list(self.scales)}")


@dataclass(frozen=True, kw_only=True)
class OverfitOne(Settings):
    """One picture overfit, or a study of a folder of them; see `experiments.fields.overfit` for what on.

    People's outlines (`truth`) are an npz with `segmentations`, or a mask picture, of the picture's size.
    """

    image: str = setting(
        help="A picture, or for the study a folder with outlines.", kind="picture or folder", argument=True
    )
    targets: tuple[str, ...] = setting(
        (),
        "Parts of token,rgb,grid,fine,patch joined by +; a study: several.",
        also="target",
        shown="token; a study: six",
    )
    truth: str = setting("", "People's outlines, npz or mask.", metavar="FILE")
    film: bool = setting(False, "Also write film.gif.")
    teacher: str = settings.teacher("")
    apm: str = setting("apm-small", "The APM's preset.", metavar="PRESET")
    iterations: int = setting(80, "Optimiser steps.", least=1, metavar="N")
    points: int = setting(16, "Locations a step, points x points.", least=1, most=MOST)
    lr: float = setting(1e-3, "Learning rate.", above=0)
    grid: int = setting(32, "Side of the grids looked at.", least=2, most=MOST, metavar="N")
    partition: str = setting("kmeans:6", "How islands are cut.", metavar="P")
    limit: int = settings.limit("Of the study: pictures", 10)
    split: str = setting("val", "Of the study: split of a bsds500 folder.")
    seed: int = settings.seed()
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class FoldRequest(Settings):
    """One picture's folding and unfolding. The grid is at most 128 cells a side where none is asked for."""

    image: str = setting(help="A picture.", kind="picture", argument=True)
    teacher: str = settings.teacher()
    grid: tuple[int, int] | None = setting(
        None, "The grid to unfold, any size.", least=1, most=LARGEST, metavar="HxW", shown="the teacher's picture"
    )
    apm: str = setting("apm-tiny", "The APM's preset.", metavar="PRESET")
    overfit: OverfitSettings = part(OverfitSettings(), keys=("iterations",))
    seed: int = settings.seed()
    save_grids: bool = setting(False, "Also write the arrays, grids.npz.", key="save_grid")
    fit: str = fitting()
    device: str = settings.device()
