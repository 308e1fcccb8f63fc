"""What surrounds the training of `mvit-v2-tiny`: pictures in memory before it, the folder that ships after it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jinja2 import Environment, PackageLoader
from PIL import Image
from torch import Tensor, nn

from glom.backbones.mvit_shipped import CARD, CONFIG, WEIGHTS, TinyConfig
from glom.backbones.mvit_tiny import build_mvit, parameters
from glom.datasets.base import ImageDataset
from glom.datasets.loading import read_all
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.artifacts import write_json
from glom.runs.files import write_text
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed
from glom.runs.statistics import bootstrap_ci
from glom.weights import load_into


@dataclass(frozen=True)
class Pictures:
    """A split in memory: (N, 3, S, S) uint8, labels (N,) int64, class names."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def fingerprint(self) -> str:
        """sha256 over pixels, labels and names."""
        digest = hashlib.sha256(json.dumps([list(self.images.shape), *self.classes]).encode())
        digest.update(self.images.numpy().data)
        digest.update(self.labels.numpy().data)
        return digest.hexdigest()


def open_split(data: str, split: str, limit: int = 0, download: bool = False) -> ImageDataset:
    """A split of a labelled data set, at most `limit` pictures of it (0: all).

    Raises:
        InputError: the data are missing, or not all of them labelled.
    """
    dataset = open_dataset(data, split=split, download=download).limit(limit or None)
    if not dataset.labelled or dataset.classes is None:
        raise InputError(f"{data} has pictures without a class; the recipe needs labelled ones, such as CLASS/NAME.png")
    return dataset


def read_pictures(dataset: ImageDataset, size: int, workers: int | None) -> Pictures:
    """Every picture squeezed onto `size` x `size`. Raises `InputError` for one that cannot be read."""

    def look(number: int) -> np.ndarray:
        image = dataset[number].image()
        small = image if image.size == (size, size) else image.resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(small)

    images = list(read_all(look, range(len(dataset)), workers or 0))
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Pictures(stacked, torch.tensor([sample.label for sample in dataset]), dataset.classes or ())


def boring(images: Tensor, frames: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, T, H, W), every frame the same memory."""
    return images[:, :, None].expand(-1, -1, frames, -1, -1)


class Facts(TypedDict):
    """How a network was trained."""

    command: str
    train_pictures: int
    seconds: float


class Accuracy(TypedDict):
    """Top-1 in % on `n` test pictures."""

    test_accuracy: float
    ci95: list[float]
    n: int


class Shipping(Accuracy, Facts):
    """A network's accuracy, as it was written, its size, and how it was trained."""

    parameters: int


def ship(
    net: nn.Module,
    config: TinyConfig,
    recipe: Mapping[str, Any],
    facts: Facts,
    test_set: Pictures,
    out: Path,
    card: str = "mvit_tiny_card.md.j2",
) -> Shipping:
    """Write `model.safetensors` (fp16), `config.json` and `MODEL_CARD.md`.

    Args:
        net: trained.
        recipe: the training's settings by name.
        test_set: what the written weights are measured on, among its own classes: the first of the network's.
        card: the template of the model card.

    Raises:
        RunError: the disk is full.
    """
    save_tensors(out / WEIGHTS, {k: v.half() for k, v in net.state_dict().items()})
    write_json(out / CONFIG, config.to_json())
    result: Shipping = {**measure(out, config, test_set), "parameters": parameters(net), **facts}
    loader = Environment(loader=PackageLoader("experiments"), keep_trailing_newline=True, trim_blocks=True)
    text = loader.get_template(card).render(r=result, c=config, s=recipe, stages=config.stages())
    write_text(out / CARD, text)
    return result


def measure(folder: Path, config: TinyConfig, pictures: Pictures, batch: int = 200) -> Accuracy:
    """Accuracy in percent of the weights in `folder`, as written (half precision), with a 95 % bootstrap interval."""
    with fixed_seed():
        net = build_mvit(**config.recipe())
    load_into(net, folder / WEIGHTS)
    net.eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
    right: list[bool] = []
    with torch.inference_mode():
        for images, labels in zip(pictures.images.split(batch), pictures.labels.split(batch), strict=True):
            scores = net(boring((images.float() / 255 - mean) / std, config.frames))
            right += (scores[:, : len(pictures.classes)].argmax(1) == labels).tolist()
    low, high = bootstrap_ci([100.0 * r for r in right])
    return {"test_accuracy": 100 * sum(right) / len(right), "ci95": [low, high], "n": len(right)}
