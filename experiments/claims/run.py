"""The poster's claims judged by result files: a verdict is computed from numbers, never typed in.

A claim names its evidence: a result file, paths into it, and checks. All checks hold: *reproduced*, where the file
is of the published setting, else *reproduced at home scale*. One fails: *not reproduced*, and the text says whether the
published setting was run; where it was not, that is no refutation. The rules themselves are in
`experiments.claims.rules`. Where the evidence also names what would contradict the claim, a failed check alone is not
enough: an interval that holds both nothing and the published gain decides nothing. No file, too few pictures, or
nothing that decides: *could not be tested here*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.published import TABLES, published_table
from glom.errors import InputError, nearest
from glom.runs.artifacts import read_json, read_result

REPRODUCED, HOME, NOT, UNTESTED = (
    "reproduced",
    "reproduced at home scale",
    "not reproduced",
    "could not be tested here",
)
VERDICTS = (REPRODUCED, HOME, NOT, UNTESTED)
RELATIONS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
POSTER, HINTON, OURS = "Modi & Rawat", "Hinton", "this project"
SOURCES = (POSTER, HINTON, OURS)
MIN_PICTURES = 10  # fewer show no claim to hold
PRINTED = "published:"  # a file of this name is a printed table and the arithmetic of its own rows


@dataclass(frozen=True)
class Check:
    """`value` RELATION `factor` x `bound` + `plus`; `bound` is a number or another value's name."""

    value: str
    relation: str
    bound: float | str
    factor: float = 1.0
    plus: float = 0.0

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise InputError(f"unknown relation '{self.relation}' in a claim's check")

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it does, for values by name."""
        bound = values[self.bound] if isinstance(self.bound, str) else self.bound
        return RELATIONS[self.relation](float(values[self.value]), self.factor * float(bound) + self.plus)

    def __str__(self) -> str:
        named = isinstance(self.bound, str)
        bound = self.bound if named else f"{self.factor * float(self.bound):g}"
        times = f"{self.factor:.3g} x " if named and self.factor != 1 else ""
        plus = f" + {self.plus:g}" if self.plus else ""
        return f"{self.value} {self.relation} {times}{bound}{plus}".replace("_", " ")


@dataclass(frozen=True)
class Evidence:
    """What decides a claim.

    Attributes:
        file: a result file's name, or `published:table2` for a printed table's own arithmetic.
        values: name -> path into the file, `rows[name=token]/ari/ci95/0`; `OTHER.json#path` reads another file.
        checks: all must hold; none: the figures are shown and decide nothing.
        says: the figures, a format over `values`.
        published: whether this is the published setting.
        command: what makes the file; "" for the command recorded in it.
        against: one of them must hold for *not reproduced*; none: a check that fails is enough.
        undecided: what is said where neither `checks` nor `against` hold.
        needs: must hold for the file to decide anything. unfit: what is said where they do not.
        lacking: what is said of a file without these values; "" where that is an error.
        n: path to the number of pictures; "" where the claim is not one about pictures.
        rule: the checks in words, where they are many.
    """

    file: str
    values: Mapping[str, str]
    checks: tuple[Check, ...]
    says: str
    published: bool = False
    command: str = ""
    against: tuple[Check, ...] = ()
    undecided: str = ""
    needs: tuple[Check, ...] = ()
    unfit: str = ""
    lacking: str = ""
    n: str = ""
    rule: str = ""

    def verdict(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """The verdict on these values, and why where there is none."""
        if not all(check.holds(values) for check in self.needs):
            return UNTESTED, self.unfit
        if not self.checks:
            return UNTESTED, ""
        if all(check.holds(values) for check in self.checks):
            if self.n and values["pictures"] < MIN_PICTURES:
                return UNTESTED, f"too few pictures: {values['pictures']} where {MIN_PICTURES} are needed"
            return (REPRODUCED if self.published else HOME), ""
        if not self.against or any(check.holds(values) for check in self.against):
            return NOT, ""
        return UNTESTED, self.undecided


@dataclass(frozen=True)
class Claim:
    """One claim, in our words. The first evidence that decides does; `untested` says why if none is there."""

    place: str
    claim: str
    evidence: tuple[Evidence, ...] = ()
    untested: str = ""
    source: str = POSTER


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, the figures behind it, what decided, and the command."""

    claim: Claim
    verdict: str
    figures: str = ""
    checks: str = ""
    command: str = ""
    published: bool = False
    file: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON."""
        own = {
            "source": self.claim.source,
            "place": self.claim.place,
            "claim": self.claim.claim,
            "verdict": self.verdict,
            "figures": self.figures,
        }
        return {
            **own,
            "file": self.file,
            "checks": self.checks,
            "command": self.command,
            "published_setting": self.published,
        }


@dataclass
class Results:
    """Result files by name: those of a folder, and tables of `apm reproduce` folders under their records' names."""

    folder: Path
    _held: dict[str, Any] = field(default_factory=dict)

    def add_reproduced(self, folder: Path) -> None:
        """Take a folder of `apm reproduce`. Raises `InputError` where it holds no finished table."""
        table = read_result(folder)
        if not isinstance(table, dict) or not {"name", "scale", "rows"} <= set(table):
            raise InputError(f"{folder} is no folder of `apm reproduce`")
        self._held[reproduced(str(table["name"]), str(table["scale"]))] = table

    def get(self, name: str) -> Any | None:
        """A file's contents, None where it is not there. Raises `InputError` for a damaged one."""
        if name not in self._held:
            if name.startswith(PRINTED):
                self._held[name] = printed_arithmetic(int(name[-1]))
            else:
                path = self.folder / name
                self._held[name] = read_json(path) if path.is_file() else None
        return self._held[name]

    def missing(self, name: str) -> str:
        """What is said of a file that is not there: with the nearest of those that are, where one is near."""
        close = nearest(name, (path.name for path in self.folder.glob("*.json")), cutoff=0.85)
        return f"no {name} among the results" + (f"; did you mean {' or '.join(close)}?" if close else "")


