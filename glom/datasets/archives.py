"""A zip or tar of pictures, read as the folder that it unpacks to."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from filelock import FileLock

from glom.datasets.base import ImageDataset
from glom.datasets.folder import folder_dataset
from glom.datasets.reading import one_line
from glom.errors import InputError
from glom.runs.artifacts import disk_error
from glom.runs.files import user_cache

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def is_archive(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(ENDINGS)


def archive_dataset(path: Path, split: str = "test", renamed: bool = False) -> ImageDataset:
    """The pictures in an archive, unpacked once into the user's cache; see `glom.datasets.folder.folder_dataset`.

    Raises:
        InputError: no archive or a damaged one, one that reaches outside itself; or as of a folder.
        RunError: the disk is full.
    """
    folder = _unpacked(path)
    inside = folder_dataset(folder, split, renamed)
    stem = path.name[: -len(next(end for end in sorted(ENDINGS, key=len)[::-1] if path.name.lower().endswith(end)))]
    return replace(
        inside,
        name=stem + inside.name.removeprefix(folder.name),
        notes=(*inside.notes, f"{one_line(path.name)} is read as it is unpacked in {one_line(folder)}"),
    )


def _unpacked(path: Path) -> Path:
    """The folder with what the archive holds, whole or not at all."""
    facts = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}".encode()).hexdigest()[:20]
    folder = user_cache("archives") / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                _unpack(path, part)
                part.rename(folder)
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def _unpack(path: Path, folder: Path) -> None:
    where = one_line(path)
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as packed:
                packed.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                _extract(tar, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"{where}: the archive cannot be unpacked ({one_line(error)[:120]})") from error


def _extract(tar: tarfile.TarFile, folder: Path) -> None:
    """What the archive holds, nothing of it outside the folder. Python has a filter for this since 3.11.4."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    for member in tar.getmembers():
        within = PurePosixPath(member.name)
        if within.is_absolute() or ".." in within.parts or not (member.isfile() or member.isdir()):
            raise tarfile.ExtractError(f"{member.name!r} is no file or folder inside it")
        member.mode = 0o755 if member.isdir() else 0o644
    tar.extractall(folder)
