"""Between locations: a field fitted to a teacher's grid, asked on finer ones, against the teacher at that resolution.

A machine that saw one grid cannot know more than that grid. What it can use beyond: the picture itself, read around
each location (the local patch), and further views - crops of the same picture at the teacher's own input size, whose
grids lie between the first one's locations (cf. FeatUp, Fu et al. 2024). The same views are given to a baseline that
averages their bilinear interpolations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiments.fields.percepts import Array, digest, fitted
from experiments.fields.settings import FITS, UpsampleSettings
from glom import execution
from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm
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
from probes.figures.base import strip

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
ASKED = 256  # locations a step
LARGEST = 2048  # pixels a side the teacher is run at


@dataclass(frozen=True)
class View:
    """A crop of the picture in [0, 1]^2 coordinates, and the teacher's grid over it, (h, w, F)."""

    box: Box
    grid: Tensor

    def points(self) -> Tensor:
        """Where in the picture the grid's locations lie, (h w, 2)."""
        h, w = self.grid.shape[:2]
        return grid_queries(h, w, self.box, device=self.grid.device)


def make_views(teacher: Teacher, image: Image.Image, settings: UpsampleSettings, name: str) -> list[View]:
    """The whole picture's grid first, then random crops': squares of the squeezed picture, of side zoom to 1."""
    rng = np.random.default_rng(sample_seed(settings.seed, name, "views"))
    boxes = [WHOLE]
    for _ in range(settings.views):
        side = rng.uniform(settings.zoom, 1)
        x, y = rng.uniform(0, 1 - side, 2)
        boxes.append((float(x), float(y), float(x + side), float(y + side)))
    w, h = image.size
    views = []
    for start in range(0, len(boxes), 16):
        chunk = boxes[start : start + 16]
        crops = [image.crop((round(b[0] * w), round(b[1] * h), round(b[2] * w), round(b[3] * h))) for b in chunk]
        # The crop's edges fall on whole pixels: its box is where they fell.
        fell = [(round(b[0] * w) / w, round(b[1] * h) / h, round(b[2] * w) / w, round(b[3] * h) / h) for b in chunk]
        grids = teacher.grid(torch.stack([squeezed(teacher, crop) for crop in crops]))
        views += [View(box, grid) for box, grid in zip(fell, grids, strict=True)]
    return views


def average(views: Sequence[View], queries: Tensor) -> Tensor:
    """The baseline with the same information: the mean over views of their bilinear interpolation, (N, F).

    A view counts where it covers the location; the first covers all of them.
    """
    total = torch.zeros(len(queries), views[0].grid.shape[-1], device=queries.device)
    count = torch.zeros(len(queries), 1, device=queries.device)
    for view in views:
        x0, y0, x1, y1 = view.box
        inside = (queries - queries.new_tensor([x0, y0])) / queries.new_tensor([x1 - x0, y1 - y0])
        covered = ((inside >= 0) & (inside <= 1)).all(-1, keepdim=True)
        total += covered * sample_at(view.grid[None], inside.clamp(0, 1))[0]
        count += covered
    return total / count


def field_machine(grid: Tensor, settings: UpsampleSettings) -> APMConfig:
    """A machine for the field: the picture folded at 224 px, a location code as fine as four times the grid.

    The code is the sinusoidal one: Fourier features of whole turns take one border of the picture for the opposite one.
    """
    cells = 4 * max(grid.shape[:2])
    return APMConfig(
        features=grid.shape[-1],
        image_size=224,
        patch=14,
        cells=cells,
        trunk=(512, 512),
        local_patch=settings.patch,
        readout="mean",
        rgb=None,
    )


def fit(
    apm: AsynchronousPerceptionMachine,
    folded: Tensor,
    views: Sequence[View],
    settings: UpsampleSettings,
    generator: torch.Generator,
) -> Iterator[float]:
    """Fit the field to every view's features at their own locations, in place; yields the relative squared error.

    Half of the locations asked in a step are the first grid's: it is the one the scale is measured from.
    """
    points = torch.cat([v.points() for v in views])
    wanted = torch.cat([v.grid.flatten(0, 1) for v in views])
    own = len(views[0].points())
    scale = wanted.square().mean()
    optimiser = torch.optim.Adam(apm.parameters(), lr=settings.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
    for _ in range(settings.iterations):
        some = torch.randint(len(points), (min(ASKED, len(points)),), generator=generator)
        if len(views) > 1:
            some[: len(some) // 2] = torch.randint(own, (len(some) // 2,), generator=generator)
        else:
            some = torch.arange(own)
        found = execution.run(apm, folded, points[some], ("features",)).features
        assert found is not None
        loss = F.mse_loss(found[0], wanted[some]) / scale
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        yield float(loss.detach())


def ask(apm: AsynchronousPerceptionMachine, folded: Tensor, height: int, width: int) -> Array:
    """The field on a grid, (h, w, F)."""
    found = execution.ask(apm, folded, grid_queries(height, width, device=folded.device)).features
    assert found is not None
    return found.reshape(height, width, -1).numpy()


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
    held = settings.manifest(images=names, teacher=name, contents=digest(settings.images))
    with RunFolder(out, "grid-upsample", held) as folder:
        write_settings(out, settings)
        for number, (image, stem) in enumerate(zip(images, names, strict=True)):
            views = make_views(teacher, image, settings, stem)
            base = views[0].grid
            generator = torch.Generator().manual_seed(sample_seed(settings.seed, stem, "upsample"))
            apm = blank_apm(field_machine(base, settings))
            apm.reset(generator, "default")
            apm.to(where)
            folded = picture(image, 224)[None].to(where)
            for step, _ in enumerate(fit(apm, folded, views, settings, generator), 1):
                done, total = number * settings.iterations + step, len(images) * settings.iterations
                yield Event("fitting", done, total)
            rows, shown = compare(apm, folded, views, image, finer, settings)
            folder.append({"id": f"{number} {stem}", "index": number, "image": stem, "scales": rows})
            _sheet(image, base, shown, settings, out / f"{number:02d}-{file_stem(stem)}.png")
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
    strip([(f"picture, {FITS[settings.fit]}", square), *zip(names, coloured, strict=True)], path)
