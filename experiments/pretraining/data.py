"""Pictures and teacher's grids for pre-training: train and held-out parts, cached on the disk or made on the fly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.datasets.base import ImageDataset
from glom.datasets.loading import read_ahead
from glom.datasets.registry import open_dataset
from glom.errors import GlomError, InputError, demand_some, unknown
from glom.runs.files import key_bytes
from glom.teachers.base import Teacher
from glom.teachers.grid_cache import SKIPPED, WRITTEN, Field, GridCache, default_root
from glom.teachers.grids import Encoder, Look, grid_shape, view_of

FEWEST = 2  # held-out pictures: of one alone R² is not defined
BLOCK = 128  # pictures encoded, and rows written, at a time
PRECISIONS = {"fp32": "float32", "fp16": "float16"}
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Pictures to learn from and pictures held out, and in a few words how they were told apart."""

    train: ImageDataset
    held_out: ImageDataset
    how: str


def split_data(data: str, limit: int = 0, held_out: int = 0, seed: int = 0) -> Split:
    """A data set's own train and test parts where it has both, else a share of it held out by the ids' hashes.

    Args:
        limit: training pictures at most, spread over the classes; 0 for all.
        held_out: held-out pictures; 0 for 1,000, or a fifth of the data where that is fewer.

    Raises:
        InputError: no such data, or too few pictures to hold out the two that R² needs.
    """
    test = open_dataset(data, split="test")
    try:
        train = open_dataset(data, split="train")
    except InputError:
        train = test
    how = "its own train and test parts"
    if _same(train, test):
        how = "held out by the hash of the pictures' names"
        ranked = sorted((hashlib.sha256(key_bytes(f"{seed}\n{s.id}")).digest(), s.id) for s in test.samples)
        count = held_out or min(1000, max(FEWEST, len(ranked) // 5))
        if not 0 < count < len(ranked):
            raise InputError(f"{test.name} has {len(ranked)} pictures; {max(count, 1)} of them cannot be held out")
        names = [name for _, name in ranked]
        test, train = test.select(names[:count]), test.select(names[count:])
    else:
        test = test.limit(held_out or 1000)
    if len(test) < FEWEST:
        raise InputError(f"R² is over the mean of held-out pictures: at least {FEWEST} are needed, not {len(test)}")
    return Split(train.limit(limit or None), test, how)


def _same(one: ImageDataset, other: ImageDataset) -> bool:
    """Whether both are the same pictures: a data set that is not divided opens alike for every split."""

    def names(data: ImageDataset) -> list[tuple[str, object]]:
        return [(s.id, getattr(s.source, "path", None)) for s in data.samples]

    return names(one) == names(other)


class Source(Protocol):
    """Rows of (grid, picture). Row v * n + i is view v of the i-th of n pictures."""

    shape: tuple[int, int, int]

    def usable(self) -> Rows:
        """The rows that can be had, as far as is known by now."""
        ...

    def unread(self) -> int:
        """How many pictures could not be read, as far as is known by now."""
        ...

    def expect(self, rows: Iterable[int]) -> None:
        """Say which rows are fetched from now on, in their order, so that they can be read ahead."""
        ...

    def fetch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """(n, h, w, F) float32 and (n, S, S, 3) uint8; fewer rows, or none, where pictures cannot be read."""
        ...


class Cached:
    """Rows from a `GridCache` of `count` pictures."""

    def __init__(self, cache: GridCache, count: int) -> None:
        self._grids, self._pictures = cache.read("grid"), cache.read("picture")
        self._usable, self._count = cache.written(), count
        self.shape: tuple[int, int, int] = self._grids.shape[1:]

    def usable(self) -> Rows:
        return self._usable

    def unread(self) -> int:
        return self._count - len(np.unique(self._usable % self._count))

    def expect(self, rows: Iterable[int]) -> None:
        del rows  # they are on the disk

    def fetch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        # In the order of the file: neighbours on the disk are read together.
        order = np.argsort(rows, kind="stable")
        back = np.argsort(order, kind="stable")
        grids, pictures = self._grids[rows[order]][back], self._pictures[rows[order]][back]
        return torch.from_numpy(grids.astype(np.float32)), torch.from_numpy(pictures)


class OnTheFly:
    """Rows made when they are asked for; `workers` processes read those that are expected."""

    def __init__(self, data: ImageDataset, encoder: Encoder, views: int, seed: int, workers: int = 0) -> None:
        self.data, self.encoder, self.views, self.seed, self.workers = data, encoder, views, seed, workers
        self.shape = grid_shape(encoder.teacher)
        self._lost: set[int] = set()  # pictures that were asked for and could not be read
        self._expected: Iterator[Look | GlomError] = iter(())

    def usable(self) -> Rows:
        rows = np.arange(self.views * len(self.data))
        return rows[~np.isin(rows % len(self.data), sorted(self._lost))]

    def unread(self) -> int:
        return len(self._lost)

    def expect(self, rows: Iterable[int]) -> None:
        self._expected = read_ahead(self.look, rows, self.workers)

    def fetch(self, rows: Rows) -> tuple[Tensor, Tensor]:
        found = self.looks(rows)
        self._lost |= {row % len(self.data) for row, look in zip(rows.tolist(), found) if look is None}
        looks = [look for look in found if look is not None]
        if not looks:
            side = self.encoder.size
            return torch.zeros(0, *self.shape), torch.zeros(0, side, side, 3, dtype=torch.uint8)
        grids, pictures = self.encoder.encode(looks)
        return torch.from_numpy(grids), torch.from_numpy(pictures)

    def looks(self, rows: Rows) -> list[Look | None]:
        """The views that rows stand for; None where a picture cannot be read. Expected ones, in their turn."""
        found = list(islice(self._expected, len(rows)))
        found = found or list(read_ahead(self.look, rows.tolist()))  # what was expected is at its end
        for error in found:
            if isinstance(error, GlomError) and not isinstance(error, InputError):
                raise error
        return [None if isinstance(look, GlomError) else look for look in found]

    def look(self, row: int) -> Look:
        """The view a row stands for. Raises `InputError` where its picture cannot be read."""
        view, index = divmod(row, len(self.data))
        sample = self.data.samples[index]
        return self.encoder.look(view_of(sample.image(), view, self.seed, sample.id))


def open_cache(
    root: Path | None, teacher: Teacher, data: ImageDataset, size: int, views: int, seed: int, precision: str
) -> GridCache:
    """The cache of these grids and pictures, written so far or not.

    Args:
        root: where caches lie; `glom.teachers.grid_cache.default_root()` if None.
        size: side of the APM's picture.
        precision: "fp32" or "fp16" numbers.
    """
    if precision not in PRECISIONS:
        raise unknown("cache precision", precision, PRECISIONS)
    identity: dict[str, Any] = {
        "teacher": teacher.name,
        "fingerprint": teacher.fingerprint,
        "size": teacher.image_size,
        "layer": "grid",
        "data": data.fingerprint(),
        "views": views,
        "seed": seed if views > 1 else None,
    }
    fields = {"grid": Field(grid_shape(teacher), PRECISIONS[precision]), "picture": Field((size, size, 3), "uint8")}
    return GridCache(root or default_root(), identity, fields, views * len(data))


def fill(
    cache: GridCache, data: ImageDataset, encoder: Encoder, seed: int, workers: int = 0
) -> Iterator[tuple[int, int]]:
    """Compute what is missing, yielding (done, total) rows. Pictures that cannot be read are passed over, and marked.

    Raises:
        InputError: not one picture could be read, or another process is writing.
        RunError: the disk is full; the rows so far stay.
    """
    maker = OnTheFly(data, encoder, max(1, cache.rows // len(data)), seed, workers)
    missing = cache.missing()
    done = cache.rows - len(missing)
    if len(missing):
        maker.expect(missing.tolist())
        with cache:
            for start in range(0, len(missing), BLOCK):
                for block in runs(missing[start : start + BLOCK]):
                    done += len(block)
                    write_block(cache, maker, block)
                yield done, cache.rows
    if not len(cache.written()):
        demand_some([{"status": "skipped"}] * len(data), f"pictures of {data.name}")


def write_block(cache: GridCache, maker: OnTheFly, rows: Rows) -> None:
    """Encode and write consecutive rows."""
    looks = maker.looks(rows)
    kinds = {"grid": "float32", "picture": "uint8"}
    values = {name: np.zeros((len(rows), *field.shape), kinds[name]) for name, field in cache.fields.items()}
    good = [place for place, look in enumerate(looks) if look is not None]
    if good:
        values["grid"][good], values["picture"][good] = maker.encoder.encode([x for x in looks if x is not None])
    marks = [WRITTEN if look is not None else SKIPPED for look in looks]
    cache.write(int(rows[0]), values, marks)


def runs(rows: Rows) -> list[Rows]:
    """Rows split where they are not consecutive."""
    return np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)


def to_input(pictures: Tensor) -> Tensor:
    """(n, S, S, 3) uint8 -> (n, 3, S, S), normalised as `glom.columns.picture` does."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return rearrange((pictures.float() / 255 - mean) / std, "n h w c -> n c h w").contiguous()


def unread_message(source: Source, data: ImageDataset, part: str) -> list[str]:
    """One line on how many of a part's pictures could not be read, or none."""
    lost = source.unread()
    return [f"{lost} of {len(data)} {part} pictures could not be read and are left out"] if lost else []


def labels_of(data: ImageDataset, rows: Sequence[int] | Rows) -> NDArray[np.int64] | None:
    """Class labels of rows of view 0; None where some have none."""
    found = [data.samples[int(row)].label for row in rows]
    return None if any(label is None for label in found) else np.array(found)
