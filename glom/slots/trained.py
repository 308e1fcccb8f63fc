"""A trained network with slots on disk, and the masks it gives of a picture.

DIR/slots.safetensors   weights; its metadata holds the config and what is looked at: pixels, or which layer of whom
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glom.backbones.base import Backbone
from glom.backbones.video import clip_for, feature_grids, load_backbone
from glom.errors import InputError
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed, sample_seed
from glom.slots.config import SlotConfig
from glom.slots.model import FeatureSlots, PixelSlots, build
from glom.weights import check_finite, check_state, load_state_dict

FORMAT = "1"
WEIGHTS = "slots.safetensors"


@dataclass
class TrainedSlots:
    """Slots and what they look at.

    Attributes:
        model: in eval mode. facts: "backbone" ("" for pixels), "layer", "size" of what it is shown, "data", "step",
            and "of" how many.
        device: where the backbone runs, by name.
    """

    model: PixelSlots | FeatureSlots
    facts: dict[str, Any]
    device: str = "auto"

    @cached_property
    def backbone(self) -> Backbone | None:
        """The frozen network whose features are seen; None where pixels are."""
        return load_backbone(self.facts["backbone"], self.device) if self.facts["backbone"] else None

    def look(self, picture: Image.Image) -> Tensor:
        """What the slots see of a picture, the whole of it squeezed onto a square: (3, S, S), or (h, w, F).

        Raises:
            InputError: a picture smaller than one patch of the backbone.
        """
        if self.backbone is None:
            side = self.model.config.side
            squeezed = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            return torch.from_numpy(np.array(squeezed, np.float32) / 255).permute(2, 0, 1)
        return look(self.backbone, picture, self.facts["layer"], self.facts["size"])

    def masks(self, picture: Image.Image, seed: int = 0) -> NDArray[np.int64]:
        """Which slot has each pixel: (H, W) numbers 0 to K - 1, of the picture's size.

        Masks are enlarged linearly and the largest wins. Slots that begin drawn begin as `seed` draws them.
        """
        return self.share(self.look(picture), picture.height, picture.width, seed)

    def share(self, seen: Tensor, height: int, width: int, seed: int = 0) -> NDArray[np.int64]:
        """`masks` of what was looked at before."""
        config = self.model.config
        noise = torch.randn(
            1, config.slots, config.dim, generator=torch.Generator().manual_seed(sample_seed(seed, "slots", "masks"))
        )
        with torch.inference_mode():
            masks = self.model(seen[None], noise).masks
        if config.features:
            masks = masks.unflatten(2, (config.grid, config.grid))
        whole = F.interpolate(masks, size=(height, width), mode="bilinear", align_corners=False)
        return whole[0].argmax(0).numpy()

    def untrained(self, seed: int = 0) -> TrainedSlots:
        """The same with random weights, on the same features: what the training added."""
        model = new_model(self.model.config, seed)
        for name, buffer in self.model.named_buffers():
            model.get_buffer(name).copy_(buffer)
        found = TrainedSlots(model.eval(), self.facts, self.device)
        found.__dict__["backbone"] = self.backbone
        return found


def look(backbone: Backbone, picture: Image.Image, layer: int, size: int) -> Tensor:
    """One layer's grid of a picture, over time the mean: (h, w, F)."""
    clip = clip_for(backbone, picture, None, size)
    return feature_grids(backbone, clip, [layer], time="mean")[layer][0]


def new_model(config: SlotConfig, seed: int) -> PixelSlots | FeatureSlots:
    """Random weights that depend on the seed alone; torch's own generator is left as it was."""
    with fixed_seed(sample_seed(seed, "slots", "weights")):
        return build(config)


def save(folder: Path, model: PixelSlots | FeatureSlots, facts: Mapping[str, Any]) -> Path:
    """Write the weights with their config and `facts`; the old file stays until the new one is whole.

    Raises:
        InputError: weights that are not finite; nothing is written.
        RunError: the disk is full or the file cannot be written.
    """
    path = folder / WEIGHTS
    check_finite(model.state_dict(), path)
    about = {"format": FORMAT, "config": json.dumps(asdict(model.config)), "facts": json.dumps(dict(facts))}
    save_tensors(path, model.state_dict(), about)
    return path


def load(folder: str | Path, device: str = "auto") -> TrainedSlots:
    """Slots that were trained before, ready to look.

    Args:
        folder: the run folder of a training, or the `.safetensors` file itself.
        device: where the backbone runs; the slots are small and stay on the CPU.

    Raises:
        InputError: nothing there, no slots, another format, damaged weights.

    Example:
        >>> load("runs/slots").masks(picture).shape     # doctest: +SKIP
        (321, 481)
    """
    path = Path(folder)
    path = path / WEIGHTS if path.is_dir() else path
    if not path.is_file():
        raise InputError(
            f"{folder} holds no trained slots (no {WEIGHTS}); give the folder that `apm slots train` wrote"
        )
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
        if about.get("format") != FORMAT:
            raise InputError(f"{path} holds no slots of format {FORMAT}; train them again")
        config, facts = SlotConfig(**json.loads(about["config"])), json.loads(about["facts"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} holds no slots, or is truncated") from error
    model, state = new_model(config, 0), load_state_dict(path)
    check_state(model, state, path)
    model.load_state_dict(state)
    return TrainedSlots(model.eval(), facts, device)
