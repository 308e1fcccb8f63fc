"""timm models as teachers: `timm:NAME[.TAG]` from the hub, `timm:NAME@FILE.safetensors`, `timm:NAME@random`.

Their zero-shot head is their own classifier (Wightman 2019, "PyTorch Image Models").
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, create_transform, infer_imagenet_subset, resolve_data_config
from torch import Tensor, nn

from glom.errors import InputError, unknown
from glom.hubs import hub_access, local_access, local_path
from glom.runs.notices import notice
from glom.runs.seeds import fixed_seed
from glom.teachers.base import Runtime, Teacher
from glom.teachers.registry import register_teacher
from glom.teachers.zero_shot import IMAGENET_SIZE, imagenet_classes
from glom.weights import check_finite, check_state, load_state_dict

SHOWN = ("input_size", "mean", "std", "interpolation", "crop_pct")


class TimmTeacher(Teacher):
    """A timm model. Token: the pooled features its classifier reads. Grid: the last feature map, (B, h, w, C).

    The classifier's rows are the zero-shot head where they are linear in the token and their class names are known:
    ImageNet's for 1,000 classes, those in timm's own metadata, or those that `name_classes` gives.
    """

    def __init__(self, name: str, model: Any, config: dict[str, Any], runtime: Runtime) -> None:
        """`config` is timm's resolved data configuration: input size, interpolation, crop, mean and std."""
        self.config, transform = config, create_transform(**config, is_training=False)
        architecture = f"timm:{model.default_cfg.get('architecture', type(model).__name__)}"
        identity = architecture + json.dumps(config, sort_keys=True, default=str)
        super().__init__(name, model, transform, 0, runtime, identity)
        self.crops = config.get("crop_mode", "center") == "center"
        images = torch.linspace(-1, 1, 3 * self.image_size**2).view(1, 3, self.image_size, self.image_size)
        with torch.inference_mode():
            features = model.forward_features(self._checked(images))
            token = model.forward_head(features, pre_logits=True)
            logits = model.forward_head(features)
        if token.ndim != 2:
            raise InputError(f"{name} has no pooled features: its head gives {tuple(token.shape)}")
        self.width = token.shape[-1]
        self.has_grid = self._as_grid(features) is not None
        names, layer = class_names(model), model.get_classifier()
        if isinstance(layer, nn.Linear) and layer.in_features == self.width:
            own = nn.functional.linear(token, layer.weight, layer.bias)
            if torch.allclose(own.float(), logits.float(), rtol=1e-2, atol=1e-2 * float(logits.abs().max()) + 1e-6):
                self.use_rows(layer, names)

    def _token(self, images: Tensor) -> Tensor:
        model: Any = self._model
        return model.forward_head(model.forward_features(images), pre_logits=True)

    def _grid(self, images: Tensor) -> Tensor:
        model: Any = self._model
        grid = self._as_grid(model.forward_features(images))
        assert grid is not None  # as it was when the model was loaded
        return grid

    def _as_grid(self, features: Any) -> Tensor | None:
        """timm's features, (B, C, h, w), (B, h, w, C) or (B, prefix + h w, C), as (B, h, w, C)."""
        model: Any = self._model
        if not isinstance(features, Tensor):
            return None
        if features.ndim == 4:
            last = getattr(model, "output_fmt", "NCHW") == "NHWC" or (
                features.shape[1] != model.num_features and features.shape[-1] == model.num_features
            )
            return features if last else features.permute(0, 2, 3, 1)
        if features.ndim != 3:
            return None
        tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
        h, w = getattr(getattr(model, "patch_embed", None), "grid_size", None) or (round(tokens.shape[1] ** 0.5),) * 2
        return tokens.unflatten(1, (h, w)) if h * w == tokens.shape[1] else None


def class_names(model: Any) -> Sequence[str] | None:
    """The classifier's class names: ImageNet-1k's in CLIP's spelling, or what timm's metadata says; None if unknown."""
    count = model.num_classes
    labels = model.default_cfg.get("label_names") if isinstance(model.default_cfg, dict) else None
    if labels and len(labels) == count:
        return tuple(labels)
    if count == IMAGENET_SIZE:
        return imagenet_classes()
    subset = infer_imagenet_subset(model.default_cfg) if count else None
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(count)) if info.num_classes() == count else None


