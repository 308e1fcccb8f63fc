"""Feature grids computed once and kept on the disk, read back memory-mapped.

    cache.json     what the rows are: identity (teacher, size, layer, precision, data), fields, number of rows
    NAME.bin       one field, all rows of one shape, nothing else in it
    rows.bin       the journal, a byte a row: 0 not there, 1 written, 2 passed over (an unreadable picture)
    .lock          held while a process writes

A row's data are flushed to the disk before its byte in the journal, so whatever kills a writer, a row that counts as
written is whole, and the next writer goes on with the others. A cache is found by the fingerprint of its identity and
checked against it when opened: grids of another teacher, size or precision are never read by mistake.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from glom.errors import InputError, RunError
from glom.runs.artifacts import differences, disk_error, read_json, write_json
from glom.runs.files import user_cache

FORMAT = 1
INDEX, JOURNAL = "cache.json", "rows.bin"
ABSENT, WRITTEN, SKIPPED = 0, 1, 2
SPARE = 64 << 20  # bytes left free on the disk, so that results and checkpoints still fit


@dataclass(frozen=True)
class Field:
    """One array of every row: its shape, e.g. (h, w, F), and numpy's name for its numbers, e.g. "float16"."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def row_bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def default_root() -> Path:
    """`glom-apm/grids` in the user's cache folder (`XDG_CACHE_HOME`, else ~/.cache)."""
    return user_cache("grids")


def key(identity: Mapping[str, Any], fields: Mapping[str, Field], rows: int) -> str:
    """The fingerprint a cache is found by: 20 hexadecimal digits, equal exactly where everything is."""
    return hashlib.sha256(json.dumps(_index(identity, fields, rows), sort_keys=True).encode()).hexdigest()[:20]


def _index(identity: Mapping[str, Any], fields: Mapping[str, Field], rows: int) -> dict[str, Any]:
    described = {"identity": dict(identity), "fields": {n: asdict(f) for n, f in fields.items()}, "rows": rows}
    return {"format": FORMAT, **json.loads(json.dumps(described))}


