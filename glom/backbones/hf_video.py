"""VideoMAE (Tong et al. 2022) and TimeSformer (Bertasius et al. 2021) from transformers.

hf:FOLDER_OR_NAME                       saved with save_pretrained, or from the hub (safetensors only)
hf-random:videomae, hf-random:timesformer    the base architecture with random weights: for tests and timing
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    TimesformerConfig,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEModel,
)

from glom.backbones.base import Backbone, resize_positions, tokens_to_grid
from glom.backbones.images import load_image_backbone
from glom.backbones.registry import register_backbone
from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.errors import InputError, unknown
from glom.hubs import hub_access, local_access, local_path, looks_like_path
from glom.runs.seeds import fixed_seed
from glom.teachers.hf import silent
from glom.weights import check_finite

MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    "videomae": (VideoMAEConfig, VideoMAEModel),
    "timesformer": (TimesformerConfig, TimesformerModel),
}


class TransformersVideo(Backbone):
    """What the two share: pixels as (B, T, C, H, W), a list of layers that return tokens."""

    def __init__(self, name: str, model: Any, device: torch.device) -> None:
        config = model.config
        what = f"{type(model).__name__.removesuffix('Model')}, video"
        facts: dict[str, Any] = {"frames": config.num_frames, "size": config.image_size, "patch": config.patch_size}
        super().__init__(name, what, model, device, **facts, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        self._shape = (0, 0, 0)
        self.remember()

    @property
    def layers(self) -> list[tuple[str, nn.Module]]:
        return [(f"layer.{i}", layer) for i, layer in enumerate(self.model.encoder.layer)]

    def build(self) -> nn.Module:
        return type(self.model)(type(self.model.config)(**{**self.model.config.to_dict(), **self._built_for()}))

    def _built_for(self) -> dict[str, int]:
        return {"num_frames": self.frames, "image_size": self.size}

    def run(self, clip: Tensor) -> Any:
        return self.model(pixel_values=clip.transpose(1, 2))


class VideoMAE(TransformersVideo):
    """No class token; a fixed sinusoidal table over (T', h, w), resized trilinearly for other sizes."""

    def remember(self) -> None:
        self._table = self.model.embeddings.position_embeddings.detach().clone()

    def fit(self, frames: int, size: int) -> list[str]:
        self.check(frames, size)
        tube = self.model.config.tubelet_size
        if frames % tube or size % self.patch_side:
            raise InputError(
                f"{self.name} needs frames in multiples of {tube} and a side in multiples of {self.patch_side}"
            )
        side, own = size // self.patch_side, self.size // self.patch_side
        self._shape = (frames // tube, side, side)
        embed = self.model.embeddings
        embed.patch_embeddings.image_size = (size, size)
        embed.position_embeddings = resize_positions(self._table[0], (self.frames // tube, own, own), self._shape)[None]
        return self.size_note(frames, size, "position table interpolated")

    def grid(self, output: Any) -> Tensor:
        return tokens_to_grid(_first(output), self._shape, prefix=0)


class TimeSformer(TransformersVideo):
    """A class token, then tokens with time running fastest; its own forward resizes the embeddings (nearest)."""

    def fit(self, frames: int, size: int) -> list[str]:
        self.check(frames, size)
        if size % self.patch_side:
            raise InputError(f"{self.name} needs a side in multiples of {self.patch_side}, got {size}")
        side = size // self.patch_side
        self._shape = (frames, side, side)
        # Every layer shares this configuration and reads the clip's size from it.
        for module in self.model.modules():
            if isinstance(getattr(module, "config", None), TimesformerConfig):
                module.config.num_frames, module.config.image_size = frames, size
        return self.size_note(frames, size, "position and time embeddings interpolated (nearest)")

    def grid(self, output: Any) -> Tensor:
        t, h, w = self._shape
        return tokens_to_grid(_first(output), (h, w, t), prefix=1).permute(2, 0, 1, 3)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output


def is_video_folder(rest: str) -> bool:
    """Whether `hf:REST` is one of these two; the hub is asked where it is no local folder."""
    return _config(rest).model_type in MODELS


def load_hf_video(name: str, rest: str, device: torch.device) -> Backbone:
    """`hf:REST` for a VideoMAE or TimeSformer.

    Raises:
        InputError: no such folder, a hub out of reach, weights that are missing or damaged.
    """
    kind = _config(rest).model_type
    path = local_path(rest)
    access = local_access if path.is_dir() else hub_access
    with access(name, "give a local folder instead: hf:FOLDER"), silent(), fixed_seed():
        model, report = MODELS[kind][1].from_pretrained(
            str(path) if path.is_dir() else rest, use_safetensors=True, output_loading_info=True
        )
    if report["missing_keys"]:
        lost = sorted(report["missing_keys"])
        raise InputError(f"{name} lacks {len(lost)} of the model's weights ({', '.join(lost[:3])}); it is not {kind}'s")
    check_finite(model.state_dict(), name)
    return _wrap(name, kind, model, device)


@register_backbone("hf", "VideoMAE, TimeSformer, or an image model of transformers")
def load_hf(name: str, model: str, weights: str | None, device: torch.device) -> Backbone:
    """`hf:NAME_OR_FOLDER`: a video model, else the teacher of that name. Raises `InputError` as both do."""
    rest = model if weights is None else f"{model}@{weights}"
    return load_hf_video(name, rest, device) if is_video_folder(rest) else load_image_backbone(name, str(device))


@register_backbone("hf-random", "VideoMAE or TimeSformer, random weights")
def load_hf_random(name: str, kind: str, weights: str | None, device: torch.device) -> Backbone:
    """`hf-random:KIND`: the base architecture, random weights. Raises `InputError` for another kind."""
    if kind not in MODELS or weights is not None:
        raise unknown("transformers video backbone", name.partition(":")[2], MODELS)
    config, model = MODELS[kind]
    with fixed_seed():
        return _wrap(name, kind, model(config()), device)


def _wrap(name: str, kind: str, model: Any, device: torch.device) -> Backbone:
    return (VideoMAE if kind == "videomae" else TimeSformer)(name, model, device)


def _config(rest: str) -> Any:
    path = local_path(rest)
    if looks_like_path(rest) and not path.is_dir():
        raise InputError(f"no such folder: {path}")
    access = local_access if path.is_dir() else hub_access
    with access(f"hf:{rest}", "give a local folder instead: hf:FOLDER"):
        return AutoConfig.from_pretrained(str(path) if path.is_dir() else rest)
