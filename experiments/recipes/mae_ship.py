"""What surrounds the training of `mae-tiny`: its pictures, the measuring of what was written, the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader
from torch import nn

from experiments.recipes.mae_settings import MAETinySettings
from experiments.recipes.mvit_tiny_ship import Pictures, open_split, read_pictures
from glom.datasets.base import ImageDataset
from glom.errors import InputError
from glom.masked.parts import Masked, load_masked, load_part
from glom.runs.files import write_text
from glom.runs.statistics import bootstrap_ci

CARD = "README.md"


@dataclass(frozen=True)
class Splits:
    """Pictures in memory: what is trained on, what is held out of the same split (as files too), what is tested on."""

    train: Pictures
    held: ImageDataset
    test: Pictures

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the heads' rows."""
        return self.train.classes


def read_splits(settings: MAETinySettings, download: bool) -> Splits:
    """Both splits, the first `held_out` pictures (at most a tenth) of the training split set aside, all classes alike.

    Raises:
        InputError: missing or unlabelled pictures, or classes that differ.
    """
    train, test = (open_split(settings.data, split, settings.limit, download) for split in ("train", "test"))
    if train.classes != test.classes:
        raise InputError(f"{settings.data}: the classes of its train and test splits differ")
    held = train.limit(max(1, min(settings.held_out, len(train) // 10)))
    set_aside = {sample.id for sample in held}
    rest = [sample.id for sample in train if sample.id not in set_aside]
    size = settings.shape.size
    kept, test_set = (read_pictures(part, size, settings.workers) for part in (train.select(rest), test))
    return Splits(kept, held, test_set)


def measure(masked: Masked, part: str, pictures: Pictures, device: torch.device, batch: int = 250) -> dict[str, Any]:
    """Top-1 in percent of a part as written (half precision), with a 95 % bootstrap interval over pictures."""
    model = masked.classifier(len(pictures.classes))
    load_part(model, masked.parts[part], part, masked.name)
    model.to(device).eval()
    right: list[bool] = []
    with torch.inference_mode():
        for images, labels in zip(pictures.images.split(batch), pictures.labels.split(batch), strict=True):
            scores = model(masked.view.normalise(images).to(device))
            right += (scores.argmax(1).cpu() == labels).tolist()
    low, high = bootstrap_ci([100.0 * r for r in right])
    accuracy = 100 * sum(right) / len(right)
    return {"test_accuracy": round(accuracy, 4), "ci95": [round(low, 4), round(high, 4)], "n": len(right)}


def write_card(out: Path, result: Mapping[str, Any], command: str) -> None:
    """The model card, from the folder and its results. Raises `RunError` where the disk is full."""
    loader = Environment(loader=PackageLoader("experiments"), keep_trailing_newline=True, trim_blocks=True)
    masked = load_masked(str(out))
    files = {p.name: round(p.stat().st_size / 1e6, 1) for p in sorted(out.glob("*.safetensors"))}
    facts = {
        "encoder": count(masked.mae.vit),
        "decoder": count(masked.mae.decoder),
        "head": count(masked.classifier(len(masked.classes)).head),
        "adapt": masked.adapt,
        "command": command,
    }
    card = loader.get_template("mae_tiny_card.md.j2").render(r=result, s=result["settings"], files=files, **facts)
    write_text(out / CARD, card)


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())
