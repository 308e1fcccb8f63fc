"""Weights read safely: tensors only, never code; checked against the model before they touch it."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from glom.errors import InputError
from glom.runs.notices import notice

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")  # .tar: `model_best.pth.tar` is a torch file all the same
# What training scripts put their weights under, in the order in which they are taken: averaged weights are what their
# authors evaluate (timm's and DINO's scripts do), and a student is what is left behind.
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "params_ema", "ema", "teacher")
PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "params", "net", "network", "weights")
WRAPPERS = (*AVERAGED, *PLAIN, "encoder", "backbone", "student", "module")
PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's: no network's own names begin so
# Types that hold values and do nothing, which training scripts leave beside their weights: settings, a best accuracy.
INERT: list[Any] = [argparse.Namespace, np.dtype, np.ndarray, *{type(np.dtype(kind)) for kind in "?bhilBHILefd"}]
for _made, _called in ((np.float64(0), "scalar"), (np.zeros(1), "_reconstruct")):
    INERT += [(_made.__reduce__()[0], f"numpy.{core}.multiarray.{_called}") for core in ("core", "_core")]
PICKLE = b"\x80"  # the first byte of every binary pickle
SHOWN = 3  # how many names an error lists


def load_state_dict(path: str | Path, names: Collection[str] = ()) -> dict[str, Tensor]:
    """Name -> tensor from a `.safetensors` file, or from a torch file (`TORCH_SUFFIXES`) holding nothing but tensors.

    What training scripts wrap around weights is taken off, the same for every format: a dictionary around them
    (`WRAPPERS`), and what stands before every name (`module.`, `_orig_mod.`, and whatever else stands before `names`:
    `model.`, `backbone.`, `teacher.backbone.`, ...). A choice between several, and tensors left out, are said.

    Args:
        path: the file.
        names: of the network that is to hold the weights.

    Raises:
        InputError: no such file, not weights, truncated, another format, or a pickle with code in it (refused).
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no such weights file: {path}")
    if not path.is_file():
        raise InputError(f"weights must be a file, got a folder: {path}")
    if path.suffix == ".safetensors":
        return unwrap(_load_safetensors(path), path, names)
    if path.suffix in TORCH_SUFFIXES:
        return unwrap(_load_torch(path), path, names)
    raise InputError(
        f"{path} is no weights format known here; give a .safetensors file (or {', '.join(TORCH_SUFFIXES)} with "
        "tensors only)"
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a safetensors file, or is truncated ({_line(error)})") from error


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and archives, which the errors below speak of
            with torch.serialization.safe_globals(INERT):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file leads torch's reader to
        text = str(error)
        # torch names the refused global or the archive kind; anything else is damage.
        odd = "Unsupported operand" in text and _first_byte(path) == PICKLE
        if odd or "Unsupported global" in text or "Unsupported class" in text:
            raise InputError(
                f"{path} is a pickle that holds code, which is never run here; convert its tensors to .safetensors"
            ) from error
        if "TorchScript" in text:
            raise InputError(
                f"{path} is a TorchScript archive, a program and not weights; convert its tensors to .safetensors"
            ) from error
        raise InputError(f"{path} is not a weights file, or is truncated ({_line(error)})") from error


def unwrap(loaded: Any, path: Path, names: Collection[str] = ()) -> dict[str, Tensor]:
    """What a file holds -> name -> tensor, as `load_state_dict` says. Raises `InputError` where it is no weights."""
    while isinstance(loaded, Mapping):
        inner = [key for key in WRAPPERS if isinstance(loaded.get(key), Mapping) and loaded[key]]
        if not inner:
            break
        if len(inner) > 1:
            notice(f"{path} holds weights under {', '.join(inner)}; those under {inner[0]} are read")
        loaded = loaded[inner[0]]
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path} holds no weights: expected names and tensors, got {type(loaded).__name__}")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path} holds no weights: '{name}' is a {type(value).__name__}, not a tensor")
    state = dict(loaded)
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), ""):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return _below(state, path, frozenset(names))


def _below(state: dict[str, Tensor], path: Path, own: frozenset[str]) -> dict[str, Tensor]:
    """The tensors below the one prefix under which most of the network's own names are found, if not at the top."""
    votes: Counter[str] = Counter()
    for name in state:
        starts = [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]
        votes.update(name[:start] for start in starts if name[start:] in own)
    top = votes.pop("", 0)
    if not votes or 2 * max(votes.values()) < len(own) or max(votes.values()) <= 4 * top:
        return state
    best = [prefix for prefix, count in votes.items() if count == max(votes.values())]
    best.sort(key=lambda prefix: not any(part in AVERAGED for part in prefix.split(".")))
    chosen = best[0]
    outside = [name for name in state if not name.startswith(chosen)]
    if outside:
        notice(
            f"{path}: the weights whose names begin with '{chosen}' are read; {len(outside)} other tensors are left "
            f"out ({_some(outside)})"
        )
    return {name.removeprefix(chosen): value for name, value in state.items() if name.startswith(chosen)}


def check_state(model: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Whether `state` fits `model` exactly and is finite; `path` is only named in the errors.

    Raises:
        InputError: missing or unexpected names, wrong shapes, NaN or Inf.
    """
    own = model.state_dict()
    missing = [f"{k} {_shape(own[k])}" for k in own if k not in state]
    unexpected = [f"{k} {_shape(state[k])}" for k in state if k not in own]
    wrong = [
        f"{k} {_shape(state[k])} where the model has {_shape(own[k])}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    parts = [
        f"{len(names)} {what}: {_some(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong))
        if names
    ]
    if parts:
        raise InputError(f"{path} does not fit this model; {'; '.join(parts)}")
    check_finite(state, path, own)


def check_finite(state: Mapping[str, Tensor], path: str | Path, own: Mapping[str, Tensor] | None = None) -> None:
    """Refuse NaN and Inf, naming the tensor. What is infinite in the model itself (`own`; a mask, say) may stay so.

    Raises:
        InputError: a tensor that is not finite.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
            continue
        if own is not None and name in own and not bool(torch.isfinite(own[name]).all()):
            continue
        what = "NaN" if bool(torch.isnan(tensor).any()) else "Inf"
        raise InputError(f"{path} holds {what} in '{name}' {_shape(tensor)}; the weights are damaged")


def load_into(model: nn.Module, path: str | Path) -> None:
    """`load_state_dict`, `check_state`, and copied into `model` in the model's own dtype."""
    state = load_state_dict(path, model.state_dict().keys())
    check_state(model, state, path)
    model.load_state_dict(state, strict=True)


def state_sha256(state: Mapping[str, Tensor], *identity: str) -> str:
    """sha256 over `identity` and every tensor's name, dtype, shape and bytes, in the order of the names."""
    digest = hashlib.sha256("\0".join(identity).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Bytes as they lie in memory: numpy has no bfloat16, so view them as uint8 first.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(map(str, tensor.shape)) + ")"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
