"""An image network inflated into a video network (I3D; Carreira & Zisserman, CVPR 2017, section 2.4.1).

    Conv2d  W (out, in, h, w)   ->  Conv3d  W repeated K times in time, divided by K
    pooling h x w               ->  pooling K x h x w
    attention over N locations  ->  attention over T N of them: softmax over repeated keys is softmax over one copy

A boring video is a fixed point: every layer's grid at every time step is the image network's. At the video's ends this
holds because missing frames are copies of the end frame; with zeros there it would hold in the middle only.

Time is never strided, and frames travel as the batch, (T, C, h, w): what looks at one frame at a time (a batch norm,
squeeze-and-excitation, layer norms, position codes) is the same module in a video network as in an image network.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from glom.backbones.base import Backbone
from glom.backbones.images import ImageBackbone
from glom.backbones.registry import load_backbone, register_backbone
from glom.backbones.video import feature_grids
from glom.errors import InputError

FRAMES, KERNEL = 4, 3
EXACT = 1e-4  # of a layer's largest feature: rounding stays well below it, a layer that mixes pictures does not


def in_time(frames: Tensor, kernel: int) -> Tensor:
    """(T, C, h, w) -> (T + kernel - 1, C, h, w), the end frames repeated."""
    place = torch.arange(len(frames) + kernel - 1, device=frames.device) - (kernel - 1) // 2
    return frames[place.clamp(0, len(frames) - 1)] if kernel > 1 else frames


class TimeConv(nn.Conv3d):
    """A convolution of frames, (T, C, h, w) -> (T, D, h', w'), inflated from a 2-D one; 1 x 1 ones stay one frame."""

    def __init__(self, conv: nn.Conv2d, kernel: int) -> None:
        k = kernel if max(conv.kernel_size) > 1 else 1
        made: dict[str, Any] = {
            "kernel_size": (k, *conv.kernel_size),
            "stride": (1, *conv.stride),
            "padding": conv.padding if isinstance(conv.padding, str) else (0, *conv.padding),
            "dilation": (1, *conv.dilation),
        }
        super().__init__(conv.in_channels, conv.out_channels, **made, groups=conv.groups, device="meta")
        self.same = isinstance(conv, Conv2dSame)
        self.flat: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.weight = nn.Parameter(conv.weight.detach()[:, :, None].repeat(1, 1, k, 1, 1) / k)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def forward(self, frames: Tensor) -> Tensor:
        if self.same:
            shape: Any = (self.kernel_size[1:], self.stride[1:], self.dilation[1:])
            frames = pad_same(frames, *shape)
        taps = self.weight.unbind(2)
        longer = in_time(frames, len(taps))
        seen = [longer[i : i + len(frames)] for i in range(len(taps))]
        if not self.weight.requires_grad and all(torch.equal(taps[0], tap) for tap in taps):
            # Frozen as it was inflated, it is the 2-D convolution of the mean frame: a K-th of the price, and exact.
            taps, seen = (self.weight.sum(2),), [torch.stack(seen).sum(0) / len(taps)]
        found = F.conv2d(seen[0], taps[0], self.bias, *self.flat)
        for frame, tap in zip(seen[1:], taps[1:], strict=True):
            found = found + F.conv2d(frame, tap, None, *self.flat)
        return found


class TimePool(nn.Module):
    """Pooling of frames over `kernel` of them and the places of a 2-D pooling, (T, C, h, w) -> (T, C, h', w')."""

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        size, stride, padding = (_pair(x) for x in (pool.kernel_size, pool.stride, pool.padding))
        shape: tuple[Any, Any, Any] = ((kernel, *size), (1, *stride), (0, *padding))
        self.pool: nn.Module
        if isinstance(pool, nn.MaxPool2d):
            self.pool = nn.MaxPool3d(*shape, dilation=(1, *_pair(pool.dilation)), ceil_mode=pool.ceil_mode)
        else:
            self.pool = nn.AvgPool3d(*shape, ceil_mode=pool.ceil_mode, count_include_pad=pool.count_include_pad)

    def forward(self, frames: Tensor) -> Tensor:
        return self.pool(in_time(frames, self.kernel).transpose(0, 1)[None])[0].transpose(0, 1)


class TimeAttention(nn.Module):
    """Self-attention among the tokens of all frames together, (T, N, D) -> (T, N, D)."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Tensor, *rest: Any, **named: Any) -> Tensor:
        return self.attention(tokens.flatten(0, 1)[None], *rest, **named)[0].unflatten(0, tokens.shape[:2])


