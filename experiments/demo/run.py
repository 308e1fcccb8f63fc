"""The main job on what the repository ships: honest test-time training on real pictures, in a few minutes, offline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from jinja2 import Environment, PackageLoader, select_autoescape

from experiments.adaptation.conditions import Row, run_conditions
from experiments.adaptation.run import prepare
from experiments.adaptation.settings import TTTRun
from experiments.adaptation.trace import titled, trace_case
from experiments.demo.settings import DemoSettings
from experiments.fields.fold import fold_image
from experiments.fields.settings import FoldRequest
from glom.adaptation.overfit import OverfitSettings
from glom.adaptation.settings import settings_for
from glom.adaptation.ttt import Case
from glom.columns import picture
from glom.datasets.registry import open_dataset
from glom.runs.artifacts import RESULT, command_line, machine, versions, write_json
from glom.runs.events import Event
from glom.runs.files import write_text
from probes.figures.base import accuracy_figure, png_data, trace_figure

SOURCE = (
    "200 test pictures of CIFAR-10 (Krizhevsky, 2009), 20 a class, and the same 200 corrupted with CIFAR-10-C's "
    "recipes (Hendrycks & Dietterich, 2019). Teacher: glom-tiny, the small CLIP that ships with the toolkit."
)


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
    accuracy_figure(rows, figures / "accuracy.png")

    dataset = open_dataset(base.data).limit(settings.limit)
    step = max(1, len(dataset) // settings.pictures)
    chosen = dataset.samples[step // 2 :: step][: settings.pictures]
    ready = prepare(base)
    size = base.ttt.config(ready.teacher.width).image_size
    traces = []
    for sample in chosen:
        image = sample.image()
        token = ready.teacher.token(ready.teacher.preprocess(image)[None].to(ready.device))[0].clone()
        traced = trace_case(Case(sample.id, None, picture(image, size), token), ready.head, base, ready.device)
        traces.append({"title": titled(sample.id, traced), **traced})
        yield Event("traces", len(traces), len(chosen))
    trace_figure(traces, figures / "traces.png")
    write_json(figures / "traces.json", traces)

    sheets = []
    for sample in chosen:
        request = FoldRequest(
            image=sample.id,
            grid=(32, 32),
            overfit=OverfitSettings(iterations=settings.fold_iterations),
            seed=settings.seed,
            device=settings.device,
        )
        folded = yield from fold_image(request, sample.image(), sample.id)
        found = folded.result
        panels = [{"name": n, "image": png_data(p, enlarge_to=256)} for n, p in folded.panels]
        r2 = "-" if found["grid_r2"] is None else f"{found['grid_r2']:.3f}"
        caption = f"{sample.id}: R² of the teacher's grid {r2}, colours {found['psnr']:.1f} dB at 32x32"
        sheets.append({"panels": panels, "caption": caption})

    seconds = time.perf_counter() - started
    page = Environment(loader=PackageLoader("experiments"), autoescape=select_autoescape()).get_template("demo.html.j2")
    html = page.render(
        source=SOURCE,
        rows=rows,
        accuracy_figure=png_data(figures / "accuracy.png"),
        trace_figure=png_data(figures / "traces.png"),
        sheets=sheets,
        facts=_facts(ready.asked(look=False).line, str(base.ttt), seconds),
    )
    write_text(out / "report.html", html)
    result: Demo = {"rows": rows, "seconds": seconds}
    write_json(out / RESULT, result)
    yield Event("report", 1, 1, result=result)


def _facts(asked: str, settings: str, seconds: float) -> list[tuple[str, str]]:
    """What stands at the end of the page."""
    return [
        ("asked", asked),
        ("command", command_line()),
        ("settings", settings),
        ("machine", ", ".join(f"{k} {v}" for k, v in machine().items())),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions().items())),
        ("time", f"{seconds:.0f} s, the part done before an interruption not counted"),
    ]
