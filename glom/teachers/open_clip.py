"""open_clip models as teachers: any architecture and pretrained tag, a local file, or a folder in open_clip's format.

`open_clip:ViT-L-14@openai`, `open_clip:ViT-L-14@openai=weights.safetensors`, `open_clip:ViT-B-32@random` (random
weights, the same every time: for tests and timing), `open_clip:FOLDER` with `open_clip_config.json` and a weights file
beside it, and `open_clip:hf-hub:ORG/NAME`, such a folder on the hub. A weights file holds neither its activation
(QuickGELU or GELU) nor its preprocessing: the tag it stems from says both.

The shipped `glom-tiny` is such a folder, in open_clip's own format: once `glom.teachers.tiny` is imported (it registers
the image tower with timm), `open_clip.create_model_and_transforms("local-dir:FOLDER")` loads it too.

CLIP: Radford et al. 2021; OpenCLIP: Cherti et al. 2023; SigLIP's bias: Zhai et al. 2023.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from glom.errors import InputError, unknown
from glom.hubs import first_line, hub_access, local_access, local_path, looks_like_path, reachable
from glom.runs.notices import notice
from glom.runs.seeds import fixed_seed
from glom.teachers import registry
from glom.teachers.base import Runtime, Teacher
from glom.teachers.registry import register_teacher
from glom.teachers.tiny import GlomTinyTrunk
from glom.weights import TORCH_SUFFIXES, check_state, load_state_dict

CONFIG = "open_clip_config.json"
# As open_clip and transformers name them, safetensors first; torch files are read as tensors only.
STEMS = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
FOLDER_WEIGHTS = tuple(stem + suffix for suffix in (".safetensors", *TORCH_SUFFIXES) for stem in STEMS)
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
FILE = "FILE.safetensors"
HUB = "hf-hub:"  # before a model's name on the hub, as open_clip writes it
DEFAULT = "default"  # before a file: open_clip's own settings, those of weights trained without a tag


class OpenClipTeacher(Teacher):
    """An open_clip model. The token is the image embedding in the joint space, before normalisation.

    The grid is the last spatial map: a ViT's patch tokens after the final norm, a convolutional tower's last features.
    glom-tiny's is projected into the joint space by its head: average pooling and a linear map commute, so the mean of
    the grid is the token.
    """

    quick_gelu: bool = False  # whether its tag asks for QuickGELU where the architecture does not

    def __init__(self, name: str, model: Any, identity: str, runtime: Runtime, tokenizer: Any) -> None:
        """`tokenizer` is a callable, or the sentence saying why there is none."""
        cfg = dict(model.visual.preprocess_cfg)
        transform = image_transform_v2(PreprocessCfg(**cfg), is_train=False)
        super().__init__(name, model, transform, 0, runtime, identity + json.dumps(cfg, sort_keys=True))
        self.crops = cfg.get("resize_mode") == "shortest"
        self.visual: Any = model.visual
        self.has_grid = isinstance(self.visual, VisionTransformer | ModifiedResNet) or (
            isinstance(self.visual, TimmModel) and hasattr(self.visual.trunk, "forward_intermediates")
        )
        self.scale = float(model.logit_scale.detach().float().exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = None if bias is None else float(bias.detach().float())
        self.has_text = not isinstance(tokenizer, str)
        self.no_text = tokenizer if isinstance(tokenizer, str) else ""
        self._tokenizer = tokenizer
        blank = torch.zeros(1, 3, self.image_size, self.image_size)
        self.width = self.token(blank).shape[-1]

    def _token(self, images: Tensor) -> Tensor:
        # CoCa normalises unless told not to.
        return self._model.encode_image(images, normalize=False)  # type: ignore[operator]

    def _grid(self, images: Tensor) -> Tensor:
        visual = self.visual
        if isinstance(visual, TimmModel):
            if isinstance(visual.trunk, GlomTinyTrunk):
                return visual.head(visual.trunk.forward_features(images).permute(0, 2, 3, 1))
            out = visual.trunk.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
            return out[-1].permute(0, 2, 3, 1)
        # Where attention pools the tokens, the final norm comes after it and has another width.
        norm = isinstance(visual, VisionTransformer) and visual.attn_pool is None
        out = visual.forward_intermediates(images, indices=1, normalize_intermediates=norm, intermediates_only=True)
        return out["image_intermediates"][-1].permute(0, 2, 3, 1)

    def _texts(self, sentences: list[str]) -> Tensor:
        return self._model.encode_text(self._tokenizer(sentences).to(self.device))  # type: ignore[operator]


@register_teacher("open_clip", "CLIP models of open_clip")
def load_open_clip(name: str, model: str, weights: str | None, runtime: Runtime) -> OpenClipTeacher:
    """Load `open_clip:MODEL[@WEIGHTS]`.

    Args:
        name: the full name, for messages.
        model: an architecture of `open_clip.list_models()`, or a folder with `open_clip_config.json`.
        weights: a pretrained tag, `TAG=FILE` (a file that stems from it), `default=FILE`, a file alone, or `random`.
        runtime: device and precision.

    Raises:
        InputError: unknown architecture or tag, no weights named, a file alone where tags disagree on what it needs, a
            hub out of reach, weights that do not fit.
    """
    if model.startswith(HUB):
        return load_folder(name, _from_hub(name, model.removeprefix(HUB)), runtime)
    folder = local_path(model.removeprefix("local-dir:"))
    if model.startswith("local-dir:") or looks_like_path(model) or (folder / CONFIG).is_file():
        return load_folder(name, folder, runtime)
    if model not in open_clip.list_models():
        raise unknown("open_clip model", model, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not weights:
        raise InputError(
            f"open_clip:{model} needs weights after an @: {', '.join([*tags, 'TAG=FILE.safetensors'])}, or 'random'"
        )
    tag, path = split_weights(model, weights, tags)
    notes: list[str] = []
    cfg = get_pretrained_cfg(model, tag)
    if weights == "random":
        cfg = _agreed(model, tags, PREPROCESS)
    elif not tag:
        cfg, notes = _assumed(model, tags)
    elif path is None:
        path = _download(name, model, tag, cfg)
    quick = bool(cfg.get("quick_gelu")) and not (open_clip.get_model_config(model) or {}).get("quick_gelu")
    preprocess = {k: cfg[k] for k in PREPROCESS if k in cfg}
    built = _build(name, model, force_preprocess_cfg=preprocess, force_quick_gelu=quick)
    if path is not None:
        _load(built, path)
    architecture = f"open_clip:{model}" + (" quick_gelu" if quick else "")
    teacher = OpenClipTeacher(name, built, architecture, runtime, _tokenizer(model))
    teacher.quick_gelu = quick
    teacher.notes.extend(notes)
    return teacher


@register_teacher("glom-tiny", "small CLIP for 32 px pictures, shipped")
def load_glom_tiny(name: str, model: str, weights: str | None, runtime: Runtime) -> OpenClipTeacher:
    """The shipped CLIP, a folder in open_clip's format. Raises `InputError` where its files are missing."""
    del model, weights
    return load_folder(name, registry.GLOM_TINY, runtime)


