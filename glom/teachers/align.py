"""A classifier's rows for a data set's classes: by wnid where both are ImageNet's, else by name; never by luck.

A head with 1,000 rows and a data set with 200 classes agree on no index. What decides which row is meant:

    the data set is known by wnids, and the classifier's classes are ImageNet's 1,000   -> the wnid
    otherwise                                                                           -> the name

Names alone would not do for ImageNet's: it has two classes called "missile" and two called "sunglasses".
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from glom.datasets.base import ImageDataset
from glom.datasets.class_files import read_class_names
from glom.datasets.classes import WNID, imagenet_wnids
from glom.errors import InputError
from glom.runs.notices import notice
from glom.teachers.asked import listed
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.superclasses import Superclasses, read_superclasses, superclass_head
from glom.teachers.zero_shot import Templates, imagenet_classes, plain_name, select_rows


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


def imagenet_members(dataset: ImageDataset, table: Superclasses | None = None) -> dict[str, set[int]]:
    """ImageNet's indices of each class of a data set: its superclass's members, its wnid's, or those of its name.

    Classes that are none of ImageNet's are left out.
    """
    gathered_by = {plain_name(name): set(rows) for name, rows in (table.members if table else {}).items()}
    of_wnid = {wnid: {index} for index, wnid in enumerate(imagenet_wnids())}
    of_name: dict[str, set[int]] = {}
    for index, name in enumerate(imagenet_classes()):
        of_name.setdefault(plain_name(name), set()).add(index)
    found = {}
    for name, key in zip(dataset.classes or (), dataset.keys or dataset.classes or (), strict=True):
        plain = plain_name(name)
        found[name] = of_wnid.get(key) or gathered_by.get(plain) or of_name.get(plain, set())
    return {name: members for name, members in found.items() if members}


def aligned_head(teacher: Teacher, dataset: ImageDataset, templates: Templates = ("a photo of a {}.",)) -> ZeroShotHead:
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
    return head.take(dataset.classes or head.classes, class_rows(dataset, head.classes))


def gathered(teacher: Teacher, superclasses: str) -> Teacher:
    """A classifier of ImageNet's 1,000 classes that answers in superclasses; its heads average their members.

    Args:
        superclasses: `geirhos16`, `pacs`, or a table's file, see `read_superclasses`; "" for none.

    Returns:
        The teacher itself where nothing is to be gathered. One that reads class names still does; its table says only
        which classes are `nameable`. The weights are shared.

    Raises:
        InputError: a faulty table, or a classifier of other classes.
    """
    if not superclasses:
        return teacher
    twin = copy.copy(teacher)
    twin.superclasses = table = read_superclasses(superclasses)
    if teacher.has_text:
        return twin
    known = teacher.classes or ()
    if len(known) != len(imagenet_wnids()):
        have = f"{len(known):,} classes" if known else f"{teacher.unnamed_rows or 'no'} classes without names"
        raise InputError(f"superclasses gather ImageNet's 1,000 classes; {teacher.name} has {have}")
    rows = select_rows(imagenet_classes(), known)
    members = {name: [rows[index] for index in indices] for name, indices in table.members.items()}
    twin.gathered_head = superclass_head(teacher.zero_shot_head(known), members)
    twin.classes = table.names
    return twin


def nameable(dataset: ImageDataset, teacher: Teacher, leave_out: bool) -> ImageDataset:
    """The pictures of the classes that the teacher can name: its superclasses', else its own; all for a text encoder.

    Args:
        leave_out: leave the other classes out, which is said and counted as a notice; otherwise superclasses that lack
            one are refused, and other classifiers are left to `aligned_head`.

    Raises:
        InputError: classes that cannot be named and are not left out, or none that can be.
    """
    table, names, keys = teacher.superclasses, dataset.classes, dataset.keys
    known = table.names if table else None if teacher.has_text else teacher.classes
    if known is None or names is None or not (leave_out or (table and not teacher.has_text)):
        return dataset
    if table is None and keys and set(keys) <= set(imagenet_wnids()):
        return dataset  # found by its wnids, however its classes are called
    plain = {plain_name(name) for name in known}
    kept = [n for n, name in enumerate(names) if plain_name(name) in plain]
    who = f"the superclasses of {table.name}" if table else teacher.name
    lost = [name for n, name in enumerate(names) if n not in kept]
    if not kept:
        raise InputError(f"{dataset.name}: {who} name none of its {len(names):,} classes ({listed(lost)})")
    if not lost:
        return dataset
    some = f"{len(lost):,} of its {len(names):,} classes ({listed(lost)})"
    if not leave_out:
        raise InputError(f"{dataset.name}: {who} do not name {some}; `nameable` leaves them out")
    found = dataset.of_classes(kept)
    notice(f"{dataset.name}: {some} left out with {len(dataset) - len(found):,} pictures, as {who} do not name them")
    return found
