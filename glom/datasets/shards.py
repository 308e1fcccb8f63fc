"""WebDataset shards: tar files whose members of one name and several endings are a sample each.

    wds:DIR/data-{000..009}.tar      a brace pattern, also with *; or one file
    wds:DIR                          a folder of shards, in `test/`, `val/`, `train/` or as they are

(The format: webdataset.github.io; the folders with `classnames.txt` and `zeroshot_classification_templates.txt` beside
the splits are those of clip-benchmark's sets.) Members are looked up once and read where they lie, so that samples have
names, any process can read any of them, and nothing is unpacked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.folder import split_folder
from glom.datasets.labels import parse_labels
from glom.datasets.reading import SUFFIXES, one_line
from glom.datasets.sources import Shard, TarSource
from glom.errors import InputError

LABEL = "cls"
NAMES, TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
INSTALL = "pip install 'glom-apm[wds]'"
BLOCK = tarfile.BLOCKSIZE


@dataclass
class _Found:
    """A sample so far: its picture, and its label as text."""

    picture: TarSource | None = None
    label: str = ""


def shard_dataset(spec: str, root: Path | None = None, split: str = "test") -> ImageDataset:
    """The pictures of some shards; labels are the `.cls` members (numbers, or names), classes those of the folder.

    Args:
        spec: a folder, a file, or a pattern with braces or stars.
        root: the folder it is relative to.
        split: of a folder with splits; "test" falls back to `val`.

    Raises:
        InputError: the extra is not installed; no shard, one that is missing, cut, compressed or no tar; members that
            are no pictures, or labels that are none.
    """
    paths = shard_paths(spec, root, split)
    samples: list[tuple[str, TarSource]] = []
    cells: list[str] = []
    passed: dict[str, int] = {}
    counted = _Numbers()
    for path in paths:
        for key, found in _groups(path, counted).items():
            if found.picture is None:
                passed["samples without a picture"] = passed.get("samples without a picture", 0) + 1
                continue
            samples.append((f"{path.stem}/{key}", found.picture))
            cells.append(found.label)
    name = _title(paths[0])
    if not samples:
        raise InputError(f"{one_line(spec)}: no images in {_count(paths)}")
    try:
        labels = parse_labels(cells)
    except InputError as error:
        raise InputError(f"{one_line(spec)}: member .{LABEL}: {error}") from None
    near = [paths[0].parent, paths[0].parent.parent]
    names, keys, numbers = _classes(labels.numbers, labels.names, _lines(near, NAMES))
    templates = tuple(line.replace("{c}", "{}") for line in _lines(near, TEMPLATES) or ())
    made = tuple(Sample(id, label, source) for (id, source), label in zip(samples, numbers, strict=True))
    return ImageDataset(name, made, names, templates or None, keys, passed)


def shard_paths(spec: str, root: Path | None = None, split: str = "test") -> list[Path]:
    """The files that `spec` names. Raises `InputError`: none, or one of a pattern that is missing."""
    if "://" in spec or spec.startswith("pipe:"):
        raise InputError(f"{one_line(spec)}: shards are read where they lie; fetch them first, and name the files")
    text = str((root or Path()) / Path(spec).expanduser())
    if Path(text).is_dir():
        folder = Path(text)
        found = sorted(folder.glob("*.tar")) or sorted(split_folder(folder, split).glob("*.tar"))
        if not found:
            raise InputError(f"{one_line(text)}: no shards in it; expected *.tar, or test/*.tar")
        return sorted(found, key=lambda path: (len(path.name), path.name))  # 2.tar before 10.tar
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise InputError(f"wds: needs the package webdataset: {INSTALL}") from error
    paths = []
    for one in expand_urls(text):
        matched = sorted(Path(one).parent.glob(Path(one).name)) if "*" in Path(one).name else [Path(one)]
        paths += matched
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        there = f"; {len(paths) - len(missing)} of {len(paths)} are there" if len(paths) > 1 else ""
        raise InputError(f"{one_line(missing[0] if missing else spec)}: no such shard{there}")
    return paths


class _Numbers(list[int]):
    """0, 1, 2, ..., each one object however many shards count by it."""

    def at(self, place: int) -> int:
        self.extend(range(len(self), place + 1))
        return self[place]


def _groups(path: Path, numbers: _Numbers) -> Mapping[str, _Found]:
    """The samples of a shard by key: what a member is called up to the first dot of its name."""
    where, shard, found = one_line(path), Shard(str(path)), dict[str, _Found]()
    end = 0
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            size = path.stat().st_size
            for member in _members(tar):
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                if member.offset_data + member.size > size:
                    raise InputError(f"{where}: the shard is cut within {one_line(member.name)}; fetch it anew")
                folder, slash, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                if not member.isfile() or name.startswith("."):
                    continue
                one = found.setdefault(folder + slash + key, _Found())
                if f".{ending.lower()}" in SUFFIXES and one.picture is None:
                    one.picture = TarSource(shard, numbers.at(len(shard.offsets)))
                    shard.offsets.append(member.offset_data)
                elif ending.lower() == LABEL:
                    file.seek(member.offset_data)
                    one.label = file.read(member.size).decode("utf-8", "replace").strip()
            file.seek(end)
            if file.read(BLOCK) != bytes(BLOCK):
                raise InputError(f"{where}: the shard is cut after {len(found):,} samples; fetch it anew")
    except (tarfile.TarError, OSError, EOFError) as error:
        what = f"is cut after {len(found):,} samples" if found else "is no tar file, or a compressed one"
        raise InputError(f"{where}: the shard {what} ({one_line(error)})") from error
    return found


def _members(tar: Any) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members = []  # kept otherwise, a KiB each
        yield member


def _classes(
    numbers: Sequence[int | None] | None, names: Sequence[str | None] | None, listed: Sequence[str] | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, Sequence[int | None]]:
    """Names, keys and labels: what the folder lists, else what the labels say themselves."""
    if numbers is not None:
        most = max((n for n in numbers if n is not None), default=-1)
        if listed and most >= len(listed):
            raise InputError(f"label {most} is beyond the {len(listed)} names of {NAMES}")
        return (tuple(listed) if listed else None), None, numbers
    known = tuple(listed or sorted({name for name in names or () if name is not None}))
    place = {name: label for label, name in enumerate(known)}
    unknown = next((name for name in names or () if name is not None and name not in place), None)
    if unknown is not None:
        raise InputError(f"label '{one_line(unknown)}' is none of the {len(known)} names of {NAMES}")
    return known or None, known or None, [None if name is None else place[name] for name in names or ()]


def _lines(folders: Sequence[Path], name: str) -> list[str] | None:
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        return None
    return [line.strip() for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]


def _title(path: Path) -> str:
    folder = path.absolute().parent
    return folder.parent.name if folder.name in ("train", "val", "test") else folder.name


def _count(paths: Sequence[Path]) -> str:
    return f"{len(paths)} shard{'s' if len(paths) > 1 else ''}"
