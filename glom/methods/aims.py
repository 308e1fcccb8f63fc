"""The APM's side of the objective study: machines overfit side by side on whatever a candidate aims at.

    L = |token - t|^2 / |t|^2                                        always
      + mean_q |f_q - g_q|^2 / mean_q |g_q|^2                        grid: the teacher's, at the centres of its cells
      + mean_m |f(x_m) - v_m|^2 / mean_m |v_m|^2                     crops' tokens v_m, each where its crop lies
      + mean_q |f_q - m_q|^2 / mean_q |f_q|^2                        islands: m_q the mean feature of q's island
      + w CE(head(token), y) + w H(p_token) + w H(mean_q p_q)        a pseudo-label; sureness of the token, of the field

The machine is asked at the centres of the teacher's grid in every step and when it is read: nothing is drawn but its
first weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.distributions import Categorical

from glom.adaptation.machines import make_optimiser
from glom.adaptation.settings import TTTSettings
from glom.apm import APMConfig, AsynchronousPerceptionMachine, Percept, blank_apm
from glom.columns import grid_queries, sample_at
from glom.execution import StackedAPM
from glom.runs.seeds import sample_seed
from glom.teachers.heads import ZeroShotHead

WEIGHT = 0.1  # w
TOGETHER = 40_000_000  # parameters in one stack


@dataclass(frozen=True)
class Aim:
    """What S machines are overfit on.

    Attributes:
        token: (S, F). grid: (S, h, w, F) or None.
        islands: (S, h, w), labels from 0 in every picture: each location is pulled to its island's mean; or None.
        at, said: (S, M, 2) places and (S, M, F) tokens of crops, or None.
        label: (S,) pseudo-labels, or None.
        sure: "", or whose entropy falls: "token" or "field".
    """

    token: Tensor
    grid: Tensor | None = None
    islands: Tensor | None = None
    at: Tensor | None = None
    said: Tensor | None = None
    label: Tensor | None = None
    sure: str = ""

    def part(self, some: slice) -> Aim:
        """The same for some of the samples."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        cut: dict[str, Any] = {name: value[some] for name, value in held.items() if isinstance(value, Tensor)}
        return replace(self, **cut)


@dataclass(frozen=True)
class Trained:
    """Read-outs by the number of steps made: `tokens` {k: (S, F)}, `fields` {k: (S, h, w, F)}, `errors` {k: (S,)}."""

    tokens: dict[int, Tensor]
    fields: dict[int, Tensor]
    errors: dict[int, Tensor]

    @property
    def token(self) -> Tensor:
        """(S, F), after the last step."""
        return self.tokens[max(self.tokens)]

    @property
    def field(self) -> Tensor:
        """(S, h, w, F), after the last step."""
        return self.fields[max(self.fields)]


def relative(x: Tensor, y: Tensor) -> Tensor:
    """Squared error over squared size, over all dimensions but the first: (S, ...) and (S, ...) -> (S,)."""
    return (x - y).square().flatten(1).sum(1) / y.square().flatten(1).sum(1).clamp_min(1e-12)


def island_means(features: Tensor, labels: Tensor) -> Tensor:
    """The mean feature of each location's island: (S, N, F) and labels from 0, (S, N), -> (S, N, F)."""
    member = F.one_hot(labels).to(features.dtype)  # (S, N, islands)
    means = member.mT @ features / member.sum(1)[..., None].clamp_min(1)
    return member @ means


def loss(percept: Percept, aim: Aim, shape: tuple[int, int], head: ZeroShotHead) -> Tensor:
    """L of each sample, (S,); `percept` was asked at the centres of an h x w grid."""
    assert percept.token is not None
    total = relative(percept.token, aim.token)
    if percept.features is not None:
        field = rearrange(percept.features, "s (h w) f -> s h w f", h=shape[0])
        if aim.grid is not None:
            total = total + relative(field, aim.grid)
        if aim.islands is not None:
            total = total + relative(island_means(percept.features, aim.islands.flatten(1)), percept.features)
        if aim.at is not None and aim.said is not None:
            total = total + relative(sample_at(field, aim.at), aim.said)
        if aim.sure == "field":
            mean = head(percept.features).log_softmax(-1).logsumexp(1)
            total = total + WEIGHT * Categorical(logits=mean).entropy()
    if aim.label is not None:
        total = total + WEIGHT * F.cross_entropy(head(percept.token), aim.label, reduction="none")
    if aim.sure == "token":
        total = total + WEIGHT * Categorical(logits=head(percept.token)).entropy()
    return total


