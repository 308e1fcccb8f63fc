"""`mvit-v2-tiny` and `mvit-v2-photo` as backbones: what `config.json` says, the adapter, the loader.

The adapter takes any `build_mvit` network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glom.backbones.base import Backbone
from glom.backbones.mvit import TorchvisionMViT
from glom.backbones.mvit_tiny import TINY, Block, TinyMViT, build_mvit
from glom.backbones.registry import register_backbone
from glom.errors import InputError
from glom.hubs import local_path
from glom.runs.artifacts import read_json
from glom.runs.seeds import fixed_seed
from glom.weights import load_into

SHIPPED = Path(__file__).parent / "weights" / "mvit-v2-tiny"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "MODEL_CARD.md"


@dataclass(frozen=True)
class TinyConfig:
    """What `config.json` holds beside the weights: the network's rows and how it is shown pictures.

    Attributes:
        classes: names, in the order of the classifier's rows.
        blocks, size, frames, stride, pool: of `build_mvit`.
        view: side in pixels of the boring video a picture is shown as, if nothing else is said.
        mean, std: of the normalisation, for pixels in [0, 1].
    """

    classes: tuple[str, ...]
    blocks: tuple[Block, ...] = TINY
    size: int = 32
    frames: int = 2
    stride: int = 2
    pool: str = "mean"
    view: int = 160
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def recipe(self) -> dict[str, Any]:
        """`build_mvit`'s arguments."""
        keys = ("size", "frames", "blocks", "stride", "pool")
        return {k: getattr(self, k) for k in keys} | {"classes": len(self.classes)}

    def stages(self) -> list[tuple[int, int, int]]:
        """(grid's side at `size`, width, blocks) of each stage."""
        rows: list[tuple[int, int, int]] = []
        side = self.size // self.stride
        for block in self.blocks:
            side //= block.stride_q
            if rows and rows[-1][0] == side:
                rows[-1] = (side, block.out, rows[-1][2] + 1)
            else:
                rows.append((side, block.out, 1))
        return rows

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the name of what reads them first."""
        return {"architecture": "mvit-v2", **asdict(self)}

    @classmethod
    def from_json(cls, path: Path) -> TinyConfig:
        """Read `config.json`. Raises `InputError` where it is missing, damaged, or another model's."""
        value = read_json(path)
        if not isinstance(value, dict) or value.pop("architecture", None) != "mvit-v2":
            raise InputError(f"{path} describes no mvit-v2 network")
        try:
            rows = tuple(Block(**row) for row in value.pop("blocks"))
            lists: dict[str, Any] = {k: tuple(value.pop(k)) for k in ("classes", "mean", "std")}
            return cls(blocks=rows, **lists, **value)
        except (TypeError, KeyError) as error:
            raise InputError(f"{path} is no configuration of an mvit-v2 network ({error})") from error


class TinyBackbone(TorchvisionMViT):
    """Any `build_mvit` network as a backbone. It freezes the network: give it a copy of one in training."""

    def __init__(
        self,
        name: str,
        net: TinyMViT,
        device: torch.device,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        view: int | None = None,
    ) -> None:
        recipe = net.recipe
        facts: dict[str, Any] = {"frames": recipe["frames"], "size": recipe["size"], "patch": recipe["stride"]}
        super().__init__(name, net, device, what="MViTv2, small, video", mean=mean, std=std, **facts)
        self.view = view or self.size

    def build(self) -> nn.Module:
        return build_mvit(**self.model.recipe)


@register_backbone("mvit-v2-tiny", "the video transformer that ships, of small pictures")
@register_backbone("mvit-v2-photo", "the video transformer that ships, of photographs")
def _load(name: str, model: str, weights: str | None, device: torch.device) -> Backbone:
    return load_mvit(name, weights, device)


def load_mvit(name: str, weights: str | None, device: torch.device) -> Backbone:
    """`mvit-v2-tiny` or `mvit-v2-photo`; with `@random`, or `@FOLDER` of `apm train` (or a weights file).

    A file is read with the `config.json` beside it, or else as the shipped architecture of that name.

    Raises:
        InputError: weights that are missing, damaged, or another architecture's.
    """
    own = name.partition("@")[0]
    shipped = SHIPPED.with_name(own)
    path = shipped / WEIGHTS
    if weights not in (None, "random"):
        path = local_path(str(weights))
        path = path / WEIGHTS if path.is_dir() else path
    beside = path.with_name(CONFIG)
    config = TinyConfig.from_json(beside if beside.is_file() else shipped / CONFIG)
    with fixed_seed():
        net = build_mvit(**config.recipe())
    if weights != "random":
        if path.parent == shipped and not path.is_file():
            raise InputError(f"the weights of {own} are missing from this installation; reinstall glom-apm")
        load_into(net, path)
    backbone = TinyBackbone(name, net, device, config.mean, config.std, config.view)
    backbone.classes = config.classes
    return backbone
