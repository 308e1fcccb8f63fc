"""Devices and precisions by name. torch is imported inside the functions, so that importing this costs nothing."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glom.errors import InputError, unknown
from glom.runs.notices import notice

if TYPE_CHECKING:
    import torch

PRODUCTS = ("fp32", "tf32", "bf16")
"""What matrix products of float32 numbers are made in; "tf32" (10 bits of mantissa) is a GPU's, and fp32 on a CPU."""
PRECISIONS: dict[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def available_devices() -> list[str]:
    """What `resolve_device` accepts on this machine, best first: `["cuda:0", "cpu"]`."""
    import torch

    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def resolve_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> a device that exists here. `auto` is the first of CUDA, MPS, CPU.

    Of several processes on one machine each takes the GPU of its place, for `auto` and `cuda`.

    Raises:
        InputError: a name that is none of these, or a device this machine does not have.
    """
    import torch

    here = available_devices()
    if ranks()[1] > 1 and name in ("auto", "cuda") and here[0] == "cuda:0":
        return torch.device(f"cuda:{local_rank() % torch.cuda.device_count()}")
    if name == "auto":
        return torch.device(here[0])
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise unknown("device", name, ["auto", "cpu", "cuda", "cuda:0", "mps"])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in here:
        raise InputError(f"device '{name}' is not available here; there is: {', '.join(here)} (or 'auto')")
    return torch.device(wanted)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """`fp32`, `bf16` or `fp16` -> the dtype an encoder's weights and products take on `device`.

    Raises:
        InputError: another name, or fp16 on a CPU (slow there, and missing for some operations).
    """
    import torch

    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    if name == "fp16" and device.type == "cpu":
        raise InputError("precision 'fp16' does not run on a CPU; use bf16 or fp32")
    dtype = getattr(torch, PRECISIONS[name])
    tell_if_slow(name, device)
    assert isinstance(dtype, torch.dtype)
    return dtype


def chosen_precision(asked: str, device: torch.device) -> str:
    """What matrix products on `device` are made in: "auto" is bf16 where it has that in hardware, else fp32; any other
    name is meant as it is."""
    if asked == "auto":
        return "bf16" if native_bf16(device) else "fp32"
    tell_if_slow(asked, device)
    return asked


def tell_if_slow(precision: str, device: torch.device) -> None:
    """A notice where bf16 was asked for and `device` does not have it in hardware."""
    if precision == "bf16" and not native_bf16(device):
        notice(f"this {device.type.upper()} has no bf16 products in hardware: fp32 can be a hundred times as fast here")


def native_bf16(device: torch.device | None = None) -> bool:
    """Whether a device multiplies bf16 numbers in hardware: a GPU that can, or a CPU with AVX-512 BF16 or AMX.

    PyTorch runs bf16 everywhere; where the processor has no such instructions it is slower than float32.

    Args:
        device: None for the one that `resolve_device` takes by itself.
    """
    import torch

    kind = (device or resolve_device()).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    if kind != "cpu":
        return True
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(check()) for check in checks if check is not None)


def ranks() -> tuple[int, int]:
    """(rank, world) as torchrun sets them; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """This process's place among those of its machine, as torchrun sets it; 0 without it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def moved(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` on `device`; to a GPU from pinned memory, so that the host does not wait for the copy."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@contextmanager
def tf32(wanted: bool, device: torch.device) -> Iterator[None]:
    """Inside, float32 products and convolutions on a GPU are made in TF32 or, where it is not wanted, in float32."""
    if device.type != "cuda":
        yield
        return
    import torch

    kinds: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = wanted
    try:
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.allow_tf32 = value


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was asked."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
