"""MeanShift for test-time augmentation (Zanella & Ben Ayed 2024, CVPR, "On the Test-Time Zero-Shot Generalization of
Vision-Language Models: Do We Really Need Prompt Learning?", section 3).

A picture's views f_p, of length one, lie around a mode m. Both the mode and how much of an inlier each view is, y_p,
are sought, by turns:

    y_p  = softmax_p( (K(f_p - m) + lambda sum_q w_pq y_q) / lambda_y ),      w_pq = s_p . s_q
    m    = sum_p y_p K(f_p - m) f_p / sum_p y_p K(f_p - m),                   K(d) = exp(-|d|^2 / 2 h_p^2)

with s_p the class probabilities of a view, and h_p^2 half the mean squared distance to the nearest 0.3 of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register

SAME = 1e-6  # change of y or m, in length, at which a turn ends
CLOSE = 1e-6  # the least bandwidth: views that are all one picture lie at no distance


@dataclass(frozen=True)
class MTASettings:
    """The release's, for all data sets.

    Attributes:
        views: with the picture itself.
        affinity, entropy: weights of the quadratic term (lambda) and of the entropy (lambda_y).
        nearest: the share of the other views that a bandwidth is taken from.
        turns, steps: of both parts, and at most within each.
    """

    views: int = 64
    affinity: float = 4.0
    entropy: float = 0.2
    nearest: float = 0.3
    turns: int = 5
    steps: int = 5


@register
class MTA(Method):
    """The class scores of the mode of the views' tokens. Nothing is learned.

    A classifier's rows also ask how long a token is: its mode is as long as the picture's own.
    """

    name = "mta"

    def __init__(self, settings: MTASettings | None = None) -> None:
        self.settings = settings or MTASettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head = self.task.head()

    @torch.no_grad()
    def predict(self, image: Image.Image, seed: int) -> Tensor:
        tokens = self.task.view_tokens(image, self.settings.views, seed)
        mode, _ = seek_mode(F.normalize(tokens, dim=-1), self.head(tokens).softmax(-1), self.settings)
        return self.head(mode[None] * (1 if self.head.normalize else tokens[0].norm()))[0]


def seek_mode(features: Tensor, probabilities: Tensor, settings: MTASettings) -> tuple[Tensor, Tensor]:
    """The mode and how much of an inlier each view is.

    Args:
        features: (V, F) of length one, the picture itself first: there the search begins.
        probabilities: (V, C).

    Returns:
        (F,) of length one, and (V,) that add up to one.
    """
    s, count = settings, len(features)
    distances = torch.cdist(features, features).sort(1).values[:, 1 : max(1, int(s.nearest * (count - 1))) + 1]
    bandwidth = (distances.square().mean(1) / 2).sqrt().clamp_min(CLOSE) if count > 1 else features.new_ones(1)
    affinity = probabilities @ probabilities.T
    inlier, mode = features.new_full((count,), 1 / count), features[0]

    def density() -> Tensor:
        return torch.exp(-(features - mode).norm(dim=-1).square() / (2 * bandwidth.square()))

    for _ in range(s.turns):
        near = density()
        for _ in range(s.steps):
            before, inlier = inlier, ((near + s.affinity * (affinity @ inlier)) / s.entropy).softmax(-1)
            if float((before - inlier).norm()) < SAME:
                break
        for _ in range(s.steps):
            before, mode = mode, F.normalize((inlier * density()) @ features, dim=-1)
            if float((before - mode).norm()) < SAME:
                break
    return mode, inlier
