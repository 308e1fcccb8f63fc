"""Methods x data sets x samples: one resumable folder, one paired table.

    DIR/CONDITION/METHOD/    results.jsonl: a line a sample; a method's fit beside it as fit.safetensors
    DIR/result.json          the table, from those lines alone

Every method sees the same pictures with the same corruption. Differences are paired with the first method's (the
teacher, unless another is named first), with 95 % bootstrap intervals, exact McNemar p-values, and Holm's correction
over all comparisons of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from experiments.comparison.conditions import (
    Classes,
    Condition,
    base_task,
    class_names,
    classes_of,
    make_all,
    open_conditions,
    open_out_set,
    task_of,
)
from experiments.comparison.legs import Leg, in_turn, legs
from experiments.comparison.resumable import finish_late, run_leg
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.table import Compared, averages, make_table
from experiments.comparison.untouched import Shared, shares_pictures_with
from glom.allocator import release_freed_memory
from glom.errors import InputError
from glom.execution import Ranks
from glom.methods import Method, Task, make_method, method_class
from glom.runs.artifacts import RESULT, write_json
from glom.runs.events import Event
from glom.teachers.asked import asked_of

__all__ = [
    "Condition",
    "averages",
    "class_names",
    "open_conditions",
    "run",
]


class Table(Compared, Shared):
    """The rows, and which of the data sets share pictures with what the toolkit's own choices were made on."""


def run(
    settings: BenchmarkSettings, out: Path, *, resume: bool = False, kept: Path | None = None
) -> Iterator[Event[Table]]:
    """Run every method on every condition; the first rank's result is the table.

    Under torchrun the ranks share out the samples; a method whose answers depend on the stream is the first rank's.
    `kept`: a folder for what is made of pictures once, for this run and later ones; None: in memory alone.

    Raises:
        InputError: a wrong request, or labelled pictures that are also test pictures; before the first answer.
    """
    group = Ranks.join()
    rank = group.rank
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    if rank == 0 and not resume and next(out.glob("*/*/manifest.json"), None):
        raise InputError(f"{out} already holds a run; add --resume to go on, or choose another --out")
    if kept is not None and kept.exists() and not kept.is_dir():
        raise InputError(f"{kept} is a file; views and corrupted pictures are kept in a folder")
    base = base_task(settings, kept)
    loaded = base.teacher
    conditions = open_conditions(settings, loaded)
    unknown = open_out_set(settings, conditions, loaded.superclasses)
    every = [c for pair in zip(conditions, unknown, strict=True) for c in pair] if unknown else conditions
    made, learning = make_all(settings, conditions, base)
    if settings.train and learning is None:
        yield Event(
            message=f"--train {settings.train} is not used: none of these methods learns from labelled pictures"
        )
    for dataset, names in {id(c.dataset): (c.dataset, class_names(c, loaded)) for c in conditions}.values():
        asked_of(dataset, names, settings.teacher, not rank, loaded.superclasses).say()
    online = any(method_class(name).stateful for name in settings.methods)
    streams = legs(settings.as_stream(), every, lambda c: classes_of(c, base)) if online else []
    warned: set[str] = set()
    for leg, method in _turns(settings, every, streams, base, made):
        for event in run_leg(settings, leg, method, out, resume, learning, group):
            if event.message in warned:
                event = replace(event, message="")
            elif event.message.startswith("package versions"):  # the same for every folder of the run
                warned.add(event.message)
            yield event
        release_freed_memory()  # each method's blocks have sizes of their own
    group.wait()
    if rank == 0:
        for condition in every if group.world > 1 else ():
            for name in settings.methods:
                finish_late(out / condition.name / name, len(condition.dataset))
        shared = shares_pictures_with(list({c.spec: c.dataset for c in conditions}.values()))
        found = make_table(out, settings.manifest(), [c.name for c in conditions])
        table: Table = {**found, "shares pictures with": shared}
        write_json(out / RESULT, table)
        yield Event(result=table)


def _turns(
    settings: BenchmarkSettings,
    every: Sequence[Condition],
    streams: Sequence[Leg],
    base: Task,
    made: dict[tuple[str, Classes], Method],
) -> Iterator[tuple[Leg, Method]]:
    """Every method over every leg. What methods make of the same pictures is made once, and then forgotten."""
    joined, online = settings.as_stream().joined, [name for name in settings.methods if method_class(name).stateful]

    def make(name: str, condition: Condition) -> Method:
        return make_method(name, task_of(condition, base), bool(settings.train))

    for number, condition in enumerate(every):
        own = [leg for leg in streams if leg.conditions[0] is condition and not joined]
        for name in settings.methods:
            key = name, classes_of(condition, base)
            if name in online:
                yield from ((leg, make(name, condition)) for leg in own)
            else:
                made[key] = made[key] if key in made else make(name, condition)
                yield in_turn(condition), made[key]
        # Other pictures ask for other views; small blocks that live long split the heap for the large ones.
        base.views.clear()
        later = [classes_of(c, base) for c in every[number + 1 :]]
        for key in [key for key in made if key[1] not in later]:
            del made[key]
    for leg in streams if joined else ():
        yield from ((leg, make(name, leg.conditions[0])) for name in online)
