"""Training recipe of the shipped `mvit-v2-tiny`: boring videos of labelled pictures, classification and nothing else.

Loss: cross-entropy with label smoothing. Nothing in it asks neighbours to agree or objects to hold together: whatever
islands are in the features came with the classification.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.recipes.mvit_tiny_ship import Pictures, boring, open_split, read_pictures, ship
from glom.backbones.mvit_shipped import TinyConfig
from glom.backbones.mvit_tiny import build_mvit
from glom.datasets.augment import augment
from glom.errors import InputError, RunError
from glom.runs.artifacts import RunFolder, public_command, read_timing
from glom.runs.saving import save_state
from glom.runs.seeds import fixed_seed
from glom.teachers.hub import first_line
from glom.training.optimisation import parameter_groups

CHECKPOINT = "checkpoint.pt"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)  # of CIFAR-10's training pictures
REPORT_EVERY = 20  # steps between two events of progress


@dataclass(frozen=True)
class MViTTinySettings:
    """The recipe; the defaults are what the shipped weights were trained with.

    Attributes:
        epochs: passes over the training pictures.
        batch_size, lr, weight_decay: of AdamW. The rate goes up linearly for `warmup` epochs, stays, and goes down to
            zero over the last `decay` (Hu et al. 2024, "MiniCPM", section 4): until then longer and shorter trainings
            are the same one.
        label_smoothing: of the cross-entropy.
        translate, cutout: pixels pictures are shifted by at most, and the side of the square cut out of them.
        small, sizes: sides in pixels before and during the decay, one drawn for each batch: small pictures first are
            quicker (Tan & Le 2021, "EfficientNetV2", section 4), and no single scale is learnt.
        limit: at most so many pictures of either split; 0 for all.
        bf16: products in bfloat16.
    """

    epochs: int = 15
    batch_size: int = 128
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 1
    decay: int = 5
    label_smoothing: float = 0.1
    translate: int = 4
    cutout: int = 0
    small: tuple[int, ...] = (16, 20, 24)
    sizes: tuple[int, ...] = (24, 28, 32)
    limit: int = 0
    seed: int = 0
    bf16: bool = True


def run_training(
    data: str, settings: MViTTinySettings, out: Path, resume: bool = False, download: bool = False
) -> Iterator[dict[str, Any]]:
    """Train, measure on the test split, write the weights, their configuration and the model card into `out`.

    Resumed after any epoch it gives the same weights to the bit.

    Yields:
        `{"message"}` while data are read; `{"step", "steps", "epoch", "loss", "accuracy"}` in between, and last
        `{"result": {"test_accuracy", "ci95", "n", ...}}`. Loss and accuracy are the running epoch's, on augmented
        training pictures.

    Raises:
        InputError: the data do not fit the recipe, `out` holds something else, a resumed run has other settings.
        RunError: the loss is no longer finite, or the disk is full.
    """
    check(settings)
    extra = {"command": public_command().replace(" --resume", "")}
    with RunFolder(out, "train-mvit-v2-tiny", {"data": data, **asdict(settings)}, resume, extra) as folder:
        splits = [open_split(data, split, settings.limit, download) for split in ("train", "test")]
        if splits[0].classes != splits[1].classes:
            raise InputError(f"{data}: the classes of its train and test splits differ")
        if len(splits[0]) < settings.batch_size:
            raise InputError(f"the recipe needs at least {settings.batch_size} training pictures, got {len(splits[0])}")
        yield {"message": "reading the pictures"}
        config = TinyConfig(classes=splits[0].classes or (), mean=MEAN, std=STD)
        train_set, test_set = (read_pictures(split, config.size) for split in splits)
        trainer = Trainer(train_set, config, settings, out)
        yield from trainer.run(folder)
        facts = {"command": extra["command"], "train_pictures": len(train_set.images)}
        facts["seconds"] = round(sum(read_timing(out).values()), 1)
        result = ship(trainer.net, config, asdict(settings), facts, test_set, out)
        folder.finish(test_accuracy=result["test_accuracy"])
    yield {"result": result}


def check(settings: MViTTinySettings) -> None:
    """Raises `InputError` for settings no training can have."""
    if settings.epochs < 1 or settings.batch_size < 1:
        raise InputError(f"epochs and batch size must be at least 1, got {settings.epochs} and {settings.batch_size}")
    for sizes in (settings.small, settings.sizes):
        if not sizes or min(sizes) < 8:
            raise InputError(f"the training sizes must be 8 px or more, got {sizes}")


class Trainer:
    """The network, its optimiser, and how one epoch goes; `checkpoint.pt` in `out` after every one."""

    def __init__(self, data: Pictures, config: TinyConfig, settings: MViTTinySettings, out: Path) -> None:
        self.data, self.config, self.settings, self.out = data, config, settings, out
        with fixed_seed(settings.seed):
            self.net = build_mvit(**config.recipe())
        self.steps = len(data.images) // settings.batch_size
        total = settings.epochs * self.steps
        # A training too short for both spends a quarter and a half of its steps on them.
        up, down = min(settings.warmup * self.steps, total // 4), min(settings.decay * self.steps, total // 2)
        self.decay_from = settings.epochs - down // self.steps
        groups = parameter_groups(self.net.named_parameters(), settings.weight_decay, ("rel_pos",))
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / max(up, 1), (total - step) / max(down, 1))
        )
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
        self.fingerprint = data.fingerprint()

    def run(self, folder: RunFolder) -> Iterator[dict[str, Any]]:
        """All epochs from the last checkpoint on; a line of results for each."""
        kept = {r["index"] for r in folder.records()}
        for epoch in range(self.restore(), self.settings.epochs):
            begun = perf_counter()
            event: dict[str, Any] = {}
            for event in self.epoch(epoch):
                yield event
            if epoch not in kept:  # a kill before the checkpoint leaves a line that is right already
                record = {"id": f"epoch {epoch + 1}", "index": epoch, "loss": event["loss"]}
                folder.append(record | {"train_accuracy": event["accuracy"]}, perf_counter() - begun)
            self.save(epoch + 1)

    def epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """One pass over the pictures; its random numbers depend on the seed and the epoch alone."""
        s = self.settings
        generator = torch.Generator().manual_seed(s.seed * 100_003 + epoch)
        order = torch.randperm(len(self.data.images), generator=generator)
        self.net.train()
        sizes = s.sizes if epoch >= self.decay_from else s.small
        losses, right = 0.0, 0
        for step in range(self.steps):
            index = order[step * s.batch_size : (step + 1) * s.batch_size]
            labels = self.data.labels[index]
            with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
                scores = self.net(self.batch(index, generator, sizes)).float()
            loss = F.cross_entropy(scores, labels, label_smoothing=s.label_smoothing)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            losses, right = losses + loss.item(), right + int((scores.argmax(1) == labels).sum())
            if not np.isfinite(losses):
                raise RunError(f"the loss is not finite at step {step + 1} of epoch {epoch + 1}; lower the rate")
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.steps:
                yield {
                    "step": epoch * self.steps + step + 1,
                    "steps": s.epochs * self.steps,
                    "epoch": epoch + 1,
                    "loss": losses / (step + 1),
                    "accuracy": 100 * right / ((step + 1) * s.batch_size),
                }

    def batch(self, index: Tensor, generator: torch.Generator, sizes: Sequence[int]) -> Tensor:
        """Pictures normalised, augmented, brought to one of `sizes`, repeated in time: (B, 3, T, S, S)."""
        s = self.settings
        x = (self.data.images[index].float() / 255 - self.mean) / self.std
        x = augment(x, generator, s.translate, s.cutout)
        side = sizes[int(torch.randint(len(sizes), (1,), generator=generator))]
        if side != x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return boring(x, self.config.frames)

    def restore(self) -> int:
        """Take the checkpoint up where there is one; the number of epochs done."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return 0
        try:
            saved = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise InputError(f"{path} is damaged ({first_line(error)}); choose another --out") from error
        if saved["data"] != self.fingerprint:
            raise InputError(f"{path} was trained on other pictures; choose another --out")
        self.net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        return int(saved["epochs"])

    def save(self, epochs: int) -> None:
        """Replace the checkpoint, never leaving half of one."""
        path = self.out / CHECKPOINT
        state = {"epochs": epochs, "data": self.fingerprint, "net": self.net.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        save_state(path, state)
