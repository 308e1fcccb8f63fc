"""Fetching the data sets that may be fetched: what would be downloaded, how much, and the download itself."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from glom.datasets.named.catalogue import NAMED
from glom.datasets.named.layouts import Download, NamedSet, data_root
from glom.datasets.reading import one_line
from glom.errors import InputError, RunError, unknown
from glom.runs.events import Event


@dataclass(frozen=True)
class Plan:
    """What preparing a data set would do.

    Attributes:
        name, what, images, licence, source, terms: as in the table of data sets.
        root: where it would be put.
        there: what was found of it already, or "".
        download: how much is to be downloaded, in words; "" where nothing is, or somebody has to be asked for it.
        addresses: from where.
        free: how much the disk has left, in words.
        layout: how it has to lie under the root, one path an entry.
    """

    name: str
    what: str
    images: str
    licence: str
    source: str
    terms: str
    root: Path
    there: str
    download: str
    addresses: tuple[str, ...]
    free: str
    layout: tuple[str, ...]


def make_plan(name: str, root: Path | None = None) -> Plan:
    """What `fetch` would do, and what a person has to do where it cannot.

    Raises:
        InputError: no data set with a layout of that name; what ships needs no preparation.
    """
    if name not in NAMED:
        raise unknown("data set to prepare", name, NAMED, "what ships, folders and manifests need no preparation")
    named, where = NAMED[name], root or data_root()
    variant = named.variants[-1] if named.variants else ""
    found = named.find(where, variant)
    missing = _missing(named, where)
    return Plan(
        name,
        named.what,
        named.size,
        named.licence,
        named.source,
        named.terms,
        where,
        str(found[1]) if found else "",
        human_size(missing.size) if missing.size else "",
        tuple(archive.url for archive in missing.archives),  # torchvision's classes keep theirs to themselves
        human_size(_free(where)),
        tuple(line for layout in named.layouts(variant) for line in layout.shape),
    )


def human_size(size: int) -> str:
    """Bytes in words, powers of ten.

    Example:
        >>> human_size(2_918_471_680), human_size(94_000_000)
        ('2.9 GB', '94 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def _missing(named: NamedSet, root: Path) -> Download:
    variants = named.variants or ("",)
    found = any(named.find(root, variant) for variant in variants)
    return named.download.missing(root, found) if named.download else Download()


def fetch(named: NamedSet, root: Path, told: Callable[[Event[Any]], None] | None = None) -> None:
    """Download what is missing of a data set into `root` and unpack it there.

    Archives are checked against their md5 where one is published, and one that is there already is not fetched again.

    Args:
        told: gets an event for every piece that comes, in megabytes; None for torchvision's own bars.

    Raises:
        InputError: it may not be fetched without asking.
        RunError: no network, a damaged download, too little room.
    """
    if named.download is None:
        raise InputError(f"{named.name} cannot be downloaded from here: {named.terms}; see {named.source}")
    missing = _missing(named, root)
    # An archive stays beside what is unpacked from it.
    if _free(root) < 2 * missing.size:
        needed = human_size(2 * missing.size)
        raise RunError(
            f"{named.name} needs about {needed} in {one_line(root)}, archive and pictures; "
            f"{human_size(_free(root))} are free"
        )
    import torchvision.datasets
    from torchvision.datasets.utils import download_url, extract_archive

    try:
        root.mkdir(parents=True, exist_ok=True)
        # Standard output belongs to results; what a download reports is progress.
        with contextlib.redirect_stdout(sys.stderr), _telling(told) as tell:
            for number, archive in enumerate(missing.archives):
                folder = root / archive.folder
                download_url(archive.url, folder, md5=archive.md5)
                tell(Event("unpacking", number, len(missing.archives)))
                extract_archive(folder / archive.url.rpartition("/")[2], folder)
                tell(Event("unpacking", number + 1, len(missing.archives)))
            if missing.kind:
                build = getattr(torchvision.datasets, missing.kind)
                build(root=str(root), download=True, **missing.arguments)
    except Exception as error:
        reason = one_line(error) or type(error).__name__
        if isinstance(error, URLError) and not isinstance(error, HTTPError):
            reason = f"the network could not be reached: {one_line(error.reason)}"
        raise RunError(f"{named.name}: the download into {one_line(root)} failed ({reason})") from error


@contextlib.contextmanager
def _telling(told: Callable[[Event[Any]], None] | None) -> Iterator[Callable[[Event[Any]], None]]:
    """What tells; and events in the place of the bars that torchvision draws, one a file."""
    from torchvision.datasets import utils

    if told is None:
        yield lambda event: None
        return
    tell = told

    class Bar:
        def __init__(self, total: int | None = None, **_: Any) -> None:
            self.done, self.total = 0, total or 0

        def update(self, size: int) -> None:
            self.done += size
            tell(Event("downloading", self.done / 1e6, self.total / 1e6))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    theirs, utils.tqdm = utils.tqdm, Bar
    try:
        yield tell
    finally:
        utils.tqdm = theirs


def _free(root: Path) -> int:
    """Bytes left where `root` is or would be."""
    place = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(place).free
