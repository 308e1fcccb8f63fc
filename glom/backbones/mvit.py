"""Multiscale vision transformers: torchvision's and pytorchvideo's.

torchvision:mvit_v2_s       MViTv2: decomposed relative positions, residual pooling (Li et al. 2022)
torchvision:mvit_v1_b       MViTv1: absolute positions (Fan et al. 2021)
pytorchvideo:mvit_base_*    MViTv1, the hub models of its authors
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models import video as tv

from glom.backbones.base import Backbone, conv_shape, resize_positions, tokens_to_grid
from glom.backbones.registry import register_backbone
from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.errors import InputError, unknown
from glom.hubs import first_line, local_path, reachable
from glom.runs.seeds import fixed_seed
from glom.weights import check_state, load_state_dict

TORCHVISION = {"mvit_v2_s": "MViTv2-S, video", "mvit_v1_b": "MViTv1-B, video"}
# (frames, what); all of them read 224 px.
PYTORCHVIDEO = {
    "mvit_base_16x4": (16, "MViTv1-B 16x4, video"),
    "mvit_base_32x3": (32, "MViTv1-B 32x3, video"),
    "mvit_base_16": (1, "MViTv1-B, image"),
}
KINETICS = {"mean": (0.45,) * 3, "std": (0.225,) * 3}
IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


class MViT(Backbone):
    """Either library's MViT: its blocks return (tokens, (T', h, w)), a class token first.

    Attributes:
        classes: names of the classifier's rows, where they are known.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, name: str, model: nn.Module, device: torch.device, **facts: Any) -> None:
        """`facts` are `Backbone`'s keywords and `what`; 224 px in patches of 4 px where they do not say."""
        what = facts.pop("what")
        super().__init__(name, what, model, device, **{"size": 224, "patch": 4, **facts})
        self.remember()

    @property
    def layers(self) -> list[tuple[str, nn.Module]]:
        return [(f"blocks.{i}", block) for i, block in enumerate(self.model.blocks)]

    def grid(self, output: Any) -> Tensor:
        tokens, shape = output
        return tokens_to_grid(tokens, tuple(shape), prefix=1)

    def run(self, clip: Tensor) -> Any:
        return self.model(clip)

    def classify(self, clip: Tensor, classes: Sequence[str] = ()) -> tuple[tuple[str, ...], Tensor] | None:
        if classes:
            raise InputError(f"{self.name} reads no text: leave `classes` out, it chooses among its own")
        self.fit(clip.shape[1], clip.shape[2])
        with torch.inference_mode():
            found = self.run(clip[None].to(self.device))[0].float().softmax(-1).cpu()
        return self.classes or tuple(f"class {row}" for row in range(len(found))), found


class TorchvisionMViT(MViT):
    """torchvision's `MViT`. Relative positions interpolate inside its forward; absolute ones are resized here."""

    def build(self) -> nn.Module:
        head: Any = self.model.head[-1]
        return getattr(tv, self.name.partition(":")[2].partition("@")[0])(num_classes=head.out_features)

    def remember(self) -> None:
        code = self.model.pos_encoding
        self._trained = (code.temporal_size, *code.spatial_size)
        self._spatial = None if code.spatial_pos is None else code.spatial_pos.detach().clone()
        self._temporal = None if code.temporal_pos is None else code.temporal_pos.detach().clone()

    def fit(self, frames: int, size: int) -> list[str]:
        self.check(frames, size)
        t, h, w = conv_shape(self.model.conv_proj, frames, size)
        code = self.model.pos_encoding
        code.temporal_size, code.spatial_size = t, (h, w)
        if self._spatial is None or self._temporal is None:
            return self.size_note(frames, size, "relative positions interpolated")
        code.spatial_pos = _frozen(resize_positions(self._spatial, self._trained[1:], (h, w)))
        code.temporal_pos = _frozen(resize_positions(self._temporal, self._trained[:1], (t,)))
        return self.size_note(frames, size, "position embeddings interpolated")


