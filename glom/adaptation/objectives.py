"""What an APM is overfit on at test time. A new objective is one function and one decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from glom.apm import Percept
from glom.columns import sample_at
from glom.errors import InputError
from glom.registry import Registry


@dataclass(frozen=True)
class Targets:
    """What the teacher and the picture say about S samples.

    Attributes:
        token: (S, F), the teacher's token.
        grid: (S, h, w, F), the teacher's feature grid, where an objective needs it.
        picture: (S, 3, H, W), the folded picture, for colours.
    """

    token: Tensor
    grid: Tensor | None = None
    picture: Tensor | None = None

    def select(self, keep: Tensor) -> Targets:
        """The same for the samples at `keep`."""
        return Targets(
            self.token[keep],
            None if self.grid is None else self.grid[keep],
            None if self.picture is None else self.picture[keep],
        )


@dataclass(frozen=True)
class Objective:
    """A loss per sample. `outputs` says what the APM must compute, `needs` what the targets must hold."""

    name: str
    outputs: tuple[str, ...]
    needs: tuple[str, ...]
    loss: Callable[[Percept, Targets, Tensor], Tensor]


Loss = TypeVar("Loss", bound=Callable[[Percept, Targets, Tensor], Tensor])
OBJECTIVES: Registry[Objective] = Registry("objective")
get_objective = OBJECTIVES.__getitem__


def objective(name: str, outputs: tuple[str, ...], needs: tuple[str, ...] = ()) -> Callable[[Loss], Loss]:
    """Register `loss(percept, targets, queries) -> (S,)` under a name the command line takes.

    Raises:
        InputError: the name is taken, or not a name.
    """
    return OBJECTIVES.register(name, wrap=lambda loss: Objective(name, outputs, needs, loss))


def _token(percept: Percept) -> Tensor:
    assert percept.token is not None
    return percept.token


@objective("token-mse", ("token",))
def token_mse(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    """mean_F (token - teacher)^2, as published."""
    return (_token(percept) - targets.token).square().mean(-1)


@objective("token-cosine", ("token",))
def token_cosine(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    """1 - cos(token, teacher): the direction alone, which is all a zero-shot head reads."""
    return 1 - F.cosine_similarity(_token(percept), targets.token, dim=-1)


def _grid_mse(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    assert percept.features is not None and targets.grid is not None
    if targets.grid.shape[-1] != percept.features.shape[-1]:
        raise InputError(
            f"the teacher's grid is {targets.grid.shape[-1]} wide and its token {percept.features.shape[-1]}; "
            "an objective with the grid needs both alike"
        )
    return (percept.features - sample_at(targets.grid, queries)).square().mean((-2, -1))


@objective("token+grid", ("token", "features"), ("grid",))
def token_grid(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    """token-mse plus the mean squared error to the teacher's feature grid, read at the queries."""
    return token_mse(percept, targets, queries) + _grid_mse(percept, targets, queries)


@objective("token+grid+rgb", ("token", "features", "rgb"), ("grid", "picture"))
def token_grid_rgb(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    """token+grid plus the mean squared error to the picture's colours, averaged over each cell."""
    return token_grid(percept, targets, queries) + _rgb_mse(percept, targets, queries)


@objective("token+rgb", ("token", "rgb"), ("picture",))
def token_rgb(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    """token-mse plus the mean squared error to the picture's colours, averaged over each cell."""
    return token_mse(percept, targets, queries) + _rgb_mse(percept, targets, queries)


def _rgb_mse(percept: Percept, targets: Targets, queries: Tensor) -> Tensor:
    assert percept.rgb is not None and targets.picture is not None
    # Colour is averaged over a cell whose size the number of queries implies: no aliasing, any grid.
    side = min(max(round(queries.shape[-2] ** 0.5), 1), targets.picture.shape[-1])
    cells = F.adaptive_avg_pool2d(targets.picture, side)
    return (percept.rgb - sample_at(rearrange(cells, "s c h w -> s h w c"), queries)).square().mean((-2, -1))


def require(objective: Objective, has_grid: bool, teacher: str) -> None:
    """Refuse an objective whose targets the teacher cannot give."""
    if "grid" in objective.needs and not has_grid:
        raise InputError(f"objective '{objective.name}' needs a feature grid, which {teacher} does not have")
