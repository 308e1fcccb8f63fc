"""Training recipe of the shipped `mvit-v2-tiny`: boring videos of labelled pictures, classification and nothing else.

Loss: cross-entropy with label smoothing. Nothing in it asks neighbours to agree or objects to hold together: whatever
islands are in the features came with the classification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.recipes.mvit_tiny_ship import Facts, Pictures, Shipping, boring, open_split, read_pictures, ship
from experiments.recipes.settings import MViTSettings, MViTTinySettings
from glom.backbones.mvit_shipped import TinyConfig
from glom.backbones.mvit_tiny import TinyMViT, build_mvit
from glom.datasets.augment import augment
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, public_command, read_timing
from glom.runs.events import Event
from glom.runs.seeds import fixed_seed
from glom.settings import defaults_of, write_settings
from glom.training.epochs import Epochs
from glom.training.loop import STATE, Training
from glom.training.optimisation import parameter_groups

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)  # of CIFAR-10's training pictures


def run(
    settings: MViTTinySettings, out: Path, *, resume: bool = False, download: bool = False
) -> Iterator[Event[Shipping]]:
    """Train, measure on the test split, write the weights, their configuration and the model card into `out`.

    Resumed anywhere it gives the same weights to the bit.

    The events' loss and accuracy are the running epoch's, on augmented training pictures.

    Raises:
        InputError: the data do not fit the recipe, `out` holds something else, a resumed run has other settings.
        RunError: the loss is no longer finite, or the disk is full.
    """
    check(settings)
    with RunFolder(out, "train-mvit-v2-tiny", settings.manifest(), resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        splits = [open_split(settings.data, split, settings.limit, download) for split in ("train", "test")]
        if splits[0].classes != splits[1].classes:
            raise InputError(f"{settings.data}: the classes of its train and test splits differ")
        yield Event(message="reading the pictures")
        config = TinyConfig(classes=splits[0].classes or (), mean=MEAN, std=STD)
        train_set, test_set = (read_pictures(split, config.size, settings.workers) for split in splits)
        trainer = Trainer(train_set, config, settings, folder)
        yield from trainer.run()
        facts: Facts = {
            "command": public_command(folder.manifest["command"]),
            "train_pictures": len(train_set.images),
            "seconds": round(sum(read_timing(out).values()), 1),
        }
        result = ship(trainer.net, config, settings.manifest("data"), facts, test_set, out)
        folder.conclude(result, test_accuracy=result["test_accuracy"])
    yield Event(result=result)


def check(settings: MViTSettings) -> None:
    """Raises `InputError` for settings no training can have."""
    if settings.batch_size < 1:
        raise InputError(f"the batch size must be at least 1, got {settings.batch_size}")
    for sizes in (settings.small, settings.sizes):
        if not sizes or min(sizes) < 8:
            raise InputError(f"the training sizes must be 8 px or more, got {sizes}")


class Trainer:
    """The network, and how one step goes."""

    def __init__(self, data: Pictures, config: TinyConfig, settings: MViTSettings, folder: RunFolder) -> None:
        self.data, self.config, self.settings, self.folder = data, config, settings, folder
        with fixed_seed(settings.seed):
            self.net = self.draw()
        s = settings
        self.epochs = Epochs(len(data.images), s.batch_size, lambda epoch: s.seed * 100_003 + epoch)
        steps, total = self.epochs.steps, s.epochs * self.epochs.steps
        # A training too short for both spends a quarter and a half of its steps on them.
        up, down = min(s.warmup * steps, total // 4), min(s.decay * steps, total // 2)
        self.decay_from = s.epochs - down // steps
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in (config.mean, config.std))
        groups = parameter_groups(self.net.named_parameters(), s.weight_decay, ("rel_pos",))
        self.training = Training(
            self.net.train(),
            torch.optim.AdamW(groups, lr=s.lr, fused=True),
            lambda step: s.lr * min(1.0, (step + 1) / max(up, 1), (total - step) / max(down, 1)),
            total,
            folder.path / STATE,
            match={"pictures": data.fingerprint()},
            beside={"epochs": self.epochs},
        )

    def draw(self) -> TinyMViT:
        """The network that training begins with."""
        return build_mvit(**self.config.recipe())

    def run(self) -> Iterator[Event]:
        """All epochs from the last state on; a line of results for each."""

        def record(epoch: int, means: dict[str, float]) -> dict[str, Any]:
            line = {"id": f"epoch {epoch}", "index": epoch - 1, "loss": means["loss"]}
            return {**line, "train_accuracy": means["accuracy"]}

        self.training.restore()
        return self.epochs.run(self.training, self.loss, self.folder, record)

    def loss(self, step: int) -> Tensor:
        """(2,): the loss of a step's batch, and how many of its pictures were classified rightly."""
        s, index = self.settings, self.epochs.pictures(step)
        labels = self.data.labels[index]
        with torch.autocast("cpu", torch.bfloat16, enabled=s.bf16):
            scores = self.net(self.batch(index, self.sizes())).float()
        loss = F.cross_entropy(scores, labels, label_smoothing=s.label_smoothing)
        return torch.stack([loss, (scores.argmax(1) == labels).sum()])

    def sizes(self) -> Sequence[int]:
        """Sides in pixels of the running epoch's batches."""
        return self.settings.sizes if self.epochs.epoch >= self.decay_from else self.settings.small

    def side(self, sizes: Sequence[int]) -> int:
        """One of them, drawn."""
        return sizes[int(torch.randint(len(sizes), (1,), generator=self.epochs.generator))]

    def batch(self, index: Tensor, sizes: Sequence[int]) -> Tensor:
        """Pictures normalised, augmented, brought to one of `sizes`, repeated in time: (B, 3, T, S, S)."""
        s, generator = self.settings, self.epochs.generator
        assert isinstance(s, MViTTinySettings)  # the other recipe draws its own views
        x = (self.data.images[index].float() / 255 - self.mean) / self.std
        x = augment(x, generator, s.translate, s.cutout)
        side = self.side(sizes)
        if side != x.shape[-1]:
            x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return boring(x, self.config.frames)
