"""The real objects of composites: where they come from, the small sample that ships, and their silhouettes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glom.datasets.samples_build import write_archive
from glom.errors import unknown

SAMPLE = "fashion-mnist-sample"
SOURCES: Mapping[str, tuple[str, ...]] = {
    "fashion-mnist": (
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    "mnist": tuple("0123456789"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip
GARMENTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("top", (0, 2, 4, 6)),
    ("trousers", (1,)),
    ("dress", (3,)),
    ("footwear", (5, 7, 9)),
    ("bag", (8,)),
)
"""Fashion-MNIST's ten classes merged into five that a silhouette tells apart."""


def open_source(
    name: str, root: Path | None, split: str, download: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The real objects: images (N, h, w) or (N, h, w, 3) uint8 and labels (N,).

    Args:
        name: "fashion-mnist", "mnist", "cifar10" (torchvision's files under `root`), or "fashion-mnist-sample", which
            ships.
        root: the folder that holds them; None for the usual one (`$APM_DATA`, else the user's cache).
        split: "train" or "test".
        download: fetch them where they are missing.

    Raises:
        InputError: an unknown name or split, or nothing there; the message says what would be needed.
        RunError: the download failed.
    """
    from glom.datasets.registry import open_dataset
    from glom.datasets.sources import ArraySource

    if name not in (*SOURCES, SAMPLE):
        raise unknown("source of composites", name, [*SOURCES, SAMPLE])
    if split not in ("train", "test"):
        raise unknown(f"split of {name}", split, ["train", "test"])
    if name == SAMPLE:
        return read_sample(split)
    dataset = open_dataset(name, root, split, download=download)
    first = dataset.samples[0].source
    assert isinstance(first, ArraySource)
    return first.array, np.array([sample.label for sample in dataset.samples], np.int64)


def resolve_source(spec: str) -> tuple[str, Path | None, str]:
    """`NAME[:ROOT]`, or "" for what there is -> (name, root, note).

    Nothing named: Fashion-MNIST where it lies in the usual folder, else the sample that ships; `note` says so then.

    Raises:
        InputError: an unknown name.
    """
    from glom.datasets.registry import data_root

    if spec:
        name, _, root = spec.partition(":")
        if name not in (*SOURCES, SAMPLE):
            raise unknown("source of composites", name, [*SOURCES, SAMPLE], "or NAME:FOLDER that holds it")
        return name, Path(root).expanduser() if root else None, ""
    if (data_root() / "FashionMNIST" / "raw").is_dir():
        return "fashion-mnist", None, ""
    return (
        SAMPLE,
        None,
        f"no FashionMNIST/raw in {data_root()}: using the small sample that ships; another source can be named",
    )


SAMPLE_README = """\
# A sample of Fashion-MNIST

The first {train} training images (train.png) and the first {test} test images (test.png) of each of the ten classes,
28 x 28 grey, row by row on one sheet each, class after class in the order of labels.json.

Source: Xiao, Rasul & Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
2017, https://github.com/zalandoresearch/fashion-mnist. Licence: MIT, copyright 2017 Zalando SE.

`glom.datasets.composite_sources.build_sample(root, out)` cuts the same archive from torchvision's files.
"""


def build_sample(root: Path, out: Path, train: int = 180, test: int = 50) -> Path:
    """Cut the shipped sample from Fashion-MNIST under `root`: the same images, whenever and wherever it runs.

    Raises:
        InputError: Fashion-MNIST is not there.
    """
    entries = {"README.md": SAMPLE_README.format(train=train, test=test).encode()}
    counts: dict[str, Any] = {"classes": SOURCES["fashion-mnist"], "side": 28}
    for split, each in (("train", train), ("test", test)):
        images, labels = open_source("fashion-mnist", root, split)
        chosen = np.concatenate([np.flatnonzero(labels == c)[:each] for c in range(10)])
        sheet = images[chosen].reshape(10, each, 28, 28).transpose(0, 2, 1, 3).reshape(280, each * 28)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
        entries[f"{split}.png"], counts[split] = buffer.getvalue(), each
    entries["labels.json"] = json.dumps(counts, indent=1).encode()
    return write_archive(out, entries)


def read_sample(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The shipped sample: (N, 28, 28) uint8 and labels (N,)."""
    packed = files("glom.datasets") / "samples" / f"{SAMPLE}.zip"
    with zipfile.ZipFile(io.BytesIO(packed.read_bytes())) as archive:
        facts = json.loads(archive.read("labels.json"))
        with Image.open(io.BytesIO(archive.read(f"{split}.png"))) as picture:
            sheet = np.asarray(picture)
    classes, each, side = len(facts["classes"]), facts[split], facts["side"]
    images = sheet.reshape(classes, side, each, side).transpose(0, 2, 1, 3).reshape(-1, side, side)
    return np.ascontiguousarray(images), np.repeat(np.arange(classes), each)


def silhouettes(pictures: Tensor, source: str) -> tuple[Tensor, Tensor]:
    """Grey objects on black -> their grey values and where they are, both (N, h, w) in [0, 1].

    A garment's dark parts belong to it: a place is inside where there is something left, right, above and below. The
    strokes of a digit are thickened by a pixel either side, and its holes stay open.
    """
    if source == "mnist":
        thick = F.max_pool2d(pictures[:, None], 3, 1, 1)[:, 0]
        return thick, (thick > 0.4).float()
    there = pictures > 0.08
    inside = there.clone()
    seen = [there.cummax(d).values & there.flip(d).cummax(d).values.flip(d) for d in (1, 2)]
    inside |= seen[0] & seen[1]
    return pictures, inside.float()
