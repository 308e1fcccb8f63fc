"""What forward-forward trainings are asked for, and what is asked of what they leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from experiments.consensus.settings import held_out, pictures, source, threshold
from glom import settings
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.settings import preset as mode_preset
from glom.settings import Settings, build, keys_of, part, setting

SETS = "mnist, fashion-mnist, cifar10, cifar100, stl10, or a folder with train/ and test/."


def folder(help: str = "A run folder.") -> Any:
    """A run folder of `apm ff train`."""
    return setting(help=help, argument=True, metavar="DIR")


def data_root() -> Any:
    """Where data sets lie."""
    return setting(None, "Folder that holds the data; otherwise the cache.", metavar="DIR")


@dataclass(frozen=True, kw_only=True)
class FFRun(Settings):
    """A training: what on (see `glom.forward_forward.pictures.read_pictures`), and how."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {}}
    PRESET: ClassVar[str] = "quick"

    data: str = settings.data("", SETS, kind="", named=True, letter="d", shown="mnist; of local and conv, cifar10")
    how: FFSettings = part()
    limit: int = settings.limit("Training pictures")
    data_root: Path | None = data_root()
    download: bool = setting(False, "Fetch the data set where it is missing.")
    device: str = settings.device()
    workers: int | None = settings.workers()

    @classmethod
    def of(cls, preset: str = "", **given: Any) -> Self:
        """A mode's preset, some of it replaced: see `glom.forward_forward.settings.preset`."""
        names = {key.name for key in keys_of(FFSettings)}
        inside = {name: given.pop(name) for name in list(given) if name in names}
        how = mode_preset(inside.pop("mode", FFSettings.mode), preset or cls.PRESET, **inside)
        return build(cls, {"how": how, **given})

    @property
    def named(self) -> str:
        """What is learned from; where nothing is said, what suits the mode."""
        return self.data or ("cifar10" if self.how.mode in ("local", "conv") else "mnist")


@dataclass(frozen=True, kw_only=True)
class EvalSettings(Settings):
    """A run folder, and what it is asked about."""

    folder: str = folder()
    data: str = setting("", "Another data set of the same shape.", letter="d", shown="the folder's")
    limit: int = settings.limit("Test pictures")
    data_root: Path | None = data_root()
    device: str = settings.device()
    workers: int | None = settings.workers()


@dataclass(frozen=True, kw_only=True)
class GoodnessSettings(Settings):
    """A picture whose goodness is drawn; of a fully connected network patches are blanked, centred on every second
    pixel."""

    folder: str = folder()
    image: str = setting(help="A picture.", kind="picture", argument=True, metavar="IMAGE")
    patch: int = setting(4, "Side of the patches blanked, in pixels.", least=1)
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class IslandSettings(Settings):
    """Pictures whose islands are drawn, layer by layer; squeezed to the network's size, grey where the network is."""

    trained: str = folder("A run folder of mode local or conv.")
    images: tuple[str, ...] = pictures()
    threshold: float = threshold()
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """What decides the scores. The seed is that of the composites and of k-means."""

    trained: str = folder("A run folder of mode local or conv.")
    source: str = source()
    limit: int = held_out()
    threshold: float = threshold()
    seed: int = settings.seed()
    device: str = settings.device()
