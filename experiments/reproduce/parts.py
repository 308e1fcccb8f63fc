"""What every figure of `apm reproduce` is made of: rows without a printed number, runners run once, pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.reproduce.settings import Request
from glom.datasets.registry import data_root, open_dataset
from glom.runs.artifacts import read_json, read_result, result_file
from glom.runs.events import Event

Drawn = Generator[Event, None, tuple[list[dict[str, Any]], list[tuple[str, Path]]]]
"""Events of what makes a figure; it returns the figure's rows, and its pictures as (title, path)."""


@dataclass(frozen=True)
class FigureSpec:
    """A figure: what it shows, how it is made at home, what the published one needs, and about how long it takes.

    `run(request, folder)` makes it; `minutes` is a rough figure for two cores, from the times of its recorded
    runs. `caption`: what stands over it; "" for what it shows at its scale.
    """

    title: str
    home: str
    poster: str
    minutes: float
    run: Callable[[Request, Path], Drawn]
    caption: str = ""

    def at(self, request: Request) -> str:
        """What it shows at the request's scale."""
        return self.home if request.scale == "home" else self.poster


def row(
    method: str, dataset: str, measured: float | None, unit: str, n: int = 1, ci95: list[float] | None = None
) -> dict[str, Any]:
    """A number of a figure; the poster's figures print none."""
    return {
        "method": method,
        "dataset": dataset,
        "unit": unit,
        "published": None,
        "measured": None if measured is None else round(float(measured), 4),
        "ci95": ci95,
        "n": n,
        "skipped": 0,
        "difference": None,
        "note": "no number is printed",
    }


def once(folder: Path, run: Callable[[Path], Iterator[Event]]) -> Generator[Event, None, Any]:
    """A runner's events; returns its summary. What was complete before is read, a half is made again."""
    done = folder / "manifest.json"
    if not (done.is_file() and read_json(done).get("status") == "complete" and result_file(folder).is_file()):
        if folder.exists():
            shutil.rmtree(folder)
        yield from (replace(event, result=None) for event in run(folder))
    return read_result(folder)


def photographs(request: Request, folder: Path, wanted: tuple[str, ...]) -> tuple[list[str], list[str], str]:
    """Paths of pictures, their outlines ("" where there are none), and where they are from.

    Photographs of bsds500 under the request's folder, as many as `wanted`, else those shipped pictures.
    """
    root = (Path(request.root).expanduser() if request.root else data_root()) / "bsds500" / "val"
    found = sorted(root.glob("*.jpg"))[: len(wanted)]
    if found:
        truths = [p.with_suffix(".npz") for p in found]
        return [str(p) for p in found], [str(t) if t.is_file() else "" for t in truths], "BSDS500"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in open_dataset("cifar10-sample").select(wanted).samples:
        path = folder / f"{sample.id.replace('/', '-').partition('.')[0]}.png"
        sample.image().save(path)
        paths.append(str(path))
    return paths, [""] * len(paths), "CIFAR-10, shipped"
