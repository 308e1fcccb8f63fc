"""`apm reproduce`: the poster's tables and figures, published beside measured.

DIR/runs/BLOCK/     a resumable benchmark a teacher (tables), or a runner's folder (figures)
DIR/result.json     every row; table.md, table.csv, table.tex, table.html are written from it alone
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from experiments.comparison.conditions import base_task, open_conditions
from experiments.comparison.run import run as run_benchmark
from experiments.comparison.table import demand_answers
from experiments.reproduce import compute as reproduce_compute
from experiments.reproduce import figures as reproduce_figures
from experiments.reproduce.cost import Cost, estimate, total_minutes, usable
from experiments.reproduce.home import HOME
from experiments.reproduce.plan import SOURCE, Plan, left_out
from experiments.reproduce.poster import POSTER
from experiments.reproduce.rows import make_rows
from experiments.reproduce.settings import Request
from experiments.reproduce.write import write_tables
from glom.datasets.registry import data_root
from glom.devices import ranks
from glom.errors import InputError, RunError, unknown
from glom.methods import method_class
from glom.runs.artifacts import RunFolder, public_command, read_result, result_file
from glom.runs.events import Event
from glom.settings import defaults_of, write_settings

FIGURES = {**reproduce_compute.FIGURES, **reproduce_figures.FIGURES}
LABELLESS = ("table2", "home")  # its networks ship fitted
NAMES = {
    "table1": "ImageNet and its natural shifts, twelve methods",
    "table2": "ImageNet-C, six methods",
    "table3": "nine data sets, six methods",
    **{name: spec.title for name, spec in FIGURES.items()},
}


def check(request: Request) -> None:
    """Raise `InputError` for what does not exist, or an option that the name has no use for."""
    if request.name not in NAMES:
        raise unknown("table or figure", request.name, NAMES, "apm reproduce --list")
    if request.methods and request.name not in HOME:
        raise InputError(f"--methods belongs to table1, table2 and table3; {request.name} has its own")
    if (request.pictures or request.corrupt != Request.corrupt) and request.name not in HOME:
        raise InputError(f"--pictures and --corrupt belong to table1, table2 and table3, not to {request.name}")
    if request.severities != (5,) and (request.name != "table2" or request.scale != "home"):
        raise InputError("--severities belongs to table2 at home scale")
    if request.checkpoint and not request.name.startswith("figure-"):
        raise InputError("--checkpoint belongs to the figures")
    if request.shots != Request.shots and (request.name not in HOME or (request.name, request.scale) == LABELLESS):
        raise InputError("--shots belongs to tables with labelled pictures: table1, table3, and table2 at poster scale")
    if request.root and not Path(request.root).expanduser().is_dir():
        raise InputError(f"{request.root}: no such folder; --data-root names the folder that holds the data sets")


def make_plan(request: Request) -> Plan:
    """What a table is made of, everything opened that is there."""
    check(request)
    return (HOME if request.scale == "home" else POSTER)[request.name](request)


def describe(request: Request, out: Path, timed: bool = True) -> dict[str, Any]:
    """The plan before it starts: blocks, conditions, what is missing, minutes and how they are known."""
    check(request)
    shown: dict[str, Any] = {"name": request.name, "scale": request.scale}
    if request.name in FIGURES:
        spec = FIGURES[request.name]
        why = reproduce_figures.missing(request.name, request)
        shown |= {"title": spec.title, "caption": spec.at(request)}
        shown |= {"blocks": [], "missing": [why] if why else [], "remarks": [], "runnable": not why, "costs": []}
        home = request.scale == "home"
        return shown | {"minutes": spec.minutes if home else 0.0, "how": "by runs on two cores" if home else ""}
    plan = make_plan(request)
    plan = replace(plan, blocks=tuple(usable(block, request, plan.limit) for block in plan.blocks))
    costs = estimate(plan, request, out) if timed else []
    blocks = [
        {
            "name": block.name,
            "teacher": block.teacher,
            "methods": [line.method for line in block.open_lines],
            "data": [column.title for column in block.open_columns],
            "runnable": block.runnable,
            "missing": block.why,
            "left_out": [f"{x.method}: {x.why}" for x in block.lines if x.why],
        }
        for block in plan.blocks
    ]
    shown |= {"title": plan.title, "caption": plan.caption, "blocks": blocks, "limit": plan.limit}
    shown |= {"missing": list(plan.notes), "remarks": list(plan.remarks), "runnable": bool(plan.runnable)}
    shown["costs"] = [c.row() for c in costs]
    return shown | {"minutes": round(total_minutes(costs), 2), "how": _how(costs)}


def _how(costs: list[Cost]) -> str:
    return "; ".join(dict.fromkeys(c.how.partition(" on ")[0] if "measured" in c.how else c.how for c in costs))


_Shared = TypedDict("_Shared", {"shares pictures with": list[str]}, total=False)


class Reproduced(_Shared):
    """A table's or a figure's rows beside the printed ones, and how they were made; tables say with what they agree."""

    name: str
    scale: str
    source: str
    title: str
    caption: str
    missing: list[str]
    rows: list[dict[str, Any]]
    images: list[list[str]]
    limit: NotRequired[int]
    corruptions: NotRequired[dict[str, Any] | None]
    warnings: list[str]
    command: str
    machine: dict[str, Any]
    versions: dict[str, str]


def run(request: Request, out: Path, *, resume: bool = False) -> Iterator[Event[Reproduced]]:
    """Fill the table; under torchrun the samples are shared out, and the first rank has the result.

    Raises:
        InputError: a wrong request, or a folder that holds something else.
        RunError: nothing of it can be run here.
    """
    check(request)
    rank, _ = ranks()
    plan = None if request.name in FIGURES else make_plan(request)
    _refuse(request, plan)
    if rank:  # a further rank shares a table's samples and writes nothing
        if plan is not None:
            yield from _fill(plan, request, out)
        return
    held = request.manifest(root="", checkpoint=Path(request.checkpoint).name)
    with RunFolder(out, f"reproduce {request.name}", held, resume, defaults=defaults_of(request)) as folder:
        write_settings(out, request)
        warnings = list(folder.warnings)
        for message in warnings:
            yield Event(message=message)
        result: dict[str, Any] = {"name": request.name, "scale": request.scale, "source": SOURCE}
        if plan is None:
            spec = FIGURES[request.name]
            rows, images = yield from spec.run(request, out / "runs")
            result |= {"title": spec.title, "caption": spec.caption or spec.at(request), "missing": [], "rows": rows}
            result["images"] = [[title, str(path.relative_to(out))] for title, path in images]
        else:
            plan = yield from _fill(plan, request, out)
            missing = list(dict.fromkeys([*plan.notes, *plan.remarks, *left_out(plan.blocks)]))
            result |= {"title": plan.title, "caption": plan.caption, "missing": missing, "images": []}
            result["limit"] = plan.limit
            result["rows"] = make_rows(plan, request, out)
            shared: set[str] = set()
            for block in plan.runnable:
                table = read_result(out / "runs" / block.name)
                warnings += [w for w in table["warnings"] if w not in warnings]
                shared |= set(table["shares pictures with"])
            result["shares pictures with"] = sorted(shared)
            scales = sorted({scale for row in result["rows"] for scale in row["scale"]})
            result["corruptions"] = {"scale": scales, "corrupt": request.corrupt} if scales else None
        kept = [*dict.fromkeys([*folder.manifest.get("warnings", []), *warnings])]
        result |= {"warnings": kept, "command": public_command()}
        result = _without_paths(result, request.root or str(data_root()))
        write_tables(result, out)
        folder.conclude(result, warnings=kept)
    yield Event(result=cast(Reproduced, result))


def demand_results(out: Path) -> None:
    """Raise where a method of a table has no answer at all under some condition; see `demand_answers`."""
    for block in sorted(path for path in (out / "runs").glob("*") if not (path / "manifest.json").exists()):
        if result_file(block).is_file():
            demand_answers(block, read_result(block))


def _without_paths(value: Any, root: str) -> Any:
    """Texts without the place where data sets lie: records leave the machine."""
    if isinstance(value, str):
        place = Path(root).expanduser()
        return value.replace(str(place), "DATA") if place.is_absolute() else value
    if isinstance(value, dict):
        return {k: _without_paths(v, root) for k, v in value.items()}
    return [_without_paths(v, root) for v in value] if isinstance(value, list) else value


def _refuse(request: Request, plan: Plan | None) -> None:
    """Raise `RunError` where nothing can be run."""
    if plan is not None and not plan.runnable:
        raise RunError(f"nothing of {request.name} can be run at {request.scale} scale here: {'; '.join(plan.notes)}")
    if plan is None and (why := reproduce_figures.missing(request.name, request)):
        raise RunError(f"{request.name} cannot be made at poster scale here: {why}")


def _one_bar(events: Iterator[Event], name: str, total: int) -> Iterator[Event]:
    """A benchmark's events as one bar a block: a table has hundreds of conditions and methods."""
    done: dict[str, float] = {}
    for event in events:
        if event.stage:
            done[event.stage] = event.done
            yield Event(name, sum(done.values()), total, event.message, {"": event.stage})