def inflate(model: nn.Module, kernel: int = KERNEL) -> nn.Module:
    """Change an image network in place, and return it: it then reads one clip, its frames as a batch (T, 3, H, W).

    Args:
        model: any, frozen, whose convolutions are `nn.Conv2d` or timm's with TensorFlow's padding.
        kernel: K, frames a convolution or pooling sees.

    Raises:
        InputError: no frame in the kernel, no convolution in the network, or one that computes its weights.
    """
    if kernel < 1:
        raise InputError(f"a kernel sees at least 1 frame, got {kernel}")
    done: dict[int, nn.Module] = {}
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            odd = type(child) not in (nn.Conv2d, Conv2dSame) or getattr(child, "padding_mode", "") != "zeros"
            if isinstance(child, nn.Conv2d) and odd:
                where = f"{path}.{name}".lstrip(".")
                raise InputError(f"'{where}' is a {type(child).__name__}, which is no plain convolution")
            kind = type(child)
            make: Any = None
            if isinstance(child, nn.Conv2d):
                make = TimeConv(child, kernel)
            elif kind in (nn.MaxPool2d, nn.AvgPool2d):
                make = TimePool(child, kernel)
            elif kind is Attention:
                make = TimeAttention(child)
            if make is not None:
                setattr(parent, name, done.setdefault(id(child), make))
    if not any(isinstance(module, TimeConv) for module in done.values()):
        raise InputError("no convolution was found in it")
    return model.eval().requires_grad_(False)


class InflatedBackbone(ImageBackbone):
    """An image backbone inflated; T is `FRAMES` if nothing else is said."""

    video = True

    def __init__(self, image: ImageBackbone, kernel: int = KERNEL) -> None:
        """Raises `InputError` for a network that cannot be inflated, or whose layers a boring video would move."""
        name, self.image, self.kernel = f"inflate:{image.name}", image, kernel
        teacher = copy.deepcopy(image.teacher)  # its head and its layers are then of one network, the inflated one
        try:
            inflate(teacher.model, kernel)
        except InputError as error:
            raise InputError(f"{name}: this network cannot be inflated: {error}") from error
        super().__init__(name, teacher, teacher.model)
        self.what = f"{image.what.removesuffix(', image')} inflated in time, video"
        self.frames, self.patch_side, self.view = FRAMES, image.patch_side, image.view
        self._check_fixed_point()

    def build(self) -> nn.Module:
        return inflate(self.image.build(), self.kernel)

    def _check_fixed_point(self) -> None:
        """One look at noise, by both networks."""
        noise = torch.randn(3, 1, self.size, self.size, generator=torch.Generator().manual_seed(0))
        wanted = feature_grids(self.image, noise)
        try:
            found = feature_grids(self, noise.expand(-1, 2, -1, -1))
        except InputError as error:
            raise InputError(f"{self.name}: this network cannot be inflated: {error}") from error
        for layer, grid in found.items():
            off = float((grid - wanted[layer]).abs().max())
            if grid.shape[0] != 2 or not off <= EXACT * float(wanted[layer].abs().max().clamp_min(1e-30)):
                place = self.layers[layer][0]
                raise InputError(
                    f"{self.name}: this network cannot be inflated: '{place}' does not look frame by frame"
                )


@register_backbone("inflate", "an image backbone inflated in time (I3D)")
def load_inflated(name: str, model: str, weights: str | None, device: torch.device) -> Backbone:
    """`inflate:BACKBONE`, an image backbone by any name of its own. Raises `InputError` for another."""
    image = load_backbone(model if weights is None else f"{model}@{weights}", str(device))
    if not isinstance(image, ImageBackbone) or image.video:
        raise InputError(f"{name}: {image.name} is no image network of a teacher's; a video network needs no inflating")
    return InflatedBackbone(image)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
