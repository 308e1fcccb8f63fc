"""Batch norm by statistics between the training pictures' and the test picture's own, or its batch's.

Schneider, Rusak, Eck, Bringmann, Brendel & Bethge 2020, "Improving robustness against common corruptions by covariate
shift adaptation" (NeurIPS), with You, Li & Zhao's 2021 fixed share ("Test-time Batch Statistics Calibration for
Covariate Shift").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor, nn

from glom.methods.base import Method, Task, Together, register
from glom.methods.batch_norm import batch_norms, own_copy
from glom.methods.views import augmented
from glom.teachers.base import Teacher


@dataclass(frozen=True)
class BNAlphaSettings:
    """`alpha`: the share of the test picture's statistics. `views`: with the picture itself, that these are taken over;
    the answer is the picture's own."""

    alpha: float = 0.1
    views: int = 1


@dataclass(frozen=True)
class BNBatchSettings:
    """`prior`: N of the share n / (n + N) of a batch of n pictures."""

    prior: float = 16.0


class Mixed:
    """A hook before a batch norm: its statistics become (1 - alpha) source + alpha of what it is given.

    Variances are the unbiased ones, as batch norm's running ones are. With a `prior` N, alpha is n / (n + N) of n
    pictures.
    """

    def __init__(self, layer: nn.BatchNorm2d, how: BNAlphaSettings | BNBatchSettings) -> None:
        assert layer.running_mean is not None and layer.running_var is not None
        self.how, self.mean, self.var = how, layer.running_mean.clone(), layer.running_var.clone()

    def __call__(self, layer: nn.BatchNorm2d, given: tuple[Tensor, ...]) -> None:
        """`given`: (B, C, h, w)."""
        x = given[0].detach()
        var, mean = torch.var_mean(x, (0, 2, 3), correction=min(1, x[:, 0].numel() - 1))
        alpha = self.how.alpha if isinstance(self.how, BNAlphaSettings) else len(x) / (len(x) + self.how.prior)
        layer.running_mean = self.mean.lerp(mean, alpha)
        layer.running_var = self.var.lerp(var, alpha)


def mixing(teacher: Teacher, method: str, how: BNAlphaSettings | BNBatchSettings) -> Teacher:
    """A copy of the teacher whose batch norms mix in the statistics of what they are given."""
    twin = own_copy(teacher, method)
    twin.stems_from, twin.by_batch = teacher.fingerprint, True
    share = how.alpha if isinstance(how, BNAlphaSettings) else f"n / (n + {how.prior})"
    # What it makes of pictures is not what the teacher does.
    twin.__dict__["fingerprint"] = f"{teacher.fingerprint} with {share} of the batch's statistics"
    for layer in batch_norms(twin.model):
        if layer.running_mean is not None:  # without any it normalises by what it is given as it is
            layer.register_forward_pre_hook(Mixed(layer, how))
    return twin


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
        self.twin = mixing(task.teacher, self.name, self.settings)

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


@register
class BNBatch(Together):
    """The copy of the teacher, each of its batch norms normalising by the batch's share; nothing is carried over.

    A picture's answer depends on those in its batch. One whose scores are not finite stays outside.
    """

    name = "bn-batch"
    together = 64

    def __init__(self, settings: BNBatchSettings | None = None) -> None:
        self.settings: BNBatchSettings = settings or BNBatchSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = task.head()
        self.twin = mixing(task.teacher, self.name, self.settings)

    @torch.no_grad()
    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        batch = self.task.read(list(images))
        logits = self.head(self.twin.token_with_grad(batch))
        if not bool(logits.isfinite().all()):
            sound = self.head(self.task.encoded(batch)[0]).isfinite().all(-1)
            if bool(sound.any()):
                logits[sound] = self.head(self.twin.token_with_grad(batch[sound]))
        return list(logits.unbind())

    def stream_state(self) -> dict[str, Tensor]:
        return {}

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        """Nothing is kept from batch to batch."""