def train(
    ids: Sequence[str],
    pictures: Tensor,
    aim: Aim,
    head: ZeroShotHead,
    shape: tuple[int, int],
    settings: TTTSettings,
    config: APMConfig,
    steps: int = 0,
    marks: Sequence[int] = (),
    draw: int = 0,
    seed: int = 0,
    start: AsynchronousPerceptionMachine | None = None,
) -> Trained:
    """Overfit a fresh machine on each of S pictures and read it after the steps in `marks` and after the last.

    Args:
        ids: S names, from which the first weights' seeds follow.
        pictures: (S, 3, side, side).
        shape: (h, w) of the teacher's grid.
        settings: optimiser, rate and schedule over `settings.iterations` steps.
        steps: stop after so many of them; 0 for all.
        draw: number of the draw of first weights.
        start: where every machine starts instead of random weights; it must have this configuration.
    """
    with torch.device("meta"):
        size = sum(p.numel() for p in blank_apm(config).parameters())
    together = max(1, min(len(ids), TOGETHER // size))
    parts = [slice(i, i + together) for i in range(0, len(ids), together)]
    found = [
        _train(ids[p], pictures[p], aim.part(p), head, shape, settings, config, steps, marks, draw, seed, start)
        for p in parts
    ]
    return Trained(
        {k: torch.cat([f.tokens[k] for f in found]) for k in found[0].tokens},
        {k: torch.cat([f.fields[k] for f in found]) for k in found[0].fields},
        {k: torch.cat([f.errors[k] for f in found]) for k in found[0].errors},
    )


def _train(
    ids: Sequence[str],
    pictures: Tensor,
    aim: Aim,
    head: ZeroShotHead,
    shape: tuple[int, int],
    settings: TTTSettings,
    config: APMConfig,
    steps: int,
    marks: Sequence[int],
    draw: int,
    seed: int,
    start: AsynchronousPerceptionMachine | None,
) -> Trained:
    stack = StackedAPM(config, len(ids), pictures.device)
    if start is None:
        seeds = [sample_seed(seed, name, f"ttt {draw}") for name in ids]
        stack.reset([torch.Generator().manual_seed(s) for s in seeds], settings.initialisation)
    else:
        for s in range(len(ids)):
            stack.load_sample(s, start)
    optimiser = make_optimiser(stack, settings)
    queries = grid_queries(*shape, device=pictures.device)
    field = aim.grid is not None or aim.islands is not None or aim.at is not None or aim.sure == "field"
    outputs = ("token", "features") if field else ("token",)
    tokens: dict[int, Tensor] = {}
    seen: dict[int, Tensor] = {}
    errors: dict[int, Tensor] = {}
    steps = steps or settings.iterations
    for step in range(steps + 1):
        last = step == steps
        with torch.set_grad_enabled(not last):
            percept = stack(pictures, queries, outputs)
            losses = loss(percept, aim, shape, head)
        if last or step in marks:
            assert percept.token is not None
            tokens[step], errors[step] = percept.token.detach(), losses.detach()
            if percept.features is not None:
                seen[step] = rearrange(percept.features.detach(), "s (h w) f -> s h w f", h=shape[0])
        if not last:
            for group in optimiser.param_groups:
                group["lr"] = settings.rate(step)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimiser.step()
    return Trained(tokens, seen, errors)


def machine_config(settings: TTTSettings, width: int, trunk: tuple[int, ...]) -> APMConfig:
    """The APM for a teacher of that width, with another trunk where one is given, and no colour head."""
    config = replace(settings.config(width), rgb=None)
    return replace(config, trunk=trunk) if trunk else config
