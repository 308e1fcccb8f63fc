"""Tables of a page: columns that are sorted and filtered, and behind a benchmark's rows its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from glom.datasets.base import ImageDataset
from glom.errors import GlomError
from probes.explorer.shape import jpeg

THUMB = 96  # longest side of a picture behind a cell
THUMBS = 3_000_000  # bytes of them in a table
FEW = 4  # words or numbers of a list that are shown in a cell
ASIDE = {"command", "machine", "versions", "settings", "asked", "warnings"}  # of a result: stands under About
# What a benchmark's rows are shown by: (name in the row, heading, its interval's name or "", digits).
MEASURES = (
    ("n", "pictures", "", 0),
    ("top1", "top-1 (%)", "ci95", 1),
    ("difference", "minus the first", "difference_ci95", 1),
    ("p_holm", "p, Holm", "", 4),
    ("ece", "ECE", "", 3),
    ("brier", "Brier", "", 3),
    ("auroc_wrong", "AUROC of errors", "", 3),
    ("seconds", "s a picture", "", 4),
)


class Column(TypedDict):
    """One column: `kind` "text" or "number"; `ranges`, an interval a row or None."""

    name: str
    title: str
    kind: str
    values: list[Any]
    digits: NotRequired[int]
    ranges: NotRequired[list[Any]]


class Asked(TypedDict):
    """The pictures that a condition asks about: ids, the class names, a thumbnail's number each, -1 for none."""

    names: list[str]
    classes: list[str]
    images: NDArray[np.int16]


class Answers(TypedDict):
    """What was answered under a condition: its `Asked`, by number; (n,) labels, (n,) answers a method; -1 for none."""

    set: int
    labels: NDArray[np.int16]
    answers: dict[str, NDArray[np.int16]]


def lines_table(name: str, records: Sequence[Mapping[str, Any]], note: str = "") -> dict[str, Any] | None:
    """Records as they are: a column for every field that is a word or a number, or holds some; None where none does.

    An interval stands beside its figure: `[mean, low, high]`, a `ci95` behind or by name, or least and largest.
    """
    cells = [_cells(record) for record in records]
    columns: list[Column] = []
    for field in dict.fromkeys(key for found in cells for key in found if key != "index"):
        values = [_word(found[field][0]) if field in found else None for found in cells]
        known = [v for v in values if v is not None]
        if not known:
            continue
        ranges = [found[field][1] if field in found else None for found in cells]
        numbers = all(isinstance(v, int | float) for v in known)
        shown = values if numbers else [None if v is None else str(v) for v in values]
        column: Column = {"name": field, "title": field, "kind": "number" if numbers else "text", "values": shown}
        column["digits"] = _digits(known) if numbers else 0
        if numbers and any(ranges):
            column["ranges"] = ranges
        columns.append(column)
    return {"name": name, "columns": columns, "note": note} if columns else None


