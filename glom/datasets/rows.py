"""Data sets of Hugging Face's `datasets`: on the Hub, in a folder of its own files, in one parquet file.

    hf:OWNER/NAME[:CONFIG][@SPLIT][?image=COLUMN&label=COLUMN&stream=N]

A place on this disk may stand for OWNER/NAME: a folder of parquet files or of pictures, one that `save_to_disk` wrote,
a parquet file. Rows stay on the disk, mapped; with `stream=N` the first N are fetched as they come and kept in memory,
and nothing else is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.manifest import LABEL_COLUMNS, PATH_COLUMNS, ColumnClasses, column_classes, plain_head
from glom.datasets.reading import one_line
from glom.datasets.sources import UNREADABLE, BytesSource, FileSource
from glom.errors import InputError, unknown
from glom.hubs import hub_access, local_access, looks_like_path

IMAGE_COLUMNS = (*PATH_COLUMNS, "imagebytes", "bytes", "jpg", "jpeg", "png", "webp", "picture", "pixels", "content")
INSTALL = "pip install 'glom-apm[hub]'"
TRIED = 20  # rows of which one has to hold a picture
NAMED = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class RowsSpec:
    """What is asked for. Attributes: place: a name on the Hub, or a path. split: "" for what suits."""

    place: str
    config: str = ""
    split: str = ""
    image: str = ""
    label: str = ""
    stream: int = 0

    @property
    def local(self) -> bool:
        """Whether it lies on this disk."""
        return Path(self.place).expanduser().exists()

    @property
    def where(self) -> str:
        """For messages."""
        return one_line(self.place) if self.local else f"hf:{one_line(self.place)}"

    @property
    def title(self) -> str:
        """What the data set is called."""
        base = Path(self.place.rstrip("/")).name.removesuffix(".parquet")
        return f"{base}-{self.config}" if self.config else base


def parse_rows(text: str) -> RowsSpec:
    """What follows `hf:`. Raises `InputError` for a text that names nothing, or asks for what there is not."""
    path, _, query = text.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    for name in given:
        if name not in ("image", "label", "stream"):
            raise unknown("word after ?", name, ("image", "label", "stream"))
    count = given.pop("stream", "0")
    if not count.isdecimal():
        raise InputError(f"hf:{one_line(text)}: stream is a number of pictures, got '{one_line(count)}'")
    split = config = ""
    if not Path(path).expanduser().exists():
        path, _, split = path.partition("@")
        if not Path(path).expanduser().exists():
            path, _, config = path.partition(":")
    spec = RowsSpec(path, config, split, **given, stream=int(count))
    if not spec.local and (looks_like_path(path) or path.endswith(".parquet")):
        raise InputError(f"hf:{one_line(path)}: no such file or folder")
    if not spec.local and not NAMED.fullmatch(path):
        raise InputError(f"hf:{one_line(text)} names no data set; give hf:OWNER/NAME[:CONFIG][@SPLIT], or a folder")
    return spec


def rows_dataset(text: str, split: str = "test", renamed: bool = False) -> ImageDataset:
    """Open what follows `hf:`, or a parquet file. Ids are the rows' numbers; rows without a picture are passed over.

    The column of pictures is the one that says so (`datasets.Image`), else one of `IMAGE_COLUMNS` or the only one with
    bytes; it holds files' bytes, or paths. The label is a `ClassLabel`, whose names are the classes, else one of
    `glom.datasets.manifest.LABEL_COLUMNS`, read as a manifest's: names, or numbers, -1 and nothing being no label.

    Args:
        split: where none is named: this one, `validation` for "test", or the only one.

    Raises:
        InputError: the extra is not installed; nothing of that name, no network, no such split or column, a column
            that holds no pictures, a label that is none.
    """
    spec = parse_rows(text)
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"hf: and parquet files need the package datasets: {INSTALL}") from error
    where = spec.where
    hint = "check its name, or give a folder that holds it, hf:FOLDER"
    datasets.disable_progress_bars()
    with local_access(where, "is it a data set?") if spec.local else hub_access(where, hint):
        table, note = _load(spec, split)
        head = table.features
        image = _column(spec.image, head, _image_column(datasets, head), "pictures", where)
        label = _column(spec.label, head, _label_column(datasets, head), "labels", where) if _labels(spec, head) else ""
    return _made(datasets, table, spec, image, label, where, note, renamed)


def _load(spec: RowsSpec, split: str) -> tuple[Any, str]:
    """The rows, and what should be known of how they were chosen."""
    from datasets import Dataset, DatasetDict, get_dataset_split_names, load_dataset, load_from_disk

    path = Path(spec.place).expanduser()
    place, config = (str(path) if spec.local else spec.place), spec.config or None
    found: Any = None
    options: dict[str, Any] = {}
    if path.is_file():
        place, options = "parquet", {"data_files": str(path)}
        names = ["train"]  # what a file without a split is called there
    elif spec.local and any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        found = load_from_disk(str(path))
        names = list(found) if isinstance(found, DatasetDict) else ["train"]
    else:
        names = get_dataset_split_names(place, config)
    chosen = _split(spec, split, names)
    note = f"its only split, {chosen}, is read" if not spec.split and chosen != split and len(names) == 1 else ""
    if found is not None:
        return (found[chosen] if isinstance(found, DatasetDict) else found), note
    if spec.stream:
        rows = load_dataset(place, config, split=chosen, streaming=True, **options)
        kept = _undecoded(rows).take(spec.stream)
        return Dataset.from_list(list(kept), features=kept.features), note
    return load_dataset(place, config, split=chosen, **options), "" if path.is_file() else note


def _undecoded(rows: Any) -> Any:
    """The same rows with pictures as files' bytes, as far as columns say that they are pictures."""
    from datasets import Image as Pictures

    for name, kind in (rows.features or {}).items():
        if isinstance(kind, Pictures):
            rows = rows.cast_column(name, Pictures(decode=False))
    return rows


