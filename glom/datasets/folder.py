"""An image folder: one subfolder a class, or pictures without labels, with or without train/val/test above them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.classes import TABLE, class_list
from glom.datasets.reading import SUFFIXES, one_line
from glom.datasets.sources import FileSource
from glom.errors import InputError

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def folder_dataset(root: Path, split: str = "test", renamed: bool = False) -> ImageDataset:
    """The pictures under a folder.

    * With `train/`, `val/` or `test/` in it, the one `split` names is read; "test" falls back to `val`.
    * Subfolders that hold pictures, at any depth, are classes, and so is an empty subfolder. Their labels follow
      `glom.datasets.classes.class_list`. Pictures lying beside them are counted in `ignored`.
    * Without such subfolders the pictures in the folder are samples without labels.

    What is a picture goes by the file's ending; hidden files are passed over. Nothing is opened here: a file that
    cannot be read fails in `Sample.image`. Ids are paths relative to the folder read, so `DATA` and `DATA/test` agree.

    Args:
        root: an existing folder.
        split: "train", "val" or "test".
        renamed: whether a file of class names follows, see `class_list`.

    Raises:
        InputError: no pictures, no such split, a folder that cannot be listed, a wnid that is not known.
    """
    folder = split_folder(root, split)
    here = _list(folder)
    within = {path.name: list(_walk(path)) for path in here.folders}
    pictures = {name: [path for path in found if _is_picture(path)] for name, found in within.items()}
    keys = [name for name, found in within.items() if pictures[name] or not found]
    loose = [path for path in here.files if _is_picture(path)]
    total = len(here.files) + sum(map(len, within.values()))
    name = _title(folder)
    if any(pictures.values()):
        tables = [folder / TABLE] + ([folder.parent / TABLE] if folder.name.lower() in SPLITS else [])
        try:
            classes = class_list(keys, tables, renamed)
        except InputError as error:
            raise InputError(f"{one_line(folder)}: {error}") from None
        label = {key: index for index, key in enumerate(classes.keys)}
        samples = tuple(_sample(path, folder, label[key]) for key in keys for path in pictures[key])
        ignored = total - len(samples) - (folder / TABLE).is_file()
        return ImageDataset(name, samples, classes.names, keys=classes.keys, ignored=ignored)
    if not loose:
        what = "the folder is empty" if not total else f"no images among its {total} files"
        raise InputError(f"{one_line(folder)}: {what}; expected CLASS/IMAGE.jpg or IMAGE.jpg")
    return ImageDataset(name, tuple(_sample(path, folder, None) for path in loose), ignored=total - len(loose))


def split_folder(root: Path, split: str) -> Path:
    """`root`, or its subfolder for `split` where it is laid out by splits. Raises `InputError` where that is missing.

    A subfolder called `train` is a split if it holds folders itself, or if all its neighbours are splits as well;
    otherwise it is a class, of trains.
    """
    folders = _list(root).folders
    splits = [path for path in folders if path.name.lower() in SPLITS]
    if not splits or (len(splits) < len(folders) and not any(_list(path).folders for path in splits)):
        return root
    found = {SPLITS[path.name.lower()]: path for path in splits}
    asked = SPLITS.get(split.lower(), split)
    if asked == "test" and asked not in found:
        asked = "val"
    if asked not in found:
        names = ", ".join(sorted(path.name for path in splits))
        raise InputError(f"{one_line(root)}: no '{split}' split in it; it has {names}")
    return found[asked]


@dataclass(frozen=True)
class _Listing:
    folders: list[Path]
    files: list[Path]


def _list(folder: Path) -> _Listing:
    """What lies in a folder, hidden names aside, in order of name."""
    listing = _Listing([], [])
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.name.startswith("."):
                    (listing.folders if entry.is_dir() else listing.files).append(Path(entry.path))
    except OSError as error:
        raise InputError(f"{one_line(folder)}: cannot be listed ({error.strerror})") from error
    return listing


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """All files below; links are followed, but never back into a folder they lie in."""
    real = folder.resolve()
    if real in above:
        return
    listing = _list(folder)
    yield from listing.files
    for path in listing.folders:
        yield from _walk(path, (*above, real))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _sample(path: Path, folder: Path, label: int | None) -> Sample:
    return Sample(path.relative_to(folder).as_posix(), label, FileSource(path))


def _title(folder: Path) -> str:
    full = folder.resolve()
    return f"{full.parent.name}/{full.name}" if full.name.lower() in SPLITS else full.name or str(full)
