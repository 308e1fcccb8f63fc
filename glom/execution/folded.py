"""Folded execution: the plain forward's numbers and gradients with far fewer multiplications.

With W_1 = [W_T, W_x, W_y(, W_I)] and p = [p_x, p_y], the first layer is a vector an image and a row a coordinate:

    W_1 z_xy + b = (W_T T + b) + W_x p_x(x) + W_y p_y(y) (+ W_I I(x, y))

Under the mean, W_F meets one vector: mean(W_F h + b) = W_F mean(h) + b. Under one learned query with heads k,

    q_k = (W_Q q + b_Q)_k / sqrt(d),    c_k = W_K,k^T q_k,    a_k = W_F^T c_k
    s_k(x, y) = a_k^T h_xy + c_k^T p_F(x, y)                 up to a constant, which the softmax ignores
    o_k = W_V,k (W_F sum alpha h + b_F + sum alpha p_F) + b_V,k,    alpha = softmax of s_k over the locations

so W_F, W_K and W_V meet as many vectors as there are heads, never one a location. The colour head's first layer
splits over [f, T, p_x, p_y(, I)] the same way; where f itself is not wanted, its part is (W_f W_F) h + W_f b_F.

Pooling is kept as sums (`maximum`, `weight` = sum exp, `hidden` = sum exp h, `code` = sum exp p_F) that chunks and
ranks can merge: Milakov & Gimelshein 2018; with one query, Rabe & Staats 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glom.apm import AsynchronousPerceptionMachine, Percept
from glom.errors import InputError
from glom.execution.algebra import Weights, activate, add_relu, split_linear, wide
from glom.execution.locations import Locations

SUMS = ("maximum", "weight", "hidden", "code")
"""What pooling leaves, by name; `code` only under attention."""


@dataclass(frozen=True)
class Once:
    """What is computed once for all locations of a call.

    Attributes:
        T: (B, D).
        t: (B, K), W_T T + b of the trunk's first layer, or None: taken together with the rows.
        t_rgb: (B, C), the same of the colour head, or None.
        fold_rgb: (K_L + 1, C), [W_f W_F, W_f b_F] transposed, or None.
        a: (H, K_L), and c: (H, F): the heads' score vectors for h and for p_F; None without attention.
    """

    T: Tensor
    t: Tensor | None = None
    t_rgb: Tensor | None = None
    fold_rgb: Tensor | None = None
    a: Tensor | None = None
    c: Tensor | None = None


def folds_rgb(outputs: tuple[str, ...]) -> bool:
    """Whether the colour head's f part goes through W_F without f being made."""
    return "rgb" in outputs and "features" not in outputs


