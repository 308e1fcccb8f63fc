"""Reading beside encoding: pictures a second of the network alone, of a plain loop, and of what every command does.

The plain loop is timm's and torchvision's: `ImageFolder`, timm's transform, a `DataLoader` with as many workers. All
three run in turn, round after round, in one process, over the same files.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import default_loader

from experiments.bench.reading_settings import ReadingBench
from experiments.bench.timing import Tell, interleave, ratios, record, silent, spread
from glom.datasets.base import ImageDataset
from glom.datasets.registry import open_dataset
from glom.datasets.sources import FileSource
from glom.devices import resolve_device
from glom.errors import GlomError, InputError
from glom.teachers.corrupted import encode_ahead
from glom.teachers.registry import load_teacher
from glom.teachers.timm_models import TimmTeacher

WANTED = 0.95


def run_reading(asked: ReadingBench, tell: Tell = silent) -> dict[str, Any]:
    """A record: `model_alone`, `plain_loop` and `ours` in pictures a second, `ours_over_plain`, and their spread.

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

    seconds = interleave({"alone": alone, "plain": loop, "ours": ours}, s.rounds, device=device, tell=tell)
    count = {"alone": batches * len(first), "plain": len(plain), "ours": len(dataset)}
    speeds = {name: [count[name] / x for x in seconds[name]] for name in seconds}
    compared = spread(ratios(seconds["plain"], seconds["ours"]))
    found = {name: spread(speeds[key])["median"] for name, key in NAMES.items()}
    found |= {"ours_over_plain": compared["median"], "wanted": WANTED}
    parts = {name: spread(speeds[key]) for name, key in NAMES.items()} | {"ours_over_plain": compared}
    return record("reading", asdict(s), {**found, "spread": parts, "pictures": len(dataset)})


NAMES = {"model_alone": "alone", "plain_loop": "plain", "ours": "ours"}


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
