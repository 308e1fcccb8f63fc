"""Whether what a run found is what its signature declares, and what it drew is drawn again."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, NoneType, UnionType
from typing import Any

from glom.runs.events import Event


def declared(run: Any) -> Any:
    """The `R` of a function that returns `Iterator[Event[R]]` or a generator of them; None where it declares none."""
    returned = run.__annotations__.get("return", "")
    found = eval(returned, run.__globals__) if "Event[" in returned else None
    events = typing.get_args(found)[:1] if found is not None else ()
    return next((kind for event in events for kind in typing.get_args(event)), None)


def mismatches(value: Any, kind: Any, where: str = "result") -> Iterator[str]:
    """Where a value is not of its declared type: keys that are missing or too many, and values of another kind."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            yield f"{where} is no dictionary"
            return
        hints, written = (typing.get_type_hints(kind, include_extras=extras) for extras in (False, True))
        free = {key for key, hint in written.items() if typing.get_origin(hint) is typing.NotRequired}
        yield from (f"{where} has no {key}" for key in sorted(kind.__required_keys__ - free - set(value)))
        for key, one in value.items():
            yield from mismatches(one, hints[key], f"{where}.{key}") if key in hints else [f"{where} declares no {key}"]
    elif origin in (typing.Union, UnionType):
        if all(list(mismatches(value, part)) for part in parts):
            inside = [part for part in parts if part is not NoneType]
            yield from mismatches(value, inside[0], where) if len(inside) == 1 else [f"{where} is none of {kind}"]
    elif origin in (list, Sequence):
        yield from [] if isinstance(value, list | tuple) else [f"{where} is no list"]
        for place, one in enumerate(value if isinstance(value, list | tuple) else ()):
            yield from mismatches(one, parts[0], f"{where}[{place}]")
    elif origin in (dict, Mapping):
        yield from [] if isinstance(value, Mapping) else [f"{where} is no dictionary"]
        for key, one in value.items() if isinstance(value, Mapping) else ():
            yield from mismatches(key, parts[0], f"a key of {where}")
            yield from mismatches(one, parts[1], f"{where}.{key}")
    elif not isinstance(value, (int, float) if kind is float else kind) or (kind is int and isinstance(value, bool)):
        yield f"{where} is {type(value).__name__}, declared {kind.__name__}"


def checked(make: Any) -> Any:
    """`Event.__init__`, which then refuses a result that the function it stands in does not declare."""

    def init(event: Event[Any], *args: Any, **values: Any) -> None:
        make(event, *args, **values)
        frame: FrameType | None = sys._getframe(1)
        run = frame.f_globals.get(frame.f_code.co_name) if frame is not None else None
        if event.result is not None and hasattr(run, "__annotations__") and (kind := declared(run)) is not None:
            wrong = list(mismatches(event.result, kind))
            assert not wrong, f"{run.__module__}.{run.__name__}: {'; '.join(wrong[:8])}"  # type: ignore[union-attr]

    return init


def cut_anywhere(folder: Path) -> None:
    """A run folder of which any one file is cut in the middle or gone is shown as far as it goes, and redrawn so."""
    from commands.figures import redraw
    from probes.explorer import page, read_run

    for path in [path for path in sorted(folder.rglob("*")) if path.suffix not in (".png", ".svg", ".lock", ".csv")]:
        if not path.is_file() or path.name == ".lock":
            continue
        whole = path.read_bytes()
        for left in (whole[: len(whole) // 2], None):
            path.unlink() if left is None else path.write_bytes(left)
            if path.name != "manifest.json" or left is not None:  # without it there is no run
                assert "<title>" in page(read_run(folder)), path.name
                assert redraw(folder)["runs"], path.name
        path.write_bytes(whole)


def drawn_again(folder: Path, *others: str) -> None:
    """Every picture and film that a run drew is there again, byte for byte, when `apm figures` has drawn it.

    Args:
        others: names of pictures that are results and no figures.
    """
    from commands.figures import redraw

    paths = [path for path in folder.rglob("*") if path.suffix in (".png", ".gif") and path.name not in others]
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    redraw(folder)
    assert before
    for path, data in before.items():
        assert path.is_file() and path.read_bytes() == data, path.name
