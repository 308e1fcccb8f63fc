"""Superclasses: a classifier's many classes gathered into few, so that it can be asked for what it was not trained on.

    p(c | x) = mean_{m in c} p(m | x)          log p(c | x) = logsumexp_{m in c} log p(m | x) - log |c|

The mean over the members (Geirhos et al. 2018, "Generalisation in humans and deep neural networks", appendix), taken in
log space, so that the softmax of what the head gives is the mean probabilities, made to sum to 1.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from glom.datasets.class_files import WNID, read_lines
from glom.datasets.classes import imagenet_wnids
from glom.datasets.labels import whole_number
from glom.datasets.reading import one_line
from glom.errors import InputError, unknown
from glom.runs.artifacts import public_name
from glom.teachers.heads import ZeroShotHead

TABLES = Path(__file__).parent / "tables"
SHIPPED = ("geirhos16", "pacs", "imagenet-d", "caltech101")
FORM = "a line is an ImageNet index or WNID (or both) and a superclass, with tabs or, in a .csv, commas between"


@dataclass(frozen=True)
class Superclasses:
    """A table of superclasses.

    Attributes:
        name: of `SHIPPED`, or a file's.
        members: superclass -> indices of ImageNet's classes, ascending; in the order in which the table names them.
    """

    name: str
    members: Mapping[str, tuple[int, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The superclasses, in order."""
        return tuple(self.members)

    @property
    def fingerprint(self) -> str:
        """sha256 over what the table says, in hex."""
        said = json.dumps([[name, list(rows)] for name, rows in self.members.items()])
        return hashlib.sha256(said.encode()).hexdigest()


@dataclass(frozen=True)
class SuperclassHead(ZeroShotHead):
    """Scores of C superclasses: the logarithm of the mean probability of each one's members.

    Attributes:
        classes: C superclasses.
        weights, bias: of all R rows of the classifier, (R, F) and (R,) or None.
        members: (C, M) rows of each superclass; -1 where it has fewer than M.
    """

    members: Tensor = None  # type: ignore[assignment]

    def __call__(self, tokens: Tensor) -> Tensor:
        """(..., F) tokens -> (..., C) log-probabilities, float32; differentiable."""
        log_p = super().__call__(tokens).log_softmax(-1)[..., self.members.clamp_min(0)]
        outside = self.members < 0
        return log_p.masked_fill(outside, -torch.inf).logsumexp(-1) - (~outside).sum(-1).log()

    def take(self, classes: Sequence[str], rows: Sequence[int]) -> Self:
        """Some of the superclasses, in another order. The rows of all classes stay: they share the probability."""
        return replace(self, classes=tuple(classes), members=self.members[list(rows)])

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(super().to(device), members=self.members.to(device))


def superclass_head(head: ZeroShotHead, members: Mapping[str, Sequence[int]]) -> SuperclassHead:
    """A classifier's head over all its rows, gathered by a mapping of superclass -> rows."""
    longest = max(map(len, members.values()))
    padded = [[*rows, *[-1] * (longest - len(rows))] for rows in members.values()]
    held = torch.tensor(padded, device=head.weights.device)
    return SuperclassHead(tuple(members), head.weights, head.scale, head.bias, head.normalize, held)


def read_superclasses(name: str) -> Superclasses:
    """A table that ships, or a file: TSV or CSV, a line an ImageNet class; lines that begin with # are passed over.

    Raises:
        InputError: neither a name nor a file, a class that ImageNet does not have, one that is listed twice, a
            superclass without a member, a line that is none.

    Example:
        >>> read_superclasses("pacs").members["elephant"]
        (101, 385, 386)
    """
    if name in SHIPPED:
        return Superclasses(name, _members(TABLES / f"{name}.tsv"))
    path = Path(name).expanduser()
    if not path.suffix and not path.exists():
        raise unknown("superclasses", name, SHIPPED, "or give a table, .tsv or .csv")
    return Superclasses(public_name(name), _members(path))


def _members(path: Path) -> dict[str, tuple[int, ...]]:
    where, held, line_of = one_line(path), dict[str, list[int]](), dict[int, int]()
    for number, cells in _rows(path):
        at, superclass = f"{where}, line {number}", cells[-1]
        given = {_index(cell, at) for cell in cells[:-1] if cell}
        if not superclass or len(given) > 1:
            raise InputError(f"{at}: {'it names no superclass' if not superclass else 'its index and WNID differ'}")
        if not given:
            raise InputError(f"{at}: superclass '{superclass}' has no member there; {FORM}")
        index = given.pop()
        if index in line_of:
            other = next(name for name, rows in held.items() if index in rows)
            both = f"in '{other}' and in '{superclass}'" if other != superclass else f"in '{other}' twice"
            raise InputError(f"{at}: ImageNet's class {index} is {both} (line {line_of[index]})")
        line_of[index] = number
        held.setdefault(superclass, []).append(index)
    if not held:
        raise InputError(f"{where}: no superclasses in it; {FORM}")
    return {name: tuple(sorted(rows)) for name, rows in held.items()}


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, its cells) without comments and a first line that names the columns."""
    read_lines(path)  # refuses what is no text
    lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
    text = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    comma = path.suffix.lower() == ".csv" and not any("\t" in line for _, line in text)
    separator = "\t" if not comma else "," if any("," in line for _, line in text) else ";"
    for place, (number, line) in enumerate(text):
        try:
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator, strict=True))]
        except csv.Error as error:
            raise InputError(f"{one_line(path)}, line {number}: not a line of a table ({error})") from None
        header = place == 0 and not any(whole_number(c) is not None or WNID.fullmatch(c) for c in cells)
        if header and len(cells) > 1 and all(cells):
            continue
        yield number, cells


def _index(cell: str, at: str) -> int:
    """ImageNet's index of an index or a WNID. Raises `InputError` for any other."""
    wnids, number = imagenet_wnids(), whole_number(cell)
    if number is not None and 0 <= number < len(wnids):
        return number
    if cell in wnids:
        return wnids.index(cell)
    if number is not None or WNID.fullmatch(cell):
        raise InputError(f"{at}: ImageNet has no class {cell} (its indices are 0 to {len(wnids) - 1})")
    raise InputError(f"{at}: '{one_line(cell)}' is neither an index nor a WNID; {FORM}")


def record_of(superclasses: Superclasses | None) -> dict[str, str]:
    """What a run must match to be resumed; nothing where a classifier's classes are its own."""
    if superclasses is None:
        return {}
    return {"superclasses": superclasses.name, "superclasses_fingerprint": superclasses.fingerprint}
