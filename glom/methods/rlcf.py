"""Reinforcement learning from CLIP feedback (Zhao et al. 2024, ICLR, "Test-Time Adaptation with CLIP Reward for
Zero-Shot Generalization in Vision-Language Models", section 3): a second teacher praises or blames the first one's
likeliest classes.

    r(y, x)  = max( 2.5 cos(second(x), second(y)), 0 ),    less its mean over the K classes that are sampled
    loss     = mean_{x in S} mean_{y in top-K} r(y, x) (-log p(y | x)),     S the surest tenth of the views

A classifier has no cosine: where the second teacher is one, 2.5 times its probability stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from glom.methods.base import Method, Task, register
from glom.methods.tower import Tower
from glom.methods.views import confident
from glom.teachers.heads import ZeroShotHead
from glom.teachers.prompts import PromptedText

CLIP_SCORE = 2.5  # CLIPScore's weight (Hessel et al. 2021)


@dataclass(frozen=True)
class RLCFSettings:
    """The release's for ImageNet's shifts.

    Attributes:
        views, share: with the picture itself, and the surest of them, chosen once.
        steps, lr, weight_decay: of AdamW. sampled: K, the likeliest classes of each view.
        second: the second teacher's fingerprint.
    """

    views: int = 64
    share: float = 0.1
    steps: int = 3
    lr: float = 1e-5
    weight_decay: float = 5e-4
    sampled: int = 3
    second: str = ""


@register
class RLCF(Method):
    """The image tower learns, in its release's three steps at 0.00001, and is put back."""

    name = "rlcf"
    mixes = ("other",)

    def __init__(self, settings: RLCFSettings | None = None) -> None:
        self.settings = settings or RLCFSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.head, self.tower = self.task.head(), Tower(task.teacher)
        self.judge()

    def judge(self) -> None:
        """Take the second teacher."""
        self.second = self.task.other()
        self.second_head = self.second.head()
        self.settings = replace(self.settings, second=self.second.teacher.fingerprint)

    def rewards(self, image: Image.Image, rows: tuple[int, ...], seed: int) -> Tensor:
        """(S, C): the second teacher's score of every class for some of the views."""
        return reward(self.second_head, self.second.view_tokens(image, self.settings.views, seed, rows))

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s, task = self.settings, self.task
        rows = tuple(confident(self.head(task.view_tokens(image, s.views, seed)), s.share).tolist())
        rewards, views = self.rewards(image, rows, seed), task.view_pictures(image, s.views, seed, rows)
        with self.tower.learning() as weights:
            optimiser = torch.optim.AdamW(weights, lr=s.lr, weight_decay=s.weight_decay)
            for _ in range(s.steps):
                optimiser.zero_grad(set_to_none=True)
                policy_loss(self.head(task.teacher.token_with_grad(views)), rewards, s.sampled).backward()
                optimiser.step()
            with torch.no_grad():
                return self.head(task.teacher.token_with_grad(task.read([image])))[0]


@register
class RLCFPrompt(RLCF):
    """The prompt learns, in its release's three steps at 0.007."""

    name = "rlcf-prompt"
    follows = False

    def __init__(self, settings: RLCFSettings | None = None) -> None:
        super().__init__(settings or RLCFSettings(lr=7e-3))

    def prepare(self, task: Task) -> None:
        Method.prepare(self, task)
        self.prompt = PromptedText(task.teacher, task.classes)
        self.judge()

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        s, task = self.settings, self.task
        tokens = task.view_tokens(image, s.views, seed)
        context = self.prompt.initial.detach().clone().requires_grad_()
        optimiser = torch.optim.AdamW([context], lr=s.lr, weight_decay=s.weight_decay)
        with torch.no_grad():
            chosen = confident(task.logits(tokens, self.prompt(context)), s.share)
        rewards = self.rewards(image, tuple(chosen.tolist()), seed)
        for _ in range(s.steps):
            optimiser.zero_grad(set_to_none=True)
            policy_loss(task.logits(tokens[chosen], self.prompt(context)), rewards, s.sampled).backward()
            optimiser.step()
        with torch.no_grad():
            return task.logits(tokens[:1], self.prompt(context))[0]


def reward(head: ZeroShotHead, tokens: Tensor) -> Tensor:
    """(S, F) -> (S, C): CLIPScore of each class, or what stands for it; see above."""
    scores = head(tokens)
    if not head.normalize:
        return CLIP_SCORE * scores.softmax(-1)
    cosines = (scores if head.bias is None else scores - head.bias) / head.scale
    return (CLIP_SCORE * cosines).clamp_min(0)


def policy_loss(logits: Tensor, rewards: Tensor, sampled: int) -> Tensor:
    """(S, C) and (S, C) -> (): REINFORCE over each view's likeliest classes, the mean reward of these its baseline."""
    classes = logits.detach().topk(min(sampled, logits.shape[-1]), dim=-1).indices
    r = rewards.gather(-1, classes)
    if r.shape[-1] > 1:
        r = r - r.mean(-1, keepdim=True)
    return -(r * logits.log_softmax(-1).gather(-1, classes)).mean()
