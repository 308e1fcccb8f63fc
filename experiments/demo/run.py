"""The main job on what the repository ships: honest test-time training on real pictures, in a few minutes, offline."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from PIL import Image

from experiments.adaptation.conditions import Row, run_conditions
from experiments.adaptation.run import prepare
from experiments.adaptation.settings import TTTRun
from experiments.adaptation.trace import titled, trace_case
from experiments.demo.photographs import SAID, photographs
from experiments.demo.settings import DemoSettings
from experiments.fields.fold import fold_image
from experiments.fields.settings import FoldRequest
from glom.adaptation.case import Case
from glom.adaptation.overfit import OverfitSettings
from glom.adaptation.settings import settings_for
from glom.backbones.base import Backbone
from glom.backbones.patching import region_cells
from glom.backbones.registry import load_backbone
from glom.columns import picture
from glom.datasets.base import Sample
from glom.datasets.registry import open_dataset
from glom.runs.artifacts import RESULT, command_line, machine, versions, write_json
from glom.runs.events import Event
from glom.runs.files import write_text
from probes.explorer import Picture, View, page, picture_of, read_run, trace_of
from probes.figures.again import draw
from probes.figures.base import accuracy_figure, trace_figure
from probes.look import islands
from probes.patched import Patched

SOURCE = (
    "200 test pictures of CIFAR-10 (Krizhevsky, 2009), 20 a class, and the same 200 corrupted with CIFAR-10-C's "
    "recipes (Hendrycks & Dietterich, 2019). Teacher: glom-tiny, the small CLIP that ships with the toolkit."
)

RULE = (
    "For every picture an APM starts from random weights, is overfit on the teacher's one token for that picture, and "
    "classifies through the teacher's zero-shot head; the last iteration is read, as fixed in advance. The oracle "
    "counts a picture as right if any iteration was, which no one can know at test time: it is not a result."
)
PHOTO = "mvit-v2-photo"
EYE = (0.29, 0.27, 0.46, 0.49)  # of the cat in the first photograph, a box around it
PATCHED = 4  # the layer in which it is replaced


class Demo(TypedDict):
    """A row a condition, and how long everything took."""

    rows: list[Row]
    seconds: float


def run(settings: DemoSettings, out: Path) -> Iterator[Event[Demo]]:
    """Run everything and write `report.html`.

    An interrupted demo goes on where it stopped when it is called again on the same folder.
    """
    started = time.perf_counter()
    base = TTTRun(
        data="cifar10-sample",
        ttt=settings_for("glom-tiny", "fast", iterations=settings.iterations),
        limit=settings.limit,
        seed=settings.seed,
        device=settings.device,
    )
    rows = yield from run_conditions(base, settings.corruptions, out)
    figures = out / "figures"
    draw(figures / "accuracy.png", accuracy_figure, out, rows=rows)

    dataset = open_dataset(base.data).limit(settings.limit)
    step = max(1, len(dataset) // settings.pictures)
    chosen = dataset.samples[step // 2 :: step][: settings.pictures]
    ready = prepare(base)
    size = base.ttt.config(ready.teacher.width).image_size
    traces, shown = [], []
    for sample in chosen:
        image = sample.image()
        token = ready.teacher.token(ready.teacher.preprocess(image)[None].to(ready.device))[0].clone()
        traced = yield from trace_case(
            Case(sample.id, None, picture(image, size), token), ready.head, base, ready.device
        )
        traces.append({"title": titled(sample.id, traced), **traced})
        shown.append(trace_of(sample.id, traced, image))
        yield Event("traces", len(traces), len(chosen))
    draw(figures / "traces.png", trace_figure, out, traces=traces)
    write_json(figures / "traces.json", traces)

    pictures = yield from _photographs(settings.photographs)
    pictures += yield from _unfolded(chosen, settings)
    seconds = time.perf_counter() - started
    view: View = {
        "title": "Where a network agrees with itself, and what test-time training adds",
        "facts": _facts(ready.asked(look=False).line, str(base.ttt), seconds),
        "notes": [],
        "pictures": pictures,
        "traces": shown,
        "tables": [_accuracies(rows), *read_run(out).get("tables", [])],
        "figures": [{"name": f, "image": (figures / f).read_bytes()} for f in ("accuracy.png", "traces.png")],
    }
    write_text(out / "report.html", page(view))
    result: Demo = {"rows": rows, "seconds": seconds}
    write_json(out / RESULT, result)
    yield Event("report", 1, 1, result=result)


def _photographs(count: int) -> Generator[Event[Any], None, list[Picture]]:
    """Photographs as the video transformer that ships sees them, layer by layer; the first with an eye replaced too."""
    network, found, shown = load_backbone(PHOTO, "cpu"), list[Picture](), photographs()
    values: dict[str, Any] = {"the mean of all places": "mean", f"what {shown[1][0]} has there": shown[1][1]}
    for done, (name, image) in enumerate(shown[:count], 1):
        seen = islands(image, network)
        patched = [] if done > 1 else [_without_eye(image, network, *value) for value in values.items()]
        source = replace(seen, patched=tuple(patched)).source()
        found.append(picture_of(name, image, [source], note="; ".join(seen.notes)))
        yield Event("photographs", done, min(count, len(shown)))
    return found


def _without_eye(image: Image.Image, network: Backbone, said: str, value: Any) -> Patched:
    with network.patch(PATCHED, EYE, value):
        seen = islands(image, network)
    grids = {layer: grid for layer, grid in seen.grids.items() if layer >= PATCHED}
    return Patched(f"an eye, layer {PATCHED}: {said}", region_cells(EYE, *grids[PATCHED].shape[:2]), grids, [])


def _unfolded(chosen: Sequence[Sample], settings: DemoSettings) -> Generator[Event[Any], None, list[Picture]]:
    """The pictures that were traced, folded into one column each and asked at every location of a finer grid."""
    found = []
    for sample in chosen:
        request = FoldRequest(
            image=sample.id,
            grid=(32, 32),
            overfit=OverfitSettings(iterations=settings.fold_iterations),
            seed=settings.seed,
            device=settings.device,
        )
        folded = yield from fold_image(request, sample.image(), sample.id)
        r2 = "-" if folded.result["grid_r2"] is None else f"{folded.result['grid_r2']:.3f}"
        picture = folded.picture(sample.image())
        picture["note"] = f"R² of the teacher's grid {r2}, colours {folded.result['psnr']:.1f} dB at 32 x 32"
        found.append(picture)
    return found


def _accuracies(rows: Sequence[Row]) -> dict[str, Any]:
    """Teacher beside APM, a row a condition."""
    heads = (
        ("name", "pictures", "", 0),
        ("n", "n", "", 0),
        ("teacher_top1", "teacher, zero-shot (%)", "", 1),
        ("apm_top1", "APM, last iteration (%)", "", 1),
        ("difference", "APM minus teacher", "ci95", 1),
        ("mcnemar_p", "McNemar p", "", 3),
        ("agreement", "agreement", "", 3),
        ("oracle_top1", "oracle (diagnostic, %)", "", 1),
    )
    columns = [
        {"name": key, "title": title, "kind": "number" if digits or key == "n" else "text", "digits": digits}
        | {"values": [row.get(key) for row in rows]}
        | ({"ranges": [row.get(interval) for row in rows]} if interval else {})
        for key, title, interval, digits in heads
    ]
    return {"name": "Test-time training, beside its own teacher", "columns": columns, "note": RULE}


def _facts(asked: str, settings: str, seconds: float) -> list[list[str]]:
    """What stands under About."""
    return [
        ["pictures", SOURCE],
        ["photographs", SAID],
        ["asked", asked],
        ["command", command_line()],
        ["settings", settings],
        ["machine", ", ".join(f"{k} {v}" for k, v in machine().items())],
        ["versions", ", ".join(f"{k} {v}" for k, v in versions().items())],
        ["time", f"{seconds:.0f} s, the part done before an interruption not counted"],
    ]
