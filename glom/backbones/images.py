"""Image models as a comparison: any teacher of the toolkit, its blocks read like a video model's."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from transformers import AutoModel

from glom.backbones.base import Backbone, resize_positions
from glom.errors import InputError
from glom.hubs import quiet
from glom.teachers.hf import DINO, TransformersTeacher
from glom.teachers.hf_classifiers import ClassifierTeacher, body
from glom.teachers.open_clip import CONFIG, OpenClipTeacher
from glom.teachers.own import OwnTeacher, as_grid
from glom.teachers.registry import GLOM_TINY, load_teacher
from glom.teachers.timm_models import TimmTeacher


class ImageBackbone(Backbone):
    """An image encoder read at its blocks. T is 1; a convolutional one is shown at twice its training size."""

    video = False

    def __init__(self, name: str, teacher: Any, whole: nn.Module) -> None:
        """`whole` is the module `build` makes anew; the part that is run is found in it."""
        self.teacher = teacher
        self._readers: dict[int, Any] = {}  # the teacher at other sizes
        size, norm = teacher.image_size, {"mean": teacher.mean, "std": teacher.std}
        super().__init__(name, "image model", whole, teacher.device, frames=1, size=size, patch=1, **norm)
        trunk = self.trunk
        stem = next((m for m in trunk.modules() if isinstance(m, nn.Conv2d)), None)
        self.patch_side = int(max(stem.stride)) if stem is not None else 1
        self.transformer = self._positions(trunk) is not None or hasattr(trunk, "set_input_size")
        self.what = f"{type(trunk).__name__}, image"
        if not self.transformer and not isinstance(teacher, TransformersTeacher | ClassifierTeacher):
            self.view = 2 * size
        self.remember()

    @property
    def trunk(self) -> Any:
        """The module that is called, and whose blocks are read."""
        if isinstance(self.teacher, OpenClipTeacher):
            visual = self.model.visual
            return visual.trunk if isinstance(visual, TimmModel) else visual
        if isinstance(self.teacher, TransformersTeacher) and self.teacher.family not in DINO:
            return self.model.vision_model
        if isinstance(self.teacher, ClassifierTeacher):
            return body(self.model)
        return self.model

    @property
    def layers(self) -> list[tuple[str, nn.Module]]:
        named = self.teacher.features if isinstance(self.teacher, OwnTeacher) else None
        try:
            return places(self.trunk, self.name)
        except InputError:
            if not isinstance(named, str):
                raise
            return [(named, self.model.get_submodule(named))]  # all that is known of such a network

    def build(self) -> nn.Module:
        if isinstance(self.teacher, TransformersTeacher):
            return AutoModel.from_config(self.model.config)
        if isinstance(self.teacher, ClassifierTeacher):
            return type(self.model)(self.model.config)
        if isinstance(self.teacher, OwnTeacher):
            return _drawn_anew(self.model, self.name)
        with quiet():
            if isinstance(self.teacher, TimmTeacher):
                return timm.create_model(architecture(self.model), pretrained=False, num_classes=self.model.num_classes)
            return open_clip.create_model(
                _open_clip_name(self.name),
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=self.teacher.quick_gelu,
            )

    def remember(self) -> None:
        positions = self._positions(self.trunk)
        self._trained = None if positions is None else positions.detach().clone()

    def _positions(self, trunk: Any) -> Tensor | None:
        found = getattr(trunk, "pos_embed", None)
        if found is None and isinstance(trunk, VisionTransformer):
            found = trunk.positional_embedding
        return found if isinstance(found, Tensor) else None

    def fit(self, frames: int, size: int) -> list[str]:
        self.check(frames, size)
        trunk = self.trunk
        if isinstance(self.teacher, TransformersTeacher | ClassifierTeacher):
            if size % self.teacher.patch:
                raise InputError(f"{self.name} needs a side in multiples of {self.teacher.patch}, got {size}")
            return self.size_note(frames, size, "position embeddings interpolated")
        if isinstance(trunk, VisionTransformer):
            assert self._trained is not None
            if size % self.patch_side:
                raise InputError(f"{self.name} needs a side in multiples of {self.patch_side}, got {size}")
            old, new = self.size // self.patch_side, size // self.patch_side
            spatial = resize_positions(self._trained[1:], (old, old), (new, new))
            both = torch.cat([self._trained[:1], spatial])
            trunk.positional_embedding = nn.Parameter(both, requires_grad=False)
            return self.size_note(frames, size, "position embeddings interpolated")
        if hasattr(trunk, "set_input_size"):
            self._set_timm_size(trunk, size)
            return self.size_note(frames, size, "position embeddings interpolated")
        if self._trained is not None and size != self.size:
            raise InputError(f"{self.name} reads {self.size} px only, got {size}")
        return self.size_note(frames, size, "a convolutional network, which needs nothing changed")

    def _set_timm_size(self, trunk: Any, size: int) -> None:
        """From the trained positions every time: resizing what was resized before would blur them."""
        try:
            if self._trained is not None:
                trunk.set_input_size(img_size=(self.size, self.size))
                trunk.pos_embed = nn.Parameter(self._trained.clone(), requires_grad=False)
            trunk.set_input_size(img_size=(size, size))
        except (AssertionError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.name} cannot be fitted to {size} px ({error})") from error

    def run(self, clip: Tensor) -> Any:
        images = clip.transpose(1, 2).flatten(0, 1)  # one, or the frames of an inflated network
        if isinstance(self.teacher, TransformersTeacher | ClassifierTeacher):
            takes = "interpolate_pos_encoding" in inspect.signature(self.trunk.forward).parameters
            return self.trunk(pixel_values=images, **({"interpolate_pos_encoding": True} if takes else {}))
        forward = getattr(self.trunk, "forward_features", self.trunk)
        # An open_clip ResNet ends in attention with positions of its own: every block before it has run by then.
        return forward(images)

    def classify(self, clip: Tensor, classes: Sequence[str] = ()) -> tuple[tuple[str, ...], Tensor] | None:
        names = tuple(classes) or self.teacher.classes
        if not names or self.model is not self.teacher.model:
            return None
        self.fit(clip.shape[1], clip.shape[2])
        size = clip.shape[2]
        if size not in self._readers:
            self._readers[size] = self.teacher.resized(size)  # the same weights
        teacher = self._readers[size]
        logits = teacher.zero_shot_head(names)(teacher.token(clip.transpose(0, 1).contiguous()))
        return names, logits.mean(0).softmax(-1).cpu()

    def grid(self, output: Any) -> Tensor:
        x = output[0] if isinstance(output, tuple | list) else output
        trunk = self.trunk
        if isinstance(self.teacher, OwnTeacher) and x.ndim == 4:
            return as_grid(x, self.name)
        if x.ndim == 4:
            return x if getattr(trunk, "output_fmt", "NCHW") == "NHWC" else x.permute(0, 2, 3, 1)
        if x.ndim == 2:  # transformers drops the batch where it is one
            x = x[None]
        if x.shape[1] == 1:  # tokens first: (N, 1, D)
            x = x.transpose(0, 1)
        tokens = x[:, self._prefix(trunk) :]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise InputError(f"{self.name}: {tokens.shape[1]} tokens form no square grid")
        return tokens.unflatten(1, (side, side))

    def _prefix(self, trunk: Any) -> int:
        if isinstance(self.teacher, TransformersTeacher | ClassifierTeacher):
            return self.teacher.prefix
        return 1 if isinstance(trunk, VisionTransformer) else int(getattr(trunk, "num_prefix_tokens", 0))


def load_image_backbone(name: str, device: str) -> Backbone:
    """Any name of the teachers' registry. Raises `InputError` as `load_teacher` does, or without blocks to read."""
    return as_backbone(load_teacher(name, device))


