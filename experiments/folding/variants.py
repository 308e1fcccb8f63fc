"""What an APM's parts are exchanged for in the ablation: other folds, a learned location code, one MLP a location.

Each variant has the shapes of what it replaces and is run by the plain forward; `glom.apm` knows nothing of them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glom.apm import APMConfig, AsynchronousPerceptionMachine
from glom.errors import InputError, unknown

FOLDS = ("conv", "linear", "token", "zeros")
CODES = ("learned",)


class LinearFold(nn.Module):
    """T = W I + b: every pixel of the picture reaches every entry of the column. (B, 3, S, S) -> (B, dim)."""

    def __init__(self, image_size: int, dim: int) -> None:
        super().__init__()
        self.dim, self.linear = dim, nn.Linear(3 * image_size**2, dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.flatten(1))


class TokenFold(nn.Module):
    """T = W t + b: the teacher's own token in the column instead of the picture. (B, 3, S, S) -> (B, dim).

    Args:
        token: (F,) or (B, F), the teacher's, kept as it is.
        dim: D.
    """

    token: Tensor

    def __init__(self, token: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("token", F.normalize(token.reshape(-1, token.shape[-1]), dim=-1) * token.shape[-1] ** 0.5)
        self.dim, self.linear = dim, nn.Linear(token.shape[-1], dim)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.token).expand(len(images), -1)


class ZeroFold(nn.Module):
    """T = 0: no picture at all. (B, 3, S, S) -> (B, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), self.dim)


class LearnedCode(nn.Module):
    """p from a table: a row for each cell of each axis, linearly between their centres. (N, 2) -> (N, dim)."""

    def __init__(self, dim: int, cells: int) -> None:
        super().__init__()
        self.dim, self.cells = dim, cells
        self.x, self.y = nn.Embedding(cells, dim // 2), nn.Embedding(cells, dim // 2)

    def forward(self, queries: Tensor) -> Tensor:
        return torch.cat([self._axis(self.x, queries[..., 0]), self._axis(self.y, queries[..., 1])], dim=-1)

    def _axis(self, table: nn.Embedding, x: Tensor) -> Tensor:
        u = (self.cells * x - 0.5).clamp(0, self.cells - 1)
        low = u.floor().clamp(max=max(self.cells - 2, 0)).long()
        part = (u - low)[..., None]
        return (1 - part) * table(low) + part * table((low + 1).clamp(max=self.cells - 1))


class PerLocationLinear(nn.Module):
    """A linear layer of its own for every cell of the grid: (B, N, i) -> (B, N, o), location n with its cell's weights.

    Args:
        cells: how many weights there are, cells x cells.
        read, write: i and o.
        where: told by the machine, for each forward, in which cell every location lies.
    """

    def __init__(self, cells: int, read: int, write: int, where: dict[str, Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cells**2, write, read))
        self.bias = nn.Parameter(torch.empty(cells**2, write))
        self._where = where

    def forward(self, x: Tensor) -> Tensor:
        cell = self._where["cell"]
        return torch.einsum("bni,noi->bno", x, self.weight[cell]) + self.bias[cell]


class VariantAPM(AsynchronousPerceptionMachine):
    """An APM with some of its parts exchanged. Run it plainly (`execution="plain"`).

    Args:
        config: everything that is a setting.
        fold: one of `FOLDS`; "conv" is the machine's own.
        code: "learned", or "" for the configuration's.
        shared: one trunk for all locations; False gives every cell of the cells x cells grid a trunk of its own.
        token: (F,), the teacher's, for the fold "token".

    Raises:
        InputError: an unknown fold or code, or the fold "token" without one.
    """

    def __init__(
        self, config: APMConfig, fold: str = "conv", code: str = "", shared: bool = True, token: Tensor | None = None
    ) -> None:
        super().__init__(config)
        if fold not in FOLDS:
            raise unknown("fold", fold, FOLDS)
        if code and code not in CODES:
            raise unknown("location code", code, CODES)
        width = self.fold.dim
        if fold == "linear":
            self.fold = LinearFold(config.image_size, width)  # type: ignore[assignment]
        elif fold == "token":
            if token is None:
                raise InputError("the fold 'token' needs the teacher's token")
            self.fold = TokenFold(token, width)  # type: ignore[assignment]
        elif fold == "zeros":
            self.fold = ZeroFold(width)  # type: ignore[assignment]
        if code:
            self.location_code = LearnedCode(width, config.cells)  # type: ignore[assignment]
        self._where: dict[str, Tensor] = {}
        if not shared:
            shapes = [tuple(layer.weight.shape) for layer in self.trunk if isinstance(layer, nn.Linear)]
            layers = [PerLocationLinear(config.cells, read, write, self._where) for write, read in shapes]
            self.trunk = nn.ModuleList(layers)

    def columns(self, T: Tensor, queries: Tensor, images: Tensor | None = None) -> Tensor:
        """As the machine's own; the trunk that reads them next learns which cells they are."""
        cells = self.config.cells
        index = (queries * cells).long().clamp(0, cells - 1)
        self._where["cell"] = index[..., 1] * cells + index[..., 0]
        return super().columns(T, queries, images)

    @torch.no_grad()
    def reset(self, generator: torch.Generator, initialisation: str = "published") -> None:
        """As the machine's own; a table of codes is uniform(-1, 1), the range of a sine."""
        super().reset(generator, initialisation)
        if initialisation == "published":
            return
        for layer in self.modules():
            if isinstance(layer, nn.Embedding):
                layer.weight.uniform_(-1, 1, generator=generator)
            elif isinstance(layer, PerLocationLinear):
                bound = 1 / math.sqrt(layer.weight.shape[-1])
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
