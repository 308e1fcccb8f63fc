"""Percepts as fields: columns between pictures, features between locations, locations in any order.

    T(t)    a path from one picture's column to another's, straight or over the sphere
    f(T, q) what the machine says there, at any location q
    token_n the read-out when only the first n locations have arrived

All of it holds for any machine, trained or not; `grid_scores` and `path_numbers` say how good and how smooth it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glom.apm import AsynchronousPerceptionMachine, Percept
from glom.columns import check_queries
from glom.errors import InputError, unknown

PATHS = ("linear", "spherical")
ORDERS = ("random", "raster", "centre", "spread")
CHUNK = 4096  # locations unfolded at a time: memory does not grow with the grid asked for
PARALLEL = 1e-6  # the sine of an angle below which a great circle is not defined, or is a straight line

Array = NDArray[np.float32]


@torch.no_grad()
def unfold_columns(
    apm: AsynchronousPerceptionMachine, T: Tensor, queries: Tensor, images: Tensor | None = None
) -> Percept:
    """Everything a machine says of trigger columns, wherever they came from.

    Args:
        T: (B, D).
        queries: (N, 2) in [0, 1]^2.
        images: (B, 3, S, S), for a machine that reads the local patch.

    Returns:
        features (B, N, F), rgb (B, N, 3) or None without a colour head, token (B, F).

    Raises:
        InputError: queries outside the picture; a machine with the local patch and no pictures.
    """
    features, colours = [], []
    for chunk in check_queries(queries).split(CHUNK):
        found = apm.unfold(T, chunk, images)
        features.append(found)
        if apm.rgb_head is not None:
            colours.append(apm.colours(found, apm.columns(T, chunk, images)))
    f = torch.cat(features, dim=1)
    if apm.config.readout == "location":
        token = apm.unfold(T, apm.read_location(queries), images)[:, 0]
    else:
        token = apm.read(f, queries)
    return Percept(f, torch.cat(colours, dim=1) if colours else None, token)


# -- between pictures ----------------------------------------------------------------------------------------------


def column_path(first: Tensor, last: Tensor, steps: int, path: str = "linear") -> Tensor:
    """Columns from one to another: (D,), (D,) -> (steps, D), both ends included exactly.

    linear:    (1 - t) a + t b
    spherical: the direction along the great circle (slerp, Shoemake 1985), the length linearly between both lengths;
               the straight line where the two directions are parallel or a column is zero.

    Raises:
        InputError: fewer than two steps, an unknown path, opposite columns on the sphere.
    """
    if path not in PATHS:
        raise unknown("path", path, PATHS)
    if steps < 2:
        raise InputError(f"a path needs at least its two ends, got {steps} steps")
    if first.shape != last.shape or first.ndim != 1:
        raise InputError(f"a path needs two columns of one width, got {tuple(first.shape)} and {tuple(last.shape)}")
    t = torch.linspace(0, 1, steps, device=first.device, dtype=first.dtype)[:, None]
    straight = (1 - t) * first + t * last
    # float64: in float32 the arccosine cannot tell opposite columns from nearly opposite ones.
    a, b, t = first.double(), last.double(), t.double()
    long_a, long_b = a.norm(), b.norm()
    if path == "linear" or float(long_a) == 0 or float(long_b) == 0:
        return straight
    a, b = a / long_a, b / long_b
    cosine = (a * b).sum().clamp(-1, 1)
    angle = torch.arccos(cosine)
    if float(torch.sin(angle)) < PARALLEL:
        if float(cosine) < 0:
            raise InputError("the two columns point in opposite directions: there is no one shortest arc between them")
        return straight
    direction = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
    curve = (direction * ((1 - t) * long_a + t * long_b)).to(first.dtype)
    curve[0], curve[-1] = first, last
    return curve


class PathNumbers(TypedDict):
    """See `path_numbers`."""

    lipschitz: float | None
    lipschitz_mean: float | None
    length: float | None
    largest_step: float | None
    from_first: list[float]
    from_last: list[float]


def path_numbers(T: Tensor, features: Tensor) -> PathNumbers:
    """How a percept moves along a path.

    Distances are root mean squares over all features of all locations, in the features' own unit.

    Args:
        T: (S, D), features: (S, N, F), step by step.

    Returns:
        lipschitz: the largest |f(T') - f(T)| / |T' - T| over neighbouring steps, columns by root mean square too: a
            lower bound of the machine's Lipschitz constant on this path; None where the column never moves.
        lipschitz_mean: the mean of the same.
        length: distance travelled over the distance of both ends, at least 1; 1 for a straight line; None where both
            ends are the same.
        largest_step: the largest step's share of the distance travelled (1 / (S - 1) for even steps).
        from_first, from_last: per step, the distance to either end over the distance of both; 0 at that end.
    """
    moved = _rms(features[1:] - features[:-1])
    column = _rms((T[1:] - T[:-1])[:, None])
    slopes = [float(m / c) for m, c in zip(moved, column, strict=True) if float(c) > 0]
    whole = float(_rms((features[-1] - features[0])[None])[0])
    travelled = float(moved.sum())
    apart = max(whole, 1e-12)
    return {
        "lipschitz": max(slopes) if slopes else None,
        "lipschitz_mean": float(np.mean(slopes)) if slopes else None,
        "length": travelled / whole if whole > 0 else None,
        "largest_step": float(moved.max()) / travelled if travelled > 0 else None,
        "from_first": [float(d) / apart for d in _rms(features - features[:1])],
        "from_last": [float(d) / apart for d in _rms(features - features[-1:])],
    }


def _rms(x: Tensor) -> Tensor:
    """(S, N, F) -> (S,)."""
    return x.double().square().flatten(1).mean(1).sqrt()


# -- between locations -----------------------------------------------------------------------------------------------


def grid_scores(found: Array, truth: Array) -> dict[str, float]:
    """A grid against what it should be, both (h, w, F).

    Returns:
        cosine: the mean over locations.
        r2: 1 - |found - truth|^2 / |truth - mean of the truth's locations|^2, so that the mean grid scores 0.
    """
    if found.shape != truth.shape:
        raise InputError(f"grids to compare must have one shape, got {found.shape} and {truth.shape}")
    a, b = (torch.from_numpy(np.require(x, requirements=("C", "W"))).double().flatten(0, 1) for x in (found, truth))
    spread = (b - b.mean(0)).square().sum()
    return {
        "cosine": float(F.cosine_similarity(a, b, dim=-1).mean()),
        "r2": float(1 - (a - b).square().sum() / spread.clamp_min(1e-30)),
    }


# -- in any order ----------------------------------------------------------------------------------------------------


def order_locations(queries: Tensor, order: str, generator: torch.Generator | None = None) -> Tensor:
    """A permutation (N,) of location queries (N, 2).

    random:  shuffled by `generator`
    raster:  as given
    centre:  from the picture's middle outwards
    spread:  each next location the farthest from all before it, beginning at the middle (Gonzalez 1985)

    Raises:
        InputError: an unknown order.
    """
    if order not in ORDERS:
        raise unknown("order of locations", order, ORDERS)
    if order == "raster":
        return torch.arange(len(queries))
    if order == "random":
        return torch.randperm(len(queries), generator=generator)
    points = queries.detach().cpu().double()
    from_middle = (points - 0.5).norm(dim=-1)
    if order == "centre":
        return torch.argsort(from_middle, stable=True)
    chosen = [int(from_middle.argmin())]
    nearest = (points - points[chosen[0]]).norm(dim=-1)
    for _ in range(len(points) - 1):
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).norm(dim=-1))
    return torch.tensor(chosen)


@torch.no_grad()
def running_tokens(apm: AsynchronousPerceptionMachine, features: Tensor, queries: Tensor) -> Tensor:
    """The token after each location that arrives: equal to `apm.read` of the locations so far, for all of them at once.

    Args:
        features: (N, F), in the order of their arrival.
        queries: (N, 2), where they are.

    Returns:
        (N, F): row n - 1 is the token of the first n locations.

    Raises:
        InputError: a machine whose read-out is one location, to which an order means nothing.
    """
    N, width = features.shape
    if apm.config.readout == "location":
        raise InputError("the 'location' read-out asks one location only: there is no order of arrival")
    count = torch.arange(1, N + 1, device=features.device, dtype=features.dtype)[:, None]
    if apm.config.readout == "mean":
        return features.cumsum(0) / count
    H, d = apm.config.heads, width // apm.config.heads
    W_Q, W_K, W_V = apm.attention.in_proj_weight.chunk(3)
    b_Q, b_K, b_V = apm.attention.in_proj_bias.chunk(3)
    keys = features + apm.feature_location_code(queries).to(features.dtype)
    q = F.linear(apm.query, W_Q, b_Q).view(H, d) / d**0.5
    k = F.linear(keys, W_K, b_K).view(N, H, d)
    v = F.linear(keys, W_V, b_V).view(N, H, d)
    s = torch.einsum("hd,nhd->hn", q, k)
    later = torch.ones(N, N, dtype=torch.bool, device=s.device).triu(1)
    alpha = s[:, None].expand(H, N, N).masked_fill(later, float("-inf")).softmax(-1)
    pooled = torch.einsum("hmn,nhd->mhd", alpha, v).flatten(1)
    return apm.attention.out_proj(pooled)


def counts_for(shares: Sequence[float], locations: int) -> list[int]:
    """How many of N locations each share is: at least one, rounded up.

    Example:
        >>> counts_for([0.01, 0.5, 1], 64)
        [1, 32, 64]
    """
    if not shares or min(shares) <= 0 or max(shares) > 1:
        raise InputError(f"shares of the columns lie above 0 and up to 1, got {list(shares)}")
    return [max(1, min(locations, int(np.ceil(share * locations - 1e-9)))) for share in shares]
