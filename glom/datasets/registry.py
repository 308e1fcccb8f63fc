"""Data sets by name: one decorator adds one, one function opens any, folders and manifests included."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from glom.datasets.archives import archive_dataset, is_archive
from glom.datasets.base import ImageDataset
from glom.datasets.classes import rename_classes
from glom.datasets.folder import folder_dataset
from glom.datasets.manifest import manifest_dataset
from glom.datasets.named.catalogue import NAMED
from glom.datasets.named.layouts import NamedSet, NotThereError, data_root
from glom.datasets.prepare import fetch, human_size
from glom.datasets.prompts import TEMPLATES
from glom.datasets.reading import one_line
from glom.datasets.remarks import remark
from glom.datasets.rows import parse_rows, rows_dataset
from glom.datasets.samples_build import read_sample
from glom.datasets.shards import shard_dataset, shard_paths
from glom.errors import InputError, unknown
from glom.registry import Registry
from glom.runs.notices import notice

HUB, SHARDS = "hf", "wds"  # before a colon

Builder = Callable[[Path, str, bool], ImageDataset]


@dataclass(frozen=True)
class DatasetInfo:
    """One row of the table of data sets.

    Attributes:
        name: what opens it.
        what: its contents in a few words.
        size: number of images.
        licence: as its authors state it.
        source: where it comes from.
        offline: whether it opens on a machine that never had a network.
        variant: what has to follow the name, such as `CORRUPTION/SEVERITY`, or "".
        download: how much `apm datasets prepare` fetches, or "" where it has to be asked for.
        terms: what to know before.
        layout: how it may lie under a root, one path an entry.
        tables: the poster's tables that need it.
    """

    name: str
    what: str
    size: str
    licence: str
    source: str
    offline: bool = False
    variant: str = ""
    download: str = ""
    terms: str = ""
    layout: tuple[str, ...] = ()
    tables: tuple[int, ...] = ()


# Added by the decorator; those with layouts are in `glom.datasets.named.catalogue`.
DATASETS: Registry[tuple[DatasetInfo, Builder]] = Registry("data set")


def register_dataset(
    name: str, what: str, size: str, licence: str, source: str, offline: bool = False
) -> Callable[[Builder], Builder]:
    """Decorate `build(root, split, download) -> ImageDataset`, so that `open_dataset(name)` calls it.

    Args:
        name: lower case letters, digits, hyphens and underscores; must be new. The others are `DatasetInfo`'s.

    Raises:
        InputError: the name is taken, or not a name.
    """
    if name in NAMED:
        raise InputError(f"the data set '{name}' is registered already")
    info = DatasetInfo(name, what, size, licence, source, offline)
    return DATASETS.register(name, what, lambda build: (info, build))


def dataset_names() -> list[DatasetInfo]:
    """Every registered data set, those that need no network first, then by name."""
    found = [info for info, _ in DATASETS.values()] + [_info(named) for named in NAMED.values()]
    return sorted(found, key=lambda info: (not info.offline, info.name))


def _info(named: NamedSet) -> DatasetInfo:
    layouts = named.layouts(named.variants[-1] if named.variants else "")
    shape = tuple(line for layout in layouts for line in layout.shape)
    fetched = human_size(named.download.size) if named.download else ""
    parts = (named.name, named.what, named.size, named.licence, named.source, False, named.variant, fetched)
    return DatasetInfo(*parts, named.terms, shape, named.tables)


def open_dataset(
    spec: str,
    root: Path | None = None,
    split: str = "test",
    classes_file: Path | None = None,
    download: bool = False,
) -> ImageDataset:
    """Open a data set.

    Args:
        spec: a registered name (`cifar10-sample`, `imagenet-c/fog/5`), a name and the folder that holds it
            (`cifar10:DIR`) or a split file of CoOp's (`dtd:DIR/split_zhou_DescribableTextures.json`), a folder of
            images, a zip or tar of one, a `.csv` or `.tsv` manifest, a `.parquet` file, `hf:` and a data set of the Hub
            (`glom.datasets.rows`), `wds:` and shards (`glom.datasets.shards`). A name goes before a folder of that
            name; `./cifar10` is the folder.
        root: the folder that holds a named data set, or that `spec` is relative to (default: `data_root()`, and for a
            path the working directory before it).
        split: "train", "val" or "test", as far as there are such; ignored by manifests and undivided folders.
        classes_file: class names, one a line, see `glom.datasets.classes.rename_classes`.
        download: fetch a named data set that is not there.

    What was passed over, and what else should be known, is in its `remarks` and is said as `glom.runs.notices.notice`.

    Raises:
        NotThereError: a named data set of which nothing was found; an `InputError`, as all of these.
        InputError: nothing of that name, an empty folder, a file that is no manifest, class names that do not fit, a
            named data set that is damaged, or lists pictures that are not there.
        RunError: a download failed.

    Example:
        >>> dataset = open_dataset("cifar10-sample")
        >>> len(dataset), dataset.classes[:2], dataset[0].image().size
        (200, ('airplane', 'automobile'), (32, 32))
    """
    dataset = _open(spec, root, split, classes_file is not None, download)
    if classes_file is not None:
        dataset = rename_classes(dataset, Path(classes_file))
    dataset = replace(dataset, notes=(*dataset.notes, *_general(dataset)))
    for text in dataset.remarks:
        notice(f"{dataset.name}: {text}")
    if remark(spec):
        notice(remark(spec))
    return dataset


def split_to_learn_from(spec: str) -> str:
    """ "train", or what a named set without such a split has in its place: PACS's domains are all "test"."""
    name, _, variant = spec.partition(":")[0].partition("/")
    splits = NAMED[name].splits(variant) if name in NAMED and bool(NAMED[name].variants) >= bool(variant) else []
    return splits[0] if splits and "train" not in splits else "train"


