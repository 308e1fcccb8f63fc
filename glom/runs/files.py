"""Files as results need them: whole or not there at all, in UTF-8 whatever a name holds, under names a disk can take.

A file name is bytes; where they are no UTF-8, Python keeps each such byte as a lone surrogate (PEP 383), which no
encoding can write. Text written here has them as `\\udcXX`, JSON's own spelling: what is read back is the same string.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from glom.errors import RunError

LONGEST = 200  # bytes of a stem; a name has at most 255 on all usual disks, and results add words and endings


def disk_error(error: OSError, path: Path) -> RunError:
    """The one-line `RunError` for a write that failed."""
    if error.errno == errno.ENOSPC:
        return RunError(f"the disk is full: {path} could not be written; free some space and run again")
    return RunError(f"{path} could not be written: {error.strerror or error}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write in; at the end it takes the place of `path` in one step, on an error `path` stays as it was.

    Raises:
        RunError: the disk is full, or the file or its folder cannot be made.
    """
    # Named apart from `path`: whose name may be as long as a disk allows.
    temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        if temporary.is_file():
            temporary.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, never half. Raises `RunError` where it cannot."""
    with replacing(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """As `write_whole`, in UTF-8; lone surrogates as `\\udcXX`."""
    write_whole(path, to_bytes(text))


def to_bytes(text: str) -> bytes:
    """UTF-8, lone surrogates as `\\udcXX`: inside a JSON string that is what stands for them.

    Example:
        >>> json.loads(to_bytes(json.dumps("ni\\udcf1o \\u00e9", ensure_ascii=False)))
        'ni\\udcf1o é'
    """
    return text.encode("utf-8", "backslashreplace")


def key_bytes(name: str) -> bytes:
    """A name as what is hashed: UTF-8, or the very bytes of a file name that are none."""
    return name.encode("utf-8", "surrogateescape")


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """One JSON text and a line break. Raises `TypeError` and `ValueError` for what JSON cannot hold, as NaN."""
    return to_bytes(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def file_stem(path: str | Path, taken: Collection[str] = ()) -> str:
    """What results of a picture are called: its file's stem, cut where nothing could be added to it.

    A stem that is `taken`, as by a picture of that name from another folder, is told apart by a hash of the path.

    Example:
        >>> file_stem("a/cat.png"), len(file_stem("x" * 251 + ".png"))
        ('cat', 200)
    """
    stem, mark = Path(path).stem, hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    if len(os.fsencode(stem)) > LONGEST:
        stem = os.fsencode(stem)[: LONGEST - 9].decode("utf-8", "ignore") + f"-{mark}"
    return stem if stem not in taken else f"{stem}-{mark}"


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """Each path's last parts, as few as tell the files apart; equal paths stay equal.

    Example:
        >>> short_names(["data/cat/0.jpg", "data/dog/0.jpg"])
        ['cat/0.jpg', 'dog/0.jpg']
    """
    parts = [Path(path).parts for path in paths]
    longest = max(map(len, parts), default=1)
    different = len(set(parts))
    depth = next((d for d in range(1, longest) if len({p[-d:] for p in parts}) == different), longest)
    return [str(Path(*p[-depth:])) for p in parts]


def user_cache(part: str) -> Path:
    """`glom-apm/PART` in the user's cache folder: `$XDG_CACHE_HOME`, else ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "glom-apm" / part