@register_teacher("timm", "timm models and their classifiers")
def load_timm(name: str, model: str, weights: str | None, runtime: Runtime) -> TimmTeacher:
    """Load `timm:MODEL[@WEIGHTS]`.

    Args:
        name: the full name, for messages.
        model: an architecture of `timm.list_models()`, with a pretrained tag after a dot or without.
        weights: a local file, `random`, or None for the tag's weights from the hub.
        runtime: device and precision.

    Raises:
        InputError: unknown architecture or tag, a hub that cannot be reached, weights that do not fit.
    """
    architecture, _, tag = model.partition(".")
    if architecture not in timm.list_models():
        raise unknown("timm model", architecture, timm.list_models())
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise unknown(f"weights tag of timm:{architecture}", tag, tags or ["none"])
    hint = f"give a local file of the same weights instead: timm:{model}@FILE.safetensors"
    built: Any
    if weights is None:
        if not tags:
            raise InputError(f"timm has no weights for '{architecture}'; {hint}, or timm:{architecture}@random")
        with hub_access(f"the weights of {name}", hint), fixed_seed():
            built = timm.create_model(model, pretrained=True)
        check_finite(built.state_dict(), name)
    elif weights == "random":
        with local_access(name, hint), fixed_seed():
            built = timm.create_model(model, pretrained=False)
    else:
        with local_access(name, hint), fixed_seed():
            built = _from_file(model, local_path(weights))
    teacher = TimmTeacher(name, built, resolve_data_config({}, model=built), runtime)
    if weights not in (None, "random") and teacher.classes == imagenet_classes():
        teacher.notes.append(
            f"the {IMAGENET_SIZE} rows of its classifier are taken for ImageNet's classes, in their order"
        )
    if weights not in (None, "random") and not tag:
        teacher.notes.append(_assumed(architecture, tags, built.default_cfg.get("tag", ""), teacher.config))
    return teacher


def _assumed(architecture: str, tags: list[str], taken: str, config: dict[str, Any]) -> str:
    """The preprocessing that a weights file without a tag is given, as a sentence."""
    shown = ", ".join(f"{key} {config[key]}" for key in SHOWN)
    cfgs: list[Any] = [timm.get_pretrained_cfg(f"{architecture}.{tag}") for tag in tags]
    known = [resolve_data_config(cfg.to_dict()) for cfg in cfgs]
    differ = [key for key in SHOWN if len({str(other[key]) for other in known}) > 1]
    said = f"the weights file does not say its preprocessing; assumed: {shown} (timm's for {architecture}"
    said += f".{taken})" if taken else ")"
    if not differ:
        return said
    return f"{said}; published weights differ in {', '.join(differ)}: timm:{architecture}.TAG@FILE takes a tag's"


def _from_file(model: str, path: Path) -> Any:
    """A model with a file's weights, its classifier as large as the file's (none for features alone).

    Position codes of another picture size, and the names of other people's checkpoints (DINOv2's own), are converted
    by timm's own filter for the architecture.
    """
    built: Any = timm.create_model(model, pretrained=False)
    state = load_state_dict(path, built.state_dict().keys())
    cfg = timm.get_pretrained_cfg(model)
    classifier = cfg.classifier if cfg is not None else None
    if isinstance(classifier, str):
        rows = state.get(f"{classifier}.weight")
        count = 0 if rows is None else rows.shape[0]
        if count != built.num_classes:
            built = timm.create_model(model, pretrained=False, num_classes=count)
    convert = getattr(
        sys.modules[timm.model_entrypoint(model.partition(".")[0]).__module__], "checkpoint_filter_fn", None
    )
    if convert is not None and not _fits(built, state):
        before = {key: tuple(value.shape) for key, value in state.items()}
        # What the filter does not know either is named below.
        with suppress(RuntimeError, KeyError, ValueError, AttributeError, TypeError, IndexError):
            state = convert(state, built)
        changed = [
            f"{k} {before[k]} -> {tuple(v.shape)}" for k, v in state.items() if before.get(k, v.shape) != v.shape
        ]
        if changed:
            notice(f"{path} was made for another picture or patch size; resized: {', '.join(changed)}")
    check_state(built, state, path)
    built.load_state_dict(state, strict=True)
    return built


def _fits(model: Any, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(own[key].shape == value.shape for key, value in state.items())
