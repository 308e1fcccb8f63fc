"""What is there of a data set and what is missing: counted against what was published, never changed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glom.datasets.base import ImageDataset
from glom.datasets.named.catalogue import NAMED
from glom.datasets.named.layouts import NamedSet, NotThereError, data_root, plural
from glom.datasets.reading import one_line
from glom.datasets.registry import dataset_names, open_dataset
from glom.datasets.sources import FileSource
from glom.errors import InputError, unknown
from glom.runs.events import Event, result_of

OUTLINED = ("bsds500", "coco", "voc")
COMPLETE, INCOMPLETE, ABSENT = "complete", "incomplete", "absent"
STEP = 500  # pictures between two events


@dataclass(frozen=True)
class SplitCheck:
    """One split, or one variant of a corrupted set.

    Attributes:
        split: its name; of a variant `CORRUPTION/SEVERITY`.
        images, classes: how many there are; classes that have images. None where it could not be opened.
        expected_images, expected_classes: as published; None where nothing is.
        unreadable: pictures that could not be read, or None where they were not opened.
        outlines: pictures that have theirs, of the sets that are published with outlines; else None.
        problems: what is missing or wrong, one sentence each.
    """

    split: str
    images: int | None = None
    classes: int | None = None
    expected_images: int | None = None
    expected_classes: int | None = None
    unreadable: int | None = None
    outlines: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetCheck:
    """A data set as it lies under a root.

    Attributes:
        state: complete, incomplete or absent; complete is what holds all that its layout should.
        layout: whose layout it is.
        part: how much of what was published such a layout holds, "" where that is everything or only some splits were
            asked for.
    """

    name: str
    root: Path
    state: str
    layout: str = ""
    splits: tuple[SplitCheck, ...] = ()
    problems: tuple[str, ...] = ()
    part: str = ""

    @property
    def complete(self) -> bool:
        """Whether everything is there that was published in this layout."""
        return self.state == COMPLETE

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        splits = [{**vars(split), "problems": list(split.problems)} for split in self.splits]
        own = {"name": self.name, "root": str(self.root), "state": self.state, "layout": self.layout}
        return {**own, "splits": splits, "problems": list(self.problems), "part": self.part}


def check_dataset(
    spec: str, root: Path | None = None, splits: Sequence[str] | None = None, read: bool = False
) -> DatasetCheck:
    """Count the images and classes of a named data set and compare them with what was published.

    Args:
        spec: a registered name, `NAME:ROOT`, or one variant of a corrupted set (`imagenet-c/fog/5`); of a corrupted
            set without a variant all 75 are looked at.
        root: the folder that holds it; default `data_root()`.
        splits: which; default all that its layout offers.
        read: whether to open every picture.

    Raises:
        InputError: no data set, or no split, of that name. A data set that is not there is no error, but `absent`.

    Example:
        >>> check_dataset("cifar10-sample").state
        'complete'
    """
    return result_of(checking(spec, root, splits, read))


def checking(
    spec: str, root: Path | None = None, splits: Sequence[str] | None = None, read: bool = False
) -> Iterator[Event[DatasetCheck]]:
    """As `check_dataset`, with events on the way; the last one has the `DatasetCheck`."""
    whole, _, place = spec.partition(":")
    name, _, variant = whole.partition("/")
    where = Path(place).expanduser() if place else root or data_root()
    if name not in NAMED:
        yield from _check_shipped(whole, where, read)
        return
    named = NAMED[name]
    if variant:
        named.layouts(variant)  # refuses what is none
    variants = [variant] if variant else list(named.variants) or [""]
    rows: list[SplitCheck] = []
    seen: set[tuple[int, str, str]] = set()
    found_any, layout = False, ""
    places = {one: named.find(where, one) for one in variants}
    done, total = 0, sum(len(splits or found[0].counts) for found in places.values() if found)
    for one, place_of in places.items():
        if place_of is None:
            rows.append(SplitCheck(one, problems=(f"{one} is not there",)))
            continue
        found_any = True
        layout = place_of[0].title
        for split in splits or list(place_of[0].counts):
            yield Event("counting", done, total)
            done += 1
            row = yield from _check_split(named, where, split, one, read, seen)
            if row is not None and (row.images is not None or row.problems not in [r.problems for r in rows]):
                rows.append(row)
    if not found_any:
        missing = str(named.not_there(where, variant or (named.variants[-1] if named.variants else "")))
        yield Event(result=DatasetCheck(whole, where, ABSENT, problems=(missing + _plain_folder(where / name),)))
        return
    problems = tuple(problem for row in rows for problem in row.problems)
    state, part = INCOMPLETE if problems else COMPLETE, "" if splits or variant or problems else _part(named, rows)
    result = DatasetCheck(whole, where, state, layout, tuple(rows), problems, part)
    yield Event("counting", total, total, result=result)


def _plain_folder(folder: Path) -> str:
    """What to add where the data set is there as a folder of pictures, which commands open by its path."""
    try:
        count = len(open_dataset(str(folder.absolute()))) if folder.is_dir() else 0
    except InputError:
        count = 0
    here = f"{one_line(folder)} is a folder of pictures ({count:,} to test on), not checked: its path opens it as data"
    return f"; {here}" if count else ""


def _part(named: NamedSet, rows: Sequence[SplitCheck]) -> str:
    """ "300 of the 500 images published (val, train)" where the layout's splits are not all that was published."""
    size = named.size.replace(",", "")
    found = sum(row.images or 0 for row in rows)
    if not size.isdigit() or found >= int(size):
        return ""
    return f"{found:,} of the {named.size} images published ({', '.join(row.split for row in rows)})"


