"""One picture's test-time training, iteration by iteration."""

from __future__ import annotations

import csv
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch

from experiments.adaptation.settings import Adapting, TraceSettings
from glom.adaptation.case import Case, Step
from glom.adaptation.objectives import get_objective, require
from glom.adaptation.ttt import adapting
from glom.columns import picture
from glom.datasets.corruptions import parse_corruption
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder, read_json, read_result, versions
from glom.runs.events import Event, as_events
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from glom.teachers.asked import Kept, asked_about, choose_classes
from glom.teachers.corrupted import corrupted, described
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.views import seen
from glom.teachers.zero_shot import choose_templates
from probes.figures.base import trace_figure

WHO = (("teacher", "teacher"), ("APM", "apm"))


class Adapted(TypedDict):
    """One picture's adaptation: what teacher and machine say of it, and the trace, a step an update.

    `names` are those of the classes that were said at any step, by the class's number.
    """

    id: str
    teacher_class: int
    teacher_name: str
    teacher_probability: float
    apm_class: int
    apm_name: str
    apm_probability: float
    classes: int
    cosine: float
    names: dict[str, str]
    trace: list[Step]


class Traced(Adapted, Kept):
    """The same, with what was asked of the teacher and the packages' versions."""

    versions: dict[str, str]


def trace_case(
    case: Case, teacher_head: ZeroShotHead, request: Adapting, device: torch.device
) -> Generator[Event[Any], None, Adapted]:
    """Adapt one case with its trace kept, yielding events; raises `RunError` if it fails."""
    from glom.errors import RunError

    steps = adapting(case, request.ttt, teacher_head, request.seed, device, keep_trace=True)
    result = yield from as_events(steps, "adapting", request.ttt.iterations)
    if result.failed:
        raise RunError(f"{case.id}: {result.failed}")
    names = {str(step["class"]): teacher_head.classes[step["class"]] for step in result.trace}
    chances = teacher_head(case.token.to(teacher_head.weights.device)).softmax(-1)
    names[str(result.teacher_class)] = teacher_head.classes[result.teacher_class]
    return {
        "id": case.id,
        "teacher_class": result.teacher_class,
        "teacher_name": teacher_head.classes[result.teacher_class],
        "teacher_probability": float(chances[result.teacher_class]),
        "apm_class": result.apm_class,
        "apm_name": teacher_head.classes[result.apm_class],
        "apm_probability": result.trace[-1]["probability"],
        "classes": len(teacher_head.classes),
        "cosine": result.cosine,
        "names": names,
        "trace": list(result.trace),
    }


def titled(name: str, result: Mapping[str, Any]) -> str:
    """The name of a picture, and below it what was said of it, how surely, and among how many classes."""
    lines = [f"{who}: {result[f'{key}_name']} {100 * result[f'{key}_probability']:.0f} %" for who, key in WHO]
    return "\n".join([name, *lines]) + f", of {result['classes']:,} classes"


def figures(folder: Path) -> list[Path]:
    """Draw a trace again, PNG and SVG. Raises `InputError` where there is none yet."""
    result, name = read_result(folder), read_json(folder / "manifest.json")["settings"]["image"]
    return [draw(name, result, folder / f"trace{ending}") for ending in (".png", ".svg")]


def draw(name: str, result: Mapping[str, Any], path: Path) -> Path:
    """The figure of one picture's trace."""
    return trace_figure([{"title": titled(name, result), **result}], path)


def run(request: TraceSettings, out: Path) -> Iterator[Event[Traced]]:
    """Read the picture, adapt, write `trace.csv` and `trace.png`."""
    original = image = read_image(request.image)
    device = resolve_device(request.device)
    teacher = load_teacher(request.teacher, str(device), request.teacher_precision)
    require(get_objective(request.ttt.objective), teacher.has_grid, teacher.name)
    name = Path(request.image).name
    kind = parse_corruption(request.corruption) if request.corruption else None
    if kind is not None:
        image = corrupted(teacher, image, kind, sample_seed(request.seed, name, "corruption"), request.corrupt)
    classes, chosen = choose_classes(teacher, request.classes, request.classes_of)
    if teacher.unnamed_rows and request.classes:
        teacher.name_classes(classes)
    head = teacher.zero_shot_head(classes, choose_templates(request.templates))
    asked = asked_about([(name, original)], head.classes, teacher.name, chosen=chosen).say()
    images = teacher.preprocess(image)[None].to(device)
    grid = None
    if "grid" in get_objective(request.ttt.objective).needs:
        grid, image = teacher.grid(images)[0], seen(teacher, image)  # the grid lies over the teacher's crop
    size = request.ttt.config(teacher.width).image_size
    case = Case(name, None, picture(image, size), teacher.token(images)[0].clone(), grid)
    settings = {"image": name, "teacher": teacher.name, "fingerprint": teacher.fingerprint, **asdict(request.ttt)}
    settings |= described(kind, request.corrupt)
    with RunFolder(out, "trace", settings, extra={"asked": asked.record()}) as folder:
        write_settings(out, request)
        adapted = yield from trace_case(case, head, request, device)
        result: Traced = {**adapted, **asked.kept(), "versions": versions()}
        with (out / "trace.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["iteration", "loss", "cosine", "class", "name", "probability", "agrees"])
            for step in result["trace"]:
                agrees = step["class"] == result["teacher_class"]
                row = [step["iteration"], step["loss"], step["cosine"], step["class"]]
                said = result["names"][str(step["class"])], f"{step['probability']:.4f}"
                writer.writerow([*row, *said, int(agrees)])
        draw(name, result, out / "trace.png")
        folder.conclude(result)
    yield Event(result=result)
