"""An image folder: one subfolder a class, or pictures without labels, with or without train/val/test above them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.classes import EMPTY, OPAQUE, TABLE, WNID, class_list
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
# `train2017` and `training_set` are splits as well.
SPLIT = re.compile(rf"({'|'.join(SPLITS)})(?:[_-]?(?:set|data|images|imgs|20\d\d))?", re.IGNORECASE)
# What programs leave among people's files, in small letters; names that begin with a dot are hidden anyway.
FOREIGN = frozenset(
    {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found",
     "__pycache__"}
)  # fmt: skip
IDX_FILE = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz)?")  # MNIST, see `named.idx`
SHOWN = 4  # names of folders in a message


def folder_dataset(root: Path, split: str = "test", renamed: bool = False) -> ImageDataset:
    """The pictures under a folder.

    * The folder read is `split_folder`'s: inside `train/`, `val/` or `test/`, and inside wrapper folders.
    * Subfolders that hold pictures, at any depth, are classes. Their labels follow `glom.datasets.classes.class_list`.
    * Without such subfolders the pictures in the folder are samples without labels.

    What is a picture goes by the file's ending. Everything else - other files, pictures beside the class folders, empty
    and hidden folders, folders such as `__MACOSX` - is counted in `passed_over`. Nothing is opened here: a file that
    cannot be read fails in `Sample.image`. Ids are paths relative to the folder read, so `DATA` and `DATA/test` agree.

    Args:
        root: an existing folder.
        split: "train", "val" or "test".
        renamed: whether a file of class names follows, see `class_list`; empty folders are then classes too, as the
            file may name them.

    Raises:
        InputError: no pictures, no such split, a folder that cannot be listed, a wnid that is not known, folders that
            hold the same folders each, so that these are the classes.
    """
    folder, notes, passed = _find(root, split)
    here = _list(folder, passed)
    within = {path.name: list(_walk(path, passed)) for path in here.folders}
    pictures = {name: [path for path in found if _is_picture(path)] for name, found in within.items()}
    empty = [name for name, found in within.items() if not found]
    keys = [name for name in within if pictures[name]] + (empty if renamed else [])
    loose = [path for path in here.files if _is_picture(path)]
    files = [*here.files, *(path for found in within.values() for path in found)]
    passed[EMPTY] += len(empty)
    passed["folders without pictures"] += sum(bool(found) and not pictures[name] for name, found in within.items())
    passed.update(kind for path in files if (kind := _other(path, folder)))
    name = _title(root, folder)
    if any(pictures.values()):
        passed["pictures beside the class folders"] += len(loose)
        notes += _nested(folder, {key: pictures[key] for key in within if pictures[key]})
        try:
            classes = class_list(keys, _tables(root, folder), renamed)
        except InputError as error:
            raise InputError(f"{one_line(folder)}: {error}") from None
        label = {key: index for index, key in enumerate(classes.keys)}
        samples = tuple(_sample(path, folder, label[key]) for key in keys for path in pictures[key])
        tables = [path for path in here.files if _ending(path) in (".csv", ".tsv") and _id(path, folder) != TABLE]
        if len(keys) == 1 and tables:
            notes.append(f"where {one_line(tables[0])} says what they show, give that file in place of the folder")
        return ImageDataset(name, samples, classes.names, None, classes.keys, +passed, tuple(notes))
    if not loose:
        raise InputError(f"{one_line(folder)}: {_nothing(files)}; expected CLASS/IMAGE.jpg or IMAGE.jpg")
    samples = tuple(_sample(path, folder, None) for path in loose)
    return ImageDataset(name, samples, passed_over=+passed, notes=tuple(notes))


def split_folder(root: Path, split: str) -> Path:
    """The folder that is read for a split: `root`, or what lies in it.

    * Where it is laid out by splits, its subfolder for `split`; "test" falls back to `val`. A subfolder called `train`
      (`train2017`, `training_set`) is a split if it holds folders itself, or if all its neighbours with pictures are
      splits as well; otherwise it is a class, of trains.
    * Where all pictures lie in one subfolder that holds nothing but folders, that subfolder, and so on.

    Raises:
        InputError: no such split, a folder that cannot be listed.
    """
    return _find(root, split)[0]


def _find(root: Path, split: str) -> tuple[Path, list[str], Counter[str]]:
    """The folder to read, what to say of it, and what was passed over on the way."""
    folder, inside, notes, passed = root, False, list[str](), Counter[str]()
    while True:
        left = Counter[str]()
        here = _list(folder, left)
        left.update(kind for path in here.files if (kind := _other(path, folder)))
        splits = [] if inside else _splits(here)
        if splits:
            inside, folder = True, _choose(folder, splits, split)
            left["pictures beside the splits"] += sum(map(_is_picture, here.files))
            left["folders beside the splits"] += len(here.folders) - len(splits)
            passed.update(left)
            continue
        full = list(islice((path for path in here.folders if _holds_pictures(path)), 2))
        if len(full) != 1 or any(map(_is_picture, here.files)) or not _wraps(full[0]):
            return folder, notes, passed
        notes = [f"all its pictures lie in {one_line(full[0].relative_to(root))}, which is read in its place"]
        folder = full[0]
        passed.update(left)


def _splits(here: _Listing) -> list[Path]:
    """The subfolders that are splits; see `split_folder`."""
    splits = [path for path in here.folders if SPLIT.fullmatch(path.name)]
    if not splits or any(_list(path).folders for path in splits):
        return splits
    others = (path for path in here.folders if path not in splits)
    return [] if any(map(_holds_pictures, others)) else splits


def _choose(folder: Path, splits: Sequence[Path], split: str) -> Path:
    ordered = sorted(splits, key=lambda path: path.name.lower() in SPLITS)  # of train2017 and train, train
    found = {_split(path): path for path in ordered}
    asked = SPLITS.get(split.lower(), split)
    if asked == "test" and asked not in found:
        asked = "val"
    if asked not in found:
        names = ", ".join(sorted(path.name for path in splits))
        raise InputError(f"{one_line(folder)}: no '{split}' split in it; it has {names}")
    return found[asked]


def _split(folder: Path) -> str | None:
    """ "train", "val" or "test" by its name, or None."""
    match = SPLIT.fullmatch(folder.name)
    return SPLITS[match[1].lower()] if match else None


def _wraps(folder: Path) -> bool:
    """Whether it holds pictures in folders only."""
    here = _list(folder)
    return not any(map(_is_picture, here.files)) and any(map(_holds_pictures, here.folders))


def _nested(folder: Path, pictures: Mapping[str, Sequence[str]]) -> list[str]:
    """What to say of class folders that hold only folders, as domains do whose folders are the classes.

    Raises:
        InputError: they hold folders of the same names.
    """
    if len(pictures) < 2 or all(WNID.fullmatch(key) for key in pictures):
        return []
    inner, most = Counter[str](), 0
    for key, found in pictures.items():
        below = [_id(path, folder / key).partition("/") for path in found]
        if not all(slash for _, slash, _ in below):
            return []
        own = {name for name, _, _ in below}
        inner.update(own)
        most = max(most, len(own))
    if most < 2:  # CLASS/images/NAME.jpg, as in Tiny ImageNet
        return []
    shared = [name for name, count in inner.items() if count > 1]
    outer, names = _some(sorted(pictures)), _some(sorted(inner))
    what = f"its {len(pictures)} folders ({outer}) hold only folders ({names})"
    advice = f"give one of them, such as {one_line(folder / min(pictures))}"
    often = 2 * sum(inner[name] for name in shared) >= inner.total()
    if len(shared) < 2 or not often or all(OPAQUE.fullmatch(name) for name in shared):
        return [f"{what}: each of the {len(pictures)} is one class; where the inner folders are the classes, {advice}"]
    if all(SPLIT.fullmatch(name) for name in shared):
        raise InputError(
            f"{one_line(folder)}: {what}, so that its splits would be mixed; lay it out as "
            f"{one_line(min(shared))}/{one_line(min(pictures))}"
        )
    raise InputError(
        f"{one_line(folder)}: {what} of the same names, so these seem to be the classes; {advice}, or list the "
        "pictures and their classes in a manifest"
    )


def _some(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


@dataclass(frozen=True)
class _Listing:
    """Files by text: a `Path` each, of a hundred thousand, would leave its name among those that Python interns."""

    folders: list[Path]
    files: list[str]


def _list(folder: Path, passed: Counter[str] | None = None) -> _Listing:
    """What lies in a folder in order of name, without what is hidden or another program's; `passed` counts that."""
    listing, left = _Listing([], []), Counter[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    left["hidden files and folders"] += 1
                elif entry.is_dir() and entry.name.lower() in FOREIGN:
                    left[f"{entry.name} folders"] += 1
                elif entry.is_dir():
                    listing.folders.append(Path(entry.path))
                else:
                    listing.files.append(entry.path)
    except OSError as error:
        raise InputError(f"{one_line(folder)}: cannot be listed ({error.strerror})") from error
    if passed is not None:
        passed.update(left)
    return listing


def _walk(folder: Path, passed: Counter[str] | None = None, above: tuple[Path, ...] = ()) -> Iterator[str]:
    """All files below; links are followed, but never back into a folder they lie in."""
    real = folder.resolve()
    if real in above:
        return
    listing = _list(folder, passed)
    yield from listing.files
    for path in listing.folders:
        yield from _walk(path, passed, (*above, real))


def _holds_pictures(folder: Path) -> bool:
    return any(map(_is_picture, _walk(folder)))


def _ending(path: str) -> str:
    """As `Path.suffix`, in small letters."""
    stem, _, ending = path.rpartition(os.sep)[2].rpartition(".")
    return f".{ending.lower()}" if stem and ending else ""


def _is_picture(path: str) -> bool:
    return _ending(path) in SUFFIXES


def _id(path: str, folder: Path) -> str:
    """Where a file lies in a folder above it, with forward slashes."""
    return path.removeprefix(str(folder)).lstrip(os.sep).replace(os.sep, "/")


def _other(path: str, folder: Path) -> str:
    """What kind of file it is that is passed over; "" for a picture, and for the table of classes in its folder."""
    if _is_picture(path) or _id(path, folder) == TABLE:
        return ""
    return f"{_ending(path)} files" if _ending(path) else "files without an ending"


def _nothing(files: Sequence[str]) -> str:
    """Why there is no picture among some files."""
    if not files:
        return "the folder is empty"
    arrays = next((path for path in map(Path, files) if IDX_FILE.fullmatch(path.name)), None)
    if arrays is not None:
        here = arrays.parent
        return f"no images but MNIST's arrays; give mnist:{one_line(here)} or fashion-mnist:{one_line(here)}"
    kinds = Counter(map(_ending, files))
    return f"no images among its {len(files)} files ({_some([kind or 'no ending' for kind, _ in kinds.most_common()])})"


def _tables(root: Path, folder: Path) -> list[Path]:
    """Where a table of classes may lie: in the folder read, and above it where that is a split or a wrapper."""
    above = [path for path in folder.parents if path == root or root in path.parents]
    if not above and _split(folder):
        above = [folder.parent]
    return [place / TABLE for place in (folder, *above)]


def _sample(path: str, folder: Path, label: int | None) -> Sample:
    name = _id(path, folder)
    return Sample(name, label, FileSource(name, folder))


def _title(root: Path, folder: Path) -> str:
    """Its name, with the split's where one is read; without the wrappers between."""
    full, base = folder.resolve(), root.resolve()
    split = next((path for path in (full, *full.parents) if path == base or _split(path)), base)
    if _split(split):
        outer = base if split != base else base.parent
        return f"{outer.name}/{split.name}"
    return base.name or str(base)