def once(apm: AsynchronousPerceptionMachine, w: Weights, T: Tensor, outputs: tuple[str, ...], ahead: bool) -> Once:
    """The location-free part. `ahead`: the trigger's parts too, for callers that come back with many chunks."""
    F_, H = apm.config.features, apm.config.heads
    t = t_rgb = fold_rgb = a = c = None
    if ahead:
        (t,) = split_linear(w["trunk.0.weight"], w["trunk.0.bias"], [(0, T)], w.accumulate)
        if "rgb" in outputs:
            parts = [(F_, T)]
            if folds_rgb(outputs):
                parts.append((0, _feature_head_rows(w)))
            t_rgb, *rest = split_linear(w["rgb_head.0.weight"], w["rgb_head.0.bias"], parts, w.accumulate)
            fold_rgb = rest[0] if rest else None
    if apm.config.readout == "attention" and "token" in outputs:
        W_Q, W_K = wide(w["attention.qk.weight"]).chunk(2)
        b_Q = wide(w["attention.qk.bias"])[:F_]
        q = (W_Q @ wide(w["query"]) + b_Q).view(H, F_ // H) / math.sqrt(F_ // H)
        c = torch.bmm(q[:, None], W_K.view(H, F_ // H, F_))[:, 0]
        a = c @ wide(w["feature_head.weight"])
    return Once(T, t, t_rgb, fold_rgb, a, c)


def _feature_head_rows(w: Weights) -> Tensor:
    """[W_F, b_F] transposed, (K_L + 1, F): the rows that fold the colour head's first layer."""
    return torch.cat([w["feature_head.weight"].mT, w["feature_head.bias"][None]])


def columns(
    apm: AsynchronousPerceptionMachine,
    w: Weights,
    first: Once,
    where: Locations,
    images: Tensor,
    outputs: tuple[str, ...],
    maximum: Tensor | None = None,
) -> dict[str, Tensor]:
    """All that is asked for at these locations: any of `SUMS`, "features" and "rgb".

    Args:
        maximum: (B, H), scores are exponentiated relative to it; their own maximum if None.

    Returns:
        maximum, weight: (B, H); hidden: (B, H, K_L); code: (B, H, F); features: (B, n, F); rgb: (B, n, 3).
    """
    B, D = first.T.shape
    codes = where.codes(apm.location_code, w["trunk.0.weight"].dtype)
    local = None
    if apm.local_patch is not None:
        local = apm.local_patch(images, where.points()).flatten(0, 1)

    (t, *rows), patch = _rows(w, "trunk.0", 0, D, first.T, first.t, codes, local, [])
    h = _combine(where, t, rows, patch, apm.activation, w.dtype)
    for i in range(1, len(apm.trunk)):
        h = activate(apm.activation, w.linear(f"trunk.{i}", h))

    found: dict[str, Tensor] = {}
    if "token" in outputs and apm.config.readout != "location":
        found.update(_pool(apm, first, where, h.view(B, where.count, -1), maximum))
    f = None
    if "features" in outputs:
        f = w.linear("feature_head", h)
        found["features"] = f.view(B, where.count, -1)
    if "rgb" in outputs:
        found["rgb"] = _colours(apm, w, first, where, codes, local, h, f).view(B, where.count, 3)
    return found


def _rows(
    w: Weights,
    name: str,
    start: int,
    D: int,
    T: Tensor,
    t: Tensor | None,
    codes: list[Tensor],
    local: Tensor | None,
    extra: list[tuple[int, Tensor]],
) -> tuple[list[Tensor], Tensor | None]:
    """One layer's products with a column's parts: ([t, rows..., extra...], patch part); columns begin at `start`."""
    parts = [] if t is not None else [(start, T)]
    at = start + D
    for code in codes:
        parts.append((at, code))
        at += code.shape[-1]
    if local is not None:
        parts.append((at, local))
    parts += extra
    bias = w[f"{name}.bias"] if t is None else None
    made = list(split_linear(w[f"{name}.weight"], bias, parts, w.accumulate))
    if t is not None:
        made.insert(0, t)
    patch = made.pop(1 + len(codes)) if local is not None else None
    return made, patch


def _combine(
    where: Locations,
    t: Tensor,
    rows: list[Tensor],
    extra: Tensor | None,
    activation: nn.Module | None,
    dtype: torch.dtype,
) -> Tensor:
    """activation(t_b + rows of each location + extra): (B, K), [(n_x, K), (n_y, K)], (B n, K) -> (B n, K)."""
    if where.kind == "grid" and extra is None and isinstance(activation, nn.ReLU):
        base = (t[:, None] + rows[1]).flatten(0, 1)
        return add_relu(rows[0][None], base[None], dtype).flatten(0, 2)
    if where.kind == "points" and len(t) == 1:
        # Rows made a moment ago, which nobody else reads: no second tensor of their size.
        s = rows[0].add_(t)
    elif len(t) == 1:
        s = where.spread([rows[0] + t, *rows[1:]])
    else:
        s = (t[:, None] + where.spread(rows)).flatten(0, 1)
    if extra is not None:
        s = s.add_(extra)
    s = s.to(dtype)
    return s if activation is None else activate(activation, s)


def _pool(
    apm: AsynchronousPerceptionMachine, first: Once, where: Locations, h: Tensor, maximum: Tensor | None
) -> dict[str, Tensor]:
    """The sums over these locations, in float32 or better: see `SUMS`. Under the mean every score is zero."""
    if first.a is None or first.c is None:
        total = h.sum(1, keepdim=True, dtype=torch.promote_types(h.dtype, torch.float32))
        weight = total.new_full((len(h), 1), float(where.count))
        return {"maximum": torch.zeros_like(weight), "weight": weight, "hidden": total}
    h = wide(h)
    codes = where.codes(apm.feature_location_code, first.c.dtype)
    halves = [first.c] if len(codes) == 1 else list(first.c.chunk(2, dim=-1))
    s = h @ first.a.mT + where.spread([p @ half.mT for p, half in zip(codes, halves, strict=True)])
    if maximum is None:
        maximum = s.detach().amax(1)
    e = torch.exp(s - maximum[:, None]).mT
    return {"maximum": maximum, "weight": e.sum(-1), "hidden": e @ h, "code": where.pool(e, codes)}


def _colours(
    apm: AsynchronousPerceptionMachine,
    w: Weights,
    first: Once,
    where: Locations,
    codes: list[Tensor],
    local: Tensor | None,
    h: Tensor,
    f: Tensor | None,
) -> Tensor:
    """rgb: (B n, K_L) and, where it was made, f (B n, F) -> (B n, 3)."""
    assert apm.rgb_head is not None
    F_, D = apm.config.features, first.T.shape[-1]
    fold = first.fold_rgb
    extra = [(0, f)] if f is not None else ([(0, _feature_head_rows(w))] if fold is None else [])
    (t, *rows), patch = _rows(w, "rgb_head.0", F_, D, first.T, first.t_rgb, codes, local, extra)
    if f is not None:
        seen = rows.pop()
    else:
        fold = rows.pop() if fold is None else fold
        seen, t = h @ fold[:-1].to(h.dtype), t + fold[-1]
    if patch is not None:
        seen = seen + patch
    last = len(apm.rgb_head) - 1
    colour = _combine(where, t, rows, seen, apm.activation if last else None, w.dtype)
    for i in range(1, len(apm.rgb_head)):
        colour = w.linear(f"rgb_head.{i}", colour)
        if i < last:
            colour = activate(apm.activation, colour)
    return colour.relu() if apm.config.rgb_relu else colour


def read(apm: AsynchronousPerceptionMachine, w: Weights, sums: dict[str, Tensor]) -> Tensor:
    """The token from the sums over all locations -> (B, F), in float32 or better."""
    hidden = sums["hidden"] / sums["weight"][..., None]
    f = w.wide_linear("feature_head", hidden)
    if apm.config.readout == "mean":
        return f[:, 0]
    f = f + sums["code"] / sums["weight"][..., None]
    H, d = apm.config.heads, apm.config.features // apm.config.heads
    W_V, b_V = wide(w["attention.v.weight"]), wide(w["attention.v.bias"])
    o = torch.bmm(f.transpose(0, 1), W_V.view(H, d, -1).mT).transpose(0, 1).flatten(1) + b_V
    return w.wide_linear("attention.out_proj", o)


def read_location(apm: AsynchronousPerceptionMachine, w: Weights, T: Tensor, images: Tensor, like: Tensor) -> Tensor:
    """The "location" read-out -> (B, F): f at one place."""
    x, y = apm.read_location(like).unbind(-1)
    first = once(apm, w, T, ("features",), ahead=False)
    return columns(apm, w, first, Locations("grid", 1, x, y), images, ("features",))["features"][:, 0]


def token_dtype(apm: AsynchronousPerceptionMachine) -> torch.dtype:
    """Tokens come in the parameters' dtype, under autocast too: the read-out is a few vectors, kept exact."""
    return apm.feature_head.weight.dtype


def check_outputs(apm: AsynchronousPerceptionMachine, outputs: tuple[str, ...]) -> None:
    """Raise `InputError` for colours asked of an APM without a colour head."""
    if "rgb" in outputs and apm.rgb_head is None:
        raise InputError("this APM was built without a colour head (rgb=None)")


def wanted(apm: AsynchronousPerceptionMachine, outputs: tuple[str, ...]) -> bool:
    """Whether the queried locations have to be unfolded at all."""
    return "features" in outputs or "rgb" in outputs or apm.config.readout != "location"


def folded(
    apm: AsynchronousPerceptionMachine, images: Tensor, where: Locations, outputs: tuple[str, ...] = ("token",)
) -> Percept:
    """Folded execution of everything at once.

    Args:
        images: (B, 3, image_size, image_size).
        where: N locations, see `glom.execution.locations.locate`.
        outputs: of "features", "rgb", "token".

    Returns:
        features (B, N, F), rgb (B, N, 3), token (B, F), where asked for.

    Raises:
        InputError: colours asked of an APM without a colour head, pictures of another size.
    """
    check_outputs(apm, outputs)
    w, T = Weights.of(apm), apm.fold(images)
    found: dict[str, Tensor] = {}
    with torch.autocast(images.device.type, enabled=False):
        if wanted(apm, outputs):
            found = columns(apm, w, once(apm, w, T, outputs, ahead=False), where, images, outputs)
        token = None
        if "token" in outputs:
            if apm.config.readout == "location":
                token = read_location(apm, w, T, images, where.x)
            else:
                token = read(apm, w, found)
            token = token.to(token_dtype(apm))
    return Percept(found.get("features"), found.get("rgb"), token)
