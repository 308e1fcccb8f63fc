"""The three steps that folded execution is made of, each with a backward pass that writes every gradient once.

split_linear   W = [W_1, W_2, ...] by columns:  x_i -> W_i x_i, and dW in one buffer
add_relu       relu(u_j + base_i) for all (i, j), block by block so that nothing is read from memory twice
Weights        an APM's parameters by name, in the dtype the products run in
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glom.apm import AsynchronousPerceptionMachine

BLOCK = 1 << 17
"""Numbers a block of `add_relu` has on a CPU: half a megabyte in float32, which stays in a core's cache."""


def wide(x: Tensor) -> Tensor:
    """`x` in float32 or better: what sums over locations are taken in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def compute_dtype(like: Tensor) -> torch.dtype:
    """What large products run in: autocast's dtype where it is on for `like`'s device, `like`'s own otherwise."""
    kind = like.device.type
    if torch.is_autocast_enabled(kind) and like.dtype == torch.float32:
        return torch.get_autocast_dtype(kind)
    return like.dtype


def _add_grad(leaf: Tensor, gradient: Tensor) -> None:
    gradient = gradient.to(leaf.dtype)
    leaf.grad = gradient if leaf.grad is None else leaf.grad.add_(gradient)


class _SplitLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, W: Tensor, b: Tensor | None, offsets: tuple[int, ...], accumulate: bool, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        outputs = [_product(x, W[..., o : o + x.shape[-1]]) for o, x in zip(offsets, inputs, strict=True)]
        if b is not None:
            outputs[0] = outputs[0] + (b if b.ndim == 1 else b[:, None])
        ctx.save_for_backward(W, *inputs)
        # A leaf's gradient is added to in place, so the leaf itself is kept and not only its value.
        ctx.leaves = (W, b) if accumulate else None
        ctx.offsets, ctx.bias = offsets, b is not None
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        W, *inputs = ctx.saved_tensors
        dW = db = None
        if ctx.needs_input_grad[0]:
            if ctx.leaves is not None:
                if ctx.leaves[0].grad is None:
                    ctx.leaves[0].grad = torch.zeros_like(W)
                dW = ctx.leaves[0].grad
            else:
                met = sum(x.shape[-1] for x, g in zip(inputs, gradients, strict=True) if g is not None)
                dW = torch.empty_like(W) if met == W.shape[-1] else torch.zeros_like(W)
        dxs: list[Tensor | None] = []
        for i, (offset, x, g) in enumerate(zip(ctx.offsets, inputs, gradients, strict=True)):
            if g is None:
                dxs.append(None)
                continue
            columns = slice(offset, offset + x.shape[-1])
            if dW is not None:
                _product_into(dW[..., columns], g, x, add=ctx.leaves is not None)
            if i == 0 and ctx.bias and ctx.needs_input_grad[1]:
                db = g.sum(-2)
            dx = g @ W[..., columns] if ctx.needs_input_grad[4 + i] else None
            # One input for all S samples gathers what each of them sends back.
            dxs.append(dx.sum(0) if dx is not None and x.ndim < dx.ndim else dx)
        if ctx.leaves is not None:
            if db is not None:
                _add_grad(ctx.leaves[1], db)
            dW = db = None
        return dW, db, None, None, *dxs


def shared(W: Tensor) -> bool:
    """Whether S samples look at one set of weights: stride 0."""
    return len(W) > 1 and W.stride(0) == 0


def _product(x: Tensor, W: Tensor) -> Tensor:
    """x W^T, which samples that look at one set of weights need only once."""
    if not shared(W):
        return x @ W.mT
    y = x @ W[0].mT
    return y if x.ndim == 3 else y.expand(len(W), -1, -1)


def _product_into(out: Tensor, g: Tensor, x: Tensor, add: bool) -> None:
    """out (+)= g^T x, straight into a slice of columns."""
    if out.ndim == 2:
        torch.addmm(out, g.mT, x, beta=int(add), out=out)
        return
    x = x.expand(len(out), -1, -1)
    if out.is_cuda:
        torch.baddbmm(out, g.mT, x, beta=int(add), out=out)
        return
    for s in range(len(out)):
        torch.addmm(out[s], g[s].mT, x[s], beta=int(add), out=out[s])


def split_linear(
    W: Tensor, b: Tensor | None, parts: list[tuple[int, Tensor]], accumulate: bool = False
) -> tuple[Tensor, ...]:
    """Products with slices of W's columns: (offset, x) -> x W[:, offset : offset + d]^T, the first one plus b.

    Args:
        W: (O, I), or (S, O, I) for S samples' weights.
        b: (O,) or (S, O), added to the first product.
        parts: offsets that do not overlap, and inputs (n, d), or (S, n, d) or (n, d) for all S samples.
        accumulate: add W's and b's gradients into `W.grad` and `b.grad` (leaves) instead of returning them.

    Returns:
        one (n, O), or (S, n, O), a part.
    """
    offsets = tuple(offset for offset, _ in parts)
    return _SplitLinear.apply(W, b, offsets, accumulate, *(x.to(W.dtype) for _, x in parts))  # type: ignore[no-untyped-call]


