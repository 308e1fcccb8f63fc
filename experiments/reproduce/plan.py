"""What a table of the poster is made of here: rows, columns, the benchmarks that fill them, and what is missing.

A plan is blocks; a block is one benchmark of one teacher: its lines are methods, its columns data sets. Every line and
column names the published row and column it answers to, if any, and whether it is the very same data set: only then
may a published number be subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.untouched import ALL
from experiments.published import published_table
from experiments.reproduce.settings import Request

SOURCE = "Modi & Rawat, Asynchronous Perception Machine For Efficient Test Time Training, NeurIPS 2024, as printed"


@dataclass(frozen=True)
class Line:
    """A row: a method here, and the published row it answers to.

    `why`: why it cannot be run, or "". `other`: how it differs from the published one so much that nothing may be
    subtracted, or "".
    """

    method: str
    published: str = ""
    why: str = ""
    other: str = ""


@dataclass(frozen=True)
class Column:
    """A column: a data set under a corruption, and the published column it answers to.

    `same`: it is that very data set. `why`: why it cannot be opened, or "". `other`: what it is where it is not quite
    the published one, or "".
    """

    spec: str
    title: str
    corruption: str = ""
    published: str = ""
    same: bool = False
    why: str = ""
    other: str = ""


@dataclass(frozen=True)
class Mean:
    """An average over some columns, and the published one it answers to."""

    title: str
    columns: tuple[str, ...]
    published: str = ""


@dataclass(frozen=True)
class Block:
    """One benchmark: `lines` of one teacher over `columns`, of all `pictures` or the untouched ones.

    `superclasses`: what the teacher's classes are gathered into, those it cannot name left out. `why`: why none of it
    can be run, or "".
    """

    name: str
    teacher: str
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    means: tuple[Mean, ...] = ()
    train: str = ""
    transfer: bool = False
    mae: str = "mae-tiny"
    preset: str = "fast"
    why: str = ""
    pictures: str = ALL
    superclasses: str = ""

    @property
    def open_lines(self) -> list[Line]:
        return [line for line in self.lines if not line.why]

    @property
    def open_columns(self) -> list[Column]:
        return [column for column in self.columns if not column.why]

    @property
    def runnable(self) -> bool:
        return not self.why and bool(self.open_lines) and bool(self.open_columns)

    def settings(self, request: Request, limit: int) -> BenchmarkSettings:
        """The benchmark that fills what can be filled."""
        return BenchmarkSettings(
            methods=tuple(line.method for line in self.open_lines),
            data=tuple(dict.fromkeys(column.spec for column in self.open_columns)),
            corruptions=tuple(dict.fromkeys(column.corruption for column in self.open_columns)),
            teacher=self.teacher,
            train=self.train,
            shots=request.shots,
            limit=limit,
            seed=request.seed,
            device=request.device,
            mae=self.mae,
            transfer=self.transfer,
            preset=self.preset,
            corrupt=request.corrupt,
            pictures=request.pictures or self.pictures,
            superclasses=self.superclasses,
            nameable=bool(self.superclasses),
        )


@dataclass(frozen=True)
class Plan:
    """A table to be made.

    Attributes:
        number: of the published table. title, caption: what it is, and how it differs from the published one.
        data: what the published columns are of.
        limit: pictures of each data set; 0 for all.
        notes: what is missing here and what to do about it.
        remarks: what to know beside that; it keeps nothing from running.
    """

    number: int
    title: str
    caption: str
    data: str
    blocks: tuple[Block, ...]
    limit: int
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    published: dict[str, dict[str, float | str | None]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        rows = {str(row["method"]): row for row in published_table(self.number)}
        object.__setattr__(self, "published", rows)

    @property
    def runnable(self) -> list[Block]:
        return [block for block in self.blocks if block.runnable]


def only(lines: Sequence[Line], methods: Sequence[str], base: str) -> tuple[Line, ...]:
    """The lines of the wanted methods; others that were asked for are added. The base comes first."""
    if not methods:
        return tuple(lines)
    kept = [line for line in lines if line.method in methods]
    known = {line.method for line in lines}
    kept += [Line(name) for name in methods if name not in known]
    return tuple(sorted(kept, key=lambda line: line.method != base))


def choose(blocks: Sequence[Block], methods: Sequence[str]) -> tuple[Block, ...]:
    """Every block with the wanted methods alone; blocks that have none of them go."""
    if not methods:
        return tuple(blocks)
    extra = [m for m in methods if all(m != line.method for block in blocks for line in block.lines)]
    chosen = []
    for number, block in enumerate(blocks):
        own = [m for m in methods if any(m == line.method for line in block.lines)]
        lines = only(block.lines, [*own, *(extra if number == 0 else [])], "zero-shot") if own or extra else ()
        if lines:
            chosen.append(replace(block, lines=lines))
    return tuple(chosen)


def left_out(blocks: Iterable[Block]) -> list[str]:
    """Which methods cannot be run, for which reason, each reason once."""
    reasons: dict[str, list[str]] = {}
    for line in (line for block in blocks for line in block.lines if line.why):
        reasons.setdefault(line.why, []).append(line.method)
    return [f"{', '.join(dict.fromkeys(methods))}: {why}" for why, methods in reasons.items()]


def column_means(
    columns: Sequence[Column], named: Sequence[tuple[str, str, Callable[[Column], bool]]]
) -> tuple[Mean, ...]:
    """(title, published average, which columns) -> averages, those over no column left out."""
    found = []
    for title, published, wanted in named:
        titles = tuple(column.title for column in columns if wanted(column))
        if titles:
            found.append(Mean(title, titles, published))
    return tuple(found)
