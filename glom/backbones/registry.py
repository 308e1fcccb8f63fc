"""One name -> one backbone. Nothing heavy is imported until one is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glom.errors import InputError, unknown
from glom.teachers.registry import FAMILIES, SHIPPED

if TYPE_CHECKING:
    from glom.backbones.base import Backbone

VIDEO_FAMILIES = ("torchvision", "pytorchvideo", "hf-random")
MVIT_TINY = "mvit-v2-tiny"


def default_backbone() -> tuple[str, str]:
    """(name, note): the video transformer that ships, and nothing to remark."""
    return MVIT_TINY, ""


def load_backbone(name: str, device: str = "auto", weights: str | None = None) -> Backbone:
    """Load a backbone by name.

    Args:
        name: `mvit-v2-tiny` (ships), `torchvision:mvit_v2_s`, `torchvision:mvit_v1_b`, `pytorchvideo:mvit_base_16x4`
            (or `_32x3`, `_16`), `hf:NAME_OR_FOLDER` (VideoMAE, TimeSformer, or an image model), `hf-random:videomae`,
            `hf-random:timesformer`, or a teacher's name; `@WEIGHTS` after it: `random`, a local file, or a tag.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        weights: as after the `@`; give it in one place only.

    Raises:
        InputError: an unknown name or device, a hub that cannot be reached, weights of another architecture.

    Example:
        >>> load_backbone("timm:test_vit@random", device="cpu").video
        False
    """
    if weights is not None:
        if "@" in name:
            raise InputError(f"backbone '{name}' names weights already; leave '{weights}' out")
        name = f"{name}@{weights}"
    own, at, tail = name.partition("@")
    if own == MVIT_TINY:
        return _mvit_tiny(name, tail if at else None, device)
    family, colon, rest = name.partition(":")
    known = (*VIDEO_FAMILIES, *FAMILIES)
    if not colon and name not in SHIPPED:
        raise unknown("backbone", name, [MVIT_TINY, *SHIPPED, *(f"{f}:MODEL" for f in known)])
    if colon and family not in known:
        raise unknown("backbone family", family, known)
    if colon and not rest:
        raise InputError(f"backbone '{name}' names no model; write {family}:MODEL[@WEIGHTS]")

    from glom.devices import resolve_device

    where = resolve_device(device)
    model, at, tail = rest.partition("@")
    if family in VIDEO_FAMILIES and at and not tail:
        raise InputError(f"backbone '{name}' has nothing after the @; give 'random' or a file")
    if family in ("torchvision", "pytorchvideo"):
        from glom.backbones.mvit import load_pytorchvideo, load_torchvision

        load = load_torchvision if family == "torchvision" else load_pytorchvideo
        return load(name, model, tail if at else None, where)
    if family in ("hf", "hf-random"):
        from glom.backbones.hf_video import is_video_folder, load_hf_random, load_hf_video

        if family == "hf-random":
            return load_hf_random(name, rest, where)
        if is_video_folder(rest):
            return load_hf_video(name, rest, where)
    from glom.backbones.images import load_image_backbone

    return load_image_backbone(name, device)


def _mvit_tiny(name: str, weights: str | None, device: str) -> Backbone:
    if weights == "":
        raise InputError(f"backbone '{name}' has nothing after the @; give 'random', a folder or a file")
    from glom.backbones.mvit_shipped import load_mvit_tiny
    from glom.devices import resolve_device

    return load_mvit_tiny(name, weights, resolve_device(device))
