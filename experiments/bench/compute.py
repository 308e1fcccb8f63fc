"""The poster's computational analysis: parameters, memory and GFLOPs, measured, from first principles and as published.

GFLOPs are what `torch.utils.flop_counter` counts, two operations a multiply-add; the published numbers are mostly
multiply-adds, so both stand in every row. As the published rows define it, step t = 1 of an APM costs the teacher's
pass and every later one the student's; 20 steps of any other model cost 20 passes. The student's pass is what the
release counts, 512 columns; what its test-time code fires, 1,024 columns with the read-out, stands under `test_time`.
(Modi & Rawat, NeurIPS 2024, table 4 and the figure of GFLOPs against patches.)
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from experiments.bench import compute_memory
from experiments.bench import compute_models as models
from experiments.bench import compute_readings as readings
from experiments.bench.compute_arithmetic import (
    GIGA,
    Cost,
    apm_columns,
    apm_folded,
    apm_plain,
    clip_image,
    clip_text,
    swin_b,
)
from experiments.bench.compute_readings import STEPS, Reading, nearest
from experiments.bench.settings import SIDES, ComputeSettings
from experiments.published import gigabytes, published_table
from glom import execution
from glom.columns import grid_queries
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder, machine, versions
from glom.runs.events import Event
from probes.figures.compute import compute_figure

VIEWS, CLASSES = 64, 1000
UNIT = ("clip", 14)  # the time that counts as 1: CLIP ViT-B/16 on its own 14 x 14 patches


@dataclass(frozen=True)
class Line:
    """One row of the table: what is counted, what arithmetic says, and what the published numbers could mean."""

    definition: str
    parameters: int
    gmadds: float
    arithmetic_parameters: int
    arithmetic_gmadds: float
    arithmetic_bytes: int
    memory_case: str
    params: list[Reading]
    flops: list[Reading]
    memory: list[Reading]
    test_time: dict[str, float] | None = None


def table_lines() -> Iterator[Line]:
    """The seven rows in the published order. Counting takes a few seconds on two cores."""
    swin, swin_cost = models.count_swin(), swin_b()
    clip, clip_cost = models.count_clip(), clip_image() + clip_text()
    n_swin, n_clip = models.parameters(models.swin("meta")), models.parameters(models.clip("meta"))
    yield Line(
        f"{STEPS} forward passes, 1 picture of 224 x 224; memory: adapting every weight with Adam",
        n_swin,
        STEPS * swin.forward / GIGA,
        swin_cost.parameters,
        STEPS * swin_cost.forward() / GIGA,
        16 * n_swin + swin.kept,
        "swin",
        readings.parameter_readings("swin"),
        readings.swin_readings(),
        readings.memory_readings({"all": n_swin}, {"activations": swin.kept}),
    )
    text = models.count_clip(image=False)
    tpt = readings.tpt_scopes(VIEWS, CLASSES)
    n_tpt = n_clip + models.PROMPT * 512
    yield Line(
        f"{STEPS} steps, each {VIEWS} views forward and {CLASSES} prompts forward and back to the prompt; "
        f"memory: {VIEWS} views and 1 prompt",
        n_tpt,
        STEPS * models.count_tpt(VIEWS, CLASSES) / GIGA,
        clip_cost.parameters + 4 * 512,
        STEPS * next(iter(tpt.values())) / GIGA,
        4 * n_clip + text.kept,
        "tpt",
        readings.parameter_readings("tpt"),
        readings.passes(tpt, STEPS),
        readings.memory_readings({"all": n_tpt}, {"activations": clip.kept, "a prompt's activations": text.kept}),
    )
    clip_memory = readings.memory_readings(
        {"image + text": n_clip, "image": clip_image().parameters}, {"activations": clip.kept}
    )
    yield Line(
        f"{STEPS} forward passes, 1 picture and 1 prompt; memory: adapting every weight with Adam",
        n_clip,
        STEPS * clip.forward / GIGA,
        clip_cost.parameters,
        STEPS * clip_cost.forward() / GIGA,
        16 * n_clip + clip.kept,
        "clip",
        readings.parameter_readings("clip"),
        readings.passes(readings.clip_scopes(), STEPS),
        clip_memory,
    )
    yield Line(
        "1 forward pass, 1 picture and 1 prompt; memory: frozen weights",
        n_clip,
        clip.forward / GIGA,
        clip_cost.parameters,
        clip_cost.forward() / GIGA,
        4 * n_clip,
        "clip pass",
        readings.parameter_readings("clip"),
        readings.passes(readings.clip_scopes()),
        clip_memory,
    )
    yield from _apm_lines(clip.forward, clip_cost, n_clip)


def _apm_lines(teacher: int, teacher_cost: Cost, n_clip: int) -> Iterator[Line]:
    config, side = models.STUDENT, models.STUDENT.cells
    plain, folded = models.count_apm(side, "plain"), models.count_apm(side, "folded")
    cost, folded_cost = apm_plain(config, side), apm_folded(config, side)
    n = models.parameters(models.student("meta"))
    beside = {"frozen image + text": n_clip, "frozen image": clip_image().parameters, "": 0}
    memory = readings.memory_readings(
        {"student": n, "student and image + text": n + n_clip}, {"activations": plain.kept}, beside
    )
    parts = f"memory: the frozen teacher, the student at {side} x {side} columns and its Adam"
    columns = models.COUNTED_COLUMNS
    as_counted = f"as the release counts it ({columns} columns, trunk and feature head)"
    counted, counted_cost = models.count_release(), apm_columns(models.COUNTED, columns).forward()
    for definition, t, s in (
        (f"the teacher's pass (picture and prompt); {parts}", 1, 0),
        (f"the student's forward pass {as_counted}; {parts}", 0, 1),
        (f"the teacher once, the student {STEPS - 1} times {as_counted}; {parts}", 1, STEPS - 1),
    ):
        if not s:
            flops = readings.passes(readings.clip_scopes())
        elif not t:
            flops = readings.passes(readings.student_scopes())
        else:
            flops = readings.total_readings(
                nearest(readings.PRINTED_STUDENT, readings.passes(readings.student_scopes()))
            )
        yield Line(
            definition,
            n + n_clip,
            (t * teacher + s * counted) / GIGA,
            cost.parameters + teacher_cost.parameters,
            (t * teacher_cost.forward() + s * counted_cost) / GIGA,
            4 * n_clip + 16 * n + plain.kept,
            "apm plain",
            readings.parameter_readings("apm"),
            flops,
            memory,
            {
                "columns": side * side,
                "gmadds_plain": (t * teacher + s * plain.forward) / GIGA,
                "gmadds_folded": (t * teacher + s * folded.forward) / GIGA,
                "gmadds_folded_first_principles": (t * teacher_cost.forward() + s * folded_cost.forward()) / GIGA,
                "gmadds_student_step": folded.step / GIGA,
                "gmadds_student_step_plain": plain.step / GIGA,
            },
        )


def row(line: Line, published: dict[str, Any], measured: dict[str, int | None]) -> dict[str, Any]:
    """One JSON row: measured, from first principles, published, and the nearest reading of every published number."""
    peak = measured.get(line.memory_case)
    found: dict[str, Any] = {
        "model": published["model"],
        "t": published["t"],
        "definition": line.definition,
        "params_m": line.parameters / 1e6,
        "gflops": 2 * line.gmadds,
        "gmadds": line.gmadds,
        "memory_gb": (line.arithmetic_bytes if peak is None else peak) / 1e9,
        "memory_measured": peak is not None,
        "first_principles": {
            "params_m": line.arithmetic_parameters / 1e6,
            "gflops": 2 * line.arithmetic_gmadds,
            "gmadds": line.arithmetic_gmadds,
            "memory_gb": line.arithmetic_bytes / 1e9,
        },
        "published": {k: v for k, v in published.items() if k not in ("model", "t")},
        "nearest": {
            "params_m": nearest(published["params_m"], line.params).as_dict(),
            **{key: nearest(published[key], line.flops).as_dict() for key in ("gflops_ideal", "gflops_measured")},
            **{
                key: nearest(gigabytes(published[key]), line.memory).as_dict()
                for key in ("memory_ideal_gb", "memory_measured_gb")
            },
        },
    }
    if line.test_time:
        folded_peak = measured.get("apm folded")
        found["test_time"] = {**line.test_time, "memory_gb_folded": None if folded_peak is None else folded_peak / 1e9}
    return found


def curves() -> dict[str, list[float]]:
    """GFLOPs of one forward pass against patches a side, from first principles."""
    config = models.STUDENT
    return {
        "clip": [2 * clip_image(side).forward() / GIGA for side in SIDES],
        "apm_plain": [2 * apm_plain(config, side).forward() / GIGA for side in SIDES],
        "apm_folded": [2 * apm_folded(config, side).forward() / GIGA for side in SIDES],
    }


def timed(settings: ComputeSettings, end: float) -> Iterator[tuple[str, int, list[float]]]:
    """(model, side, seconds of every round so far) as rounds go by, all cases in turn: slow spells hit all alike.

    Args:
        end: when, on the monotonic clock, nothing more is begun but one of either model, which all else is told by.
    """
    device = resolve_device(settings.device)
    apm = models.student(device).eval()
    fold = models.pictures(device, 448)
    cases: dict[tuple[str, int], Callable[[], object]] = {}

    def clip_case(side: int) -> Callable[[], object]:
        tower, x = models.image_tower(device, side), models.pictures(device, 16 * side)
        return lambda: tower(x)

    def apm_case(side: int) -> Callable[[], Tensor | None]:
        queries = grid_queries(side, side, device=device)
        return lambda: execution.run(apm, fold, queries, ("token",), "streamed", chunk=settings.chunk).token

    for side in settings.clip_sides:
        cases["clip", side] = clip_case(side)
    for side in settings.apm_sides:
        cases["apm", side] = apm_case(side)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in cases}
    needed = (UNIT, ("apm", min(settings.apm_sides)))
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fast path writes out every attention matrix; the fused kernel is the faster one at these sizes.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            cases[UNIT]()
            for _ in range(settings.rounds):
                for key, action in cases.items():
                    if time.monotonic() > end and (seconds[key] or key not in needed):
                        continue
                    start = time.perf_counter()
                    action()
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    seconds[key].append(time.perf_counter() - start)
                    yield *key, seconds[key]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def time_curves(seconds: dict[tuple[str, int], list[float]], gflops: dict[str, list[float]]) -> dict[str, Any]:
    """Time in units of CLIP at 14 x 14: medians where measured, elsewhere arithmetic at the last measured rate."""
    unit = statistics.median(seconds[UNIT])
    found: dict[str, Any] = {"unit_seconds": unit}
    for model, curve in (("clip", gflops["clip"]), ("apm", gflops["apm_folded"])):
        medians = {side: statistics.median(s) for (name, side), s in seconds.items() if name == model}
        largest = max(medians)
        rate = medians[largest] / curve[SIDES.index(largest)]
        found[model] = [
            {
                "side": side,
                "ratio": medians.get(side, rate * curve[i]) / unit,
                "measured": side in medians,
                "minimum": min(seconds[model, side]) / unit if side in medians else None,
                "maximum": max(seconds[model, side]) / unit if side in medians else None,
            }
            for i, side in enumerate(SIDES)
        ]
    return found


class Costs(TypedDict):
    """A row a line of the poster's table, and the figure's curves by name, with how they were measured."""

    rows: list[dict[str, Any]]
    figure: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    left_out: list[str]


def run(settings: ComputeSettings, out: Path | None = None) -> Iterator[Event[Costs]]:
    """Count and time; with `out`, into a run folder with `compute.png` as well.

    Raises:
        InputError: a device that is not here, a folder that exists.
    """
    resolve_device(settings.device)
    if out is None:
        yield from _measure(settings)
        return
    with RunFolder(out, "bench compute", asdict(settings)) as folder:
        for event in _measure(settings):
            if event.result is not None:
                compute_figure(event.result["figure"], out / "compute.png")
                folder.conclude(event.result)
            yield event


def _measure(settings: ComputeSettings) -> Iterator[Event[Costs]]:
    sides = [f"clip@{s}" for s in settings.clip_sides] + [f"apm@{s}" for s in settings.apm_sides]
    names = [*compute_memory.CASES, *sides] if settings.memory else []
    n_timed = settings.rounds * (len(settings.clip_sides) + len(settings.apm_sides))
    total, done = len(names) + 7 + n_timed, 0
    end = time.monotonic() + (settings.seconds or math.inf)
    peaks: dict[str, int | None] = {}
    # First: the helper's forks then stand beside a small parent.
    for name, peak in compute_memory.peak_memory(names, settings.device) if names else ():
        peaks[name], done = peak, done + 1
        yield Event("bench compute", done, total, values={"": f"memory, {name}"})
    rows = []
    for line, published in zip(table_lines(), published_table(4), strict=True):
        rows.append(row(line, published, peaks))
        done += 1
        yield Event("bench compute", done, total, values={"": f"counting, {published['model']}"})
    seconds: dict[tuple[str, int], list[float]] = {}
    for model, side, found in timed(settings, end):
        seconds[model, side], done = found, done + 1
        yield Event("bench compute", done, total, values={"": f"time, {model} {side} x {side}"})
    wanted = [*(("clip", side) for side in settings.clip_sides), *(("apm", side) for side in settings.apm_sides)]
    left = [f"time, {model} {side} x {side}" for model, side in wanted if (model, side) not in seconds]
    if left:
        yield Event("bench compute", done, total, f"left out for want of time: {'; '.join(left)}")
    gflops = curves()
    memory = {model: [b and b / 1e9 for b in (peaks.get(f"{model}@{s}") for s in SIDES)] for model in ("clip", "apm")}
    figure = {"sides": list(SIDES), "gflops": gflops, "time": time_curves(seconds, gflops), "memory_gb": memory}
    yield Event(
        result={
            "rows": rows,
            "figure": figure,
            "settings": asdict(settings),
            "machine": machine(),
            "versions": versions(),
            "left_out": left,
        }
    )
