"""Prompts learned from a few labelled pictures: CoOp, and CoCoOp, whose prompts listen to the picture."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode

from glom.devices import moved
from glom.methods.base import FewShot, Method, Task, register
from glom.methods.views import augmented
from glom.methods_list import HERE
from glom.runs.seeds import fixed_seed, sample_seed
from glom.teachers.heads import ZeroShotHead
from glom.teachers.prompts import PromptedText

READ = 64  # pictures read at once
BICUBIC = InterpolationMode.BICUBIC


@dataclass(frozen=True)
class PromptSettings:
    """How prompts are learned.

    Attributes:
        words: the context's first value, or how many vectors to draw.
        epochs: passes over the labelled pictures; 0 for CoOp's release's number, see `released_epochs`.
        batch: pictures a step.
        lr: falls as a cosine after one epoch at 1e-5.
        augment: random resized crops (bicubic, at least 0.08 of the area) and flips, as published.
        optimiser: "sgd", with momentum 0.9 and weight decay 5e-4 as published, or "adam".
    """

    words: str | int = "a photo of a"
    epochs: int = 0
    batch: int = 32
    lr: float = 2e-3
    augment: bool = True
    optimiser: str = "sgd"


# Method -> preset -> settings. `published` is the papers'; `glom-tiny` is what that teacher needs, see docs/methods.md.
PRESETS: dict[str, dict[str, PromptSettings]] = {
    "coop": {
        "published": PromptSettings(),
        "glom-tiny": PromptSettings(16, epochs=160, lr=3e-3, augment=False, optimiser="adam"),
    },
    "cocoop": {
        "published": PromptSettings(epochs=10, batch=1),
        "glom-tiny": PromptSettings(epochs=40, lr=3e-3, augment=False, optimiser="adam"),
    },
}


def released_epochs(classes: int, shots: int) -> int:
    """CoOp's: 50 for ImageNet's thousand classes, else 50 for one picture a class, 100 for up to 4, 200 for more."""
    return 50 if classes >= 1000 or shots <= 1 else 100 if shots <= 4 else 200


def learning_rate(settings: PromptSettings, epochs: int, epoch: int) -> float:
    """Of one epoch: 1e-5 in the first; then a cosine from `lr` on, which two more epochs would bring to nought."""
    return 1e-5 if epoch == 0 else settings.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def prompt_preset(method: str, teacher: str, preset: str) -> PromptSettings:
    """The settings a run takes: the papers' for preset `published`, else the teacher's own where it has any."""
    return PRESETS[method].get(teacher if preset != "published" else preset, PRESETS[method]["published"])


class Learned(Method):
    """What CoOp and CoCoOp share: the loop."""

    settings: PromptSettings
    follows = False

    def __init__(self, settings: PromptSettings | None = None) -> None:
        """`settings`: None for the preset that `prepare` finds."""
        self._given = settings

    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """What learns."""

    @abstractmethod
    def scores(self, tokens: Tensor) -> Tensor:
        """(B, F) -> (B, C), differentiable in the parameters."""

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.settings = self._given or prompt_preset(self.name, task.teacher.name, task.preset)
        self.constants = self.constants if self.settings == PRESETS[self.name]["published"] else HERE
        generator = torch.Generator().manual_seed(sample_seed(task.seed, "", self.name))
        self.prompt = PromptedText(task.teacher, task.classes, self.settings.words, generator)
        self.context = self.prompt.initial.clone().requires_grad_()

    def fit(self, shots: FewShot) -> list[float]:
        s, teacher = self.settings, self.task.teacher
        optimiser: torch.optim.Optimizer
        if s.optimiser == "adam":
            optimiser = torch.optim.Adam(self.parameters(), lr=s.lr)
        else:
            optimiser = torch.optim.SGD(self.parameters(), lr=s.lr, momentum=0.9, weight_decay=5e-4)
        # The teacher is frozen: pictures that never change are read once.
        parts = () if s.augment else torch.arange(len(shots.labels)).split(READ)
        fixed = torch.cat([teacher.token(shots.read(self.task, part.tolist())) for part in parts]) if parts else None
        classes = len(self.task.classes)
        epochs = s.epochs or released_epochs(classes, len(shots.labels) // classes)
        losses = []
        for epoch in range(epochs):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(s, epochs, epoch)
            generator = torch.Generator().manual_seed(sample_seed(self.task.seed, str(epoch), "order"))
            for rows in torch.randperm(len(shots.labels), generator=generator).split(s.batch):
                at = moved(rows, shots.labels.device)
                tokens = teacher.token(self._views(shots, rows.tolist(), epoch)) if fixed is None else fixed[at]
                loss = F.cross_entropy(self.scores(tokens), shots.labels[at])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
        return list(torch.stack(losses).tolist()) if losses else []

    def _views(self, shots: FewShot, rows: list[int], epoch: int) -> Tensor:
        size = self.task.teacher.image_size
        seeds = [sample_seed(self.task.seed, f"{epoch}/{i}", "view") for i in rows]
        return self.task.read(
            [augmented(shots.pictures[i], 2, size, seed, by=BICUBIC)[1] for i, seed in zip(rows, seeds, strict=True)]
        )

    @torch.no_grad()
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        return self.scores(self.task.token(image)[None])[0]


@register
class CoOp(Learned):
    """Context vectors shared by all classes."""

    name = "coop"
    starts = True

    def leaves(self) -> Task:
        with torch.no_grad():
            rows = F.normalize(self.prompt(self.context), dim=-1)
        teacher = self.task.teacher
        bias = None if teacher.logit_bias is None else rows.new_full((len(rows),), teacher.logit_bias)
        return replace(self.task, start=ZeroShotHead(self.task.classes, rows, teacher.scale, bias))

    def parameters(self) -> list[Tensor]:
        return [self.context]

    def scores(self, tokens: Tensor) -> Tensor:
        return self.task.logits(tokens, self.features())

    def features(self) -> Tensor:
        """(C, F) class features; made once where nothing learns."""
        if torch.is_grad_enabled():
            return self.prompt(self.context)
        if not hasattr(self, "_features"):
            self._features = self.prompt(self.context)
        return self._features

    def state(self) -> dict[str, Tensor]:
        return {"context": self.context.detach()}

    def load(self, state: dict[str, Tensor]) -> None:
        self.context.data.copy_(state["context"])


@register
class CoCoOp(Learned):
    """Context vectors moved by a small net that reads the picture's token: v_m(x) = v_m + h(x) (its equation 3)."""

    name = "cocoop"

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        width = task.teacher.width
        generator = torch.Generator().manual_seed(sample_seed(task.seed, "", "meta-net"))
        with fixed_seed():  # drawn again below, from the run's seed
            self.meta = nn.Sequential(
                nn.Linear(width, max(1, width // 16)), nn.ReLU(), nn.Linear(max(1, width // 16), self.prompt.width)
            )
        for p in self.meta.parameters():
            bound = 1 / math.sqrt(p.shape[-1] if p.ndim > 1 else width)
            p.data.uniform_(-bound, bound, generator=generator)
        self.meta.to(task.device)

    def parameters(self) -> list[Tensor]:
        return [self.context, *self.meta.parameters()]

    def contexts(self, tokens: Tensor, normalised: bool = True) -> Tensor:
        """(B, F) -> (B, n, d). The net reads tokens of length one, or as they are."""
        return self.context + self.meta(F.normalize(tokens, dim=-1) if normalised else tokens)[:, None]

    def scores(self, tokens: Tensor) -> Tensor:
        return self.task.logits(tokens, self.prompt(self.contexts(tokens)))

    def state(self) -> dict[str, Tensor]:
        return {"context": self.context.detach(), **{f"meta.{k}": v for k, v in self.meta.state_dict().items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        self.context.data.copy_(state["context"])
        self.meta.load_state_dict({k.removeprefix("meta."): v for k, v in state.items() if k.startswith("meta.")})
