"""Photographs in memory: a labelled data set and others without labels, small squares of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from experiments.recipes.mvit_tiny_ship import Pictures, open_split
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset

UNLABELLED = -1


def read_photographs(data: str, also: Sequence[str], side: int, limit: int = 0) -> Pictures:
    """The train split of `data`, then the pictures of every set in `also`, whose labels are not used.

    A picture whose shorter side is twice `side` or more comes a second time as its four quarters.

    Raises:
        InputError: data that are missing, unlabelled `data`, or a picture that cannot be read.
    """
    images, labels = [], []
    labelled = open_split(data, "train", limit)
    for number, dataset in enumerate((labelled, *(open_dataset(name).limit(limit or None) for name in also))):
        for label, image in _squares(dataset, side):
            images.append(image)
            labels.append(UNLABELLED if number else label)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Pictures(stacked, torch.tensor(labels), labelled.classes or ())


def _squares(dataset: ImageDataset, side: int) -> Iterator[tuple[int | None, np.ndarray]]:
    for sample in dataset:
        image = sample.image()
        for part in (image, *(_quarters(image) if min(image.size) >= 2 * side else ())):
            yield sample.label, np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))


def _quarters(image: Image.Image) -> Iterator[Image.Image]:
    w, h = image.size
    for x in (0, w // 2):
        for y in (0, h // 2):
            yield image.crop((x, y, x + w // 2, y + h // 2))
