"""Checkpoints of the official release (github.com/rajatmodi62/apm), read into this toolkit's machine.

Two networks were published, each as a `state_dict` in a pickle file, which is read as tensors alone:

    pre-training   fc1 ... fc5, feat_proj_head, rgb_head_1 ... 3, conv1       (its `model.py`)
    test-time      fc1, fc4, fc5, the same heads, little_query, little_self_attention, norm
                   (`single_token_segmentation/model.py`; saved whole, it lies under `backbone.` beside the teacher)

Names become `conv1 -> fold.conv`, `fc* -> trunk.0 ...` in order, `feat_proj_head -> feature_head`,
`rgb_head_1 ... 3 -> rgb_head.0 ... 2`, `little_query -> query`, `little_self_attention -> attention`. `norm`, which the
forward never calls, is dropped. What weights cannot say is the release's: 8 heads, as many cells a side as the column's
root, ReLUs, one of them on the colours.

The two networks were shown different pictures: the test-time one RGB normalised by ImageNet's mean and deviation, the
pre-trained one BGR scaled so that its darkest value is 0 and its brightest 1. `PIXELS` says so, and a machine that was
read here folds and decodes accordingly.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm
from glom.errors import InputError
from glom.weights import check_finite, load_state_dict

HEADS = 8
PIXELS = {"pre-training": "bgr-minmax", "test-time": "imagenet"}
ALWAYS = ("conv1", "fc1", "feat_proj_head", "rgb_head_1", "rgb_head_2", "rgb_head_3")
NAMES = tuple(
    f"{layer}.{part}" for layer in (*ALWAYS, *(f"fc{n}" for n in range(2, 10))) for part in ("weight", "bias")
)


def read_official(path: str | Path) -> tuple[AsynchronousPerceptionMachine, dict[str, Any]]:
    """A published checkpoint as an APM that gives the release's outputs, and what is known about it.

    Args:
        path: a `.pth`, `.pt` or `.safetensors` file; wrappers (`module.`, `state_dict`, `backbone.`) come off.

    Returns:
        the machine in eval mode; `official` ("pre-training" or "test-time"), `pixels`, `dropped` and `assumed`.

    Raises:
        InputError: no such file, a pickle with code, tensors of another network, or widths that do not fit together.
    """
    state = load_state_dict(path, NAMES)
    lacking = [name for layer in ALWAYS for name in (f"{layer}.weight", f"{layer}.bias") if name not in state]
    if lacking:
        raise InputError(
            f"{path} is no checkpoint of the official release: {len(lacking)} of its tensors are missing, such as "
            f"{lacking[0]}"
        )
    check_finite(state, path)
    trunk = sorted({int(found[1]) for name in state if (found := re.fullmatch(r"fc(\d+)\.weight", name))})
    config = _config(state, trunk, Path(path))
    apm = blank_apm(config)
    renamed = {_renamed(name, trunk): tensor.float() for name, tensor in state.items() if not name.startswith("norm.")}
    own = apm.state_dict()
    strange = sorted(set(renamed) ^ set(own))
    wrong = sorted(name for name in set(renamed) & set(own) if renamed[name].shape != own[name].shape)
    if strange or wrong:
        name = (strange or wrong)[0]
        what = (
            "does not belong to either published network"
            if strange
            else (f"is {tuple(renamed[name].shape)} where the other widths ask for {tuple(own[name].shape)}")
        )
        raise InputError(f"{path}: '{name}' {what}")
    apm.load_state_dict(renamed)
    kind = "test-time" if "little_query" in state else "pre-training"
    about: dict[str, Any] = {"official": kind, "pixels": PIXELS[kind]}
    about["dropped"] = [name for name in state if name.startswith("norm.")]
    about["assumed"] = f"{config.cells} x {config.cells} cells" + (
        f", {HEADS} heads" if config.readout == "attention" else ""
    )
    return apm.eval(), about


def _config(state: dict[str, Tensor], trunk: list[int], path: Path) -> APMConfig:
    """The configuration that a checkpoint's shapes speak of."""
    channels, _, patch, _ = state["conv1.weight"].shape if state["conv1.weight"].ndim == 4 else (0, 0, 0, 0)
    column = state["fc1.weight"].shape[-1] // 2
    side = math.isqrt(column // channels) if channels else 0
    if not side or side * side * channels != column or column % 4:
        raise InputError(
            f"{path}: fc1 reads columns of width {column}, which {channels} channels on a square do not make"
        )
    features = len(state["feat_proj_head.bias"])
    attention = "little_query" in state
    if attention and (features % HEADS or features % 4):
        raise InputError(f"{path}: features of width {features} do not divide into the release's {HEADS} heads")
    return APMConfig(
        features=features,
        image_size=side * patch,
        patch=patch,
        channels=channels,
        cells=side,
        trunk=tuple(len(state[f"fc{n}.bias"]) for n in trunk),
        readout="attention" if attention else "mean",
        heads=HEADS if attention else 1,
        rgb=(len(state["rgb_head_1.bias"]), len(state["rgb_head_2.bias"])),
        rgb_relu=True,
    )


def _renamed(name: str, trunk: list[int]) -> str:
    layer, _, part = name.partition(".")
    if found := re.fullmatch(r"fc(\d+)", layer):
        return f"trunk.{trunk.index(int(found[1]))}.{part}"
    if found := re.fullmatch(r"rgb_head_(\d+)", layer):
        return f"rgb_head.{int(found[1]) - 1}.{part}"
    place = {"conv1": "fold.conv", "feat_proj_head": "feature_head", "little_self_attention": "attention"}
    return "query" if name == "little_query" else f"{place.get(layer, layer)}.{part}"
