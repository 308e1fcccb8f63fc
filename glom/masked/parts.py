"""Masked autoencoders on disk, and by name.

    config.json                  sizes, classes, how pictures are shown, the settings of test-time training
    mae.safetensors              encoder and decoder, pre-trained: what every part starts from
    PART.safetensors             what a part learned, by `MaskedClassifier`'s names: the head; encoder and head; all

`load_masked` takes the name of what ships, such a folder, or transformers' ViTMAE (which has no parts).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as T
from transformers import AutoConfig, ViTMAEForPreTraining

from glom.checkpoints import PRETRAINED
from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.errors import InputError, unknown
from glom.hubs import hub_access, local_access, local_path, looks_like_path
from glom.masked.adapt import AdaptSettings
from glom.masked.network import ATTENTION, HeadShape, MAEShape, MaskedClassifier, build_mae, readable
from glom.runs.artifacts import read_json, write_json
from glom.runs.saving import save_tensors
from glom.runs.seeds import fixed_seed
from glom.weights import check_finite, load_into, load_state_dict, state_sha256

ARCHITECTURE, VERSION = "masked-autoencoder", 1
CONFIG, WEIGHTS = "config.json", "mae.safetensors"
SHIPPED = ("mae-tiny",)
# What each part's training changes, by the beginnings of the names of its tensors.
PARTS: dict[str, tuple[str, ...]] = {
    "vit-probe": ("head.",),
    "fine-tune": ("mae.vit.", "head."),
    "joint-train": ("mae.", "head."),
}


@dataclass(frozen=True)
class View:
    """How a picture becomes (3, S, S).

    Attributes:
        size: S. mean, std: of the normalisation, for pixels in [0, 1].
        crop: whether the middle is cut out of a picture whose short side is S * 256 / 224, as for ImageNet; otherwise
            the whole picture is squeezed onto S x S.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crop: bool = True

    def __call__(self, image: Image.Image) -> Tensor:
        bicubic, s = T.InterpolationMode.BICUBIC, self.size
        pixels = T.functional.pil_to_tensor(image.convert("RGB"))
        if self.crop:
            pixels = T.functional.resize(pixels, [round(s * 256 / 224)], bicubic, antialias=True)
            pixels = T.functional.center_crop(pixels, [s, s])
        elif pixels.shape[1:] != (s, s):
            pixels = T.functional.resize(pixels, [s, s], bicubic, antialias=True)
        return self.normalise(pixels)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(..., 3, S, S) uint8 -> float, normalised."""
        mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (self.mean, self.std))
        return (pixels.float() / 255 - mean) / std


@dataclass(frozen=True)
class Masked:
    """A pre-trained masked autoencoder and the parts that come with it.

    Attributes:
        name: as it was asked for. mae: the network.
        head: sizes of the class head. classes: what the parts' heads know, in their order; empty without parts.
        view: how pictures are shown. adapt: its own settings of test-time training, or None.
        parts: name -> tensors by `MaskedClassifier`'s names.
    """

    name: str
    mae: ViTMAEForPreTraining
    head: HeadShape
    classes: tuple[str, ...]
    view: View
    adapt: AdaptSettings | None
    parts: Mapping[str, Mapping[str, Tensor]]

    def classifier(self, classes: int, seed: int = 0) -> MaskedClassifier:
        """The network with a head of random weights; equal seeds, equal heads."""
        with fixed_seed(seed):
            return MaskedClassifier(self.mae, self.head, classes).eval().requires_grad_(False)

    def fingerprint(self, part: str) -> str:
        """sha256 over everything that decides this part's answers."""
        state = {f"mae.{k}": v for k, v in self.mae.state_dict().items()} | dict(self.parts.get(part, {}))
        return state_sha256(state, str(self.head), str(self.view), *self.classes)


def part_of(model: MaskedClassifier, part: str) -> dict[str, Tensor]:
    """The tensors that training `part` changes."""
    return {k: v.detach() for k, v in model.state_dict().items() if k.startswith(PARTS[part])}


def load_part(model: MaskedClassifier, state: Mapping[str, Tensor], part: str, where: str | Path) -> None:
    """Copy a part's tensors into the model. Raises `InputError` where they do not fit."""
    own = part_of(model, part)
    missing, strange = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    if missing or strange or wrong:
        name = (missing + strange + wrong)[0]
        raise InputError(f"{where} does not fit the network it came with ('{name}'); the folder is damaged")
    check_finite(state, where)
    model.load_state_dict(dict(state), strict=False)


