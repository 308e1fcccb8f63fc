"""Batch norm by statistics between the training pictures' and the test picture's own.

Schneider, Rusak, Eck, Bringmann, Brendel & Bethge 2020, "Improving robustness against common corruptions by covariate
shift adaptation" (NeurIPS), with You, Li & Zhao's 2021 fixed share ("Test-time Batch Statistics Calibration for
Covariate Shift").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor, nn

from glom.methods.base import Method, Task, register
from glom.methods.batch_norm import batch_norms, own_copy
from glom.methods.views import augmented


@dataclass(frozen=True)
class BNAlphaSettings:
    """`alpha`: the share of the test picture's statistics. `views`: with the picture itself, that these are taken over;
    the answer is the picture's own."""

    alpha: float = 0.1
    views: int = 1


class Mixed:
    """A hook before a batch norm: its statistics become (1 - alpha) source + alpha of what it is given.

    Variances are the unbiased ones, as batch norm's running ones are.
    """

    def __init__(self, layer: nn.BatchNorm2d, alpha: float) -> None:
        assert layer.running_mean is not None and layer.running_var is not None
        self.alpha, self.mean, self.var = alpha, layer.running_mean.clone(), layer.running_var.clone()

    def __call__(self, layer: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        """`given`: (B, C, h, w)."""
        x = given[0].detach()
        var, mean = torch.var_mean(x, (0, 2, 3), correction=min(1, x[:, 0].numel() - 1))
        layer.running_mean = self.mean.lerp(mean, self.alpha)
        layer.running_var = self.var.lerp(var, self.alpha)


@register
class BNAlpha(Method):
    """The copy of the teacher, each of its batch norms normalising by mixed statistics; nothing is carried over."""

    name = "bn-alpha"
    starts = True

    def __init__(self, settings: BNAlphaSettings | None = None) -> None:
        self.settings: BNAlphaSettings = settings or BNAlphaSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        self.twin = own_copy(task.teacher, self.name)
        self.twin.stems_from, self.twin.by_batch = task.teacher.fingerprint, True
        mixed = f"{task.teacher.fingerprint} with {self.settings.alpha} of the batch's statistics"
        self.twin.__dict__["fingerprint"] = mixed  # what it makes of pictures is not what the teacher does
        for layer in batch_norms(self.twin.model):
            if layer.running_mean is not None:  # without any it normalises by what it is given as it is
                layer.register_forward_pre_hook(Mixed(layer, self.settings.alpha))

    def leaves(self) -> Task:
        """The copy: it mixes in the statistics of a picture, or of its views where these are read together."""
        return replace(self.task, teacher=self.twin)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        views = augmented(image, self.settings.views, self.task.teacher.image_size, seed)
        return self.answers(self.task.read(views))[0]

    @torch.no_grad()
    def answers(self, batch: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C) logits, the statistics those of the whole batch."""
        return self.head(self.twin.token_with_grad(batch))
