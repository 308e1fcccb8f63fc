"""Between two pictures: their columns interpolated, and the machine asked at every step of the way."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.fields.percepts import digest, fitted, machine_from
from experiments.fields.settings import FITS, InterpolateSettings
from glom.adaptation.overfit import OverfitSettings, field_config, overfit, to_pixels
from glom.apm import AsynchronousPerceptionMachine, blank_apm, preset
from glom.backbones.video import squeezed
from glom.colours import pca_rgb
from glom.columns import grid_queries, picture
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.files import short_names
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from glom.teachers.asked import Kept, asked_about, choose_classes
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.registry import load_teacher
from glom.teachers.zero_shot import choose_templates
from probes.explorer import View, store
from probes.fields import PathNumbers, column_path, path_numbers, unfold_columns
from probes.figures.again import draw
from probes.figures.film import colours_film
from probes.figures.way import path_figure, way_strip

MOST = 2**22  # locations over all steps: beyond it the features take gigabytes


def check_sizes(images: Sequence[Image.Image], resize: bool) -> None:
    """Raise `InputError` for pictures of different sizes, unless they may be squeezed to the fold's square each."""
    a, b = images
    if a.size != b.size and not resize:
        raise InputError(
            f"the two pictures differ in size ({a.width}x{a.height} and {b.width}x{b.height}); crop one to the "
            "other's, add --fit crop, or --resize to squeeze each to the square that is folded"
        )


def both_overfit(
    images: Sequence[Image.Image], teacher: Teacher, settings: InterpolateSettings, device: torch.device
) -> Generator[Event, None, AsynchronousPerceptionMachine]:
    """One machine overfit on both pictures together."""
    config = field_config(preset("apm-tiny", features=teacher.width, readout="mean", channels=3))
    generator = torch.Generator().manual_seed(sample_seed(settings.seed, "both", "interpolate"))
    apm = blank_apm(config)
    apm.reset(generator, "default")
    apm.to(device)
    folded = torch.stack([picture(image, config.image_size) for image in images]).to(device)
    views = torch.stack([squeezed(teacher, image) for image in images])
    tokens = teacher.token(views)
    grids = teacher.grid(views) if teacher.has_grid else None
    if grids is not None and grids.shape[-1] != teacher.width:
        grids = None
    how = OverfitSettings(iterations=settings.iterations)
    yield from overfit(apm, folded, tokens, grids, how, generator)
    return apm.requires_grad_(False)


