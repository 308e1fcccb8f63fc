"""Image classifiers of transformers as teachers: ViT, DINOv2, ConvNeXt, ResNet, Swin, BEiT, DeiT, ... with their head.

A folder whose `config.json` says `...ForImageClassification`, as `save_pretrained` writes it of a fine-tuned network.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from glom.errors import InputError
from glom.teachers.base import Runtime, Teacher
from glom.teachers.own import as_grid
from glom.teachers.zero_shot import IMAGENET_SIZE, imagenet_classes

UNNAMED = re.compile(r"LABEL_\d+|\d+|")  # what transformers calls a row of which nothing was said


class ClassifierTeacher(Teacher):
    """Token: what the classifier's linear layer reads, (B, F). Grid: the last hidden state, without special tokens.

    DINOv2's classifier reads the class token and the mean of the patches side by side: its F is twice the grid's width.
    """

    def __init__(self, name: str, model: Any, transform: Callable[[Image.Image], Tensor], runtime: Runtime) -> None:
        self.config: Any = model.config
        self._vision: Any = getattr(self.config, "vision_config", self.config)
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        super().__init__(name, model, transform, 0, runtime, f"{self.config.to_json_string()}{transform!r}")
        head = next((m for m in reversed(list(model.modules())) if isinstance(m, nn.Linear)), None)
        if head is None or head.out_features != self.config.num_labels:
            raise InputError(f"{name}: its classifier is not one linear layer of {self.config.num_labels} rows")
        self._head = head
        ramp = torch.linspace(-1, 1, 3 * self.image_size**2).view(1, 3, self.image_size, self.image_size)
        token, hidden, logits = self._read(ramp.to(self.device, self._dtype))
        if token.ndim != 2 or not _alike(nn.functional.linear(token, head.weight, head.bias), logits):
            raise InputError(f"{name}: its scores are not one linear layer over one token a picture")
        self.width = token.shape[-1]
        self.prefix = self._special_tokens(hidden)
        self.patch = self.image_size // math.isqrt(_places(hidden) - self.prefix)
        # Convolutions, and DINOv2, take any size as it comes.
        self.own_size = self._vision.image_size if self._interpolates else self.image_size
        self.use_rows(head, row_names(self.config))

    @torch.inference_mode()
    def _read(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the head reads (B, F), the last hidden state, the scores (B, C)."""
        model: Any = self._model
        elsewhere = self._interpolates and self.image_size != self._vision.image_size
        options = {"interpolate_pos_encoding": True} if elsewhere else {}
        tokens: list[Tensor] = []
        hidden: list[Any] = []
        hooks = [
            self._head.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0])),
            body(model).register_forward_hook(lambda _, inputs, output: hidden.append(output[0])),
        ]
        try:
            scores = model(pixel_values=images, **options).logits
        finally:
            for hook in hooks:
                hook.remove()
        return tokens[0], hidden[0], scores

    def _special_tokens(self, hidden: Tensor) -> int:
        """How many tokens of the hidden state stand before the patches; 0 where it is a map."""
        if hidden.ndim != 3:
            return 0
        patch = getattr(self._vision, "patch_size", None)
        count = hidden.shape[1]
        extra = count - (self.image_size // patch) ** 2 if isinstance(patch, int) else -1
        return extra if 0 <= extra < count else count - math.isqrt(count) ** 2

    def _token(self, images: Tensor) -> Tensor:
        return self._read(images)[0]

    def _grid(self, images: Tensor) -> Tensor:
        hidden = self._read(images)[1]
        return as_grid(hidden[:, self.prefix :] if hidden.ndim == 3 else hidden, self.name)


def is_classifier(config: Any) -> bool:
    """Whether a configuration is of a network with an image classifier's head."""
    return any("ForImageClassification" in name for name in getattr(config, "architectures", None) or ())


def body(model: Any) -> nn.Module:
    """The network below the head."""
    return getattr(model, model.base_model_prefix, None) or model.vision_model


def row_names(config: Any) -> tuple[str, ...] | None:
    """`id2label` in the order of the rows, where it holds names; ImageNet's in CLIP's spelling; None otherwise."""
    names = [str(config.id2label.get(i, "")).strip() for i in range(config.num_labels)]
    if len(names) == IMAGENET_SIZE and names[0].startswith("tench") and names[-1].startswith("toilet"):
        return tuple(imagenet_classes())  # transformers' list has two cranes and two maillots
    if any(UNNAMED.fullmatch(name) for name in names) or len(set(names)) < len(names):
        return None
    return tuple(names)


def _places(hidden: Tensor) -> int:
    return hidden.shape[1] if hidden.ndim == 3 else hidden.shape[-2] * hidden.shape[-1]


def _alike(found: Tensor, wanted: Tensor) -> bool:
    size = float(wanted.abs().max())
    return found.shape == wanted.shape and torch.allclose(found.float(), wanted.float(), 1e-2, 1e-2 * size + 1e-6)