def load_masked(name: str) -> Masked:
    """Load `mae-tiny`, a folder of `apm train mae-tiny`, `hf:MODEL`, or a folder of transformers' ViTMAE.

    Raises:
        InputError: nothing of that name, a folder that holds neither, a newer format, damaged weights, a hub that
            cannot be reached.

    Example:
        >>> tiny = load_masked("mae-tiny")
        >>> tiny.classes[0], sorted(tiny.parts)
        ('airplane', ['fine-tune', 'joint-train', 'vit-probe'])
    """
    if name.startswith("hf:"):
        return _from_transformers(name, name.removeprefix("hf:"))
    folder = local_path(name)
    if name in SHIPPED and not folder.exists():
        folder = PRETRAINED / name
    if not folder.is_dir():
        if looks_like_path(name) or folder.exists():
            raise InputError(f"no such folder with a masked autoencoder: {name}")
        raise unknown("masked autoencoder", name, SHIPPED, "or give a folder, or hf:MODEL")
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder} holds no {CONFIG}; give a folder of `apm train mae-tiny` or of transformers' ViTMAE"
        )
    config = read_json(folder / CONFIG)
    if isinstance(config, dict) and "model_type" in config:
        return _from_transformers(name, str(folder))
    return _from_folder(name, folder, config)


def _from_folder(name: str, folder: Path, config: Any) -> Masked:
    path = folder / CONFIG
    if not isinstance(config, dict) or config.get("architecture") != ARCHITECTURE:
        raise InputError(f"{path} describes no masked autoencoder")
    version = config.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise InputError(f"{path} has format '{version}', this toolkit reads up to {VERSION}: update it")
    try:
        view: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["view"].items()}
        shape, head = MAEShape(**config["mae"]), HeadShape(**config["head"])
        adapt = AdaptSettings(**config["adapt"]) if config.get("adapt") else None
        classes = tuple(config["classes"])
        shown = View(**view)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is no configuration of a masked autoencoder ({error})") from error
    with fixed_seed():
        mae = build_mae(shape).eval().requires_grad_(False)
    load_into(mae, folder / WEIGHTS)
    found = {part: folder / f"{part}.safetensors" for part in PARTS}
    parts = {part: _as_float(load_state_dict(file)) for part, file in found.items() if file.is_file()}
    return Masked(name, mae, head, classes, shown, adapt, parts)


def _as_float(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() for name, tensor in state.items()}


def _from_transformers(name: str, model: str) -> Masked:
    folder = local_path(model)
    local = folder.is_dir()
    if not local and looks_like_path(model):
        raise InputError(f"no such model folder: {model}")
    hint = (
        "the folder must hold config.json and model.safetensors (or pytorch_model.bin with tensors only)"
        if local
        else "check the name, or give a local folder instead: hf:FOLDER"
    )
    where = str(folder) if local else model
    options: dict[str, Any] = {"local_files_only": local}
    with (local_access if local else hub_access)(name, hint), fixed_seed():
        kind = AutoConfig.from_pretrained(where, trust_remote_code=False, **options).model_type
        if kind != "vit_mae":
            raise InputError(f"{name} is a '{kind}' model; a masked autoencoder is a 'vit_mae'")
        loaded: Any = ViTMAEForPreTraining.from_pretrained(
            where,
            use_safetensors=None if local else True,  # a hub's .bin files are taken as it converted them
            weights_only=True,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
    mae, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(f"the weights of {name} lack {len(missing)} tensors: {missing[0]}, ...")
    check_finite(readable(mae).state_dict(), name)
    side = int(mae.config.image_size)
    return Masked(name, mae.eval().requires_grad_(False), HeadShape(), (), View(side), None, {})


def save_config(
    folder: Path,
    mae: MAEShape,
    head: HeadShape,
    classes: tuple[str, ...],
    view: View,
    adapt: AdaptSettings | None = None,
) -> None:
    """Write `config.json`. Raises `RunError` where the disk is full."""
    known = {"mae": asdict(mae), "head": asdict(head), "view": asdict(view), "adapt": asdict(adapt) if adapt else None}
    write_json(folder / CONFIG, {"architecture": ARCHITECTURE, "version": VERSION, "classes": list(classes), **known})


def save_half(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors in half precision. Raises `InputError` for what is not finite so, `RunError` for a full disk."""
    half = {k: v.detach().half() for k, v in state.items()}
    check_finite(half, path)
    save_tensors(path, half)
