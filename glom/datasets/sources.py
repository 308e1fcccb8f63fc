"""Where a sample's pixels lie: a file or a part of one, bytes in memory, a row of an array. Each can be read and be
identified.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from glom.datasets.reading import one_line, pixel_limit, read_image, too_large
from glom.errors import InputError

# Files up to this size are hashed whole, larger ones by their size and both ends: fingerprints stay cheap.
WHOLE = 4 << 20
END = 1 << 20
UNREADABLE = "unreadable"  # the digest of what cannot be read


class Source(Protocol):
    """One picture, not yet read."""

    def image(self, max_pixels: int | None) -> Image.Image:
        """An RGB picture; `InputError` where it cannot be read."""
        ...

    def digest(self) -> str:
        """A hex digest of the content, the same wherever it lies; never raises."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A picture in a file of its own: `name`, from `folder` where there is one.

    A hundred thousand share one folder, and its name may be the sample's id: a `Path` each would be 400 bytes.
    """

    name: str | Path
    folder: Path | None = None

    @property
    def path(self) -> Path:
        """Where it lies."""
        return Path(self.name) if self.folder is None else self.folder / self.name

    def image(self, max_pixels: int | None) -> Image.Image:
        return read_image(self.path, max_pixels)

    def digest(self) -> str:
        """sha256 over the size and the content; of files above 4 MiB, over the size and the first and last MiB."""
        try:
            path = self.path
            if not path.is_file():
                return UNREADABLE
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256(f"{size}\n".encode())
                if size <= WHOLE:
                    digest.update(file.read())
                else:
                    digest.update(file.read(END))
                    file.seek(size - END)
                    digest.update(file.read(END))
        except (OSError, ValueError):
            # Named by the data set but not readable: part of what the data set is, and recorded as skipped in a run.
            return UNREADABLE
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class BytesSource:
    """A picture file held in memory; `name` says in errors where it came from."""

    data: bytes
    name: str

    def image(self, max_pixels: int | None) -> Image.Image:
        return read_image(self.data, max_pixels, name=self.name)

    def digest(self) -> str:
        """As a file with these bytes."""
        return bytes_digest(self.data)


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar, and where files in it begin: their headers are the blocks before."""

    path: str
    offsets: array[int] = field(default_factory=lambda: array("Q"))


@dataclass(frozen=True, slots=True)
class TarSource:
    """A picture file within a tar, the one of this number; small, as there are a hundred thousand."""

    shard: Shard
    number: int

    @property
    def offset(self) -> int:
        """Where it begins in the tar."""
        return self.shard.offsets[self.number]

    def image(self, max_pixels: int | None) -> Image.Image:
        name, data = self._read()
        return read_image(data, max_pixels, name=f"{self.shard.path}:{name}")

    def digest(self) -> str:
        """As a file with these bytes."""
        try:
            return bytes_digest(self._read()[1])
        except InputError:
            return UNREADABLE

    def _read(self) -> tuple[str, bytes]:
        path, offset = self.shard.path, self.offset
        try:
            with Path(path).open("rb") as file:
                file.seek(offset - tarfile.BLOCKSIZE)
                header = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "replace")
                data = file.read(header.size)
        except (OSError, tarfile.HeaderError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{one_line(path)}: cannot be read at {offset:,} ({reason})") from error
        if len(data) < header.size:
            raise InputError(f"{one_line(path)}: it is cut within {one_line(header.name)}")
        return header.name, data


def bytes_digest(data: bytes) -> str:
    """`FileSource.digest` of a file with these bytes."""
    ends = (data,) if len(data) <= WHOLE else (data[:END], data[-END:])
    return hashlib.sha256(f"{len(data)}\n".encode() + b"".join(ends)).hexdigest()


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Row `index` of an array (N, H, W) or (N, H, W, 3), uint8, shared by all samples of a data set."""

    array: np.ndarray
    index: int

    def image(self, max_pixels: int | None) -> Image.Image:
        pixels = self.array[self.index]
        limit = pixel_limit() if max_pixels is None else max_pixels
        if pixels.shape[0] * pixels.shape[1] > limit:
            raise too_large(f"picture {self.index}", f"{pixels.shape[1]}x{pixels.shape[0]}", limit)
        return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")

    def digest(self) -> str:
        pixels = np.ascontiguousarray(self.array[self.index])
        return hashlib.sha256(f"{pixels.shape}\n".encode() + pixels.tobytes()).hexdigest()
