"""`mvit-v2-tiny`: a small true MViTv2, and the builder of any other of its kind.

The network is torchvision's `MViT` with the choices that make it version 2 (Li et al. 2022, "MViTv2: Improved
Multiscale Vision Transformers for Classification and Detection", section 4): decomposed relative positions, residual
pooling, and the projection to a wider stage in the attention. Only the block settings, the patch embedding and the
read-out are ours, and pooling runs plane by plane, which gives the same numbers.

Time is read in pairs of frames and every kernel behind them spans one step of it, as in the paper's image models, so a
boring video has the same features at each of its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, Pool
from torchvision.models.video.mvit import MViT as TorchvisionNet

from glom.errors import InputError

POOLS = ("mean", "class")


@dataclass(frozen=True)
class Block:
    """One row of the network: widths, heads, and what its attention pools by.

    Attributes:
        heads: of the attention; must divide `out`.
        width, out: channels that come in and go out.
        stride_q: 2 where a stage begins and the grid's side halves, else 1.
        stride_kv: how much coarser keys and values are than what comes in.
    """

    heads: int
    width: int
    out: int
    stride_q: int = 1
    stride_kv: int = 1


TINY: tuple[Block, ...] = (
    Block(1, 48, 48, 1, 4),
    Block(2, 48, 96, 2, 2),
    Block(2, 96, 96, 1, 2),
    Block(2, 96, 96, 1, 2),
    Block(4, 96, 192, 2, 1),
    Block(4, 192, 192, 1, 1),
)
"""Three stages; on 32 px and stride 2 their grids are 16 x 16, 8 x 8 and 4 x 4, their keys 4 x 4 throughout."""


class PlanePool(Pool):
    """torchvision's `Pool` where the kernel spans one time step: every frame on its own, in two dimensions.

    Parameters, names and results are `Pool`'s. Tokens lie channels last in memory as they come, which is what the 2-D
    kernels are quick on; a strided depthwise convolution is taken in float32 under autocast, since oneDNN has no quick
    backward pass for it in bfloat16 (50 times slower, measured on an AVX-512 processor).
    """

    def forward(self, x: Tensor, thw: tuple[int, int, int]) -> tuple[Tensor, tuple[int, int, int]]:
        """(B, heads, 1 + T h w, C), or without heads, and (T, h, w) -> the same pooled, its new (T, h', w')."""
        tokens = x if x.ndim == 4 else x[:, None]
        B, N, _, C = tokens.shape
        T, h, w = thw
        planes = tokens[:, :, 1:].reshape(B * N * T, h, w, C).permute(0, 3, 1, 2)
        planes = self.plane(planes).permute(0, 2, 3, 1)
        h, w = planes.shape[1:3]
        pooled = torch.cat((tokens[:, :, :1], planes.reshape(B, N, T * h * w, C).to(tokens.dtype)), dim=2)
        if self.norm_act is not None:
            pooled = self.norm_act(pooled)
        return pooled if x.ndim == 4 else pooled[:, 0], (T, h, w)

    def plane(self, planes: Tensor) -> Tensor:
        """(frames, C, h, w) -> (frames, C, h', w')."""
        pool: Any = self.pool
        if not isinstance(self.pool, nn.Conv3d):
            return F.max_pool2d(planes, pool.kernel_size[1:], pool.stride[1:], pool.padding[1:])
        kernel, stride = pool.weight[:, :, 0], pool.stride[1:]
        if max(stride) == 1:
            return F.conv2d(planes, kernel, None, stride, pool.padding[1:], groups=pool.groups)
        with torch.autocast(planes.device.type, enabled=False):
            return F.conv2d(planes.to(kernel.dtype), kernel, None, stride, pool.padding[1:], groups=pool.groups)


class TinyMViT(TorchvisionNet):
    """torchvision's `MViT` with a choice of read-out: the mean of the patch tokens, or the class token.

    The mean is what the authors' image models read (github.com/facebookresearch/mvit, no class token). torchvision's
    blocks always carry a class token; under "mean" it takes part in attention and is not read.
    """

    def __init__(self, pool: str, **options: Any) -> None:
        """`options` are those of torchvision's `MViT`. `recipe` becomes what `build_mvit` was called with."""
        super().__init__(**options)
        self.pool = pool
        self.recipe: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W), or (B, 3, H, W) where T is 1 -> class scores (B, classes)."""
        x = self.tokens(x)
        return self.head(x[:, 1:].mean(1) if self.pool == "mean" else x[:, 0])

    def tokens(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> the last block's tokens after the norm, (B, 1 + T'h w, D), class token first."""
        x = x[:, :, None] if x.ndim == 4 else x
        x = self.conv_proj(x)
        thw = (x.shape[2], x.shape[3], x.shape[4])
        x = self.pos_encoding(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x, thw = block(x, thw)
        return self.norm(x)


def build_mvit(
    size: int,
    frames: int,
    classes: int,
    blocks: Sequence[Block] = TINY,
    stride: int = 2,
    pool: str = "mean",
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> TinyMViT:
    """An MViTv2 with random weights, drawn as torchvision draws them.

    Args:
        size: side of the pictures in pixels; other sides can be read too, relative positions are then interpolated.
        frames: T of the boring videos; above 1 they are read in pairs (kernel and stride 2 in time).
        classes: rows of the classifier.
        blocks: the network's rows, see `Block`.
        stride: of the patch embedding, in pixels; its kernel is 2 stride + 1, so patches overlap.
        pool: what the classifier reads, "mean" of the patch tokens or "class" token.
        dropout: before the classifier.
        drop_path: stochastic depth of the last block, growing linearly from none (Huang et al. 2016).

    Raises:
        InputError: blocks that do not follow from one another, an odd number of frames, a size below the strides.

    Example:
        >>> import torch
        >>> build_mvit(32, 2, 10)(torch.zeros(1, 3, 2, 32, 32)).shape
        torch.Size([1, 10])
    """
    check_blocks(blocks, size, frames, stride, pool)
    pairs = min(frames, 2)
    net = TinyMViT(
        pool,
        spatial_size=(size, size),
        temporal_size=frames,
        block_setting=[_row(b) for b in blocks],
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        dropout=dropout,
        stochastic_depth_prob=drop_path,
        num_classes=classes,
        patch_embed_kernel=(pairs, 2 * stride + 1, 2 * stride + 1),
        patch_embed_stride=(pairs, stride, stride),
        patch_embed_padding=(0, stride, stride),
    )
    for module in net.blocks.modules():
        if type(module) is Pool:
            module.__class__ = PlanePool
    net.recipe = {"size": size, "frames": frames, "classes": classes, "blocks": tuple(blocks)}
    net.recipe |= {"stride": stride, "pool": pool}
    return net


def check_blocks(blocks: Sequence[Block], size: int, frames: int, stride: int, pool: str) -> None:
    """Raises `InputError` for what `build_mvit` cannot build."""
    if pool not in POOLS:
        raise InputError(f"pool must be 'mean' or 'class', got '{pool}'")
    if len(blocks) < 2:
        raise InputError(f"an MViT needs at least two blocks, got {len(blocks)}")
    if frames < 1 or (frames > 1 and frames % 2):
        raise InputError(f"frames must be 1 or even, got {frames}")
    if stride < 1:
        raise InputError(f"the patch stride must be at least 1, got {stride}")
    for number, (block, following) in enumerate(zip(blocks, [*blocks[1:], None], strict=True)):
        if min(asdict(block).values()) < 1 or block.out % block.heads:
            raise InputError(f"block {number}: heads must divide the width it puts out, all at least 1; got {block}")
        if following is not None and following.width != block.out:
            raise InputError(f"block {number} gives {block.out} channels, block {number + 1} takes {following.width}")
    coarsest = stride
    for block in blocks:
        coarsest *= block.stride_q
    if size < coarsest:
        raise InputError(f"{size} px is too small: these blocks stride over {coarsest} px")


def _row(block: Block) -> MSBlockConfig:
    """torchvision's row: 3 x 3 kernels over one time step, as the paper's image models have."""
    return MSBlockConfig(
        num_heads=block.heads,
        input_channels=block.width,
        output_channels=block.out,
        kernel_q=[1, 3, 3],
        kernel_kv=[1, 3, 3],
        stride_q=[1, block.stride_q, block.stride_q],
        stride_kv=[1, block.stride_kv, block.stride_kv],
    )


def parameters(net: nn.Module) -> int:
    """How many numbers the network holds."""
    return sum(p.numel() for p in net.parameters())
