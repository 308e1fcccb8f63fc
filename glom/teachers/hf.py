"""CLIP, SigLIP, DINOv2 and image classifiers of transformers: `hf:facebook/dinov2-large` from the hub, or `hf:FOLDER`.

Weights are safetensors, or read as tensors only; code that comes with a model is never run.

CLIP: Radford et al. 2021; SigLIP: Zhai et al. 2023; DINOv2: Oquab et al. 2023 (with registers: Darcet et al. 2024).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision import transforms as T
from torchvision.transforms import functional as TF
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.errors import InputError
from glom.hubs import first_line, hub_access, local_access, local_path, looks_like_path
from glom.runs.seeds import fixed_seed
from glom.teachers.base import Runtime, Teacher
from glom.teachers.hf_classifiers import ClassifierTeacher, is_classifier
from glom.teachers.registry import register_teacher
from glom.weights import check_finite, load_state_dict

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
DINO = ("dinov2", "dinov2_with_registers")
FAMILIES = ("clip", "siglip", *DINO)


class TransformersTeacher(Teacher):
    """A transformers model.

    Token: CLIP's projected embedding, SigLIP's attention-pooled one, DINOv2's class token after the final norm.
    Grid: the patch tokens after the final norm (CLIP's is `post_layernorm`), before any projection.
    """

    def __init__(
        self, name: str, model: nn.Module, transform: Callable[[Image.Image], Tensor], runtime: Runtime, tokenizer: Any
    ) -> None:
        """`tokenizer` is a transformers tokenizer, or the sentence saying why there is none."""
        config: Any = model.config
        self.family: str = config.model_type
        vision = config if self.family in DINO else config.vision_config
        if not getattr(vision, "vision_use_head", True):
            raise InputError(f"{name} was saved without its pooling head (vision_use_head: false): it has no token")
        width = config.projection_dim if self.family == "clip" else vision.hidden_size
        super().__init__(name, model, transform, width, runtime, f"{config.to_json_string()}{transform!r}")
        self.prefix = {"clip": 1, "siglip": 0}.get(self.family, 1 + getattr(config, "num_register_tokens", 0))
        self.patch: int = vision.patch_size
        self.own_size = self.image_size if self.family in DINO else vision.image_size
        self._tokenizer = tokenizer
        if self.family in DINO:
            return
        self.has_text = not isinstance(tokenizer, str)
        self.no_text = tokenizer if isinstance(tokenizer, str) else ""
        self.scale = float(model.logit_scale.detach().float().exp())  # type: ignore[operator,union-attr]
        self.logit_bias = float(model.logit_bias.detach().float()) if self.family == "siglip" else None  # type: ignore[operator,union-attr]
        self._length: int = config.text_config.max_position_embeddings

    def _vision(self, images: Tensor) -> Any:
        model: Any = self._model
        if self.family in DINO:  # interpolates its position codes by itself
            return model(pixel_values=images)
        own = model.config.vision_config.image_size
        return model.vision_model(pixel_values=images, interpolate_pos_encoding=self.image_size != own)

    def _token(self, images: Tensor) -> Tensor:
        out, model = self._vision(images), self._model
        if self.family == "clip":
            return model.visual_projection(out.pooler_output)  # type: ignore[operator]
        return out.last_hidden_state[:, 0] if self.family in DINO else out.pooler_output

    def _grid(self, images: Tensor) -> Tensor:
        tokens = self._vision(images).last_hidden_state[:, self.prefix :]
        if self.family == "clip":  # CLIP normalises only what it pools
            tokens = self._model.vision_model.post_layernorm(tokens)  # type: ignore[union-attr,operator]
        side = self.image_size // self.patch
        return tokens.unflatten(1, (side, side))

    def _texts(self, sentences: list[str]) -> Tensor:
        model: Any = self._model
        if self.family == "siglip":
            # SigLIP was trained on lower-case text without punctuation, padded to the full length, and without a mask.
            plain = [
                " ".join(s.translate(str.maketrans("", "", string.punctuation)).lower().split()) for s in sentences
            ]
            ids = self._tokenizer(
                plain, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
            )["input_ids"]
            return model.text_model(input_ids=ids.to(self.device)).pooler_output
        batch = self._tokenizer(
            sentences, padding=True, truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.device)
        out = model.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return model.text_projection(out.pooler_output)


def size_notes(own: Any, size: int, patch: int) -> list[str]:
    """Sentences about a picture size that the weights were not made for, or that patches do not fill."""
    notes = []
    if own != size:
        notes.append(
            f"its processor makes {size} px of a picture, the weights were made for {own} px: position codes "
            "are interpolated"
        )
    if size % patch:
        notes.append(
            f"{size} px is no multiple of its patch of {patch} px: the last {size % patch} px of each side are not read"
        )
    return notes


def try_out(teacher: Teacher) -> None:
    """Read one picture that is not square. Raises `InputError` for whatever would stop a run in its middle."""
    try:
        images = teacher.preprocess(Image.new("RGB", (90, 41)))[None]
        token = teacher.token(images)
        teacher.grid(images)
    except InputError:
        raise
    except Exception as error:  # models of the library raise nearly every kind there is
        raise InputError(
            f"{teacher.name} cannot read a picture ({first_line(error)}); config.json and "
            "preprocessor_config.json do not fit each other"
        ) from error
    if token.shape[-1] != teacher.width:
        raise InputError(
            f"{teacher.name}: its token has {token.shape[-1]} numbers, its configuration says {teacher.width}"
        )


@register_teacher("hf", "CLIP, SigLIP, DINOv2 and image classifiers of transformers")
def load_hf(name: str, model: str, weights: str | None, runtime: Runtime) -> TransformersTeacher | ClassifierTeacher:
    """Load `hf:MODEL`, a hub name or a local folder as `save_pretrained` writes it.

    Raises:
        InputError: no such folder or hub model, a hub that cannot be reached, a family not supported, weights that are
            missing, of the wrong shape, not finite, or not safetensors.
    """
    model = model if weights is None else f"{model}@{weights}"  # no weights part: a folder may have an @ in its name
    folder = local_path(model)
    if not folder.is_dir() and looks_like_path(model):
        raise InputError(f"no such model folder: {model}")
    local = folder.is_dir()
    where = str(folder) if local else model
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    hint = (
        "the folder must hold config.json and model.safetensors"
        if local
        else "check the name, or give a local folder instead: hf:FOLDER"
    )
    access = local_access if local else hub_access
    if local and not (folder / "config.json").is_file():
        raise InputError(f"no config.json in {folder}; {hint}")
    with access(name, hint), silent(), fixed_seed():
        config = AutoConfig.from_pretrained(where, **options)
        headed = is_classifier(config)
        if config.model_type not in FAMILIES and not headed:
            known = f"{', '.join(FAMILIES)} and whatever is saved as ...ForImageClassification"
            raise InputError(f"{name} is a '{config.model_type}' model; hf: reads {known}")
        kind: Any = AutoModelForImageClassification if headed else AutoModel
        state = _unusual_state(folder, config, kind) if local else None
        source: dict[str, Any] = {"use_safetensors": True} if state is None else {"state_dict": state}
        made: Any = kind if state is None else type(_empty(config, kind))
        built, info = made.from_pretrained(
            where if state is None else None,
            config=config,
            **source,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are listed below instead of raised as a page of text
            **options,
        )
        _check_loaded(name, built, info)
        processor = _processor(where, options)
        text = config.model_type not in DINO and not headed
        tokenizer = _tokenizer(where, options) if text else "it has no text encoder"
        if processor is None and config.model_type not in FAMILIES:
            raise InputError(
                f"no preprocessor_config.json in {where}: nobody knows the size, mean and deviation of the pictures "
                f"that this '{config.model_type}' was trained on; save its image processor there"
            )
    transform, crops, notes = _standard_transform(config) if processor is None else _processed(processor)
    teacher: TransformersTeacher | ClassifierTeacher
    if headed:
        with local_access(name, "config.json and preprocessor_config.json must fit each other"):
            teacher = ClassifierTeacher(name, built, transform, runtime)
    else:
        teacher = TransformersTeacher(name, built, transform, runtime, tokenizer)
    teacher.crops = crops
    teacher.notes.extend([*notes, *size_notes(teacher.own_size, teacher.image_size, teacher.patch)])
    try_out(teacher)
    return teacher


def _unusual_state(folder: Path, config: Any, kind: Any = AutoModel) -> dict[str, Tensor] | None:
    """The weights of a folder that transformers alone would not read: other file names, tensors in a .bin, prefixes.

    None where it reads them itself. Raises `InputError` where there are no weights, or code beside them.
    """
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise InputError(f"no weights in {folder}; it must hold model.safetensors (or pytorch_model.bin, tensors only)")
    own = _empty(config, kind).state_dict().keys()
    if (folder / "model.safetensors.index.json").is_file():
        return None
    if files[0].name == "model.safetensors":
        try:
            with safe_open(files[0], "pt") as opened:
                known = own & set(opened.keys())
        except (SafetensorError, OSError):
            return None  # said by the library, with the file's name
        if 2 * len(known) >= len(own):
            return None
    found: dict[str, Tensor] = {}
    for file in files:
        found |= load_state_dict(file, own)
    return found


def _empty(config: Any, kind: Any = AutoModel) -> nn.Module:
    """The model of a configuration, without memory for its weights."""
    with torch.device("meta"):
        return kind.from_config(config)


def _check_loaded(name: str, model: nn.Module, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys", ()))
    wrong = [
        f"{key} {tuple(found)} where the model has {tuple(own)}"
        for key, found, own in sorted(info.get("mismatched_keys", ()), key=str)
    ]
    for what, keys in (("of the wrong shape", wrong), ("missing", missing)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"the weights of {name} do not fit; {len(keys)} {what}: {', '.join(keys[:3])}{more}")
    check_finite(model.state_dict(), name)


class _Processed:
    """A transformers image processor as a function of one picture; with `cut`, the middle square of what it returns."""

    def __init__(self, processor: Any, cut: bool = False) -> None:
        self.processor, self.cut = processor, cut

    def __call__(self, image: Image.Image) -> Tensor:
        pixels = self.processor(images=image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        first = torch.as_tensor(pixels[0])
        return TF.crop(first, *_middle(*first.shape[-2:])) if self.cut else first

    def __repr__(self) -> str:
        return f"{type(self.processor).__name__} {self.processor.to_json_string()}" + (", cut" if self.cut else "")


def _middle(height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the middle square, where the library's own centre crop has it."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _processed(processor: Any) -> tuple[_Processed, bool, list[str]]:
    """The processor as a transform, whether it crops, and what had to be added: a square, where it makes none.

    One that brings the shorter side to a length and leaves the rest (no centre crop) gives tensors of as many shapes as
    there are pictures; an encoder of one square size can only read their middle.
    """
    plain = _Processed(processor)
    try:
        square, wide = (tuple(plain(Image.new("RGB", size)).shape[-2:]) for size in ((64, 64), (90, 41)))
    except (RuntimeError, ValueError, TypeError, KeyError):
        return plain, False, []  # said with the teacher's name when it is built
    ragged = len(set(square)) == 1 and len(set(wide)) > 1 and min(wide) == square[0]
    if not ragged or getattr(processor, "do_resize", True) is False:
        return plain, bool(getattr(processor, "do_center_crop", False)), []
    note = f"its processor does not crop; the middle {min(wide)} x {min(wide)} px of what it returns are read"
    return _Processed(processor, cut=True), True, [note]


def _processor(where: str, options: dict[str, Any]) -> Any:
    try:
        return AutoImageProcessor.from_pretrained(where, **options)
    except (OSError, ValueError):  # no preprocessor_config.json
        return None


def _standard_transform(config: Any) -> tuple[Callable[[Image.Image], Tensor], bool, list[str]]:
    """The family's published evaluation transform, for folders without `preprocessor_config.json`."""
    bicubic = T.InterpolationMode.BICUBIC
    if config.model_type == "clip":
        size, (mean, std) = config.vision_config.image_size, (CLIP_MEAN, CLIP_STD)
        steps: list[Any] = [T.Resize(size, bicubic), T.CenterCrop(size)]
    elif config.model_type == "siglip":
        size, (mean, std) = config.vision_config.image_size, (HALF, HALF)
        steps = [T.Resize((size, size), bicubic)]
    else:
        # DINOv2 is evaluated at 224 though its position code is laid out for 518; smaller ones at their own size.
        size, (mean, std) = min(224, config.image_size), (IMAGENET_MEAN, IMAGENET_STD)
        size -= size % config.patch_size
        steps = [T.Resize(round(size * 256 / 224), bicubic), T.CenterCrop(size)]
    note = f"no preprocessor_config.json; using {config.model_type}'s standard {size} px, mean {mean}, std {std}"
    return T.Compose([*steps, T.ToTensor(), T.Normalize(mean, std)]), config.model_type != "siglip", [note]


def _tokenizer(where: str, options: dict[str, Any]) -> Any:
    """The model's tokenizer, or why there is none: images can still be encoded without."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    except Exception:  # no tokenizer files, or one that needs a package that is not installed
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(where, **options)
        except Exception:
            return f"{where} has no tokenizer that can be read here (tokenizer.json)"
    # For a folder without any tokenizer file, some versions hand out an empty vocabulary instead of an error.
    if len(tokenizer) <= len(tokenizer.all_special_ids) + 1:
        return f"{where} has no tokenizer files (tokenizer.json)"
    return tokenizer


@contextmanager
def silent() -> Iterator[None]:
    """No progress bar for weights that are already here."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