class GridCache:
    """Rows of named fields on the disk.

    Args:
        root: the folder caches lie in, where this one gets a subfolder by its fingerprint; or a cache itself, which
            must then be this one.
        identity: all that decides the rows' contents, as JSON holds it.
        fields: name -> shape and numbers of a row.
        rows: how many there are.

    Raises:
        InputError: a cache of something else, of a newer format, or damaged; no rows.
        RunError: no room for it on the disk.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> with GridCache(root, {"teacher": "t"}, {"grid": Field((2, 2, 3))}, rows=4) as cache:
        ...     cache.write(0, {"grid": np.ones((1, 2, 2, 3), np.float32)})
        ...     cache.missing().tolist()
        [1, 2, 3]
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], fields: Mapping[str, Field], rows: int) -> None:
        if rows < 1 or not fields:
            raise InputError(f"a cache needs rows and fields, got {rows} and {sorted(fields)}")
        self.fields, self.rows = dict(fields), rows
        self.path = root if (root / INDEX).is_file() else root / key(identity, fields, rows)
        self._wanted = _index(identity, fields, rows)
        self._lock: FileLock | None = None
        self._files: dict[str, int] = {}
        if (self.path / INDEX).is_file():
            self._check()
        else:
            self._make()

    # -- opening ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        found = read_json(self.path / INDEX)
        if not isinstance(found, dict) or found.get("format", 0) > FORMAT:
            raise InputError(
                f"{self.path} is a cache of a newer format ({found.get('format')}); choose another `cache`"
            )
        if found != self._wanted:
            old, new = _flat(found), _flat(self._wanted)
            changed = [_short(line) for line in differences(old, new)]
            raise InputError(
                f"{self.path} is a cache of something else ({'; '.join(changed[:3])}); it is not used: choose another "
                "`cache`"
            )
        for name, size in self._sizes().items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != size:
                raise InputError(f"{self.path} is damaged ({name} is not {size:,} bytes long); delete this folder")

    def _make(self) -> None:
        needed = sum(self._sizes().values())
        file = self.path
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path).free
            if needed + SPARE > free:
                raise RunError(
                    f"the disk is too full for the grids: {needed / 2**30:.2f} GiB in {self.path}, {free / 2**30:.2f} "
                    "GiB are free; use `cache` on another disk, `cache_precision` fp16, `limit`, or `no_cache`"
                )
            for name, size in self._sizes().items():
                file = self.path / name
                with file.open("wb") as handle:
                    handle.truncate(size)  # sparse: room is taken as rows are written
        except OSError as error:
            raise disk_error(error, file) from error
        write_json(self.path / INDEX, self._wanted)  # last: a folder without it was never begun

    def _sizes(self) -> dict[str, int]:
        return {**{f"{n}.bin": self.rows * f.row_bytes for n, f in self.fields.items()}, JOURNAL: self.rows}

    # -- reading ------------------------------------------------------------------------------------------------------

    def marks(self) -> NDArray[np.uint8]:
        """The journal, (rows,): `ABSENT`, `WRITTEN` or `SKIPPED` for each row."""
        return np.fromfile(self.path / JOURNAL, dtype=np.uint8)

    def missing(self) -> NDArray[np.int64]:
        """Rows that are neither written nor passed over."""
        return np.flatnonzero(self.marks() == ABSENT)

    def written(self) -> NDArray[np.int64]:
        """Rows that can be read."""
        return np.flatnonzero(self.marks() == WRITTEN)

    def read(self, name: str) -> NDArray[Any]:
        """One field, memory-mapped: (rows, *shape). Rows not `written` hold zeros."""
        field = self.fields[name]
        return np.memmap(self.path / f"{name}.bin", dtype=field.dtype, mode="r", shape=(self.rows, *field.shape))

    # -- writing ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> GridCache:
        """Become the one writer. Raises `InputError` where there is another."""
        self._lock = FileLock(self.path / ".lock")
        try:
            self._lock.acquire(timeout=0)
            for name in self._sizes():
                self._files[name] = os.open(self.path / name, os.O_RDWR)
        except Timeout as error:
            raise InputError(f"another process is writing the grids in {self.path}; wait for it to end") from error
        except OSError as error:
            self.__exit__(None, None, None)
            raise disk_error(error, self.path) from error
        return self

    def write(self, first: int, values: Mapping[str, NDArray[Any]], marks: Sequence[int] | None = None) -> None:
        """Write consecutive rows: the data, flushed, and only then the journal.

        Args:
            first: number of the first row.
            values: (n, *shape) for every field.
            marks: `WRITTEN` or `SKIPPED` for each of them; all written if None.

        Raises:
            InputError: values of another shape or range (float16 reaches to 65,504).
            RunError: the disk is full. The rows so far stay, and the next run goes on with the others.
        """
        count = len(next(iter(values.values())))
        journal = np.full(count, WRITTEN, np.uint8) if marks is None else np.asarray(marks, np.uint8)
        for name, field in self.fields.items():
            block = np.asarray(values[name])
            if block.shape != (count, *field.shape) or first + count > self.rows:
                raise InputError(f"'{name}' rows {first} to {first + count} of {self.rows} cannot be {block.shape}")
            with np.errstate(over="ignore"):
                small = np.ascontiguousarray(block, dtype=field.dtype)
            if small.dtype.kind == "f" and not np.isfinite(small).all():
                raise InputError(f"'{name}' is not finite in {field.dtype}; cache it in fp32")
            self._put(f"{name}.bin", first * field.row_bytes, small.tobytes())
        self._put(JOURNAL, first, journal.tobytes())

    def _put(self, name: str, offset: int, data: bytes) -> None:
        # Written, not mapped: on a full disk a mapped page kills the process where a write raises.
        try:
            rest = memoryview(data)
            while rest:
                done = os.pwrite(self._files[name], rest, offset)
                rest, offset = rest[done:], offset + done
            os.fsync(self._files[name])
        except OSError as error:
            raise disk_error(error, self.path / name) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        if self._lock is not None:
            self._lock.release()


def _flat(index: Mapping[str, Any]) -> dict[str, Any]:
    return {**index.get("identity", {}), "fields": index.get("fields"), "rows": index.get("rows")}


def _short(text: str) -> str:
    return text if len(text) <= 90 else f"{text[:87]}..."
