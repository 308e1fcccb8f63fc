"""A classifier's rows for a data set's classes: by wnid where both are ImageNet's, else by name; never by luck.

A head with 1,000 rows and a data set with 200 classes agree on no index. What decides which row is meant:

    the data set is known by wnids, and the classifier's classes are ImageNet's 1,000   -> the wnid
    otherwise                                                                           -> the name

Names alone would not do for ImageNet's: it has two classes called "missile" and two called "sunglasses".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glom.datasets.base import ImageDataset
from glom.datasets.class_files import read_class_names
from glom.datasets.classes import WNID, imagenet_wnids
from glom.errors import InputError
from glom.teachers.base import Teacher, ZeroShotHead
from glom.teachers.zero_shot import imagenet_classes, select_rows


def class_rows(dataset: ImageDataset, known: Sequence[str]) -> list[int]:
    """The rows of a classifier that stand for the data set's classes, in the data set's order.

    Args:
        dataset: with C classes.
        known: names of the classifier's rows, in order.

    Returns:
        C row numbers, all different; `range(len(known))` where the data set has no class names, since its labels can
        only count the classifier's own classes.

    Raises:
        InputError: a class the classifier does not have, or cannot tell from another; labels beyond its rows.
    """
    if dataset.classes is None:
        highest = max((sample.label for sample in dataset if sample.label is not None), default=0)
        if highest >= len(known):
            raise InputError(f"{dataset.name} has labels up to {highest}, the classifier only {len(known)} classes")
        return list(range(len(known)))
    keys = dataset.keys or ()
    wnids = imagenet_wnids()
    by_wnid = bool(keys) and all(WNID.fullmatch(key) for key in keys) and len(known) == len(wnids)
    if not by_wnid:
        return select_rows(dataset.classes, known)
    # By position where the rows are in ImageNet's order, by name where they are in another; refused where neither.
    place = dict(zip(wnids, select_rows(imagenet_classes(), known), strict=True))
    outside = [key for key in keys if key not in place]
    if outside:
        raise InputError(
            f"{dataset.name}: {outside[0]} is none of ImageNet's 1,000 classes ({len(outside)} of {len(keys)} are not)"
        )
    return [place[key] for key in keys]


def aligned_head(
    teacher: Teacher, dataset: ImageDataset, templates: Sequence[str] = ("a photo of a {}.",)
) -> ZeroShotHead:
    """The zero-shot head for a data set's classes, whatever the order and number of a classifier's own.

    A text encoder reads the class names; of a classifier the rows of `class_rows` are taken.

    Returns:
        A head of C rows in the order of the data set's labels.

    Raises:
        InputError: no class names where they are needed, classes the classifier does not have, faulty templates.
    """
    if not teacher.has_text and teacher.classes is not None:
        return restrict(teacher.zero_shot_head(teacher.classes, templates), dataset)
    if dataset.classes is None:
        raise InputError(f"{dataset.name} has no class names, and {teacher.name} none of its own")
    return teacher.zero_shot_head(dataset.classes, templates)


def name_rows(teacher: Teacher, file: Path | str | None) -> None:
    """Give a classifier without class names those of a file, in the order of its rows; any other is left as it is.

    Raises:
        InputError: no such file, or another number of names than of rows.
    """
    if file and teacher.unnamed_rows:
        teacher.name_classes(read_class_names(Path(file)))


def restrict(head: ZeroShotHead, dataset: ImageDataset) -> ZeroShotHead:
    """A classifier's head with the rows of the data set's classes alone, in the data set's order; see `class_rows`."""
    rows = class_rows(dataset, head.classes)
    bias = None if head.bias is None else head.bias[rows]
    return replace(head, classes=dataset.classes or head.classes, weights=head.weights[rows], bias=bias)
