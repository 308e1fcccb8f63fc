"""Training recipe of the shipped `glom-tiny`: a CLIP whose captions are class names in sentences.

Loss: image i is contrasted with one freshly written caption per class, cross-entropy over
`logit_scale * image @ captions.T` (CLIP, Radford et al. 2021, equation in figure 3, image-to-text direction, with
the captions of a batch that say the same thing merged - on ten classes a batch would otherwise be full of false
negatives). Every step draws new templates and synonyms, so the text tower learns sentences, not ten rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.recipes.settings import TinyClipSettings
from glom.datasets.augment import augment
from glom.datasets.loading import read_all
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, read_timing, write_json
from glom.runs.events import Event
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed
from glom.settings import defaults_of, write_settings
from glom.teachers.known import CIFAR10
from glom.teachers.registry import GLOM_TINY
from glom.teachers.tiny import TRAIN_TEMPLATES
from glom.training.epochs import Epochs
from glom.training.loop import STATE, Training
from glom.training.optimisation import parameter_groups

CONFIG = GLOM_TINY / "open_clip_config.json"
CLASSES, SYNONYMS = tuple(CIFAR10), CIFAR10


def write_captions(settings: TinyClipSettings, generator: torch.Generator) -> list[str]:
    """One caption a class: a random training template around the class name or, at times, a synonym."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    captions = []
    for name in CLASSES:
        use_synonym = float(torch.rand((), generator=generator)) < settings.synonym_share
        captions.append(pick(TRAIN_TEMPLATES).format(pick(SYNONYMS[name]) if use_synonym else name))
    return captions


def train(
    images: Tensor, labels: Tensor, config: dict[str, Any], settings: TinyClipSettings, folder: RunFolder
) -> Iterator[Event]:
    """Train from scratch, or go on, in `folder`; `open_clip_model.safetensors` (fp16) is there at the end.

    Args:
        images: (N, 3, 32, 32) uint8.
        labels: (N,) int64, indices into `CLASSES`.
        config: an open_clip configuration (`model_cfg` and `preprocess_cfg`).
        settings: the recipe.

    Yields:
        `{"stage", "done", "total", "loss", "accuracy"}`, the running epoch's, on augmented training pictures.
    """
    model, tokenizer = _untrained(config["model_cfg"], settings.seed)
    mean = torch.tensor(config["preprocess_cfg"]["mean"]).view(3, 1, 1)
    std = torch.tensor(config["preprocess_cfg"]["std"]).view(3, 1, 1)
    epochs = Epochs(len(images), settings.batch_size, lambda epoch: settings.seed * 100_003 + epoch)
    total, warmup = settings.epochs * epochs.steps, 2 * epochs.steps
    # Gains, biases, embeddings and the logit scale are not decayed, as in CLIP.
    groups = parameter_groups(model.named_parameters(), settings.weight_decay, ("embedding",))
    optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=True)

    def rate(step: int) -> float:
        # Linear up over two epochs, linear down to nothing: what the fast CIFAR recipes use.
        return settings.lr * min((step + 1) / warmup, max(total - step, 0) / max(total - warmup, 1))

    def loss(step: int) -> Tensor:
        index, generator = epochs.pictures(step), epochs.generator
        x = (images[index].float() / 255 - mean) / std
        x = augment(x, generator, settings.translate, settings.cutout).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            image_features = model.encode_image(x)
        image_features = F.normalize(image_features.float(), dim=-1)
        text_features = model.encode_text(tokenizer(write_captions(settings, generator)), normalize=True)
        logits = model.logit_scale.exp() * image_features @ text_features.T
        found = F.cross_entropy(logits, labels[index], label_smoothing=settings.label_smoothing)
        return torch.stack([found, (logits.argmax(1) == labels[index]).sum()])

    @torch.no_grad()
    def bound() -> None:
        model.logit_scale.clamp_(0, math.log(100))

    training = Training(
        model.train(), optimiser, rate, total, folder.path / STATE, beside={"epochs": epochs}, after=bound
    )
    training.restore()
    yield from epochs.run(
        training, loss, folder, lambda epoch, means: {"id": f"epoch {epoch}", "epoch": epoch, **means}
    )
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items() if k != "attn_mask"}
    save_tensors(
        folder.path / "open_clip_model.safetensors",
        weights,
        {"settings": json.dumps(settings.manifest("data", "limit"))},
    )


def _untrained(shape: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """A CLIP of open_clip's `model_cfg` with random weights, and its tokenizer."""
    from open_clip import CLIP, SimpleTokenizer

    import glom.teachers.tiny  # noqa: F401  (registers the trunk with timm)

    with fixed_seed(seed):
        model = CLIP(embed_dim=shape["embed_dim"], vision_cfg=shape["vision_cfg"], text_cfg=shape["text_cfg"])
    model.visual.to(memory_format=torch.channels_last)
    return model, SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])


def read_images(
    data: str, limit: int | None = None, download: bool = False, workers: int | None = None
) -> tuple[Tensor, Tensor]:
    """The training images as one tensor, (N, 3, 32, 32) uint8, and labels (N,) into `CLASSES`.

    Raises:
        InputError: the data are missing, are not CIFAR-10's classes, or are of another size.
    """
    dataset = open_dataset(data, split="train", download=download)
    if limit is not None:
        dataset = dataset.limit(limit)
    if tuple(dataset.classes or ()) != CLASSES:
        raise InputError(f"{data} does not have CIFAR-10's ten classes; found {dataset.classes}")

    def look(number: int) -> np.ndarray:
        image = np.asarray(dataset[number].image())
        if image.shape != (32, 32, 3):
            size = f"{image.shape[1]}x{image.shape[0]}"
            raise InputError(f"{dataset[number].id} is {size}; the recipe expects 32x32 pictures")
        return image

    images = np.stack(list(read_all(look, range(len(dataset)), workers or 0)))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor([s.label for s in dataset])


class LastEpoch(TypedDict):
    """The last epoch of a training; the accuracy in % on its own augmented pictures."""

    epoch: int
    loss: float
    train_accuracy: float
    seconds: float


def run(
    settings: TinyClipSettings, out: Path, *, resume: bool = False, download: bool = False
) -> Iterator[Event[LastEpoch]]:
    """Read the data and train; `out` becomes a folder that open_clip loads.

    Raises:
        InputError: `out` holds a training already and `resume` is not given, or one with other settings.
        RunError: the loss is no longer finite, or the disk is full.
    """
    images, labels = read_images(settings.data, settings.limit or None, download, settings.workers)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    held = settings.manifest(limit=settings.limit or None)
    with RunFolder(out, "train-glom-tiny", held, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        write_json(out / "open_clip_config.json", config)
        yield from train(images, labels, config, settings, folder)
        last = folder.records()[-1]
        seconds, accuracy = read_timing(out)[last["id"]], last["accuracy"]
        result: LastEpoch = {"epoch": last["epoch"], "loss": last["loss"], "train_accuracy": accuracy,
                             "seconds": seconds}  # fmt: skip
        folder.conclude(result)
    yield Event(result=result)