def split_weights(model: str, weights: str, tags: list[str]) -> tuple[str, Path | None]:
    """What stands after the @ as (tag, file): either may be missing, both are where it is `random`.

    Raises:
        InputError: neither a tag of this model nor a file that is there.
    """
    head, equals, file = weights.partition("=")
    if weights == "random" or get_pretrained_cfg(model, weights):
        return ("" if weights == "random" else weights), None
    path = local_path(weights)
    if equals and not path.exists() and not looks_like_path(head):
        if head != DEFAULT and not get_pretrained_cfg(model, head):
            raise unknown(f"weights tag of open_clip:{model}", head, [*tags, DEFAULT])
        if not file:
            raise InputError(f"open_clip:{model}@{head}= names no file after the =")
        weights, path, known = file, local_path(file), head
    else:
        known = ""
    if not known and path.suffix not in (".safetensors", *TORCH_SUFFIXES) and not path.exists():
        raise unknown(f"weights for open_clip:{model}", weights, [*tags, "random"])
    if not path.is_file():
        raise InputError(f"no such weights file: {path}")
    return known, path


def _from_hub(name: str, model: str) -> Path:
    """The local folder of a hub model in open_clip's format, fetched where it is not in the cache."""
    from huggingface_hub import snapshot_download

    # Torch files are fetched only where there are no safetensors.
    wanted = [CONFIG, "*.json", "*.txt", *(stem + ".safetensors" for stem in STEMS)]
    with hub_access(name, "give a local folder instead: open_clip:FOLDER"):
        folder = Path(snapshot_download(model, allow_patterns=wanted))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(model, allow_patterns=[*wanted, *(f"{stem}.bin" for stem in STEMS)]))
    return folder


def _agreed(model: str, tags: list[str], keys: Sequence[str]) -> dict[str, Any]:
    """The settings that all published weights of an architecture share."""
    cfgs = [get_pretrained_cfg(model, tag) for tag in tags]
    return {k: cfgs[0].get(k) for k in keys if cfgs and all(c.get(k) == cfgs[0].get(k) for c in cfgs)}


