"""One stage of `mae-tiny`'s training, resumable bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.recipes.mae_settings import Recipe
from experiments.recipes.mvit_tiny_ship import Pictures
from glom.datasets.augment import augment
from glom.masked.network import MaskedClassifier, encode, reconstruction, side_of
from glom.masked.parts import View
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.training.epochs import Epochs
from glom.training.loop import Training
from glom.training.optimisation import parameter_groups

SEEN = 0.5  # of the patches, in the epochs that do not classify whole pictures


class Stage:
    """One training: which weights learn, from which loss.

    Args:
        name: "pretrain", "probe", "fine-tune" or "joint". model: what learns; its weights are the start.
        recipe: of this stage. view: how pictures are normalised. device: where it runs. seed, bf16: of the run.
    """

    def __init__(
        self,
        name: str,
        model: MaskedClassifier,
        recipe: Recipe,
        view: View,
        device: torch.device,
        seed: int,
        bf16: bool,
    ) -> None:
        self.name, self.model, self.recipe, self.view, self.device = name, model.to(device), recipe, view, device
        self.seed, self.bf16 = seed, bf16
        self.patches = side_of(model.mae) ** 2
        learning = {"pretrain": model.mae, "probe": model.head, "fine-tune": model, "joint": model}[name]
        model.requires_grad_(False)
        for part, p in learning.named_parameters():
            own = "decoder" not in part or name != "fine-tune"
            p.requires_grad_(own and not part.endswith(("position_embeddings", "decoder_pos_embed")))
        self.learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]

    def loss(self, images: Tensor, labels: Tensor, whole: bool, generator: torch.Generator) -> Tensor:
        """(1,) or, with a head, (2,): the loss of one batch, and how many of its pictures were classified rightly."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            total, right = images.new_zeros(()), list[Tensor]()
            if self.name != "pretrain":
                scores = self.scores(images, whole, generator).float()
                total = F.cross_entropy(scores, labels, label_smoothing=self.recipe.label_smoothing)
                right = [(scores.argmax(1) == labels).sum()]
            if self.name in ("pretrain", "joint"):
                noise = torch.rand(len(images), self.patches, generator=generator).to(self.device)
                total = total + reconstruction(self.model.mae, images, noise)
        return torch.stack([total, *right])

    def scores(self, images: Tensor, whole: bool, generator: torch.Generator) -> Tensor:
        """(B, 3, S, S) -> (B, C)."""
        if self.name == "probe":
            with torch.no_grad():
                tokens = encode(self.model.mae, images)
            return self.model.head(tokens)
        if whole:
            return self.model(images)
        noise = torch.rand(len(images), self.patches, generator=generator)
        return self.model(images, noise.argsort(1)[:, : round(SEEN * self.patches)].to(self.device))


def train(stage: Stage, data: Pictures, folder: RunFolder) -> Iterator[Event]:
    """All epochs of a stage from its last state on; a line of results for each."""
    recipe, name = stage.recipe, stage.name

    # An epoch's random numbers depend on the seed, the stage and the epoch alone.
    epochs = Epochs(
        len(data.images), recipe.batch_size, lambda epoch: sample_seed(stage.seed, f"{name} {epoch}", "mae-tiny")
    )
    total = recipe.epochs * epochs.steps
    up = max(total // 20, 1)

    def loss(step: int) -> Tensor:
        index, generator = epochs.pictures(step), epochs.generator
        images = augment(stage.view.normalise(data.images[index]), generator, recipe.translate, recipe.cutout)
        whole = epochs.epoch >= recipe.epochs - recipe.whole
        return stage.loss(images.to(stage.device), data.labels[index].to(stage.device), whole, generator)

    def record(epoch: int, means: dict[str, float]) -> dict[str, Any]:
        line = {"id": f"{name} {epoch}", "stage": name, "epoch": epoch, "loss": round(means["loss"], 4)}
        return line | ({"accuracy": round(means["accuracy"], 2)} if "accuracy" in means else {})

    groups = parameter_groups(stage.learning, recipe.weight_decay, ("_token",))
    training = Training(
        stage.model.train(),
        torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95), fused=True),
        lambda step: recipe.lr * min((step + 1) / up, 0.5 + 0.5 * math.cos(math.pi * step / total)),
        total,
        folder.path / f"state-{name}.pt",
        match={"pictures": data.fingerprint()},
        beside={"epochs": epochs},
    )
    training.restore()
    yield from epochs.run(training, loss, folder, record, name)
