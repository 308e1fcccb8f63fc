"""One stage of `mae-tiny`'s training, resumable bit for bit after any epoch."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.recipes.mae_settings import Recipe
from experiments.recipes.mvit_tiny_ship import Pictures
from glom.datasets.augment import augment
from glom.errors import InputError, RunError
from glom.masked.network import MaskedClassifier, encode, reconstruction, side_of
from glom.masked.parts import View
from glom.runs.artifacts import RunFolder
from glom.runs.saving import save_state
from glom.runs.seeds import sample_seed
from glom.teachers.hub import first_line
from glom.training.optimisation import parameter_groups

REPORT_EVERY = 20  # steps between two events of progress
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

    def loss(self, images: Tensor, labels: Tensor, whole: bool, generator: torch.Generator) -> tuple[Tensor, int]:
        """The loss of one batch, and how many of its pictures were classified rightly (-1 without a head)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            total, right = images.new_zeros(()), -1
            if self.name != "pretrain":
                scores = self.scores(images, whole, generator).float()
                total = F.cross_entropy(scores, labels, label_smoothing=self.recipe.label_smoothing)
                right = int((scores.argmax(1) == labels).sum())
            if self.name in ("pretrain", "joint"):
                noise = torch.rand(len(images), self.patches, generator=generator).to(self.device)
                total = total + reconstruction(self.model.mae, images, noise)
        return total, right

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


class Trainer:
    """A stage's optimiser and epochs; `checkpoint-STAGE.pt` in `out` after every one."""

    def __init__(self, stage: Stage, data: Pictures, out: Path) -> None:
        self.stage, self.data, self.path = stage, data, out / f"checkpoint-{stage.name}.pt"
        recipe = stage.recipe
        if len(data.images) < recipe.batch_size:
            raise InputError(f"the recipe needs at least {recipe.batch_size} training pictures, got {len(data.images)}")
        self.steps = len(data.images) // recipe.batch_size
        total = recipe.epochs * self.steps
        self.optimizer = torch.optim.AdamW(
            parameter_groups(stage.learning, recipe.weight_decay, ("_token",)),
            lr=recipe.lr,
            betas=(0.9, 0.95),
            fused=True,
        )
        up = max(total // 20, 1)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / up, 0.5 + 0.5 * math.cos(math.pi * step / total))
        )
        self.fingerprint = data.fingerprint()

    def run(self, folder: RunFolder) -> Iterator[dict[str, Any]]:
        """All epochs from the last checkpoint on; a line of results for each; events for `commands.common.follow`."""
        name, epochs = self.stage.name, self.stage.recipe.epochs
        kept = {r["id"] for r in folder.records()}
        for epoch in range(self.restore(), epochs):
            begun, event = perf_counter(), {}
            for event in self.epoch(epoch):
                yield event
            record = {"id": f"{name} {epoch + 1}", "stage": name, "epoch": epoch + 1}
            record |= {k: event[k] for k in ("loss", "accuracy") if event.get(k) != ""}
            if record["id"] not in kept:  # a kill before the checkpoint leaves a line that is right already
                folder.append(record, perf_counter() - begun)
            self.save(epoch + 1)

    def epoch(self, epoch: int) -> Iterator[dict[str, Any]]:
        """One pass over the pictures; its random numbers depend on the seed, the stage and the epoch alone."""
        stage, recipe, data = self.stage, self.stage.recipe, self.data
        generator = torch.Generator().manual_seed(sample_seed(stage.seed, f"{stage.name} {epoch}", "mae-tiny"))
        order = torch.randperm(len(data.images), generator=generator)
        whole = epoch >= recipe.epochs - recipe.whole
        stage.model.train()
        losses, right = 0.0, 0
        for step in range(self.steps):
            index = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            images = augment(stage.view.normalise(data.images[index]), generator, recipe.translate, recipe.cutout)
            loss, hits = stage.loss(images.to(stage.device), data.labels[index].to(stage.device), whole, generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([p for _, p in stage.learning], 1.0)
            self.optimizer.step()
            self.schedule.step()
            losses, right = losses + loss.item(), right + hits
            if not math.isfinite(losses):
                raise RunError(f"the loss is not finite at step {step + 1} of epoch {epoch + 1}; lower the rate")
            if (step + 1) % REPORT_EVERY == 0 or step + 1 == self.steps:
                yield {
                    "stage": stage.name,
                    "done": epoch * self.steps + step + 1,
                    "total": recipe.epochs * self.steps,
                    "loss": round(losses / (step + 1), 4),
                    "accuracy": "" if hits < 0 else round(100 * right / ((step + 1) * recipe.batch_size), 2),
                }

    def restore(self) -> int:
        """Take the checkpoint up where there is one; the number of epochs done."""
        if not self.path.exists():
            return 0
        try:
            saved = torch.load(self.path, weights_only=True, map_location=self.stage.device)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise InputError(
                f"{self.path} is damaged ({first_line(error)}); delete it to begin this stage again"
            ) from error
        if saved["data"] != self.fingerprint:
            raise InputError(f"{self.path} was trained on other pictures; choose another --out")
        self.stage.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        return int(saved["epochs"])

    def save(self, epochs: int) -> None:
        """Replace the checkpoint, never leaving half of one."""
        state = {"epochs": epochs, "data": self.fingerprint, "model": self.stage.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        save_state(self.path, state)