def reproduced(name: str, scale: str) -> str:
    """The record's name of a reproduced table.

    Example:
        >>> reproduced("table2", "home"), reproduced("table2", "poster")
        ('reproduce-table2.json', 'reproduce-table2-poster.json')
    """
    return f"reproduce-{name}{'' if scale == 'home' else '-' + scale}.json"


def look_up(data: Any, path: str) -> Any:
    """A value by path: names and indices between slashes; `[key=value]` keeps such entries of a list, of which the
    first is meant where a name follows; `*` counts them.

    Raises:
        KeyError: nothing there.

    Example:
        >>> look_up({"rows": [{"name": "a", "x": [1, 2]}, {"name": "b/c", "x": [3, 4]}]}, "rows[name=b/c]/x/1")
        4
    """
    for part in re.findall(r"\[[^\]]*\]|[^/\[\]]+", path):
        if part.startswith("["):
            key, _, wanted = part[1:-1].partition("=")
            if not isinstance(data, list):
                raise KeyError(path)
            data = [entry for entry in data if isinstance(entry, dict) and str(entry.get(key)) == wanted]
            continue
        if part == "*" and isinstance(data, list):
            data = len(data)
            continue
        if isinstance(data, list) and not part.lstrip("-").isdigit():
            data = data[0] if data else None
        try:
            data = data[int(part)] if isinstance(data, list) else data[part]
        except (KeyError, IndexError, TypeError) as error:
            raise KeyError(path) from error
    if data is None:
        raise KeyError(path)
    return data


def judge(claim: Claim, results: Results) -> Judged:
    """The verdict on one claim.

    Raises:
        InputError: a file is damaged, or lacks what the claim asks of it.
    """
    shown: Judged | None = None  # figures that decide nothing
    lacking: Judged | None = None
    for evidence in claim.evidence:
        data = results.get(evidence.file)
        if data is None:
            continue
        command = evidence.command or str(data.get("command", "")).replace("python cli.py", "apm")
        try:
            paths = {**evidence.values, **({"pictures": evidence.n} if evidence.n else {})}
            values = {name: _value(path, data, results) for name, path in paths.items()}
        except KeyError as error:
            if not evidence.lacking:
                raise InputError(f"{evidence.file} has no {error} (asked by the claim '{claim.claim}')") from error
            said = f"{evidence.file} {evidence.lacking}"
            lacking = lacking or Judged(claim, UNTESTED, said, "", command, file=evidence.file)
            continue
        try:
            figures = evidence.says.format(**values)
            verdict, why = evidence.verdict(values)
        except (TypeError, ValueError) as error:
            raise InputError(f"{evidence.file} cannot decide the claim '{claim.claim}': {error}") from error
        if verdict == UNTESTED:
            reason = why or claim.untested
            figures = f"{figures}; {reason}" if reason else figures
            shown = shown or Judged(claim, UNTESTED, figures, "", command, evidence.published, evidence.file)
            continue
        checks = evidence.rule or "; ".join(map(str, evidence.checks))
        return Judged(claim, verdict, figures, checks, command, evidence.published, evidence.file)
    found = shown or lacking
    if found is not None:
        return found
    wanted = claim.evidence[-1] if claim.evidence else None
    reason = claim.untested or (results.missing(wanted.file) if wanted else "it names no evidence")
    return Judged(claim, UNTESTED, reason, "", wanted.command if wanted else "")


def _value(path: str, data: Any, results: Results) -> Any:
    other, mark, inner = path.partition("#")
    if not mark:
        return look_up(data, path)
    found = results.get(other)
    if found is None:
        raise InputError(results.missing(other))
    return look_up(found, inner)


def printed_arithmetic(number: int) -> dict[str, Any]:
    """A printed table and the averages of its own rows: what the rows say beside what is printed.

    Returns:
        {"rows": [{"method", "printed", "recomputed", "off"}], "largest_off"}; for table 4 its rows alone.
    """
    if number not in TABLES:
        raise InputError(f"there is no published table {number}")
    table = published_table(number)
    if number == 4:
        return {"rows": table}
    rows: list[dict[str, Any]] = []
    for row in table:
        values = [v for k, v in row.items() if isinstance(v, float) and "Average" not in k]
        printed, recomputed = float(row["Average"]), float(np.mean(values))  # type: ignore[arg-type]
        rows.append(
            {"method": row["method"], "printed": printed, "recomputed": recomputed, "off": printed - recomputed}
        )
    return {"rows": rows, "largest_off": max(abs(r["off"]) for r in rows)}


def judge_all(claims: Sequence[Claim], results: Results) -> list[Judged]:
    """Every claim, in order."""
    return [judge(claim, results) for claim in claims]


def counts(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """How many claims of each source got each verdict."""
    return {
        source: {v: sum(j.verdict == v and j.claim.source == source for j in judged) for v in VERDICTS}
        for source in SOURCES
    }
