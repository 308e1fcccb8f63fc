"""Test-time prompt tuning, from plain words or from a learned context; and marginal entropy over the image tower."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glom.errors import InputError
from glom.methods.augmix import augmix
from glom.methods.base import FewShot, Method, Task, register
from glom.methods.prompts import CoCoOp, CoOp, PromptSettings
from glom.methods.tower import Tower, learn_from
from glom.methods.views import confident, marginal_entropy
from glom.teachers.prompts import PromptedText


@dataclass(frozen=True)
class TPTSettings:
    """`views` with the picture itself, the surest `share` of them, `steps` of AdamW at `lr`."""

    views: int = 64
    share: float = 0.1
    steps: int = 1
    lr: float = 5e-3
    words: str | int = "a photo of a"


@register
class TPT(Method):
    """One picture's prompt: the marginal entropy of its surest views, one step, then the picture as it is.

    L(v) = H( (1/|S|) sum_{i in S} p_v(y | A_i(x)) ),  S the tenth of views with the least entropy      (its equation 3)
    """

    name = "tpt"
    follows = False
    mixes: ClassVar[tuple[str, ...]] = ("other",)

    def __init__(self, settings: TPTSettings | None = None) -> None:
        self.settings = settings or TPTSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.prompt = PromptedText(task.teacher, task.classes, self.settings.words)

    def start(self, token: Tensor) -> Tensor:
        """(n, d): what the context starts from for a picture with this token (F,)."""
        return self.prompt.initial

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        context, tokens, _ = self.tune(image, seed)
        with torch.no_grad():
            return self.task.logits(tokens[:1], self.prompt(context))[0]

    def tune(self, image: Image.Image, seed: int) -> tuple[Tensor, Tensor, list[float]]:
        """The tuned context (n, d), the views' tokens (V, F), the picture itself first, and the losses."""
        s, task = self.settings, self.task
        tokens = task.view_tokens(image, s.views, seed)
        context = self.start(tokens[0]).detach().clone().requires_grad_()
        optimiser = torch.optim.AdamW([context], lr=s.lr)
        chosen: Tensor | None = None
        losses = []
        for _ in range(s.steps):
            features = self.prompt(context)
            logits = task.logits(tokens, features)
            # The views are chosen once, by the prompt before its first step.
            chosen = confident(logits.detach(), s.share) if chosen is None else chosen
            loss = self.loss(logits[chosen], features)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
        return context.detach(), tokens, torch.stack(losses).tolist() if losses else []

    def loss(self, logits: Tensor, features: Tensor) -> Tensor:
        """Of the surest views' class scores (S, C) and the classes' text features (C, F)."""
        return marginal_entropy(logits)


@dataclass(frozen=True)
class TunedFromSettings(TPTSettings):
    """TPT's, and `context`: how what it starts from is learned (`words` is then that context's)."""

    context: PromptSettings = field(default_factory=PromptSettings)


class _TunedFrom(TPT):
    """TPT whose context starts from a learned one, `first`'s."""

    first: CoOp | CoCoOp

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.first.prepare(task)
        self.constants = self.first.constants
        self.prompt = self.first.prompt
        tpt = {f.name: getattr(self.settings, f.name) for f in fields(TPTSettings)}
        self.settings = TunedFromSettings(**tpt | {"words": self.first.settings.words, "context": self.first.settings})

    def learner(self) -> Method:
        return self.first

    def fit(self, shots: FewShot) -> list[float]:
        return self.first.fit(shots)

    def state(self) -> dict[str, Tensor]:
        return self.first.state()

    def load(self, state: dict[str, Tensor]) -> None:
        self.first.load(state)


@register
class TPTCoOp(_TunedFrom):
    """TPT from CoOp's context."""

    name = "tpt+coop"

    def __init__(self) -> None:
        super().__init__()
        self.first = CoOp()

    def start(self, token: Tensor) -> Tensor:
        return self.first.context


@register
class TPTCoCoOp(_TunedFrom):
    """TPT from the context that CoCoOp gives this picture.

    Its release hands CoCoOp's net the token as it is here, though the net learned from tokens of length one.
    """

    name = "tpt+cocoop"

    def __init__(self) -> None:
        super().__init__()
        self.first = CoCoOp()

    def start(self, token: Tensor) -> Tensor:
        assert isinstance(self.first, CoCoOp)
        with torch.no_grad():
            return self.first.contexts(token[None], normalised=False)[0]


@dataclass(frozen=True)
class MEMOSettings:
    """One of the release's two settings.

    Attributes:
        name: of the setting, as recorded. views: AugMix views; the plain picture is not among them. steps: of one
            draw of views each.
        optimiser, lr, weight_decay: "sgd" (no momentum) or "adamw", over all parameters of the image tower.
        crop: what AugMix starts from, see `augmix`.
    """

    name: str = "cifar-10"
    views: int = 32
    steps: int = 1
    optimiser: str = "sgd"
    lr: float = 5e-3
    weight_decay: float = 0.0
    crop: str = "padded"


MEMO_PRESETS = {
    "cifar-10": MEMOSettings(),
    # Its setting for large networks (RVT, ResNeXt-101); ResNet-50 has SGD at 0.00025.
    "imagenet": MEMOSettings("imagenet", 64, optimiser="adamw", lr=1e-5, weight_decay=0.01, crop="resized"),
}
SMALL = 64  # pixels a side: pictures up to this take the setting for CIFAR-10


def memo_preset(task: Task) -> MEMOSettings:
    """The setting for pictures of this size: the data set's first readable one, or the teacher's input without one."""
    side = task.teacher.image_size
    for sample in task.dataset.samples if task.dataset is not None else ():
        with suppress(InputError):  # counted where it is asked about
            side = max(sample.image().size)
            break
    return MEMO_PRESETS["cifar-10" if side <= SMALL else "imagenet"]


@register
class MEMO(Method):
    """The image tower itself, one step on the marginal entropy of all views; its weights are put back afterwards."""

    name = "memo"

    def __init__(self, settings: MEMOSettings | None = None) -> None:
        """`settings`: None for the preset that `prepare` finds."""
        self._given = settings

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.settings: MEMOSettings = self._given or memo_preset(task)
        self.head = task.head()
        self.tower = Tower(task.teacher)

    def views(self, image: Image.Image, random: np.random.Generator) -> Tensor:
        """(V, 3, S, S) on the device, drawn anew for every step."""
        s, teacher = self.settings, self.task.teacher
        drawn = [augmix(image, teacher.preprocess, s.crop, teacher.image_size, random) for _ in range(s.views)]
        return torch.stack(drawn).to(self.task.device)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s, teacher, random = self.settings, self.task.teacher, np.random.default_rng(seed)
        kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[s.optimiser]

        def scores(views: Tensor) -> Tensor:
            return self.head(teacher.token_with_grad(views))

        with self.tower.learning() as weights:
            optimiser = kind(weights, lr=s.lr, weight_decay=s.weight_decay)
            for _ in range(s.steps):
                optimiser.zero_grad(set_to_none=True)
                learn_from(scores, self.views(image, random), marginal_entropy)
                optimiser.step()
            with torch.no_grad():
                return scores(self.task.read([image]))[0]