def _fill(plan: Plan, request: Request, out: Path) -> Generator[Event, None, Plan]:
    """Run every block that can be; one that fails is left out, with its reason, and the others go on."""
    blocks = []
    for block in plan.blocks:
        planned, block = block, usable(block, request, plan.limit)
        left = [f"{line.method} is left out: {line.why}" for line in block.lines if line.why]
        left += [f"{block.name} is left out: {block.why}"] if block.why and not planned.why else []
        yield from (Event(message=message) for message in left)
        if block.runnable:
            try:
                settings = block.settings(request, plan.limit)
                teacher = base_task(settings).teacher if settings.nameable else None
                pictures, world = sum(len(c.dataset) for c in open_conditions(settings, teacher)), ranks()[1]
                # A method that depends on the stream is the first rank's alone.
                total = sum(pictures if method_class(m).stateful else -(-pictures // world) for m in settings.methods)
                events = run_benchmark(settings, out / "runs" / block.name, resume=True)
                yield from _one_bar(events, f"teacher {block.teacher}", total)
            except InputError as error:
                yield Event(message=f"{block.name} is left out: {error}")
                block = replace(block, why=str(error))
        blocks.append(block)
    said = [block.why for block in blocks if block.why not in ("", *plan.notes)]
    filled = replace(plan, blocks=tuple(blocks), notes=(*plan.notes, *said))
    if not filled.runnable:
        raise RunError(f"nothing of {request.name} could be run: {'; '.join(filled.notes)}")
    return filled
