"""APM checkpoints: one safetensors file that says what it is.

    tensors     the parameters by their own names, float32 or float16
    metadata    architecture "apm", version, the APM's configuration, and what is known about it (`meta`), as JSON

`load_apm` takes a path, a folder that holds `apm.safetensors`, or the bare name of a checkpoint that ships.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm
from glom.errors import InputError, unknown
from glom.runs.saving import save_tensors
from glom.weights import check_state, load_state_dict

ARCHITECTURE = "apm"
VERSION = 1
FILE = "apm.safetensors"
PRETRAINED = Path(__file__).parent / "pretrained"
SHIPPED = ("apm-cifar10",)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def save_apm(
    path: str | Path,
    apm: AsynchronousPerceptionMachine,
    meta: Mapping[str, Any] | None = None,
    precision: str = "fp32",
) -> Path:
    """Write a checkpoint, whole or not at all: a file that is there is replaced only once the new one is complete.

    Args:
        path: a file ending in `.safetensors`, or a folder, where it becomes `apm.safetensors`.
        apm: the machine; its configuration goes into the file.
        meta: what else to know about it, anything JSON can hold. Training writes `teacher` and `teacher_fingerprint`
            (whose grid it was trained on), `grid` (h, w), `settings` and `results`.
        precision: "fp32", or "fp16" for half the size (weights are rounded).

    Returns:
        The file.

    Raises:
        InputError: an unknown precision, weights too large for float16, or `meta` that JSON cannot hold.
        RunError: the disk is full, or the file cannot be written.
    """
    if precision not in DTYPES:
        raise unknown("checkpoint precision", precision, DTYPES)
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / FILE
    state = {name: tensor.detach().to(DTYPES[precision]) for name, tensor in apm.state_dict().items()}
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"'{name}' is not finite in {precision}; this APM cannot be saved so")
    try:
        known = json.dumps(dict(meta or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a checkpoint's meta must be plain JSON ({error})") from error
    metadata = {
        "architecture": ARCHITECTURE,
        "version": str(VERSION),
        "config": json.dumps(asdict(apm.config)),
        "meta": known,
    }
    save_tensors(path, state, metadata)
    return path


def load_apm(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[AsynchronousPerceptionMachine, dict[str, Any]]:
    """Read a checkpoint: the machine in float32 and eval mode on `device`, and its `meta`.

    Args:
        path: a file, a folder that holds `apm.safetensors`, or one of `SHIPPED`.

    Raises:
        InputError: nothing there, another architecture, a newer format version, a damaged file, weights that do not
            fit the configuration they come with.

    Example:
        >>> apm, meta = load_apm("apm-cifar10")
        >>> meta["teacher"], apm.config.features
        ('glom-tiny', 128)
    """
    file = find_checkpoint(path)
    config, meta = read_header(file)
    apm = blank_apm(config)
    state: dict[str, Tensor] = load_state_dict(file)
    check_state(apm, state, file)
    apm.load_state_dict(state, strict=True)
    return apm.eval().to(device), meta


def find_checkpoint(path: str | Path) -> Path:
    """The file a name or path stands for. Raises `InputError` where there is none."""
    place = Path(path).expanduser()
    if str(path) in SHIPPED and not place.exists():
        place = PRETRAINED / str(path)
    if place.is_dir():
        if not (place / FILE).is_file():
            raise InputError(f"{place} holds no {FILE}; give a checkpoint of `apm grid train`")
        return place / FILE
    if not place.is_file():
        bare = place.parent == Path() and not place.suffix
        raise unknown("checkpoint", str(path), SHIPPED) if bare else InputError(f"no such checkpoint: {place}")
    return place


def read_header(file: Path) -> tuple[APMConfig, dict[str, Any]]:
    """A checkpoint's configuration and `meta`, without its tensors. Raises `InputError` as `load_apm` does."""
    try:
        with safe_open(file, "pt") as opened:
            header = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file} is not a safetensors file, or is truncated ({str(error).splitlines()[0]})") from error
    if header.get("architecture") != ARCHITECTURE:
        found = header.get("architecture")
        what = f"of another architecture ('{found}')" if found else "which do not say that they are an APM's"
        raise InputError(f"{file} holds weights {what}; give a checkpoint of `apm grid train`")
    version = header.get("version", "")
    if not version.isdecimal() or int(version) > VERSION:
        raise InputError(f"{file} has checkpoint format '{version}', this toolkit reads up to {VERSION}: update it")
    try:
        return config_from(json.loads(header["config"])), dict(json.loads(header["meta"]))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{file}: {error}") from error
        raise InputError(f"{file} is damaged: its header cannot be read ({type(error).__name__}: {error})") from error


def config_from(values: Mapping[str, Any]) -> APMConfig:
    """`APMConfig` from what JSON made of it. Raises `InputError` for settings this version does not know."""
    known = {field.name for field in fields(APMConfig)}
    strange = sorted(set(values) - known)
    if strange:
        raise InputError(f"the configuration has settings unknown here: {', '.join(strange)}")
    settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return APMConfig(**settings)
