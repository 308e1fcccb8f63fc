"""How a named data set may lie on disk: one or several layouts, each with what it should hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glom.datasets.base import ImageDataset
from glom.datasets.reading import one_line
from glom.errors import InputError, unknown
from glom.runs.files import user_cache

Counts = Mapping[str, tuple[int, int]]


class NotThereError(InputError):
    """A named data set of which nothing was found, rather than one that is damaged."""


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: its address. size: in bytes.
        folder: where it is unpacked under the root.
        md5: where that is published.
        gives: of several archives of one data set, paths under the root of which one is there once this is unpacked.
    """

    url: str
    size: int
    folder: str = ""
    md5: str | None = None
    gives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Download:
    """What may be fetched without asking anybody: archives, or what a class of torchvision's fetches.

    Attributes:
        archives: what to download and unpack.
        kind: torchvision's class. arguments: what it is built with. kind_size: bytes it downloads.
    """

    archives: tuple[Archive, ...] = ()
    kind: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    kind_size: int = 0

    @property
    def size(self) -> int:
        """Bytes to be downloaded where nothing is there yet."""
        return self.kind_size + sum(archive.size for archive in self.archives)

    def missing(self, root: Path, found: bool) -> Download:
        """What is still to be fetched; nothing where the set was `found` and came in one piece."""
        if len(self.archives) < 2:
            return Download() if found else self
        wanted = (a for a in self.archives if not any((root / place).exists() for place in a.gives))
        return Download(tuple(wanted))


@dataclass(frozen=True)
class Layout:
    """One way a data set may lie under a root.

    Attributes:
        title: whose layout it is, in a word or two.
        places: paths under the root; the first that exists is read. One with `[` is a pattern, of which the first
            match counts: how the root itself is known for the data set's own folder.
        counts: split -> (images, classes), as published. The splits are those that this layout offers.
        read: (the place found, root, split) -> the data set; `InputError` where it is damaged.
        shape: how it looks, for people: paths under the root with what varies in capitals.
    """

    title: str
    places: tuple[str, ...]
    counts: Counts
    read: Callable[[Path, Path, str], ImageDataset] = field(repr=False, compare=False)
    shape: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedSet:
    """A data set that can be named.

    Attributes:
        name, what, size, licence, source: as in `glom.datasets.registry.DatasetInfo`.
        layouts: of a variant ("" where there are none) -> layouts, the preferred first.
        variants: every variant that should be there, such as `fog/5`. variant: what one is made of, for people.
        example: a variant for messages.
        download: how it is fetched, or None where somebody has to be asked, or a page has to be visited.
        terms: why it cannot be fetched, or what to know before.
        tables: the poster's tables that need it.
    """

    name: str
    what: str
    size: str
    licence: str
    source: str
    layouts: Callable[[str], tuple[Layout, ...]] = field(repr=False, compare=False)
    variants: tuple[str, ...] = ()
    variant: str = ""
    download: Download | None = None
    terms: str = ""
    tables: tuple[int, ...] = ()

    @property
    def example(self) -> str:
        """A spec that opens it."""
        return f"{self.name}/{self.variants[-1]}" if self.variants else self.name

    def splits(self, variant: str = "") -> list[str]:
        """Every split some layout offers, test first."""
        found = dict.fromkeys(split for layout in self.layouts(variant) for split in layout.counts)
        return sorted(found, key=lambda split: (split != "test", split != "train", split))

    def find(self, root: Path, variant: str = "") -> tuple[Layout, Path] | None:
        """The first layout of which something is there, and what was found of it; `root` may be a split file."""
        if root.is_file():
            coop = [layout for layout in self.layouts(variant) if layout.title == "CoOp"]
            return (coop[0], root) if coop and root.suffix == ".json" else None
        for layout in self.layouts(variant):
            for place in layout.places:
                path = min(root.glob(place), default=None) if "[" in place else root / place
                if path is not None and path.exists():
                    return layout, path
        return None

    def open(self, root: Path, split: str = "test", variant: str = "") -> ImageDataset:
        """Read it where it lies.

        Args:
            root: the folder its layouts lie in; or a split file of CoOp's.

        Raises:
            NotThereError: no layout of it under `root`.
            InputError: no such split or variant; incomplete or damaged.
        """
        layouts = self.layouts(variant)
        if split not in self.splits(variant):
            raise unknown(f"split of {self.name}", split, self.splits(variant))
        found = self.find(root, variant)
        if found is None:
            raise self.not_there(root, variant)
        layout, place = found
        if split not in layout.counts:
            others = [x.places[0] for x in layouts if split in x.counts]
            raise InputError(
                f"{self.name}: in the layout of {one_line(place)} it has no split '{split}', only "
                f"{', '.join(layout.counts)}; {others[0]} would give it"
            )
        return layout.read(place, root, split)

    def not_there(self, root: Path, variant: str = "") -> NotThereError:
        """The error that says where it was looked for, and what to do."""
        if root.is_file():
            return NotThereError(f"{one_line(root)} is a file; name the folder that holds {self.name}")
        places = [[place for place in layout.places if "[" not in place] for layout in self.layouts(variant)]
        shown = [one_line(root / names[0]) for names in places]
        others = sum(map(len, places)) - len(shown)
        more = f" ({plural(others, 'other place')} besides)" if others else ""
        spec = f"{self.name}/{variant}" if variant else self.name
        return NotThereError(
            f"{spec}: not there, looked for {' and '.join(shown)}{more}; name the folder that holds it as "
            f"'{spec}:ROOT', or see `apm datasets prepare {self.name}` ({self.size} images)"
        )


def data_root() -> Path:
    """Where named data sets lie if nothing else is said: `$APM_DATA`, else `glom-apm/data` in the user's cache."""
    if os.environ.get("APM_DATA"):
        return Path(os.environ["APM_DATA"]).expanduser()
    return user_cache("data")


def plural(count: int, one: str, many: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
