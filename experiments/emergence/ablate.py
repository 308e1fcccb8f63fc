"""What makes islands: a recipe with one thing changed at a time, beside its own untrained network and the pixels."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TypedDict, cast

from experiments.emergence.report import Emerged
from experiments.emergence.run import run as emerge
from experiments.emergence.settings import AblateSettings, EmergeSettings
from glom.runs.artifacts import RESULT, RunFolder, read_result
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings


class Row(TypedDict):
    """One training: [mean, low, high] over its `n` pictures, the differences paired; see `verdict` in `score.py`."""

    change: str
    steps: int
    parameters: int
    accuracy: list[float]
    n: int
    trained: dict[str, Any]
    untrained: dict[str, Any]
    pixels: dict[str, Any]
    minus_untrained: list[float]
    minus_pixels: list[float]


class Ablated(TypedDict):
    """A row a change, and what they were made of."""

    recipe: str
    data: str
    rows: list[Row]


def run(settings: AblateSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Ablated]]:
    """Train them one after another, each in a run folder of its own below `out`.

    Raises:
        InputError: an unknown change, or what `apm islands emerge` refuses.
    """
    names = settings.names
    held = settings.manifest(changes=names)
    with RunFolder(out, "islands-ablate", held, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        rows: list[Row] = []
        data = ""
        for name in names:
            part = out / name.replace("/", " of ")
            if resume and (part / RESULT).is_file():
                found = cast(Emerged, read_result(part))
            else:
                found = yield from _trained(settings.training(name), name, part, resume and part.exists())
            data = found["data"]
            rows.append(_row(name, found))
        result: Ablated = {"recipe": settings.recipe, "data": data, "rows": rows}
        folder.conclude(result)
    yield Event(result=result)


def _trained(settings: EmergeSettings, name: str, out: Path, resume: bool) -> Generator[Event[Ablated], None, Emerged]:
    found: Emerged | None = None
    for event in emerge(settings, out, resume=resume):
        found = event.result or found
        if event.stage:
            yield Event(name, event.done, event.total, event.message, event.values)
    assert found is not None
    return found


def _row(name: str, found: Emerged) -> Row:
    verdict = found["verdict"]
    return {
        "change": name,
        "steps": found["steps"],
        "parameters": found["parameters"],
        "accuracy": found["accuracy"],
        "n": verdict["n"],
        "trained": verdict["trained"],
        "untrained": verdict["untrained"],
        "pixels": verdict["pixels"],
        "minus_untrained": verdict["minus_untrained"],
        "minus_pixels": verdict["minus_pixels"],
    }