def result_tables(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run found: its figures, and every list of records in it, a table each."""
    found = {key: value for key, value in result.items() if key not in ASIDE}
    single = [
        {"what": key, "found": f"{value:.6g}" if isinstance(value, float) else str(_word(value))}
        | ({"interval": f"{interval[0]:.4g} to {interval[1]:.4g}"} if interval else {})
        for key, (value, interval) in _cells(found).items()
        if value is not None
    ]
    lists: dict[str, Sequence[Mapping[str, Any]]] = {"what it found": single, **dict(_lists(found))}
    tables = [lines_table(name, records) for name, records in lists.items()]
    return [table for table in tables if table is not None]


def _lists(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _lists(part, f"{before}{key}, ")
        elif isinstance(part, list) and part and all(isinstance(row, Mapping) for row in part):
            yield f"{before}{key}", part


def _cells(record: Mapping[str, Any], deep: bool = True) -> dict[str, tuple[Any, Any]]:
    """A record's fields that can be shown, (value, its interval or None) each; those of a record in it beside them."""
    found: dict[str, tuple[Any, Any]] = {}
    for key, value in record.items():
        if key.endswith("ci95"):
            owner = key.removesuffix("ci95").rstrip("_") or next(reversed(found), "")
            for name, interval in value.items() if isinstance(value, Mapping) else [(owner, value)]:
                if name in found and _numbers(interval, 2):
                    found[name] = (found[name][0], interval)
        elif isinstance(value, Mapping):
            middle = value.get("mean", value.get("median"))
            if isinstance(middle, int | float):
                interval = value.get("ci95", [value.get("min"), value.get("max")])
                found[key] = (middle, interval if _numbers(interval, 2) else None)
            elif deep:
                found |= {f"{key} {name}": cell for name, cell in _cells(value, False).items()}
        elif isinstance(value, list):
            if _numbers(value, 3) and value[1] <= value[0] <= value[2]:
                found[key] = (value[0], value[1:])
            elif 0 < len(value) <= FEW and not any(isinstance(part, list | dict) for part in value):
                found[key] = (", ".join(map(str, value)), None)
        else:
            found[key] = (value, None)
    return found


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(part, int | float) for part in value)


def _digits(values: Sequence[float]) -> int:
    """Behind the point, so that the largest shows four."""
    largest = max((abs(v) for v in values if math.isfinite(v)), default=0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 9) if largest else 1


def _word(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def answers_table(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    sets: Sequence[Asked],
    conditions: Mapping[str, Answers],
    images: Sequence[bytes] = (),
    note: str = "",
) -> dict[str, Any]:
    """Methods on conditions, and which pictures each got right.

    Args:
        rows: `method`, `condition` and any of `MEASURES` each.
        sets: the pictures that the conditions are about; several conditions share one. conditions: by name.
        images: JPEGs, which `sets` number.
        note: below the table.
    """
    columns: list[Column] = [
        {"name": key, "title": key, "kind": "text", "values": [row[key] for row in rows]}
        for key in ("method", "condition")
    ]
    for field, title, interval, digits in MEASURES:
        values = [row.get(field) for row in rows]
        if any(v is not None for v in values):
            column: Column = {"name": field, "title": title, "kind": "number", "values": values, "digits": digits}
            if interval:
                column["ranges"] = [row.get(interval) for row in rows]
            columns.append(column)
    behind: dict[str, Any] = {"sets": list(sets), "conditions": dict(conditions), "images": list(images)}
    behind["note"] = "" if images else "The pictures themselves are not here: names alone."
    return {"name": name, "columns": columns, "choose": ["condition", "method"], "behind": behind, "note": note}


def counted(method: str, condition: str, labels: NDArray[np.int16], answers: NDArray[np.int16]) -> dict[str, Any]:
    """A row from answers alone: accuracy in percent over the pictures that were answered and have a label."""
    known = (answers >= 0) & (labels >= 0)
    right = float((answers == labels)[known].mean() * 100) if known.any() else None
    return {"method": method, "condition": condition, "n": int(known.sum()), "top1": right}


class Thumbs:
    """Small pictures of data sets, each once, up to `THUMBS` bytes."""

    def __init__(self) -> None:
        self.images: list[bytes] = []
        self._size = 0

    def of(self, dataset: ImageDataset | None, names: Sequence[str]) -> NDArray[np.int16]:
        """Their numbers by the samples' ids; -1 where a picture is not there, cannot be read, or has no room."""
        samples = {} if dataset is None else {sample.id: sample for sample in dataset.samples}
        found = np.full(len(names), -1, np.int16)
        for i, name in enumerate(names):
            if name not in samples or self._size > THUMBS or len(self.images) > np.iinfo(np.int16).max - 1:
                continue
            try:
                small = samples[name].image()
            except GlomError:
                continue
            small.thumbnail((THUMB, THUMB))
            self.images.append(jpeg(small, 80))
            self._size += len(self.images[-1])
            found[i] = len(self.images) - 1
        return found
