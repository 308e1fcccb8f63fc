"""A data set as tensors on the device: read once, no Python for each sample afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glom.datasets.loading import read_all
from glom.datasets.registry import data_root, open_dataset
from glom.datasets.sources import ArraySource, FileSource
from glom.errors import InputError
from glom.forward_forward.samples import check_labels


@dataclass(frozen=True)
class Pictures:
    """A split of a data set.

    Attributes:
        images: (N, C, H, W) uint8. labels: (N,) int64.
        classes: names of the classes.
        name: of the data set.
        files: where the pictures lie, where each is a file of its own.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    files: frozenset[Path] = frozenset()

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.images.shape[1:]
        return c, h, w

    def fingerprint(self) -> str:
        """sha256 over pixels, labels and class names, in hex."""
        digest = hashlib.sha256(repr((self.classes, tuple(self.images.shape))).encode())
        digest.update(self.images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def read_pictures(
    data: str,
    split: str,
    root: Path | None = None,
    download: bool = False,
    limit: int | None = None,
    workers: int = 0,
) -> Pictures:
    """Read a split.

    Args:
        data: `mnist`, `fashion-mnist`, `cifar10` or another name of `apm datasets`, or a folder with train/ and test/.
        root: the folder that holds a named data set in torchvision's layout, or that is itself laid out as
            train/CLASS/IMAGE and test/CLASS/IMAGE; the usual cache otherwise.
        limit: at most so many samples, spread over the classes.
        workers: processes that read; see `glom.datasets.loading`.

    Raises:
        InputError: not there, without labels, or of pictures that differ in size.
    """
    where = root if root is not None else data_root()
    layout = where / "train"
    if root is not None and layout.is_dir() and not Path(data).is_dir():
        dataset = open_dataset(str(where), split=split)
    else:
        dataset = open_dataset(data, root=None if Path(data).is_dir() else root, split=split, download=download)
    dataset = dataset.limit(limit)
    if dataset.classes is None or not dataset.labelled:
        raise InputError(f"{dataset.name}: pictures without labels; a training needs CLASS/IMAGE folders")
    sources = [sample.source for sample in dataset.samples]
    if all(isinstance(s, ArraySource) for s in sources):
        first = sources[0]
        assert isinstance(first, ArraySource)
        rows = np.array([s.index for s in sources if isinstance(s, ArraySource)])
        stacked = torch.from_numpy(np.ascontiguousarray(first.array[rows]))
    else:
        read = read_all(lambda number: np.asarray(dataset[number].image()), range(len(dataset)), workers)
        stacked = torch.from_numpy(np.stack(_same_size([(s.id, p) for s, p in zip(dataset, read, strict=True)])))
    images = stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([sample.label for sample in dataset.samples], dtype=torch.long)
    check_labels(labels, len(dataset.classes))
    files = frozenset(s.path for s in sources if isinstance(s, FileSource))
    return Pictures(images, labels, dataset.classes, data if root is None else Path(data).name, files)


def check_fit(pictures: Pictures, shape: Sequence[int], classes: Sequence[str], trained: str) -> None:
    """See that a network of this shape (C, H, W) and these classes can be asked about these pictures.

    Args:
        trained: how the message begins, such as "DIR was trained on".

    Raises:
        InputError: pictures of another shape or other classes; the first difference is named.
    """
    if list(pictures.shape) != list(shape):
        raise InputError(f"{trained} pictures {list(shape)} (C, H, W), these are {list(pictures.shape)}")
    here, there = list(pictures.classes), list(classes)
    if here == there:
        return
    pairs = zip_longest(there, here, fillvalue="none")
    number, (old, new) = next((i, pair) for i, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    raise InputError(
        f"{trained} {len(there)} classes, here are {len(here)}; the first that differs is class {number}: "
        f"'{old}' there, '{new}' here"
    )


def _same_size(pictures: list[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    first, size = pictures[0][0], pictures[0][1].shape
    for name, pixels in pictures:
        if pixels.shape != size:
            sizes = f"{name} is {pixels.shape[1]}x{pixels.shape[0]} and {first} is {size[1]}x{size[0]}"
            raise InputError(f"{sizes}; all pictures must be of one size")
    return [pixels for _, pixels in pictures]
