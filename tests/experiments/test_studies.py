"""Every study has one form: `run(settings, out)` yields events of one type, the last with what was found, which is in
`result.json`; and what is recorded of it is written in one place."""

from __future__ import annotations

import ast
import inspect
import json
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import pytest

from commands.common import figures, follow
from glom.runs.artifacts import FORMER_RESULT, RunFolder, read_result, write_record
from glom.runs.events import Event
from tests.conftest import make_image
from tests.helpers_results import declared, mismatches

ROOT = Path(__file__).parents[2]
CODE = [p for room in ("glom", "probes", "experiments", "commands") for p in sorted((ROOT / room).rglob("*.py"))]
# What is no run: figures from the records, the poster's printed values.
NONE = {"claims", "published"}


def functions(path: Path) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]


def called(node: ast.AST) -> set[str]:
    """Names of the functions and methods called in it."""
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}


RUNS = [
    path
    for path in CODE
    if path.parts[-3] == "experiments"
    and any(
        isinstance(n, ast.FunctionDef) and n.name == "run" for n in ast.parse(path.read_text(encoding="utf-8")).body
    )
]


def test_every_study_can_be_run():
    studies = {p.parent.name for p in (ROOT / "experiments").glob("*/__init__.py")}
    assert {path.parent.name for path in RUNS} == studies - NONE