class _AccumulatingLinear(torch.autograd.Function):
    """x W^T + b, whose backward adds into W.grad and b.grad: no weight-sized temporary a chunk."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor, W_low: Tensor) -> Tensor:
        ctx.save_for_backward(x, W_low)
        ctx.leaves = (W, b)
        return F.linear(x, W_low, b.to(W_low.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, W_low = ctx.saved_tensors
        W, b = ctx.leaves
        if ctx.needs_input_grad[1]:
            if W.grad is None or W.dtype != g.dtype:
                _add_grad(W, g.mT @ x)
            else:
                W.grad.addmm_(g.mT, x)
        if ctx.needs_input_grad[2]:
            _add_grad(b, g.sum(0, dtype=b.dtype))
        return (g @ W_low if ctx.needs_input_grad[0] else None), None, None, None


class _StackedLinear(torch.autograd.Function):
    """x_s W_s^T + b_s. On a CPU one large product after the other: they fill the cores, batched ones less so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, W)
        if x.is_cuda:
            return torch.baddbmm(b[:, None], x, W.mT)
        y = x.new_empty(*x.shape[:2], W.shape[1])
        for s in range(len(W)):
            torch.addmm(b[s], x[s], W[s].mT, out=y[s])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, W = ctx.saved_tensors
        dx = dW = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            if x.is_cuda:
                torch.bmm(g, W, out=dx)
            else:
                for s in range(len(W)):
                    torch.mm(g[s], W[s], out=dx[s])
        if ctx.needs_input_grad[1]:
            dW = torch.empty_like(W)
            _product_into(dW, g, x, add=False)
        return dx, dW, g.sum(1) if ctx.needs_input_grad[2] else None


def stacked_linear(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """x_s W_s^T + b_s for S samples: (S, n, I), (S, O, I) and (S, O) -> (S, n, O), in x's dtype.

    Samples that look at one set of weights are one product.
    """
    if shared(W) and shared(b):
        return F.linear(x, W[0].to(x.dtype), b[0].to(x.dtype))
    return _StackedLinear.apply(x, W.to(x.dtype), b.to(x.dtype))  # type: ignore[no-untyped-call]


class _AddReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, base: Tensor, dtype: torch.dtype) -> Tensor:
        (S, w, K), R = u.shape, base.shape[1]
        h = torch.empty(S, R, w, K, dtype=dtype, device=u.device)
        for s, rows in _blocks(S, R, w * K, u.device):
            if dtype == u.dtype:
                torch.add(u[s, None], base[s, rows, None], out=h[s, rows]).relu_()
            else:
                h[s, rows] = torch.relu_(u[s, None] + base[s, rows, None])
        ctx.save_for_backward(h)
        ctx.dtype = u.dtype
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None]:
        (h,) = ctx.saved_tensors
        S, R, w, K = h.shape
        du = torch.zeros(S, w, K, dtype=ctx.dtype, device=g.device)
        dbase = torch.empty(S, R, K, dtype=ctx.dtype, device=g.device)
        for s, rows in _blocks(S, R, w * K, g.device):
            passed = torch.ops.aten.threshold_backward(g[s, rows], h[s, rows], 0)
            du[s] += passed.sum(-3, dtype=ctx.dtype)
            dbase[s, rows] = passed.sum(-2, dtype=ctx.dtype)
        return du, dbase, None


def _blocks(samples: int, rows: int, width: int, device: torch.device) -> list[tuple[int | slice, slice]]:
    """Everything at once on an accelerator; on a CPU, pieces that stay in the cache between two passes."""
    if device.type != "cpu":
        return [(slice(None), slice(None))]
    step = max(1, BLOCK // width)
    return [(s, slice(r, r + step)) for s in range(samples) for r in range(0, rows, step)]


def add_relu(u: Tensor, base: Tensor, dtype: torch.dtype) -> Tensor:
    """relu(u_j + base_i): (S, w, K) and (S, R, K) -> (S, R, w, K) in `dtype`."""
    return _AddReLU.apply(u, base, dtype)  # type: ignore[no-untyped-call]


def activate(activation: nn.Module, x: Tensor) -> Tensor:
    """The activation of a freshly made tensor; ReLU overwrites it, since nobody else needs it."""
    return torch.relu_(x) if isinstance(activation, nn.ReLU) else activation(x)


@dataclass
class Weights:
    """An APM's parameters by their own names, with the attention's projection split in [Q; K] and V.

    Attributes:
        values: name -> tensor; "attention.qk" is (2F, F) and (2F,), "attention.v" (F, F) and (F,).
        dtype: what the large products run in.
        accumulate: values are leaves whose `grad` is added to in place; see `glom.execution.streamed`.
    """

    values: dict[str, Tensor]
    dtype: torch.dtype
    accumulate: bool = False
    _low: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, apm: AsynchronousPerceptionMachine) -> Weights:
        """The parameters as they stand, inside the autograd graph."""
        values: dict[str, Tensor] = {}
        for name, parameter in apm.named_parameters():
            if name.startswith("attention.in_proj_"):
                kind, F_ = name.removeprefix("attention.in_proj_"), apm.config.features
                values[f"attention.qk.{kind}"], values[f"attention.v.{kind}"] = parameter.split([2 * F_, F_])
            else:
                values[name] = parameter
        return cls(values, compute_dtype(apm.feature_head.weight))

    def __getitem__(self, name: str) -> Tensor:
        return self.values[name]

    def mapped(self, change: Callable[[Tensor], Tensor], accumulate: bool = False) -> Weights:
        """The same names with every tensor changed."""
        return Weights({name: change(value) for name, value in self.values.items()}, self.dtype, accumulate)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T + b with the layer of that name: (n, I) -> (n, O), in `dtype`."""
        W, b = self.values[f"{name}.weight"], self.values[f"{name}.bias"]
        if not self.accumulate:
            return F.linear(x, W.to(self.dtype), b.to(self.dtype))
        if name not in self._low:
            # Cast once for all chunks.
            self._low[name] = W.detach().to(self.dtype)
        return _AccumulatingLinear.apply(x, W, b, self._low[name])  # type: ignore[no-untyped-call]

    def wide_linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T + b in float32 or better: for the few pooled vectors."""
        return F.linear(x, wide(self.values[f"{name}.weight"]), wide(self.values[f"{name}.bias"]))