def walk(
    apm: AsynchronousPerceptionMachine, folded: Tensor, settings: InterpolateSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns (S, D), features (S, N, F), colours (S, N, 3) in [0, 1] and tokens (S, F) along the path.

    A machine that reads the local patch reads it from the pictures mixed as evenly as t: a column alone does not
    determine its percept.
    """
    first, last = apm.fold(folded)
    T = column_path(first, last, settings.steps, settings.path)
    queries = grid_queries(settings.size, settings.size, device=folded.device)
    cells = grid_queries(apm.config.cells, apm.config.cells, device=folded.device)
    t = torch.linspace(0, 1, settings.steps, device=folded.device)
    features, colours, tokens = [], [], []
    for column, part in zip(T, t, strict=True):
        mixed = ((1 - part) * folded[0] + part * folded[1])[None] if apm.local_patch is not None else None
        found = unfold_columns(apm, column[None], queries, mixed)
        read = unfold_columns(apm, column[None], cells, mixed).token
        assert found.features is not None and found.rgb is not None and read is not None
        features.append(found.features[0])
        colours.append(to_pixels(found.rgb[0]))
        tokens.append(read[0])
    return T, torch.stack(features), torch.stack(colours), torch.stack(tokens)


class Way(PathNumbers, Kept):
    """The way between two pictures, step by step: distances, and the likeliest of `among` classes."""

    images: list[str]
    path: str
    steps: int
    fit: str
    teacher: str
    among: int
    classes: list[str]
    probabilities: list[float]


def run(settings: InterpolateSettings, out: Path) -> Iterator[Event[Way]]:
    """Walk from one picture to the other, yielding events.

    Written: `strip.png` (features and colours, step by step), `colours.gif`, `features.gif`, `path.png` (distances to
    both ends and class probabilities), `result.json`.

    Raises:
        InputError: pictures that cannot be read or differ in size, a machine without colours.
    """
    where = resolve_device(settings.device)
    images = [fitted(read_image(path), settings.fit) for path in (settings.first, settings.last)]
    check_sizes(images, settings.resize or settings.fit == "crop")
    if settings.steps * settings.size**2 > MOST:
        raise InputError(
            f"--steps {settings.steps} at --size {settings.size}: {MOST:,} locations over all steps are the most"
        )
    names = [Path(settings.first).name, Path(settings.last).name]
    apm = None
    teacher_name = settings.teacher or "glom-tiny"
    if settings.machine:
        apm, meta = machine_from(settings.machine, where)
        teacher_name = settings.teacher or str(meta.get("teacher", "glom-tiny"))
    teacher = load_teacher(teacher_name, str(where))
    chosen, why = choose_classes(teacher, None, settings.classes, otherwise="cifar10-sample")
    head = teacher.zero_shot_head(chosen, choose_templates("simple"))
    if apm is not None and apm.config.features != teacher.width:
        raise InputError(f"{teacher_name}'s token is {teacher.width} wide, the machine's {apm.config.features}")
    held = settings.manifest("overfit", first=names[0], last=names[1], checkpoint=settings.machine)
    held["contents"] = digest([settings.first, settings.last])
    asked = asked_about(list(zip(names, images, strict=True)), head.classes, teacher_name, chosen=why).say()
    extra = {"asked": asked.record()}
    with RunFolder(out, "grid-interpolate", held, extra=extra) as folder:
        write_settings(out, settings)
        if apm is None:
            apm = yield from both_overfit(images, teacher, settings, where)
        folded = torch.stack([picture(image, apm.config.image_size) for image in images]).to(where)
        T, features, colours, tokens = walk(apm, folded, settings)
        chances = head(tokens).softmax(-1)
        said = chances.argmax(-1).tolist()
        shown_names = short_names([settings.first, settings.last])
        result: Way = {
            "images": shown_names,
            "path": settings.path,
            "steps": settings.steps,
            "fit": settings.fit,
            "teacher": teacher_name,
            **path_numbers(T, features),
            "among": len(head.classes),
            **asked.kept(),
            "classes": [head.classes[i] for i in said],
            "probabilities": [float(chances[i, c]) for i, c in enumerate(said)],
        }
        shape = (settings.steps, settings.size, settings.size, -1)
        shown = np.stack(pca_rgb(*features.reshape(shape).cpu().numpy()))
        pixels = colours.reshape(shape).cpu().numpy()
        _draw(result, chances, head, shown, pixels, out)
        _keep(result, shown, pixels, out)
        folder.conclude(result)
    yield Event(result=result)


def _keep(result: Way, features: np.ndarray, colours: np.ndarray, out: Path) -> None:
    """What the explorer shows of it: (S, h, w, 3) in [0, 1] both, and what was said at every step."""
    frames = {"colours": colours, "features": features}
    way: dict[str, Any] = {key: (part.clip(0, 1) * 255).round().astype(np.uint8) for key, part in frames.items()}
    kept = ("images", "from_first", "from_last", "classes", "probabilities", "among")
    way |= {key: value for key, value in result.items() if key in kept}
    view: View = {"title": " to ".join(result["images"]), "facts": [], "notes": [], "ways": [way]}
    store(view, out)


def _draw(
    result: Way, chances: Tensor, head: ZeroShotHead, features: np.ndarray, colours: np.ndarray, out: Path
) -> None:
    """The strip, the films and the path; features and colours (S, h, w, 3) in [0, 1]."""
    words = f"colours, pictures {FITS[result['fit']]}\n(class: likeliest of {result['among']:,})"
    said: dict[str, Any] = {"classes": result["classes"], "probabilities": result["probabilities"], "words": words}
    draw(out / "strip.png", way_strip, features=features, colours=colours, **said)
    for name, frames in (("features", features), ("colours", colours)):
        draw(out / f"{name}.gif", colours_film, frames=frames, times=4, fps=max(2.0, len(frames) / 3))
    top = torch.topk(chances.amax(0), min(4, chances.shape[1])).indices.tolist()
    ends = list(zip(result["images"], (result["from_first"], result["from_last"]), strict=True))
    likely = [(head.classes[c], chances[:, c].tolist()) for c in top]
    draw(out / "path.png", path_figure, ends=ends, chances=likely, among=len(head.classes))
