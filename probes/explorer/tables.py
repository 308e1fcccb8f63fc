"""Tables of a page: columns that are sorted and filtered, and behind a benchmark's rows its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from glom.datasets.base import ImageDataset
from glom.errors import GlomError
from probes.explorer.shape import jpeg

THUMB = 96  # longest side of a picture behind a cell
THUMBS = 3_000_000  # bytes of them in a table
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
    """A run's lines as they are: a column for every field that is a word or a number; None where there are none."""
    fields = dict.fromkeys(key for record in records for key in record if key != "index")
    columns: list[Column] = []
    for field in fields:
        values = [_word(record.get(field)) for record in records]
        known = [v for v in values if v is not None]
        if not known or any(isinstance(v, list | dict) for v in known):
            continue
        kind = "number" if all(isinstance(v, int | float) for v in known) else "text"
        shown = values if kind == "number" else [None if v is None else str(v) for v in values]
        columns.append({"name": field, "title": field, "kind": kind, "values": shown, "digits": 4})
    return {"name": name, "columns": columns, "note": note} if columns else None


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
    behind: dict[str, Any] = {
        "method": "method",
        "condition": "condition",
    }
    behind |= {"sets": list(sets), "conditions": dict(conditions), "images": list(images)}
    behind |= {"note": "" if images else "The pictures themselves are not here: names alone."}
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
