"""The overfits of the objective study: what each aims at, and a block of pictures as every candidate meets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from experiments.objective.encode import Block, Second
from experiments.objective.readouts import islands_of, mean_p
from experiments.objective.settings import ObjectiveSettings
from glom.adaptation.settings import settings_for
from glom.apm import AsynchronousPerceptionMachine
from glom.methods.aims import Aim, Trained, machine_config, train
from glom.methods.trained import TrainedSettings, adapt_trained
from glom.methods.views import confident, entropy
from glom.teachers.heads import ZeroShotHead

SHARE = 0.1  # of the views, the surest
EARLY = 3 / 8  # of the steps
LOCAL = 7  # pixels, of the machine's picture


@dataclass
class Seen:
    """A block of n pictures as every candidate meets it: encodings and overfits are made once for all of them."""

    block: Block
    settings: ObjectiveSettings
    head: ZeroShotHead
    second: Second | None = None
    prior: AsynchronousPerceptionMachine | None = None
    shape: AsynchronousPerceptionMachine | None = None

    def __post_init__(self) -> None:
        self._trained: dict[str, Trained] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self.block[name]

    def trained(self, name: str) -> Trained:
        """The overfit of that name, see `TRIALS`."""
        if name not in self._trained:
            self._trained[name] = TRIALS[name](self)
        return self._trained[name]

    def log_p(self, tokens: Tensor) -> Tensor:
        """(..., F) -> (..., C)."""
        return self.head(tokens).log_softmax(-1)

    @cached_property
    def surest(self) -> Tensor:
        """(n, k): the views with the least entropy, the surest first."""
        return torch.stack([confident(logits, SHARE) for logits in self.head(self["views"])])

    def overfit(self, aim: Aim, local: int = 0, **how: Any) -> Trained:
        """A machine for each picture, at the study's settings; its columns read a `local` patch of so many pixels."""
        settings = settings_for(self.settings.teacher, "fast", iterations=self.settings.iterations)
        config = replace(machine_config(settings, aim.token.shape[-1], self.settings.trunk), local_patch=local)
        h, w = self["grid"].shape[1:3]
        options = {"settings": settings, "config": config, "seed": self.settings.seed, "head": self.head, **how}
        return train(self.ids, self["picture"], aim, shape=(h, w), **options)

    @property
    def ids(self) -> list[str]:
        """(n,): the cases' names."""
        return [case.id for case in self.block.cases]

    @property
    def early(self) -> int:
        """A number of steps after which a machine is not yet its teacher."""
        return max(1, round(EARLY * self.settings.iterations))


def surest_tokens(s: Seen, name: str) -> Tensor:
    """`views` or `views-at` of the surest views: (n, k, ...)."""
    return torch.stack([rows[chosen] for rows, chosen in zip(s[name], s.surest, strict=True)])


def views_log_p(s: Seen) -> Tensor:
    """(n, C): the mean probability of the surest views."""
    return mean_p(*s.log_p(surest_tokens(s, "views")).unbind(1))


def weighted_views(s: Seen) -> tuple[Tensor, Tensor]:
    """What every view says (V, n, C), and how sure it is (V, n): exp(-H) of its classes."""
    log_p = s.log_p(s["views"]).transpose(0, 1)
    return log_p, (-entropy(log_p)).exp()


def two_log_p(s: Seen) -> Tensor:
    """(n, C): the two teachers' mean probability."""
    assert s.second is not None
    return mean_p(s.log_p(s["token"]), s.second.head(s["second"]).log_softmax(-1))


def _weighted_token(s: Seen) -> Trained:
    weights = weighted_views(s)[1].T
    weights = weights / weights.sum(1, keepdim=True)
    return s.overfit(Aim((weights[..., None] * s["views"]).sum(1)))


def balance(s: Seen) -> Tensor:
    """(n, 1): what makes the second teacher's token as long as the first's."""
    return s["token"].norm(dim=-1, keepdim=True) / s["second"].norm(dim=-1, keepdim=True).clamp_min(1e-6)


def _marks(s: Seen) -> Sequence[int]:
    tenths = {round(s.settings.iterations * k / 10) for k in range(2, 10)}
    return sorted({*tenths, s.early})


def _to_two(s: Seen) -> Trained:
    # Its token is wider than the first teacher's head reads, which no part of this aim needs.
    return s.overfit(Aim(torch.cat([s["token"], balance(s) * s["second"]], dim=-1)))


def _from(start: AsynchronousPerceptionMachine | None, s: Seen, aim: Aim, steps: int, marks: Sequence[int]) -> Trained:
    assert start is not None
    h, w = s["grid"].shape[1:3]
    return adapt_trained(start, s.ids, s["picture"], aim, s.head, (h, w), TrainedSettings(steps), marks)


TRIALS: dict[str, Callable[[Seen], Trained]] = {
    "token": lambda s: s.overfit(Aim(s["token"]), marks=_marks(s)),
    "early-1": lambda s: s.overfit(Aim(s["token"]), steps=s.early, draw=1),
    "early-2": lambda s: s.overfit(Aim(s["token"]), steps=s.early, draw=2),
    "grid": lambda s: s.overfit(Aim(s["token"], grid=s["grid"]), marks=(s.early,)),
    "views-token": lambda s: s.overfit(Aim(surest_tokens(s, "views").mean(1))),
    "views-field": lambda s: s.overfit(
        Aim(s["token"], at=surest_tokens(s, "views-at"), said=surest_tokens(s, "views"))
    ),
    "crops-field": lambda s: s.overfit(Aim(s["token"], at=s["crops-at"], said=s["crops"])),
    "pseudo": lambda s: s.overfit(Aim(s["token"], label=views_log_p(s).argmax(-1))),
    "entropy": lambda s: s.overfit(Aim(s["token"], sure="token")),
    "field-entropy": lambda s: s.overfit(Aim(s["token"], grid=s["grid"], sure="field")),
    "pair": lambda s: s.overfit(Aim((s["token"] + s["flip"]) / 2)),
    "two-teachers": _to_two,
    "views-weighted": _weighted_token,
    "bn-token": lambda s: s.overfit(Aim(s["bn-9"]), marks=(s.early,)),
    "bn-grid": lambda s: s.overfit(Aim(s["bn-9"], grid=s["bn-9-grid"])),
    "pulled": lambda s: s.overfit(Aim(s["token"], grid=s["grid"], islands=islands_of(s["grid"]))),
    "pulled-local": lambda s: s.overfit(Aim(s["token"], grid=s["grid"], islands=islands_of(s["grid"])), local=LOCAL),
    "two-pseudo": lambda s: s.overfit(Aim(s["token"], label=two_log_p(s).argmax(-1))),
    "prior": lambda s: _from(s.prior, s, Aim(s["token"], grid=s["grid"]), 20, (0, 2, 5)),
    "shape": lambda s: _from(s.shape, s, Aim(s["token"], grid=s["grid"]), 5, (0, 2)),
    # What it says itself stands for the teacher's token.
    "prior-entropy": lambda s: _from(s.prior, s, Aim(s.trained("prior").tokens[0], sure="field"), 5, ()),
}