def _check_shipped(name: str, where: Path, read: bool) -> Iterator[Event[DatasetCheck]]:
    """What has no layouts: the sample that ships, and what a program registered itself."""
    names = [info.name for info in dataset_names()]
    if name not in names:
        raise unknown("data set", name, names, "a folder or a manifest is opened, not checked")
    try:
        dataset = open_dataset(name, root=where)
    except NotThereError as error:
        yield Event(result=DatasetCheck(name, where, ABSENT, problems=(str(error),)))
        return
    row = yield from _counted(dataset, SplitCheck("test"), read)
    state = INCOMPLETE if row.problems else COMPLETE
    yield Event(result=DatasetCheck(name, where, state, "shipped", (row,), row.problems))


def _check_split(
    named: NamedSet, root: Path, split: str, variant: str, read: bool, seen: set[tuple[int, str, str]]
) -> Generator[Event[DatasetCheck], None, SplitCheck | None]:
    """The row; none where its files were `seen` as another split's already, as where a validation
    set serves as the test set."""
    found = named.find(root, variant)
    counts = found[0].counts if found else {}
    images, classes = counts.get(split, (None, None))
    row = SplitCheck(variant or split, expected_images=images, expected_classes=classes)
    try:
        dataset = named.open(root, split, variant)
    except InputError as error:
        if split not in named.splits(variant):
            raise
        return replace(row, problems=(str(error),))
    ends = dataset[0].source, dataset[len(dataset) - 1].source
    if isinstance(ends[0], FileSource) and isinstance(ends[1], FileSource):
        key = len(dataset), str(ends[0].path), str(ends[1].path)
        if key in seen:
            return None
        seen.add(key)
    row = yield from _counted(dataset, row, read)
    return _outlined(named.name, root, split, row, read) if named.name in OUTLINED else row


def _outlined(name: str, root: Path, split: str, row: SplitCheck, read: bool) -> SplitCheck:
    """The row with its outlines counted, and read where they are to be: none at all are no problem, some lost are."""
    from glom.datasets.segmentation import open_segmentation  # loads torch
    from glom.datasets.segmented import SegmentedPicture

    try:
        pictures = open_segmentation(f"{name}:{root}", split).pictures
    except InputError:
        return replace(row, outlines=0)  # pictures alone, which is a data set too
    masks = [item for item in pictures if isinstance(item, SegmentedPicture)]
    there = [item for item in masks if item.truth.is_file()]
    problems = list(row.problems)
    if 0 < len(there) < len(masks):
        lost = next(item for item in masks if not item.truth.is_file())
        gone = plural(len(masks) - len(there), "picture has no outlines", "pictures have no outlines")
        problems.append(f"{split}: {gone}, the first of them {one_line(lost.path.name)}")
    faults = []
    for item in there if read else ():
        try:
            item.read()
        except InputError as error:
            faults.append(str(error))
    if faults:
        many = plural(len(faults), "picture's outlines", "pictures' outlines")
        problems.append(f"{split}: {many} cannot be read, the first: {faults[0]}")
    return replace(row, outlines=len(there), problems=tuple(problems))


def _counted(dataset: ImageDataset, row: SplitCheck, read: bool) -> Generator[Event[DatasetCheck], None, SplitCheck]:
    problems = []
    images, expected = len(dataset), row.expected_images
    used = {sample.label for sample in dataset.samples if sample.label is not None}
    classes = dataset.classes or ()
    if expected is not None and images != expected:
        problems.append(f"{row.split}: {plural(images, 'image')}, {expected:,} were published")
    if row.expected_classes is not None and len(classes) != row.expected_classes:
        problems.append(f"{row.split}: {plural(len(classes), 'class', 'classes')}, {row.expected_classes:,} published")
    empty = [name for label, name in enumerate(dataset.keys or classes) if label not in used]
    if empty:
        shown = ", ".join(one_line(name) for name in empty[:4]) + (", ..." if len(empty) > 4 else "")
        problems.append(f"{row.split}: {plural(len(empty), 'class has', 'classes have')} no image: {shown}")
    lost = [s.source.path for s in dataset if isinstance(s.source, FileSource) and not s.source.path.is_file()]
    if lost:
        have = "is not there" if len(lost) == 1 else "are not there, the first of them"
        problems.append(f"{row.split}: {plural(len(lost), 'listed file')} {have} {one_line(lost[0])}")
    unreadable = None
    if read:
        unreadable, first = 0, ""
        yield Event(row.split, 0, images)
        for number, sample in enumerate(dataset, 1):
            try:
                sample.image()
            except InputError as error:
                unreadable, first = unreadable + 1, first or str(error)
            if number % STEP == 0 or number == images:
                yield Event(row.split, number, images)
        if unreadable:
            problems.append(f"{row.split}: {plural(unreadable, 'picture')} cannot be read, the first: {first}")
    return replace(row, images=images, classes=len(used), unreadable=unreadable, problems=tuple(problems))