@pytest.mark.parametrize("path", RUNS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_study_is_a_generator_of_events(path):
    module = import_module(f"experiments.{path.parent.name}.{path.stem}")
    assert inspect.isgeneratorfunction(module.run)
    assert str(inspect.signature(module.run).return_annotation).startswith("Iterator[Event")
    first, *rest = inspect.signature(module.run).parameters.values()
    assert first.name in ("settings", "request") and first.default is first.empty
    assert all(p.name == "out" or p.default is not p.empty for p in rest)
    places = [p.name for p in rest]
    assert "out" not in places or places.index("out") == 0
    assert "device" not in places  # it is a setting
    assert all(p.kind is p.KEYWORD_ONLY for p in rest if p.name != "out")
    [node] = [n for n in ast.parse(path.read_text(encoding="utf-8")).body if getattr(n, "name", "") == "run"]
    results = [k for n in ast.walk(node) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "result"]
    passed_on = any(
        "run(" in ast.unparse(n) or "measure" in ast.unparse(n) for n in ast.walk(node) if isinstance(n, ast.For)
    )
    assert results or passed_on, "no event brings the result"
    if "out" in places:
        assert "conclude" in called(node) or "RESULT" in ast.unparse(node), "no result.json is written"


@pytest.mark.parametrize("path", RUNS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_study_declares_what_it_finds(path):
    """Whatever a study finds in any test is held against it: see `tests.helpers_results.checked`."""
    kind = declared(import_module(f"experiments.{path.parent.name}.{path.stem}").run)
    for one in typing.get_args(kind) or (kind,):
        assert typing.is_typeddict(one) and one.__doc__


class Inner(TypedDict):
    share: float | None
    names: NotRequired[list[str]]


class Outer(Inner):
    rows: dict[str, Inner]


def faulty() -> Iterator[Event[Inner]]:
    yield Event(result=cast(Inner, {"share": 0.5, "name": "b"}))


def test_what_is_found_is_held_against_what_is_declared():
    good = {"share": 1, "rows": {"a": {"share": None, "names": ["b"]}}}
    assert list(mismatches(good, Outer)) == []
    wrong = {"share": "1", "more": 2, "rows": {"a": {"names": [3]}}}
    assert list(mismatches(wrong, Outer)) == [
        "result.share is str, declared float",
        "result declares no more",
        "result.rows.a has no share",
        "result.rows.a.names[0] is int, declared str",
    ]
    assert list(mismatches({"share": True}, Inner)) == [] and list(mismatches([], Inner)) == ["result is no dictionary"]
    assert declared(faulty) is Inner and declared(mismatches) is None
    with pytest.raises(AssertionError, match=r"faulty: result declares no name"):
        list(faulty())


def test_nothing_else_than_events_is_yielded_of_progress():
    dictionaries = [
        f"{path.relative_to(ROOT)}:{n.lineno}"
        for path in CODE
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(n, ast.Yield) and isinstance(n.value, ast.Dict)
    ]
    assert dictionaries == []


def test_records_and_results_are_written_in_one_place():
    writers, headers, names = [], [], []
    for path in CODE:
        for node in functions(path):
            where = f"{path.relative_to(ROOT)}:{node.name}"
            writers += [where] if "record" in node.name and "write_json" in called(node) else []
            headers += [where] if {"public_command", "machine", "versions"} <= called(node) else []
        if path.parts[-2] != "bench":  # a bench names its records by itself; a profiler's trace is no result
            text = path.read_text(encoding="utf-8")
            names += [f"{path.name}: {n}" for n in set(FORMER_RESULT.values()) - {"compute.json"} if f'/ "{n}"' in text]
    assert (writers, headers) == (["glom/runs/artifacts.py:write_record"], ["glom/runs/artifacts.py:origin"])
    assert names == []


def test_what_can_go_on_goes_on_with_folders_that_are_older_than_a_setting():
    """All but a sweep, whose folder holds what its file says and nothing else."""
    calls = [
        (f"{path.parent.name}/{path.name}", ast.unparse(node))
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RunFolder"
    ]
    going_on = {where: call for where, call in calls if "resume" in call}
    without = {where for where, call in going_on.items() if "defaults" not in call}
    assert len(going_on) > 15 and without == {"sweep/run.py"}


def test_every_command_that_records_does_it_in_one_way():
    for path in sorted((ROOT / "commands").glob("*.py")):
        for node in functions(path):
            given = [
                a.arg for a in node.args.args if a.annotation is not None and ast.unparse(a.annotation) == "Record"
            ]
            if given:
                calls = [ast.unparse(n) for n in ast.walk(node) if isinstance(n, ast.Call)]
                kept = [c for c in calls if c.startswith(("keep_record(", "finish(")) and given[0] in c]
                assert kept, f"{path.name}: {node.name}"


def fold(tmp_path: Path) -> Iterator[Event]:
    from experiments.fields.fold import FoldRequest, run
    from glom.adaptation.overfit import OverfitSettings

    return run(FoldRequest(image=str(tmp_path / "a.png"), overfit=OverfitSettings(iterations=2)), tmp_path / "run")


def ttt(tmp_path: Path) -> Iterator[Event]:
    from experiments.adaptation.run import TTTRun, run
    from glom.adaptation.settings import settings_for

    settings = settings_for("glom-tiny", iterations=1, queries=4)
    return run(TTTRun(data="cifar10-sample", teacher="glom-tiny", ttt=settings, limit=2), tmp_path / "run")


def decode(tmp_path: Path) -> Iterator[Event]:
    from experiments.fields.decode import run
    from experiments.fields.settings import DecodeSettings

    images = (str(tmp_path / "a.png"),)
    return run(DecodeSettings(images=images, overfit=True, size=(8, 8), iterations=2), tmp_path / "run")


@pytest.mark.parametrize("study", [fold, ttt, decode])
def test_the_last_event_alone_brings_what_result_json_holds(study, tmp_path):
    make_image().save(tmp_path / "a.png")
    *events, last = study(tmp_path)
    assert all(isinstance(event, Event) and event.result is None for event in events) and events
    assert json.loads(json.dumps(last.result)) == read_result(tmp_path / "run")
    assert (tmp_path / "run" / "result.json").is_file()


def test_a_former_result_is_read_and_todays_comes_first(tmp_path):
    for kind, name in [("fold", "fold.json"), ("ttt-like", "summary.json"), ("reproduce table2", "table.json")]:
        folder = tmp_path / name
        with RunFolder(folder, kind, {}) as run:
            (folder / name).write_text('{"of": "before"}')
            assert read_result(folder) == {"of": "before"}
            run.conclude({"of": "today"})
        assert read_result(folder) == {"of": "today"}


def test_a_record_says_how_it_was_made_and_no_place(tmp_path):
    with RunFolder(tmp_path / "run", "kind", {"data": "/somewhere/else/pictures", "limit": 3}) as run:
        run.conclude({"n": 3})
    write_record(tmp_path / "records" / "a.json", {"n": 3}, tmp_path / "run")
    record = json.loads((tmp_path / "records" / "a.json").read_text())
    assert record["settings"] == {"data": "pictures", "limit": 3} and record["n"] == 3
    assert {"command", "machine", "versions", "kind", "started"} <= set(record)
    assert "somewhere" not in json.dumps(record)


def test_a_run_is_followed_to_its_result(capsys):
    events = [
        Event("training", 1, 2, "said of `cache_precision`", {"loss": 0.5}),
        Event("training", 2, 2),
        Event(result=7),
    ]
    assert follow(iter(events), quiet=True) == 7
    assert "said of --cache-precision" in capsys.readouterr().err
    assert follow(iter(()), quiet=True) is None
    assert figures({"loss": 0.25, "pictures/s": 1234.5, "": "memory"}) == "loss 0.25  pictures/s 1,234  memory"