def _split(spec: RowsSpec, asked: str, names: Sequence[str]) -> str:
    if spec.split:
        if re.split(r"[\[+]", spec.split)[0] not in names:
            raise unknown(f"split of {spec.where}", spec.split, names)
        return spec.split
    also = {"test": ("test", "validation", "val", "valid"), "val": ("validation", "val", "valid", "test")}
    chosen = next((name for name in also.get(asked, (asked,)) if name in names), None)
    if chosen is None and len(names) == 1:
        chosen = names[0]
    if chosen is None:
        raise InputError(f"{spec.where}: no '{asked}' split in it; it has {', '.join(names)}: add @SPLIT")
    return chosen


def _image_column(datasets: Any, head: Any) -> str | None:
    said = [name for name, kind in head.items() if isinstance(kind, datasets.Image)]
    plain = {plain_head(name): name for name in head}
    usual = [plain[name] for name in IMAGE_COLUMNS if name in plain and _may_hold(datasets, head[plain[name]])]
    only = [name for name, kind in head.items() if getattr(kind, "dtype", "") in ("binary", "large_binary")]
    return next(iter([*said, *usual, *only]), None)


def _may_hold(datasets: Any, kind: Any) -> bool:
    """Whether a column of this kind may hold pictures: files' bytes, paths, or both."""
    words = ("binary", "large_binary", "string", "large_string")
    return isinstance(kind, datasets.Image | dict) or getattr(kind, "dtype", "") in words


def _label_column(datasets: Any, head: Any) -> str | None:
    said = [name for name, kind in head.items() if isinstance(kind, datasets.ClassLabel)]
    plain = {plain_head(name): name for name in head}
    usual = [plain[name] for name in LABEL_COLUMNS if name in plain]
    # Of several that say so, as fine_label and coarse_label, the usual name goes first.
    return next(iter([*(name for name in usual if name in said), *said, *usual]), None)