def as_backbone(teacher: Any) -> Backbone:
    """A loaded teacher read at its blocks. Raises `InputError` where no list of blocks is found in it."""
    backbone = ImageBackbone(teacher.name, teacher, teacher.model)
    _ = backbone.layers  # says now, not at the first picture, if there is nothing to read
    return backbone


def _drawn_anew(model: nn.Module, name: str) -> nn.Module:
    """A copy of a network with every parameter drawn again, each layer by its own `reset_parameters`."""
    twin = copy.deepcopy(model)
    for path, module in twin.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            kind = type(module).__name__
            raise InputError(f"{name}: '{path}', a {kind}, has no reset_parameters: it cannot be drawn at random")
        reset()
    return twin


def places(trunk: Any, name: str) -> list[tuple[str, nn.Module]]:
    """The blocks of a trunk in order: `blocks` (of stages where nested), `stages`, `layers`, or a ResNet's `layer1-4`.

    Raises:
        InputError: none of these.
    """
    resnet = [(f"layer{i}.{j}", b) for i in range(1, 5) for j, b in enumerate(getattr(trunk, f"layer{i}", []))]
    if resnet:
        return resnet
    for path in (
        "blocks",
        "transformer.resblocks",
        "encoder.layers",
        "encoder.layer",
        "encoder.stages",
        "layer",
        "stages",
        "layers",
    ):
        found: Any = trunk
        for part in path.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.Sequential | nn.ModuleList) and len(found):
            stem = getattr(trunk, "stem", None)
            first = [("stem", stem)] if path == "stages" and isinstance(stem, nn.Module) else []
            return first + [place for i, block in enumerate(found) for place in _inside(f"{path}.{i}", block)]
    raise InputError(f"{name}: no list of blocks was found in a {type(trunk).__name__}; its layers cannot be read")


def _inside(name: str, block: nn.Module) -> list[tuple[str, nn.Module]]:
    """A stage's own blocks, where it is a stage of blocks."""
    inner = getattr(block, "blocks", None)
    if isinstance(inner, nn.Sequential | nn.ModuleList) and len(inner):
        return [(f"{name}.blocks.{j}", b) for j, b in enumerate(inner)]
    # EfficientNet's stages hold blocks directly; glom-tiny's hold a convolution and residual blocks, read at the end.
    if isinstance(block, nn.Sequential) and name.startswith("blocks."):
        return [(f"{name}.{j}", b) for j, b in enumerate(block)]
    return [(name, block)]


def architecture(model: Any) -> str:
    """The name timm builds `model` by."""
    return str(model.default_cfg.get("architecture", type(model).__name__.lower()))


def _open_clip_name(name: str) -> str:
    """What `open_clip.create_model` calls it: an architecture, or a folder in its own format."""
    if name == "glom-tiny":
        return f"local-dir:{GLOM_TINY}"
    model = name.partition(":")[2].partition("@")[0]
    folder = Path(model.removeprefix("local-dir:")).expanduser()
    return f"local-dir:{folder}" if (folder / CONFIG).is_file() else model
