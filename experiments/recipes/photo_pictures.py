"""Photographs in memory: a labelled data set and others without labels, small squares of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from experiments.recipes.mvit_tiny_ship import Pictures, open_split
from glom.datasets.base import ImageDataset
from glom.datasets.loading import read_all
from glom.datasets.registry import open_dataset

UNLABELLED = -1


def read_photographs(data: str, also: Sequence[str], side: int, limit: int = 0, workers: int | None = None) -> Pictures:
    """The train split of `data`, then the pictures of every set in `also`, whose labels are not used.

    A picture whose shorter side is twice `side` or more comes a second time as its four quarters.

    Raises:
        InputError: data that are missing, unlabelled `data`, or a picture that cannot be read.
    """
    images, labels = [], []
    labelled = open_split(data, "train", limit)
    for number, dataset in enumerate((labelled, *(open_dataset(name).limit(limit or None) for name in also))):
        for sample, squares in zip(dataset, _squares(dataset, side, workers or 0), strict=True):
            images += squares
            labels += [UNLABELLED if number else sample.label] * len(squares)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Pictures(stacked, torch.tensor(labels), labelled.classes or ())


def _squares(dataset: ImageDataset, side: int, workers: int) -> Iterator[list[np.ndarray]]:
    def look(number: int) -> list[np.ndarray]:
        image = dataset[number].image()
        parts = (image, *(_quarters(image) if min(image.size) >= 2 * side else ()))
        return [np.asarray(part.resize((side, side), Image.Resampling.BICUBIC)) for part in parts]

    return read_all(look, range(len(dataset)), workers)


def _quarters(image: Image.Image) -> Iterator[Image.Image]:
    w, h = image.size
    for x in (0, w // 2):
        for y in (0, h // 2):
            yield image.crop((x, y, x + w // 2, y + h // 2))