class PytorchvideoMViT(MViT):
    """pytorchvideo's `MultiscaleVisionTransformers`, with separate space and time embeddings."""

    def build(self) -> nn.Module:
        return _pytorchvideo(self.name.partition(":")[2].partition("@")[0], self.model.head.proj.out_features)

    def remember(self) -> None:
        code = self.model.cls_positional_encoding
        self._trained = tuple(code.patch_embed_shape)
        self._spatial = code.pos_embed_spatial.detach().clone()
        self._temporal = code.pos_embed_temporal.detach().clone()

    def fit(self, frames: int, size: int) -> list[str]:
        self.check(frames, size)
        shape = conv_shape(self.model.patch_embed.patch_model, frames, size)
        code = self.model.cls_positional_encoding
        code._patch_embed_shape = shape
        code.num_temporal_patch, code.num_spatial_patch = shape[0], shape[1] * shape[2]
        code.pos_embed_spatial = _frozen(resize_positions(self._spatial[0], self._trained[1:], shape[1:])[None])
        code.pos_embed_temporal = _frozen(resize_positions(self._temporal[0], self._trained[:1], shape[:1])[None])
        return self.size_note(frames, size, "position embeddings interpolated")

    def run(self, clip: Tensor) -> Any:
        return self.model(clip if self.video else clip[:, :, 0])


@register_backbone("torchvision", "MViT of torchvision")
def load_torchvision(name: str, model: str, weights: str | None, device: torch.device) -> Backbone:
    """`torchvision:mvit_v2_s@random|FILE|DEFAULT` (no weights named: DEFAULT).

    Raises:
        InputError: unknown model, weights that cannot be fetched, read, or that belong to another architecture.
    """
    if model not in TORCHVISION:
        raise unknown("torchvision video backbone", model, TORCHVISION)
    make = getattr(tv, model)
    classes, state = 400, None
    if weights in (None, "DEFAULT"):
        state = _download(name, get_model_weights(model).DEFAULT, model)
    elif weights != "random":
        with torch.device("meta"):
            own = make(num_classes=classes).state_dict().keys()
        state = load_state_dict(local_path(str(weights)), own)
        classes = state["head.1.weight"].shape[0] if "head.1.weight" in state else classes
    with fixed_seed():
        built = make(num_classes=classes)
    _fill(built, state, f"{weights}")
    backbone = TorchvisionMViT(name, built, device, what=TORCHVISION[model], frames=16, **KINETICS)
    if weights in (None, "DEFAULT"):
        backbone.classes = tuple(get_model_weights(model).DEFAULT.meta["categories"])
    return backbone


@register_backbone("pytorchvideo", "MViT of PyTorchVideo, from a file")
def load_pytorchvideo(name: str, model: str, weights: str | None, device: torch.device) -> Backbone:
    """`pytorchvideo:mvit_base_16x4@random|FILE`. Its hub files are pickles, which are not fetched here: give a file.

    Raises:
        InputError: unknown model, no weights named, or weights that do not fit.
    """
    if model not in PYTORCHVIDEO:
        raise unknown("pytorchvideo backbone", model, PYTORCHVIDEO)
    if weights in (None, "DEFAULT"):
        raise InputError(
            f"{name}: pytorchvideo's hub holds pickles, which are never run here; convert one to .safetensors "
            f"(docs/islands.md) and give pytorchvideo:{model}@FILE, or @random"
        )
    state = None if weights == "random" else load_state_dict(local_path(str(weights)))
    rows = None if state is None else state.get("head.proj.weight")
    frames, what = PYTORCHVIDEO[model]
    with fixed_seed():
        built = _pytorchvideo(model, None if rows is None else rows.shape[0])
    _fill(built, state, f"{weights}")
    colours = IMAGENET if frames == 1 else KINETICS
    backbone = PytorchvideoMViT(name, built, device, what=what, frames=frames, **colours)
    backbone.video = frames > 1
    return backbone


def _pytorchvideo(model: str, classes: int | None) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside a package that is no longer maintained
        from pytorchvideo.models.hub import vision_transformers

        options = {} if classes is None else {"head_num_classes": classes}
        return getattr(vision_transformers, model)(pretrained=False, **options)


def _fill(model: nn.Module, state: dict[str, Tensor] | None, source: str) -> None:
    if state is not None:
        check_state(model, state, source)
        model.load_state_dict(state, strict=True)


def _download(name: str, entry: Any, model: str) -> dict[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
    hint = f"give a local file instead: torchvision:{model}@FILE.safetensors, or @random"
    if not cached.is_file() and not reachable(entry.url):
        raise InputError(f"the weights of {name}: not in the local cache, and {entry.url} cannot be reached; {hint}")
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"the weights of {name} could not be loaded ({first_line(error)}); {hint}") from error


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
