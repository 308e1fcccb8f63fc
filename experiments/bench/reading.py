"""Reading beside encoding: pictures a second of the network alone, of a plain loop, and of what every command does.

The plain loop is timm's and torchvision's: `ImageFolder`, timm's transform, a `DataLoader` with as many workers. Ours
is the teacher alone, as every command reads pictures and encodes them; beside it stands the same with a machine solved
for each picture, `apm ttt run` with the preset `exact`. All run in turn, round after round, in one process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader

from experiments.bench.going import SILENT, Going
from experiments.bench.reading_settings import ReadingBench
from experiments.bench.timing import interleave, ratios, spread
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset
from glom.datasets.sources import FileSource
from glom.devices import resolve_device
from glom.errors import GlomError, InputError
from glom.runs.events import Event
from glom.teachers.corrupted import encode_ahead
from glom.teachers.registry import load_teacher
from glom.teachers.timm_models import TimmTeacher

WANTED, WANTED_EXACT = 0.95, 0.9

Adaptation = Callable[[Path], Iterator[Event[Any]]]
"""A run of `apm ttt run` with the preset `exact` over the same pictures, into an empty folder: another study's."""


def run_reading(asked: ReadingBench, adaptation: Adaptation, tell: Going = SILENT) -> dict[str, Any]:
    """What every loop reaches.

    Returns:
        `model_alone`, `plain_loop`, `ours` and `exact` in pictures a second; `ours_over_plain` and `exact_over_ours`,
        round by round; their `spread`. What is of `exact` is None where the pictures' classes are not the teacher's.

    Raises:
        InputError: pictures that are no files, or a teacher that is none of timm's.
    """
    s, device = asked, resolve_device(asked.device)
    dataset = open_dataset(s.data).limit(s.limit or None)
    teacher = load_teacher(s.teacher, str(device))
    if not isinstance(teacher, TimmTeacher):
        raise InputError(f"{s.teacher} is none of timm's models, which the plain loop is written for")
    plain = PlainFiles(dataset, teacher)
    first = torch.stack([plain[n] for n in range(min(s.batch, len(plain)))]).to(device)
    batches, network = -(-len(plain) // s.batch), teacher.model

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                network(first)

    def loop() -> None:
        loader = DataLoader(plain, s.batch, num_workers=s.workers, pin_memory=device.type == "cuda")
        with torch.inference_mode():
            for images in loader:
                network(images.to(device, non_blocking=True))

    def ours() -> None:
        for found in encode_ahead(teacher, dataset.samples, workers=s.workers, batch=s.batch):
            for one in found:
                if isinstance(one, GlomError):
                    raise one

    work: dict[str, Callable[[], object]] = {"model_alone": alone, "plain_loop": loop, "ours": ours}
    with tempfile.TemporaryDirectory() as folder:
        try:
            exact = Exact(adaptation, Path(folder))
            work |= {"made ready": exact.made_ready, "exact": exact}
        except InputError as error:
            tell(f"no adaptation beside it: {error}")
        seconds = interleave(work, s.rounds, 1, device, tell)
    count = {name: len(dataset) for name in work} | {"model_alone": batches * len(first)}
    parts = {name: spread([count[name] / x for x in seconds[name]]) for name in work if name != "made ready"}
    parts["ours_over_plain"] = spread(ratios(seconds["plain_loop"], seconds["ours"]))
    if "exact" in seconds:
        parts["exact_over_ours"] = spread(ratios(seconds["ours"], seconds["exact"]))
    found = dict.fromkeys(("exact", "exact_over_ours")) | {name: part["median"] for name, part in parts.items()}
    wanted = {"wanted": WANTED, "wanted_exact": WANTED_EXACT}
    return {**found, **wanted, "spread": parts, "pictures": len(dataset), "asked": asdict(s)}


class Exact:
    """`apm ttt run` with the preset `exact` over the same pictures, from its first picture on.

    Raises:
        InputError: the pictures' classes are not the teacher's.
    """

    def __init__(self, adaptation: Adaptation, folder: Path) -> None:
        self.adaptation, self.folder, self.number = adaptation, folder, 0
        self.made_ready()

    def made_ready(self) -> None:
        """Open the data, the teacher and a folder for the next run."""
        self.number += 1
        self.run = self.adaptation(self.folder / str(self.number))
        next(self.run)

    def __call__(self) -> None:
        for event in self.run:
            if event.done == event.total:
                break


class PlainFiles(Dataset[torch.Tensor]):
    """The same files as torchvision reads them, through timm's own transform."""

    def __init__(self, dataset: ImageDataset, teacher: TimmTeacher) -> None:
        self.paths: list[Path] = [s.source.path for s in dataset if isinstance(s.source, FileSource)]
        if len(self.paths) < len(dataset):
            raise InputError(f"{dataset.name}: its pictures are no files of their own, which the plain loop reads")
        self.transform = create_transform(**teacher.config, is_training=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        made: torch.Tensor = self.transform(default_loader(str(self.paths[number])))
        return made