def _assumed(model: str, tags: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of a weights file without a tag, and the sentence that states them.

    Raises:
        InputError: the architecture's published weights disagree, so that any choice would be a guess.
    """
    keys = (*PREPROCESS, "quick_gelu")
    cfg = _agreed(model, tags, keys)
    if tags and len(cfg) < len(keys):
        differ = ", ".join(key for key in keys if key not in cfg)
        kinds: dict[str, list[str]] = {}
        for tag in tags:
            own = get_pretrained_cfg(model, tag)
            kinds.setdefault(str([own.get(key) for key in keys]), []).append(tag)
        choice = ", ".join(
            f"{same[0]}={FILE}" + (f" (as {len(same) - 1} more tags)" * (len(same) > 1)) for same in kinds.values()
        )
        raise InputError(
            f"published weights of open_clip:{model} differ in {differ}, and a file does not say which it needs; name "
            f"the tag it stems from after the @: {choice}, or {DEFAULT}={FILE} for open_clip's own settings"
        )
    config = open_clip.get_model_config(model) or {}
    shown = {**{k: getattr(PreprocessCfg(), k) for k in PREPROCESS}, **{k: v for k, v in cfg.items() if v is not None}}
    gelu = "QuickGELU" if shown.get("quick_gelu") or config.get("quick_gelu") else "GELU"
    said = ", ".join([gelu, *(f"{k} {shown[k]}" for k in PREPROCESS)])
    source = "as all published weights of this architecture" if tags else "open_clip's defaults"
    note = f"the weights file does not say its activation and preprocessing; assumed: {said} ({source}); "
    return cfg, [f"{note}open_clip:{model}@TAG={FILE} or @{DEFAULT}={FILE} says otherwise"]


def load_folder(name: str, folder: Path, runtime: Runtime) -> OpenClipTeacher:
    """Load a folder in open_clip's own format: `open_clip_config.json` and `open_clip_model.safetensors`.

    Raises:
        InputError: no such folder, configuration or weights, or weights that do not fit.
    """
    config = folder / CONFIG
    if not config.is_file():
        raise InputError(f"no {CONFIG} in {folder}; an open_clip folder holds it and {FOLDER_WEIGHTS[0]}")
    try:
        described = json.loads(config.read_text(encoding="utf-8"))
        architecture = json.dumps(described["model_cfg"], sort_keys=True)
        unsaid = [key for key in PREPROCESS if key not in described.get("preprocess_cfg", {})]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{config} is not an open_clip configuration ({type(error).__name__}: {error})") from error
    path = next((folder / f for f in FOLDER_WEIGHTS if (folder / f).is_file()), None)
    if path is None:
        raise InputError(
            f"no such weights file: {folder / FOLDER_WEIGHTS[0]}, nor any of {', '.join(STEMS)} as .bin or .pt"
        )
    built = _build(name, f"local-dir:{folder}")
    _load(built, path)
    teacher = OpenClipTeacher(name, built, architecture, runtime, _tokenizer(f"local-dir:{folder}"))
    if unsaid:
        said = ", ".join(f"{key} {getattr(PreprocessCfg(), key)}" for key in unsaid)
        teacher.notes.append(f"{CONFIG} does not say its whole preprocess_cfg; assumed: {said} (open_clip's defaults)")
    return teacher


def _build(name: str, model: str, **options: Any) -> nn.Module:
    config = open_clip.get_model_config(model) or {}
    # A text tower from transformers is described on the hub; everything else is built from what is installed.
    remote = "hf_model_name" in config.get("text_cfg", {})
    access = hub_access if remote else local_access
    with access(name, "its description is needed to build it"), fixed_seed():
        return open_clip.create_model(
            model, load_weights=False, pretrained_text=False, weights_only=True, device="cpu", **options
        )


def _load(model: Any, path: Path) -> None:
    """Weights into `model`, after the renamings open_clip itself does for older and foreign files."""
    raw = load_state_dict(path, model.state_dict().keys())
    try:
        state = dict(convert_state_dict(model, raw))
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        for key in ("logit_scale", "logit_bias"):  # a number, or a vector of one
            own = getattr(model, key, None)
            if key in state and own is not None and state[key].numel() == 1:
                state[key] = state[key].reshape(own.shape)
        if "logit_bias" not in state and getattr(model, "logit_bias", None) is not None and "logit_scale" in state:
            state["logit_bias"] = torch.zeros_like(model.logit_bias)
        for key in ("attn_mask", "text.transformer.embeddings.position_ids"):  # constants that older files carry
            if key not in model.state_dict():
                state.pop(key, None)
        before = {key: tuple(value.shape) for key, value in state.items()}
        resize_pos_embed(state, model)
        resize_text_pos_embed(state, model)
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not fit this model ({first_line(error)})") from error
    changed = [f"{k} {before[k]} -> {tuple(v.shape)}" for k, v in state.items() if before[k] != v.shape]
    if changed:
        notice(f"{path} was made for another picture or text size; resized: {', '.join(changed)}")
    check_state(model, state, path)
    model.load_state_dict(state, strict=True)


def _download(name: str, model: str, tag: str, cfg: dict[str, Any]) -> Path:
    hint = f"give a local file of the same weights instead: open_clip:{model}@{tag}=FILE.safetensors"
    url = cfg.get("url", "")
    if url and not cfg.get("hf_hub"):
        cached = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        if not cached.is_file() and not reachable(url):
            raise InputError(f"the weights of {name}: not in the local cache, and {url} cannot be reached; {hint}")
    with hub_access(f"the weights of {name}", hint):
        return Path(download_pretrained(cfg))


def _tokenizer(model: str) -> Any:
    """The model's tokenizer, or why there is none: images can still be encoded without."""
    text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
    remote = "hf_tokenizer_name" in text
    try:
        with (hub_access if remote else local_access)("its tokenizer", "without it class names cannot be encoded"):
            return open_clip.get_tokenizer(model)
    except InputError as error:
        return str(error)
