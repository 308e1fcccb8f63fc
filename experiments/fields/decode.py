"""Colours decoded from a percept at any resolution, from a pre-trained machine or one overfit on the picture itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch

from experiments.fields.fold import unfold_grid
from experiments.fields.percepts import area, digest, fitted, machine_from
from experiments.fields.settings import FITS, PATCH, DecodeSettings
from glom.adaptation.overfit import OverfitSettings, from_pixels, overfit
from glom.apm import APMConfig, blank_apm
from glom.columns import picture
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.files import file_stem
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from probes.alike import psnr, ssim
from probes.figures.again import draw
from probes.figures.base import strip, to_image

FINEST = 128  # cells a side of the colours an overfit learns; finer grids are asked between them
ASKED = 1024  # locations a step


def colour_config(settings: DecodeSettings) -> APMConfig:
    """A machine for colours: a location code with a turn for every two cells asked, and a small trunk."""
    cells = min(max(*settings.size, 8), FINEST)
    return APMConfig(
        features=32,
        image_size=32,
        patch=PATCH,
        channels=settings.channels,
        cells=cells,
        trunk=settings.trunk,
        location_code="fourier",
        readout="mean",
        rgb=(128, 128),
    )


class Row(TypedDict):
    """One picture against itself resized to the grid by area means; PSNR in dB, seconds of overfit and decoding."""

    image: str
    psnr: float
    ssim: float | None
    seconds: float


class Decoded(TypedDict):
    """Every picture decoded on a `grid` of (height, width)."""

    grid: list[int]
    fit: str
    images: list[Row]
    psnr_mean: float


def run(settings: DecodeSettings, out: Path) -> Iterator[Event[Decoded]]:
    """Decode every picture.

    Raises:
        InputError: a picture or checkpoint that cannot be read, a machine without colours.
    """
    where = resolve_device(settings.device)
    height, width = settings.size
    images = [fitted(read_image(path), settings.fit) for path in settings.images]
    ready = machine_from(settings.machine, where)[0] if settings.machine else None
    names = [Path(path).name for path in settings.images]
    held = settings.manifest("size", "overfit", images=names, checkpoint=settings.machine, height=height, width=width)
    held["contents"] = digest(settings.images)
    rows: list[Row] = []
    with RunFolder(out, "grid-decode", held) as folder:
        write_settings(out, settings)
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            begun = time.perf_counter()
            apm = ready
            if apm is None:
                generator = torch.Generator().manual_seed(sample_seed(settings.seed, name, "decode"))
                apm = blank_apm(colour_config(settings))
                apm.reset(generator, "default")
                apm.to(where)
            folded = picture(image, apm.config.image_size).to(where)
            if ready is None:
                scale = min(1.0, FINEST / max(height, width))
                h, w = (max(1, round(side * scale)) for side in settings.size)
                colours = from_pixels(torch.from_numpy(area(image, h, w)).to(where))
                side = max(h, w)
                how = OverfitSettings(
                    iterations=settings.iterations, points=side, lr=settings.lr, subset=min(ASKED, side**2)
                )
                for step in overfit(apm, folded, None, None, how, generator, colours=colours):
                    done, total = number * how.iterations + int(step.done), len(images) * how.iterations
                    yield Event("overfitting", done, total)
            _, found = unfold_grid(apm, folded[None], height, width)
            truth = area(image, height, width)
            seconds = time.perf_counter() - begun
            row: Row = {"image": name, "psnr": psnr(found, truth), "ssim": ssim(found, truth), "seconds": seconds}
            line = {key: value for key, value in row.items() if key != "seconds"}
            folder.append({"id": f"{number} {name}", "index": number, **line}, seconds)
            rows.append({**row, "seconds": round(seconds, 3)})
            stem = f"{number:02d}-{file_stem(name)}"
            to_image(found).save(out / f"{stem}.png")
            panels = [
                (f"picture, {FITS[settings.fit]}", image),
                (f"at {height}x{width}", truth),
                (f"decoded, {row['psnr']:.1f} dB", found),
            ]
            draw(out / f"{stem}-sheet.png", strip, panels=panels, title=name)
            yield Event("decoding", number + 1, len(images))
        mean = float(np.mean([r["psnr"] for r in rows]))
        result: Decoded = {"grid": [height, width], "fit": settings.fit, "images": rows, "psnr_mean": mean}
        folder.conclude(result)
    yield Event(result=result)
