"""MNIST and Fashion-MNIST as their authors publish them: four idx files, packed (`.gz`) or not.

An idx file is two zero bytes, the type (8: uint8), the number of dimensions, each dimension's length as a big-endian
32-bit number, then the values row by row (LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.named.layouts import Counts, Layout
from glom.datasets.prompts import A_PHOTO, TEMPLATES
from glom.datasets.reading import one_line
from glom.datasets.sources import ArraySource
from glom.errors import InputError

UINT8 = 8
PARTS = {"test": "t10k", "train": "train"}
COUNTS: Counts = {"test": (10_000, 10), "train": (60_000, 10)}
FORMS = ("images-idx3-ubyte", "images.idx3-ubyte", "images-idx3-ubyte.gz", "images.idx3-ubyte.gz")
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
    ),
}  # fmt: skip


def idx_layout(name: str, folders: tuple[str, ...]) -> Layout:
    """The four files in one of `folders` under the root, or in the root itself."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        folder = place if place.is_dir() else place.parent
        pictures = _array(name, folder, f"{PARTS[split]}-images", 3)
        labels = _array(name, folder, f"{PARTS[split]}-labels", 1)
        if pictures.ndim != 3 or labels.shape != pictures.shape[:1]:
            raise InputError(
                f"{name}: {one_line(folder)} should hold (N, H, W) pictures and N labels; they are {pictures.shape} "
                f"and {labels.shape}"
            )
        samples = tuple(
            Sample(f"{split}/{index:06d}", int(label), ArraySource(pictures, index))
            for index, label in enumerate(labels)
        )
        return ImageDataset(name, samples, CLASSES[name], TEMPLATES.get(name, (A_PHOTO,)))

    loose = tuple(f"{part}-{form}" for part in PARTS.values() for form in FORMS)
    shape = tuple(f"{folder}/{part}-*-ubyte[.gz]" for folder in folders[:1] for part in PARTS.values())
    return Layout("idx", (*folders, *loose), COUNTS, read, shape)


def _array(name: str, folder: Path, stem: str, dimensions: int) -> np.ndarray:
    """`stem` in any of its spellings. Raises `InputError` where it is missing or damaged."""
    names = [f"{stem}{dot}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    path = next((folder / one for one in names if (folder / one).is_file()), None)
    if path is None:
        raise InputError(f"{name}: no {names[0]} in {one_line(folder)}, nor {names[2]}")
    try:
        return read_idx(path)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an idx file, gzip-packed or not, whatever its name says.

    Raises:
        InputError: it cannot be read, or is no complete idx file of bytes.
    """
    where = one_line(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{where}: incomplete or damaged ({one_line(error)})") from error
    if len(data) < 4 or data[:3] != bytes([0, 0, UINT8]) or len(data) < 4 + 4 * data[3]:
        raise InputError(f"{where}: incomplete or damaged (not an idx file of bytes)")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if len(values) != int(np.prod(shape, dtype=np.int64)):
        raise InputError(f"{where}: incomplete or damaged ({len(values):,} values where {shape} was promised)")
    return values.reshape(shape)
