"""The corruption table's baselines: a masked autoencoder, classified four ways.

    Joint Train   encoder, decoder and head learn reconstruction and classes together
    Fine-Tune     encoder and head learn the classes
    ViT Probe     the head alone learns them, on the frozen encoder
    TTT-MAE       ViT Probe, the encoder trained on the test picture's reconstruction before it answers

They do not use the teacher. Their class heads know the classes they were trained on; for others, labelled pictures are
needed (`train`), and the heads are fitted to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.datasets.augment import augment
from glom.errors import RunError
from glom.masked.adapt import PRESETS, Adapter, AdaptSettings
from glom.masked.network import encode, reconstruction, side_of
from glom.masked.parts import PARTS, load_masked, load_part, part_of
from glom.methods.base import FewShot, Method, Task, register
from glom.methods_list import HERE
from glom.runs.seeds import sample_seed


@dataclass(frozen=True)
class FitSettings:
    """How a head, or more, is fitted to labelled pictures.

    Attributes:
        epochs, batch, lr, weight_decay: of AdamW; the rate goes down to nothing along a cosine. label_smoothing: of the
            cross-entropy. The released `main_prob.py` has 20 epochs, base rate 0.001, weight decay 0.2, smoothing 0.1.
        lr_trunk: of the encoder (and decoder) where they learn.
    """

    epochs: int = 20
    batch: int = 64
    lr: float = 1e-3
    lr_trunk: float = 1e-4
    weight_decay: float = 0.2
    label_smoothing: float = 0.1


@dataclass(frozen=True)
class MaskedSettings:
    """What decides the answers, as recorded: the network's weights, and how it is fitted and adapted."""

    fingerprint: str = ""
    fit: FitSettings | None = None
    adapt: AdaptSettings | None = None


class MaskedMethod(Method):
    """A masked autoencoder with a class head. `part` of `glom.masked.parts.PARTS` is what its training changed."""

    part = ""
    follows = False
    fit_settings = FitSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.masked = load_masked(task.mae)
        known = self.masked.classes if self.part in self.masked.parts else ()
        self.needs_shots = known != task.classes
        self.why_shots = _why(task.mae, known)
        self.model = self.masked.classifier(len(task.classes), task.seed).to(task.device)
        if not self.needs_shots:
            self.load(dict(self.masked.parts[self.part]))
        fit = self.fit_settings if self.needs_shots else None
        self.settings = MaskedSettings(self.masked.fingerprint(self.part), fit, self.adapt_settings())
        if self.settings.adapt not in (None, PRESETS["paper"]) or not self.needs_shots:
            self.constants = HERE  # the network came with its head, and with steps that suit it

    def adapt_settings(self) -> AdaptSettings | None:
        """How the network is adapted to each picture; None where it is not."""
        return None

    def see(self, image: Image.Image) -> Tensor:
        """(1, 3, S, S) on the device."""
        return self.masked.view(image)[None].to(self.task.device)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        with torch.no_grad():
            return self.model(self.see(image))[0]

    def fit(self, shots: FewShot) -> list[float]:
        s, generator = self.fit_settings, torch.Generator().manual_seed(sample_seed(self.task.seed, self.part, "fit"))
        labels = shots.labels.cpu()
        learning = {n: p for n, p in self.model.named_parameters() if n.startswith(PARTS[self.part])}
        fixed = ("position_embeddings", "decoder_pos_embed")
        head = [p.requires_grad_(True) for n, p in learning.items() if n.startswith("head.")]
        trunk = [p.requires_grad_(True) for n, p in learning.items() if n.startswith("mae.") and not n.endswith(fixed)]
        groups: list[dict[str, Any]] = [{"params": head, "lr": s.lr}, {"params": trunk, "lr": s.lr_trunk}]
        optimiser = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=s.weight_decay)
        batches = math.ceil(len(labels) / s.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, s.epochs * batches)
        losses = []
        for index in _batches(len(labels), s, generator):
            # A batch at a time: 16 pictures a class of ImageNet's are ten GB.
            images = torch.stack([self.masked.view(shots.pictures[i]) for i in index.tolist()])
            batch = augment(images, generator, self.masked.view.size // 8, 0).to(self.task.device)
            loss = self.loss(batch, labels[index].to(self.task.device), generator)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise RunError(f"{self.name}: the loss is {losses[-1]} after {len(losses)} steps of fitting")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
        self.model.requires_grad_(False)
        return losses

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of one batch of `fit`."""
        return F.cross_entropy(self.model(images), labels, label_smoothing=self.fit_settings.label_smoothing)

    def state(self) -> dict[str, Tensor]:
        return part_of(self.model, self.part)

    def load(self, state: dict[str, Tensor]) -> None:
        load_part(self.model, state, self.part, f"{self.name} of {self.task.mae}")


@register
class FineTune(MaskedMethod):
    """Encoder and head, end to end."""

    name = part = "fine-tune"


@register
class JointTrain(MaskedMethod):
    """Encoder, decoder and head on the sum of both losses."""

    name = part = "joint-train"

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.rand(len(images), side_of(self.model.mae) ** 2, generator=generator).to(images.device)
        return super().loss(images, labels, generator) + reconstruction(self.model.mae, images, noise)


@register
class ViTProbe(MaskedMethod):
    """A small transformer on the frozen encoder's tokens."""

    name = part = "vit-probe"

    def loss(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            tokens = encode(self.model.mae, images)
        return F.cross_entropy(self.model.head(tokens), labels, label_smoothing=self.fit_settings.label_smoothing)


@register
class TTTMAE(ViTProbe):
    """ViT Probe after test-time training on the picture's reconstruction (`glom.masked.adapt`).

    Args:
        settings: of the steps. Without them the network's own (`config.json`); the publication's where it has none, or
            where the task's preset is "published".
    """

    name = "ttt-mae"

    def __init__(self, settings: AdaptSettings | None = None) -> None:
        self.given = settings

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        assert self.settings.adapt is not None
        self.adapter = Adapter(self.model.mae, self.settings.adapt)

    def adapt_settings(self) -> AdaptSettings:
        own = self.masked.adapt if self.task.preset != "published" else None
        return self.given or own or PRESETS["paper"]

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        picture = self.see(image)
        with self.adapter.on(picture[0], seed), torch.no_grad():
            return self.model(picture)[0]


def _batches(count: int, settings: FitSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of each batch, all pictures once an epoch, in a new order."""
    for _ in range(settings.epochs):
        yield from torch.randperm(count, generator=generator).split(settings.batch)


def _why(mae: str, known: tuple[str, ...]) -> str:
    """Why labelled pictures are needed, as `make_method` says it."""
    if not known:
        return f"has no class head for {mae} yet and learns one from labelled pictures"
    some = ", ".join(known[:3]) + (f", ... ({len(known)} in all)" if len(known) > 3 else "")
    return f"with {mae} knows {some}, not these classes in this order, and needs labelled pictures"
