"""What each method sees without forgetting: an episodic one a condition at a time, an online one a stream."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from experiments.comparison.conditions import Condition
from experiments.comparison.stream import Stream
from glom.datasets.base import Sample
from glom.errors import InputError
from glom.runs.seeds import sample_seed


class Visit(NamedTuple):
    """One picture of one condition; `place` is its place in the data set."""

    condition: Condition
    place: int
    sample: Sample


@dataclass(frozen=True)
class Leg:
    """What one method sees without forgetting: conditions, and their pictures in order."""

    conditions: tuple[Condition, ...]
    visits: tuple[Visit, ...]

    @property
    def name(self) -> str:
        """For progress: the condition, or how many of them."""
        known = [c.name for c in self.conditions if not c.out_of] or [c.name for c in self.conditions]
        return known[0] if len(known) == 1 else f"{len(known)} conditions"


def visits(stream: Stream, condition: Condition) -> list[Visit]:
    """The pictures of one condition in the stream's order."""
    found = [Visit(condition, i, s) for i, s in enumerate(condition.dataset.samples)]
    classes = sorted({str(v.sample.label) for v in found}, key=lambda c: sample_seed(stream.seed, c, "class"))
    turn = {c: n // max(1, stream.few) for n, c in enumerate(classes)}

    def key(visit: Visit) -> tuple[int, int]:
        label = visit.sample.label
        first = {"sorted": label or 0, "few": turn[str(label)]}.get(stream.order, 0)
        # In a mixed stream a picture comes under each condition, at moments that have nothing to do with each other.
        purpose = f"stream {condition.name}" if stream.order == "mixed" else "stream"
        return first, sample_seed(stream.seed, visit.sample.id, purpose)

    return sorted(found, key=key)


def in_turn(condition: Condition) -> Leg:
    """What an episodic method sees: the pictures of one condition in the data set's order."""
    return Leg((condition,), tuple(Visit(condition, i, s) for i, s in enumerate(condition.dataset.samples)))


def legs(stream: Stream, conditions: Sequence[Condition], classes_of: Callable[[Condition], Hashable]) -> list[Leg]:
    """The streams that an online method is to see, each from a fresh start.

    Args:
        conditions: unknowns among them come last in their stream.
        classes_of: what conditions have in common that can share a method.

    Raises:
        InputError: a stream of one picture, one smaller than its batches, nothing to carry over or to mix.
    """
    groups: dict[Any, list[Condition]] = {}
    for condition in conditions:
        alone = condition.out_of or condition.name
        groups.setdefault(classes_of(condition) if stream.joined else alone, []).append(condition)
    if stream.order == "mixed" and len(groups) > 1:
        one, other = (group[0].name for group in list(groups.values())[:2])
        raise InputError(f"the stream mixed needs conditions of the same classes; {one} and {other} have others")
    if stream.joined and all(sum(not c.out_of for c in group) == 1 for group in groups.values()):
        what = "`carry`" if stream.carry else "the stream mixed"
        raise InputError(f"{what} needs two conditions of the same classes, for example two corruptions")
    found = []
    for group in groups.values():
        group.sort(key=lambda c: bool(c.out_of))  # nothing is learned from unknowns before the last known picture
        seen = [visit for condition in group for visit in visits(stream, condition)]
        if stream.order == "mixed":
            moment = {id(v): sample_seed(stream.seed, v.sample.id, f"stream {v.condition.name}") for v in seen}
            seen.sort(key=lambda v: (bool(v.condition.out_of), moment[id(v)]))
        known = sum(not v.condition.out_of for v in seen)
        if known < 2:
            raise InputError(f"{group[0].name} is a stream of one picture; online methods need at least two")
        if known < stream.batch:
            raise InputError(f"`batch` {stream.batch} is larger than the stream of {known} pictures, {group[0].name}")
        found.append(Leg(tuple(group), tuple(seen)))
    return found
