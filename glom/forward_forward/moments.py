"""A convolutional layer's goodness from two sums a picture and channel, which is all that its gradient needs.

With u = pool(relu(conv(x))) and y = BN(u) = a u + c, a class's goodness sees u only through Σ_hw u and Σ_hw u² of each
picture and channel: batch mean and variance are sums of them over pictures, and Σ y² = a² Σ u² + 2 a c Σ u + H W c². So
whatever the loss, its derivative by u is one number plus another times u, both a picture and channel: one pass over the
map, where autograd goes back through square, mean and normalisation, each with maps of its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PICTURES = 16  # whose map is summed at once, in float32 and in cache


class Rectified(torch.autograd.Function):
    """u = pool(relu(conv(x))) as data, and Σ u, Σ u² (B, K) with a gradient by the convolution's weights alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, pool: bool) -> tuple[Tensor, ...]:
        if ctx.needs_input_grad[0]:
            raise ValueError("a layer's input is data: it was not detached")
        whole = F.conv2d(x, weight, bias, padding=1, groups=groups)
        u, place = F.max_pool2d(whole, 2, return_indices=True) if pool else (whole, None)
        u.relu_()
        sums = [(part.sum((2, 3)), part.square().sum((2, 3))) for part in (some.float() for some in u.split(PICTURES))]
        ctx.save_for_backward(x, weight, u, place, whole)
        ctx.groups = groups
        ctx.mark_non_differentiable(u)
        return u, torch.cat([s for s, _ in sums]), torch.cat([s for _, s in sums])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, u, place, whole = ctx.saved_tensors
        by_sum, by_square = (g.to(u.dtype)[:, :, None, None] for g in gradients[1:])
        asked = torch.addcmul(by_sum, by_square, u, value=2)
        asked = torch.ops.aten.threshold_backward(asked, u, 0)
        if place is not None:
            asked = torch.ops.aten.max_pool2d_with_indices_backward(
                asked, whole, [2, 2], [2, 2], [0, 0], [1, 1], False, place
            )
        one, only = [1, 1], [False, True, True]
        _, by_weight, by_bias = torch.ops.aten.convolution_backward(
            asked, x, weight, [len(weight)], one, one, one, False, [0, 0], ctx.groups, only
        )
        return None, by_weight, by_bias, None, None


def normalised(u: Tensor, total: Tensor, squares: Tensor, norm: torch.nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A batch normalisation's step in training, its running statistics moved: y as data, and each mean square.

    Args:
        u: (B, K, H, W). total, squares: its sums over H and W (B, K), with a gradient.
        norm: with running statistics and a momentum.

    Returns:
        y (B, K, H, W) in u's dtype, without a gradient; the mean of y² over H and W (B, K), with one.
    """
    places = u.shape[2] * u.shape[3]
    count = places * len(u)
    mean = total.sum(0) / count
    variance = (squares.sum(0) / count - mean.square()).clamp_min(0)
    a = norm.weight * (variance + norm.eps).rsqrt()
    c = norm.bias - a * mean
    told = (a.square() * squares + 2 * a * c * total) / places + c.square()
    with torch.no_grad():
        y = F.batch_norm(u, mean, variance, norm.weight, norm.bias, False, 0.0, norm.eps)
        assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
        assert norm.num_batches_tracked is not None
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
    return y, told
