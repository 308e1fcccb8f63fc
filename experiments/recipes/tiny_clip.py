"""Training recipe of the shipped `glom-tiny`: a CLIP whose captions are class names in sentences.

Loss: image i is contrasted with one freshly written caption per class, cross-entropy over
`logit_scale * image @ captions.T` (CLIP, Radford et al. 2021, equation in figure 3, image-to-text direction, with
the captions of a batch that say the same thing merged - on ten classes a batch would otherwise be full of false
negatives). Every step draws new templates and synonyms, so the text tower learns sentences, not ten rows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glom.datasets.augment import augment
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.artifacts import differences, write_json
from glom.runs.saving import save_state, save_tensors
from glom.runs.seeds import fixed_seed
from glom.teachers.known import CIFAR10
from glom.teachers.registry import GLOM_TINY
from glom.teachers.tiny import TRAIN_TEMPLATES
from glom.training.optimisation import parameter_groups

CONFIG = GLOM_TINY / "open_clip_config.json"
CLASSES, SYNONYMS = tuple(CIFAR10), CIFAR10


@dataclass(frozen=True)
class TinyClipSettings:
    """Settings of the recipe; the defaults are what the shipped weights were trained with."""

    epochs: int = 24
    batch_size: int = 256
    lr: float = 4e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    translate: int = 4
    cutout: int = 10
    synonym_share: float = 0.3
    seed: int = 0
    bf16: bool = True


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
    images: Tensor, labels: Tensor, config: dict[str, Any], settings: TinyClipSettings, out: Path
) -> Iterator[dict[str, Any]]:
    """Train from scratch, resuming from `out/checkpoint.pt` where it exists.

    Args:
        images: (N, 3, 32, 32) uint8.
        labels: (N,) int64, indices into `CLASSES`.
        config: an open_clip configuration (`model_cfg` and `preprocess_cfg`).
        settings: the recipe.
        out: a folder; `checkpoint.pt` after every epoch, `open_clip_model.safetensors` (fp16) at the end.

    Yields:
        `{"epoch", "loss", "train_accuracy", "seconds"}` after every epoch.
    """
    model, tokenizer = _untrained(config["model_cfg"], settings.seed)
    mean = torch.tensor(config["preprocess_cfg"]["mean"]).view(3, 1, 1)
    std = torch.tensor(config["preprocess_cfg"]["std"]).view(3, 1, 1)

    steps_per_epoch = len(images) // settings.batch_size
    total, warmup = settings.epochs * steps_per_epoch, 2 * steps_per_epoch
    # Gains, biases, embeddings and the logit scale are not decayed, as in CLIP.
    groups = parameter_groups(model.named_parameters(), settings.weight_decay, ("embedding",))
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=True)

    def rate(step: int) -> float:
        # Linear up over two epochs, linear down to nothing: what the fast CIFAR recipes use.
        return min((step + 1) / warmup, max(total - step, 0) / max(total - warmup, 1))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    checkpoint = out / "checkpoint.pt"
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}

    for epoch in range(_restored(checkpoint, settings, parts), settings.epochs):
        started = time.perf_counter()
        model.train()
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + epoch)
        order = torch.randperm(len(images), generator=generator)
        losses, correct = [], 0
        for step in range(steps_per_epoch):
            index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            x = (images[index].float() / 255 - mean) / std
            x = augment(x, generator, settings.translate, settings.cutout).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
                image_features = model.encode_image(x)
            image_features = F.normalize(image_features.float(), dim=-1)
            text_features = model.encode_text(tokenizer(write_captions(settings, generator)), normalize=True)
            logits = model.logit_scale.exp() * image_features @ text_features.T
            loss = F.cross_entropy(logits, labels[index], label_smoothing=settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.item())
            correct += int((logits.argmax(1) == labels[index]).sum())
        out.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in parts.items()}
        save_state(checkpoint, {"settings": asdict(settings), "epoch": epoch + 1, **states})
        yield {
            "epoch": epoch + 1,
            "loss": sum(losses) / len(losses),
            "train_accuracy": 100 * correct / (steps_per_epoch * settings.batch_size),
            "seconds": time.perf_counter() - started,
        }

    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items() if k != "attn_mask"}
    save_tensors(out / "open_clip_model.safetensors", weights, {"settings": json.dumps(asdict(settings))})


def _untrained(shape: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """A CLIP of open_clip's `model_cfg` with random weights, and its tokenizer."""
    from open_clip import CLIP, SimpleTokenizer

    import glom.teachers.tiny  # noqa: F401  (registers the trunk with timm)

    with fixed_seed(seed):
        model = CLIP(embed_dim=shape["embed_dim"], vision_cfg=shape["vision_cfg"], text_cfg=shape["text_cfg"])
    model.visual.to(memory_format=torch.channels_last)
    return model, SimpleTokenizer(context_length=shape["text_cfg"]["context_length"])


def _restored(checkpoint: Path, settings: TinyClipSettings, parts: dict[str, Any]) -> int:
    """Put what a checkpoint holds into the parts; the epochs it has done, 0 where there is none."""
    if not checkpoint.exists():
        return 0
    saved = torch.load(checkpoint, weights_only=True)
    if saved["settings"] != asdict(settings):
        changed = "; ".join(differences(saved["settings"], asdict(settings)))
        raise InputError(f"{checkpoint} was made with other settings ({changed}); choose another --out")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])


def read_images(data: str, limit: int | None = None, download: bool = False) -> tuple[Tensor, Tensor]:
    """The training images as one tensor, (N, 3, 32, 32) uint8, and labels (N,) into `CLASSES`.

    Raises:
        InputError: the data are missing, are not CIFAR-10's classes, or are of another size.
    """
    dataset = open_dataset(data, split="train", download=download)
    if limit is not None:
        dataset = dataset.limit(limit)
    if tuple(dataset.classes or ()) != CLASSES:
        raise InputError(f"{data} does not have CIFAR-10's ten classes; found {dataset.classes}")
    images, labels = [], []
    for sample in dataset.samples:
        image = np.asarray(sample.image())
        if image.shape != (32, 32, 3):
            raise InputError(f"{sample.id} is {image.shape[1]}x{image.shape[0]}; the recipe expects 32x32 pictures")
        images.append(image)
        labels.append(sample.label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def run_training(
    data: str,
    settings: TinyClipSettings,
    out: Path,
    resume: bool = False,
    limit: int | None = None,
    download: bool = False,
) -> Iterator[dict[str, Any]]:
    """Read the data and train; `out` becomes a folder that open_clip loads.

    Raises:
        InputError: `out` holds a training already and `resume` is not given, or one with other settings.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder")
    if (out / "checkpoint.pt").exists() and not resume:
        raise InputError(f"{out} already holds a training; add --resume to go on, or choose another --out")
    images, labels = read_images(data, limit, download)
    if len(images) < settings.batch_size:
        raise InputError(f"the recipe needs at least {settings.batch_size} training images, got {len(images)}")
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "open_clip_config.json", config)
    yield from train(images, labels, config, settings, out)
