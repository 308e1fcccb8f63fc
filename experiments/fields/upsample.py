"""Between locations: a field fitted to a teacher's grid, asked on finer ones, against the teacher at that resolution.

A machine that saw one grid cannot know more than that grid. What it can use beyond: the picture itself, read around
each location (the local patch), and further views - crops of the same picture at the teacher's own input size, whose
grids lie between the first one's locations (cf. FeatUp, Fu et al. 2024). The same views are given to a baseline that
averages their bilinear interpolations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.fields.percepts import Array, digest, fitted
from experiments.fields.settings import FITS, UpsampleSettings
from glom.apm import AsynchronousPerceptionMachine
from glom.backbones.video import squeezed
from glom.colours import pca_rgb
from glom.columns import grid_queries, picture, sample_at
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.files import file_stem
from glom.runs.seeds import sample_seed
from glom.runs.statistics import bootstrap_ci
from glom.settings import write_settings
from glom.teachers.base import Teacher
from glom.teachers.grids import grid_teacher
from probes.fields import grid_scores
from probes.figures.again import draw
from probes.figures.base import strip
from probes.finer import FOLDED, Fitting, View, ask, average, crops, fit, machine_for

LARGEST = 2048  # pixels a side the teacher is run at


def make_views(teacher: Teacher, image: Image.Image, how: Fitting, seed: int) -> list[View]:
    """The whole picture's grid first, then its crops'."""
    cut, views = list(crops(image, how, seed)), []
    for start in range(0, len(cut), 16):
        chunk = cut[start : start + 16]
        grids = teacher.grid(torch.stack([squeezed(teacher, crop) for _, crop in chunk]))
        views += [View(box, grid) for (box, _), grid in zip(chunk, grids, strict=True)]
    return views


class Scale(TypedDict):
    """Means over the pictures at one scale, and paired differences of the cosine: mean, low, high; see `run`."""

    scale: int
    grid: list[int]
    cosine: float
    cosine_bilinear: float
    cosine_average: float
    r2: float
    r2_bilinear: float
    r2_average: float
    minus_bilinear: list[float]
    minus_average: list[float]


class Upsampled(TypedDict):
    """Fields that were asked at several scales, over `n` pictures."""

    teacher: str
    views: int
    patch: int
    n: int
    fit: str
    scales: list[Scale]


def run(settings: UpsampleSettings, out: Path) -> Iterator[Event[Upsampled]]:
    """Fit and ask; the result has an entry in `scales` for each.

    It has `cosine`, `r2` of the machine, the same with `_bilinear` for the teacher's grid interpolated, and
    with `_average` for the baseline that averages all views (without further ones the same), means over the pictures;
    `minus_bilinear` and `minus_average` are paired differences of the cosine, 95 % intervals over pictures.

    Raises:
        InputError: pictures that cannot be read, scales too large, a teacher that reads its own size alone.
    """
    where = resolve_device(settings.device)
    images = [fitted(read_image(path), settings.fit) for path in settings.images]
    name = settings.teacher or default_teacher()
    teacher = grid_teacher(name, 0, str(where))
    size = teacher.image_size
    if max(settings.scales) * size > LARGEST:
        raise InputError(
            f"--scale {max(settings.scales)}: {name} would read {max(settings.scales) * size} px; too large"
        )
    finer = {s: grid_teacher(name, s * size, str(where)) for s in settings.scales}
    names = [Path(p).name for p in settings.images]
    how = Fitting(settings.views, settings.zoom, settings.patch, settings.iterations, settings.lr)
    held = settings.manifest(images=names, teacher=name, contents=digest(settings.images))
    with RunFolder(out, "grid-upsample", held) as folder:
        write_settings(out, settings)
        for number, (image, stem) in enumerate(zip(images, names, strict=True)):
            views = make_views(teacher, image, how, sample_seed(settings.seed, stem, "views"))
            generator = torch.Generator().manual_seed(sample_seed(settings.seed, stem, "upsample"))
            apm = machine_for(views, how, generator)
            folded = picture(image, FOLDED)[None].to(where)
            for step, _ in enumerate(fit(apm, folded, views, how, generator), 1):
                done, total = number * settings.iterations + step, len(images) * settings.iterations
                yield Event("fitting", done, total)
            rows, shown = compare(apm, folded, views, image, finer, settings)
            folder.append({"id": f"{number} {stem}", "index": number, "image": stem, "scales": rows})
            _sheet(image, views[0].grid, shown, settings, out / f"{number:02d}-{file_stem(stem)}.png")
        result: Upsampled = {
            "teacher": name,
            "views": settings.views,
            "patch": settings.patch,
            "n": len(images),
            "fit": settings.fit,
            "scales": _summary([r["scales"] for r in folder.records()], settings.scales),
        }
        folder.conclude(result)
    yield Event(result=result)


def default_teacher() -> str:
    """The best teacher with a grid that is installed."""
    from glom.teachers.registry import SHIPPED, has_lite

    return SHIPPED[1] if has_lite() else SHIPPED[0]


def compare(
    apm: AsynchronousPerceptionMachine,
    folded: Tensor,
    views: Sequence[View],
    image: Image.Image,
    finer: dict[int, Teacher],
    settings: UpsampleSettings,
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """One picture at every scale, and the grids at the scale nearest 4 by name."""
    rows, shown = [], {}
    drawn = min(finer, key=lambda s: abs(s - 4))
    for scale, teacher in finer.items():
        truth = teacher.grid(squeezed(teacher, image)[None])[0]
        h, w = truth.shape[:2]
        queries = grid_queries(h, w, device=truth.device)
        grids = {"": ask(apm, folded, h, w)}
        grids["_bilinear"] = sample_at(views[0].grid[None], queries)[0].reshape(truth.shape).cpu().numpy()
        grids["_average"] = average(views, queries).reshape(truth.shape).cpu().numpy()
        wanted = truth.cpu().numpy()
        row: dict[str, Any] = {"scale": scale, "grid": [h, w]}
        for kind, grid in grids.items():
            row |= {f"{k}{kind}": v for k, v in grid_scores(grid, wanted).items()}
        rows.append(row)
        if scale == drawn:
            shown = {
                f"teacher at {scale}x": wanted,
                f"bilinear, {scale}x": grids["_bilinear"],
                f"APM, {scale}x": grids[""],
            }
            if settings.views:
                shown["views averaged"] = grids["_average"]
    return rows, shown


def _summary(pictures: Sequence[Sequence[dict[str, Any]]], scales: Sequence[int]) -> list[Scale]:
    result: list[Scale] = []
    for place, scale in enumerate(scales):
        rows = [p[place] for p in pictures]
        entry: dict[str, Any] = {"scale": scale, "grid": rows[0]["grid"]}
        for key in ("cosine", "cosine_bilinear", "cosine_average", "r2", "r2_bilinear", "r2_average"):
            entry[key] = float(np.mean([r[key] for r in rows]))
        for other in ("bilinear", "average"):
            gains = [r["cosine"] - r[f"cosine_{other}"] for r in rows]
            entry[f"minus_{other}"] = [float(np.mean(gains)), *bootstrap_ci(gains)]
        result.append(cast(Scale, entry))
    return result


def _sheet(image: Image.Image, base: Tensor, shown: dict[str, Array], settings: UpsampleSettings, path: Path) -> None:
    coloured = pca_rgb(base.cpu().numpy(), *shown.values())
    square = image.resize((448, 448))
    names = [f"teacher, {base.shape[0]}x{base.shape[1]}", *shown]
    panels = [(f"picture, {FITS[settings.fit]}", square), *zip(names, coloured, strict=True)]
    draw(path, strip, panels=panels)
