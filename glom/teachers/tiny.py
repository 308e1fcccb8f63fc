"""`glom_tiny_trunk`: the convolutional image tower of the shipped CLIP, registered with timm.

The tower is a small residual network in the style of the fast CIFAR-10 nets (Page 2018, "How to train your
ResNet"; Jordan 2024, "94% on CIFAR-10 in 3.29 seconds"), kept at an 8 x 8 grid to the end so that a 32 x 32
picture has a feature grid worth unfolding. Registering it with timm is what lets `open_clip_config.json` name it.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import reduce
from timm.models import register_model
from torch import Tensor, nn

# Stages as data: (channels, downsample, residual blocks).
STAGES: tuple[tuple[int, bool, int], ...] = ((64, True, 0), (192, True, 1), (256, False, 1))


def _conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + conv(x): one 3 x 3 convolution on the branch. (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class GlomTinyTrunk(nn.Module):
    """Stem and three stages, (B, 3, H, W) -> (B, 256, H/4, W/4), then an average pool and a classifier.

    The interface is timm's (`forward_features`, `forward_head`, `forward_intermediates`,
    `reset_classifier`), which is all open_clip asks of a trunk.
    """

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg", stem: int = 32) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = STAGES[-1][0]
        self.stem = _conv(in_chans, stem)
        stages, width = [], stem
        for channels, downsample, blocks in STAGES:
            layers: list[nn.Module] = [_conv(width, channels)]
            if downsample:
                layers.insert(1, nn.MaxPool2d(2))
            layers += [Residual(channels) for _ in range(blocks)]
            stages.append(nn.Sequential(*layers))
            width = channels
        self.stages = nn.ModuleList(stages)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier; `num_classes=0` leaves the pooled features, `global_pool=''` the grid."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 256, H/4, W/4)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_intermediates(
        self, x: Tensor, indices: Any = None, norm: bool = False, stop_early: bool = False, **_: Any
    ) -> Any:
        """The grid after every stage, (B, C, h, w) each; timm's calling convention."""
        del norm, stop_early
        x, grids = self.stem(x), []
        for stage in self.stages:
            x = stage(x)
            grids.append(x)
        if isinstance(indices, int):
            grids = grids[-indices:]
        elif indices is not None:
            grids = [grids[i] for i in indices]
        return grids if _.get("intermediates_only") else (x, grids)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, 256, h, w) -> (B, num_classes), or (B, 256) where there is no classifier."""
        if self.global_pool:
            x = reduce(x, "b c h w -> b c", "mean")
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def glom_tiny_trunk(pretrained: bool = False, **kwargs: Any) -> GlomTinyTrunk:
    """timm entry point. `pretrained` is refused: the weights come with the CLIP around it."""
    if pretrained:
        raise RuntimeError("glom_tiny_trunk has no weights of its own; load the CLIP 'glom-tiny' instead")
    known = {k: v for k, v in kwargs.items() if k in ("num_classes", "in_chans", "global_pool")}
    model = GlomTinyTrunk(**known)
    model.default_cfg = {"input_size": (3, 32, 32), "pool_size": (8, 8)}  # type: ignore[assignment]
    return model


torch.jit.ignore(GlomTinyTrunk.forward_intermediates)

TRAIN_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of the {}.",
    "{}",
    "the {}.",
    "a {}.",
    "a blurry photo of a {}.",
    "a low resolution photo of the {}.",
    "a tiny image showing a {}.",
    "a close-up photo of one {}.",
    "a cropped picture of a {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a good photo of the {}.",
    "my {} in a photo.",
    "there is a {} here.",
    "this is a {}.",
    "a noisy snapshot of a {}.",
    "we see a {} outdoors.",
    "a pixelated {}.",
    "one of many pictures of a {}.",
    "a clean photo of my {}.",
    "a photo of a weird {}.",
    "a photo of a nice {}.",
)
