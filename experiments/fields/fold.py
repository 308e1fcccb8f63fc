"""Fold one picture, overfit, unfold it again: features as colours, and colours as colours."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from experiments.fields.percepts import fitted
from experiments.fields.settings import FITS, FoldRequest
from glom import execution
from glom.adaptation.overfit import field_config, overfit, to_pixels
from glom.apm import AsynchronousPerceptionMachine, blank_apm, preset
from glom.backbones.video import squeezed
from glom.colours import pca_rgb
from glom.columns import grid_queries, picture, sample_at
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.files import replacing
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from glom.teachers.registry import load_teacher
from probes.alike import psnr
from probes.explorer import Picture, View, layered, picture_of, store
from probes.figures.again import draw
from probes.figures.base import strip, to_image


def unfold_grid(
    apm: AsynchronousPerceptionMachine, images: torch.Tensor, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features (h, w, F) and colours (h, w, 3) in [0, 1] of one picture (1, 3, S, S) on a grid of any size."""
    found = execution.ask(apm, images, grid_queries(height, width, device=images.device), ("features", "rgb"))
    assert found.features is not None and found.rgb is not None
    shape = (height, width, -1)
    return found.features.reshape(shape).numpy(), to_pixels(found.rgb).reshape(shape).numpy()


class Found(TypedDict):
    """One picture folded: cosine of its token to the teacher's, PSNR of the colours in dB, R² of the teacher's grid."""

    image: str
    grid: list[int]
    fit: str
    cosine: float
    psnr: float
    grid_r2: float | None
    parameters: int


@dataclass(frozen=True)
class Folded:
    """What `fold_image` gives: the numbers, named panels to be drawn, features (h, w, F), colours (h, w, 3), and the
    teacher's own grid (h, w, F), None where it has none.
    """

    result: Found
    panels: list[tuple[str, Any]]
    features: np.ndarray
    colours: np.ndarray
    teacher: np.ndarray | None = None

    def picture(self, image: Image.Image, name: str = "") -> Picture:
        """What a page shows of it: what was unfolded, and under the same pointer the teacher's grid."""
        grids = [("unfolded", self.features), ("the teacher", self.teacher)]
        sources = [
            layered(who, [("grid", [f"{grid.shape[0]} x {grid.shape[1]}"])], [grid])
            for who, grid in grids
            if grid is not None
        ]
        return picture_of(name or self.result["image"], image, sources)


def fold_image(request: FoldRequest, image: Image.Image, name: str) -> Generator[Event[Any], None, Folded]:
    """Overfit and unfold one picture, yielding an event a step."""
    device = resolve_device(request.device)
    teacher = load_teacher(request.teacher, str(device))
    image = fitted(image, request.fit)
    views = squeezed(teacher, image)[None]  # not the teacher's own crop: its grid lies over all that is folded
    token = teacher.token(views)[0].clone()
    grid = teacher.grid(views)[0].clone() if teacher.has_grid else None
    usable = grid if grid is not None and grid.shape[-1] == teacher.width else None
    base = preset(request.apm, features=teacher.width, readout="mean")
    config = field_config(base)
    generator = torch.Generator().manual_seed(sample_seed(request.seed, name, "fold"))
    apm = blank_apm(config)
    apm.reset(generator, "default")
    apm.to(device)
    folded = picture(image, config.image_size).to(device)
    yield from overfit(apm, folded, token, usable, request.overfit, generator)
    height, width = request.grid or [min(128, teacher.image_size)] * 2
    features, colours = unfold_grid(apm, folded[None], height, width)
    target = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255
    side = config.cells
    everywhere = grid_queries(side, side, device=device)
    with torch.no_grad():
        reached = execution.run(apm, folded[None], everywhere, ("token",)).token
    assert reached is not None
    result: Found = {
        "image": name,
        "grid": [height, width],
        "fit": request.fit,
        "cosine": float(F.cosine_similarity(reached[0].float(), token, dim=0)),
        "psnr": psnr(colours, target),
        "grid_r2": None,
        "parameters": sum(p.numel() for p in apm.parameters()),
    }
    panels: list[tuple[str, Any]] = [(f"picture, {FITS[request.fit]}", image)]
    if usable is not None:
        at = grid_queries(usable.shape[0], usable.shape[1], device=device)
        with torch.no_grad():
            f = execution.run(apm, folded[None], at, ("features",)).features
        assert f is not None
        wanted = sample_at(usable[None], at)
        result["grid_r2"] = float(1 - (f - wanted).square().sum() / (wanted - wanted.mean(1)).square().sum())
        teacher_colours, apm_colours = pca_rgb(usable.cpu().numpy(), features)
        panels += [(f"teacher's grid, {usable.shape[0]}x{usable.shape[1]}", teacher_colours)]
    else:
        [apm_colours] = pca_rgb(features)
    panels += [(f"unfolded features, {height}x{width}", apm_colours), (f"unfolded colours, {height}x{width}", colours)]
    teachers = None if usable is None else usable.float().cpu().numpy()
    return Folded(result, panels, features, colours, teachers)


def run(request: FoldRequest, out: Path) -> Iterator[Event[Found]]:
    """`fold_image` on a file, into a run folder: sheet, features, colours, `result.json`, on request `grids.npz`."""
    image = read_image(request.image)
    name = Path(request.image).name
    height, width = request.grid or (0, 0)
    with RunFolder(out, "fold", request.manifest("grid", image=name, height=height, width=width)) as folder:
        write_settings(out, request)
        found = yield from fold_image(request, image, name)
        draw(out / "fold.png", strip, panels=found.panels, title=name)
        to_image(found.panels[-2][1]).save(out / "features.png")
        to_image(found.colours).save(out / "colours.png")
        if request.save_grids:
            with replacing(out / "grids.npz") as file:
                np.savez_compressed(file, features=found.features, colours=found.colours)
        facts = [[key, str(value)] for key, value in found.result.items()]
        view: View = {"title": f"{name}, folded and unfolded", "facts": facts, "notes": []}
        store({**view, "pictures": [found.picture(fitted(image, request.fit))]}, out)
        folder.conclude(found.result)
    yield Event(result=found.result)