def _labels(spec: RowsSpec, head: Any) -> bool:
    import datasets

    return bool(spec.label) or _label_column(datasets, head) is not None


def _column(asked: str, head: Any, found: str | None, what: str, where: str) -> str:
    names = ", ".join(map(one_line, head))
    if asked and asked not in head:
        raise InputError(f"{where}: no column '{one_line(asked)}'; it has {names}")
    if not asked and found is None:
        word = {"pictures": "image", "labels": "label"}[what]
        raise InputError(f"{where}: none of its columns ({names}) is known to hold {what}; add ?{word}=COLUMN")
    return asked or str(found)


def _made(
    datasets: Any, table: Any, spec: RowsSpec, image: str, label: str, where: str, note: str, renamed: bool
) -> ImageDataset:
    kind = table.features[image]
    if not _may_hold(datasets, kind):
        raise InputError(f"{where}: column '{one_line(image)}' holds {getattr(kind, 'dtype', kind)}, not pictures")
    if isinstance(kind, datasets.Image):
        table = table.cast_column(image, datasets.Image(decode=False))
    place = Path(spec.place).expanduser()
    rows = Rows(table.select_columns([image]), image, where, place if place.is_dir() else place.parent)
    _check(rows)
    found = _classes(datasets, table, label, where, renamed)
    digits = max(6, len(str(len(table))))
    samples = tuple(Sample(f"{n:0{digits}d}", own, RowSource(rows, n)) for n, own in enumerate(found.labels))
    notes = (*([note] if note else []), *found.notes)
    return ImageDataset(spec.title, samples, found.names, None, found.keys, {}, notes)


def _check(rows: Rows) -> None:
    """Raise `InputError` where none of the first rows holds a picture."""
    trouble = ""
    for number in range(min(TRIED, len(rows.table))):
        try:
            rows.source(number).image(None)
            return
        except InputError as error:
            trouble = trouble or str(error)
    raise InputError(f"{rows.where}: column '{one_line(rows.column)}' holds no pictures (the first: {trouble})")


def _classes(datasets: Any, table: Any, label: str, where: str, renamed: bool) -> ColumnClasses:
    if not label:
        return ColumnClasses([None] * len(table), notes=("it has no labels",))
    kind, cells = table.features[label], table[label][:]
    if isinstance(kind, datasets.ClassLabel):
        names = tuple(name.replace("_", " ") for name in kind.names)
        labels = [None if cell is None or cell < 0 else int(cell) for cell in cells]
        return ColumnClasses(labels, names if len(set(names)) == len(names) else tuple(kind.names), tuple(kind.names))
    try:
        return column_classes({"label": ["" if cell is None else str(cell) for cell in cells]}, len(cells), (), renamed)
    except InputError as error:
        raise InputError(f"{where}: column '{one_line(label)}': {str(error).partition(': ')[2] or error}") from None


@dataclass(frozen=True)
class Rows:
    """Mapped rows, shared by all samples. Attributes: folder: what paths in them are relative to."""

    table: Any = field(repr=False)
    column: str
    where: str
    folder: Path

    def source(self, number: int) -> BytesSource | FileSource:
        """Where a row's picture lies. Raises `InputError` where there is none."""
        cell = self.table[number][self.column]
        held = cell if isinstance(cell, dict) else {"bytes": cell} if isinstance(cell, bytes) else {"path": cell}
        name = f"{self.where}: row {number}"
        if isinstance(data := held.get("bytes"), bytes):
            return BytesSource(data, name)
        if isinstance(path := held.get("path"), str):
            return FileSource(self.folder / path)
        raise InputError(f"{name}: no picture")


@dataclass(frozen=True, slots=True)
class RowSource:
    """A row's picture."""

    rows: Rows
    number: int

    def image(self, max_pixels: int | None) -> Image.Image:
        return self.rows.source(self.number).image(max_pixels)

    def digest(self) -> str:
        try:
            return self.rows.source(self.number).digest()
        except InputError:
            return UNREADABLE