def _general(dataset: ImageDataset) -> Iterator[str]:
    """What is said of any data set, whatever reader opened it."""
    if dataset.classes is not None and len(dataset.classes) == 1:
        yield f"it has one class, '{one_line(dataset.classes[0])}': every answer will be right"
    without = sum(sample.label is None for sample in dataset.samples)
    if 0 < without < len(dataset):
        yield f"{without:,} of its {len(dataset):,} pictures {'has' if without == 1 else 'have'} no label"


def _open(spec: str, root: Path | None, split: str, renamed: bool, download: bool) -> ImageDataset:
    if not spec.strip():
        raise InputError("no data set named: give a folder, a manifest or a registered name")
    named, colon, place = spec.partition(":")
    name, slash, variant = named.partition("/")
    if named == HUB and place:
        return rows_dataset(place, split, renamed)
    if named == SHARDS and place:
        return shard_dataset(place, root, split)
    if place or not colon:
        where = Path(place).expanduser() if place else root or data_root()
        if named in DATASETS:
            return DATASETS[named][1](where, split, download)
        if name in NAMED and bool(NAMED[name].variants) >= bool(slash):
            if download and NAMED[name].find(where, variant) is None:
                fetch(NAMED[name], where)
            try:
                found = NAMED[name].open(where, split, variant)
                if not colon and Path(spec).is_dir() and Path(spec).absolute() != (where / spec).absolute():
                    here = f"the named data set in {where}; the folder of that name here is opened as ./{spec}"
                    found = replace(found, notes=(*found.notes, here))
                return found
            except NotThereError as error:
                if colon or not Path(spec).is_dir():
                    raise
                raise NotThereError(f"{error}; the folder of that name here is opened as ./{spec}") from None
    path = _path(spec, root)
    if path.is_dir():
        return folder_dataset(path, split, renamed)
    if path.suffix.lower() == ".parquet":
        return rows_dataset(str(path), split, renamed)
    return archive_dataset(path, split, renamed) if is_archive(path) else manifest_dataset(path, renamed)


def check_spec(spec: str) -> None:
    """Whether `open_dataset` would find something, in no time: neither lists a folder nor imports anything heavy.

    Raises:
        InputError: no data set, file, folder or shard of that name, or a named one that is not there.
    """
    named, colon, place = spec.partition(":")
    name, slash, variant = named.partition("/")
    if named == HUB and place:
        parse_rows(place)
        return
    if named == SHARDS and place:
        shard_paths(place)
        return
    if named in DATASETS and (place or not colon):
        return
    if name in NAMED and (place or not colon) and bool(NAMED[name].variants) >= bool(slash):
        where = Path(place).expanduser() if place else data_root()
        if NAMED[name].find(where, variant) is None and (colon or not Path(spec).is_dir()):
            raise NAMED[name].not_there(where, variant)
    elif spec.strip():
        _path(spec, None)


def _path(spec: str, root: Path | None) -> Path:
    """The file or folder that `spec` names where it names no registered data set. Raises `InputError` for neither."""
    named, colon, _ = spec.partition(":")
    path = Path(spec).expanduser()
    for place in (path, data_root() / path) if root is None else (root / path,):
        try:
            if place.exists():
                return place
        except (OSError, ValueError):
            continue
    path = path if root is None else root / path
    if re.fullmatch(r"[\w-]+", named):
        also = f" or {one_line(data_root())}" if root is None else ""
        hint = f"and there is no file or folder of that name in {one_line(path.absolute().parent)}{also}"
        raise unknown("data set", named, [*DATASETS, *NAMED], "" if colon else hint)
    raise InputError(f"{one_line(path)}: no such file or folder")


@register_dataset(
    "cifar10-sample",
    what="CIFAR-10, 20 images a class",
    size="200",
    licence="MIT",
    source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
    offline=True,
)
def _cifar10_sample(root: Path, split: str, download: bool) -> ImageDataset:
    if split != "test":
        raise unknown("split of cifar10-sample", split, ["test"])
    archive = files("glom.datasets") / "samples" / "cifar10-sample.zip"
    return read_sample(archive.read_bytes(), "cifar10-sample", TEMPLATES["cifar10"])
