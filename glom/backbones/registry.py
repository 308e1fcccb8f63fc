"""One name -> one backbone. Nothing heavy is imported until one is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from glom.errors import InputError, unknown
from glom.registry import Registry
from glom.teachers.registry import FAMILIES, SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from glom.backbones.base import Backbone

    Loader = Callable[[str, str, str | None, torch.device], Backbone]
    Load = TypeVar("Load", bound=Loader)

MVIT_TINY = "mvit-v2-tiny"
MVIT_SHIPPED = (MVIT_TINY, "mvit-v2-photo")
BACKBONES: Registry[Loader] = Registry("backbone family", __package__, "register_backbone")


def register_backbone(family: str, what: str) -> Callable[[Load], Load]:
    """Decorate `load(name, model, weights, device) -> Backbone`, so that `load_backbone("family:model@w")` calls it.

    `name` is the full name, for messages; `model` and `weights` are what stands after the colon and after the @ ("" and
    None where there is neither). Outside of this folder, import the file that holds it first. Every family of teachers
    (`glom.register_teacher`) is one of backbones as it is.

    Args:
        family: lower case letters, digits, hyphens and underscores; must be new.
        what: it is, in a few words.

    Raises:
        InputError: the family is taken, or not a name.
    """
    if family in FAMILIES and family not in BACKBONES:
        raise InputError(f"a teacher family called '{family}' is registered already; its models are backbones as well")
    return BACKBONES.register(family, what)


def default_backbone() -> tuple[str, str]:
    """(name, note): the video transformer that ships, and nothing to remark."""
    return MVIT_TINY, ""


def load_backbone(name: str, device: str = "auto", weights: str | None = None) -> Backbone:
    """Load a backbone by name.

    Args:
        name: `mvit-v2-tiny` or `mvit-v2-photo` (both ship), `torchvision:mvit_v2_s`, `torchvision:mvit_v1_b`,
            `pytorchvideo:mvit_base_16x4` (or `_32x3`, `_16`), `hf:NAME_OR_FOLDER` (VideoMAE, TimeSformer, or an image
            model), `hf-random:videomae`, `hf-random:timesformer`, or a teacher's name; `@WEIGHTS` after it: `random`, a
            local file, or a tag. `inflate:` before an image network makes it a video network.
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
    from glom.devices import resolve_device

    own, at, tail = name.partition("@")
    if own in MVIT_SHIPPED:
        if at and not tail:
            raise InputError(f"backbone '{name}' has nothing after the @; give 'random', a folder or a file")
        return BACKBONES[own](name, "", tail if at else None, resolve_device(device))
    family, colon, rest = name.partition(":")
    known = [f for f in dict.fromkeys((*BACKBONES.known(), *FAMILIES)) if f not in MVIT_SHIPPED]
    if not colon and name not in SHIPPED:
        raise unknown("backbone", name, [*MVIT_SHIPPED, *SHIPPED, *(f"{f}:MODEL" for f in known)])
    if colon and family not in known:
        raise unknown("backbone family", family, known)
    if colon and not rest:
        raise InputError(f"backbone '{name}' names no model; write {family}:MODEL[@WEIGHTS]")

    where = resolve_device(device)
    model, at, tail = rest.partition("@")
    if family in BACKBONES:
        if at and not tail and family != "hf":  # a folder may be called so
            raise InputError(f"backbone '{name}' has nothing after the @; give 'random' or a file")
        return BACKBONES[family](name, model, tail if at else None, where)
    from glom.backbones.images import load_image_backbone

    return load_image_backbone(name, device)
