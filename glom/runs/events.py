"""What a run says of itself while it goes on: the one kind of event that every study and every training yields."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


def finished(work: Generator[Any, None, T]) -> T:
    """What a generator returns at its end, for those who do not ask how far it is.

    Example:
        >>> finished(value for value in ())
    """
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def as_events(work: Generator[float, None, T], stage: str, total: float) -> Generator[Event[Any], None, T]:
    """Work that yields how much of `total` is done, as events; returns what it returns."""
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        yield Event(stage, done, total)


@dataclass(frozen=True, slots=True)
class Event(Generic[R_co]):
    """How far a stage is, something to be said, or what was found.

    Attributes:
        stage: what is being done, as "training"; "" for an event that only says something or only brings the result.
        done, total: how much of the stage is done, in its own units, and how much there is; a total of 0 is not known.
        message: a line for a person, without an end of line.
        values: figures as they stand now, by name: {"loss": 0.31}. Words as they are to be shown.
        result: what the run found, on the last event alone; None before.

    Example:
        >>> Event("training", 3, 10, values={"loss": 0.5}).done
        3
    """

    stage: str = ""
    done: float = 0
    total: float = 0
    message: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    result: R_co | None = None


def result_of(events: Iterable[Event[T]]) -> T:
    """What the last event brings, for those who do not ask how far it is.

    Example:
        >>> result_of([Event("counting", 0, 1), Event(result=7)])
        7
    """
    [*_, last] = events
    assert last.result is not None
    return last.result
