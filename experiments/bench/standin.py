"""A CUDA device that is none: tensors that say they lie on `cuda:0` and are computed on the CPU.

    with StandIn() as device:
        machine.to("cuda")
        step()
    device.reads        Counter({"_local_scalar_dense": 1})

What a real device demands is demanded here: no operation meets tensors of two devices (a number without dimensions may
come from the CPU). What makes the host wait for a real device is counted: a value that is read, a copy to the host, an
operation whose result's shape depends on values. Numbers are the CPU's own, so that a whole run can be held against one
that never left it. What it cannot show: kernels, memory, time, autocast (which torch turns off without a GPU).

torch's fake tensors (`torch._subclasses.FakeTensorMode`) hold no values: a step that reads one ends there, and without
a GPU a CUDA build of torch cannot differentiate them at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from glom import devices

MEMORY = 64 * 2**30
CUDA, CPU = torch.device("cuda:0"), torch.device("cpu")

WAITING = frozenset({
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "masked_select", "nonzero",
    "unique_consecutive", "unique_dim",
})  # fmt: skip
"""What returns a value, or a shape that values decide."""

MOVING = frozenset({"_to_copy", "copy_"})
"""Where two devices may meet."""

RESHAPING = frozenset({"squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_"})
"""What changes a tensor's own shape, which `OnDevice` has twice."""

INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})


class OnDevice(Tensor):
    """A tensor that says it is on CUDA. `held` has its values; to torch's C++ it is one without any (`meta`)."""

    device = CUDA  # type: ignore[assignment]
    is_cuda, is_cpu, is_meta = True, False, False  # type: ignore[assignment]
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnDevice:
        with torch.inference_mode(False):
            shape = torch.empty_strided(held.size(), held.stride(), dtype=held.dtype, device="meta")
            made: OnDevice = Tensor._make_subclass(cls, shape, False)  # type: ignore[attr-defined]
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        pass

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} met a tensor of a stand-in device outside of it")


class _Generator(torch.Generator):
    """Random numbers of a device, which are the CPU's."""

    def __new__(cls, device: str | torch.device = "cpu") -> _Generator:
        made = super().__new__(cls)
        made.where = CUDA if torch.device(device).type == "cuda" else CPU
        return made

    where: torch.device
    device = property(lambda self: self.where)  # type: ignore[assignment]


class _Names(TorchFunctionMode):
    """Devices by name before torch asks a driver about them: `cuda` is `cuda:0`, and who asked for `meta` gets it."""

    def __init__(self) -> None:
        super().__init__()
        self.meta = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.tolist and isinstance(args[0], OnDevice):
            args = (args[0].detach().cpu(),)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            args = (args[0], _sent(args[1]), *args[2:])
        if func is Tensor.cuda:
            func, args, kwargs = Tensor.to, (args[0], CUDA), {}
        if kwargs.get("device") is not None:
            kwargs["device"] = _named(kwargs["device"])
        if func is Tensor.to:
            args = (args[0], *(_named(x) if isinstance(x, str | torch.device) else x for x in args[1:]))
        asked = [x for x in (*args[1:], kwargs.get("device")) if isinstance(x, torch.device)]
        before, self.meta = self.meta, self.meta or any(x.type == "meta" for x in asked)
        try:
            return func(*args, **kwargs)
        finally:
            self.meta = before


def _sent(index: Any) -> Any:
    """Lists in an index, which torch makes tensors of on the indexed one's device."""
    if isinstance(index, tuple):
        return tuple(_sent(part) for part in index)
    return torch.tensor(index).to(CUDA) if isinstance(index, list) else index


def _named(device: str | torch.device) -> torch.device:
    device = torch.device(device)
    return CUDA if device.type == "cuda" else device


def _mapped(change: Callable[[Tensor], Any], value: Any) -> Any:
    """Lists, tuples and dictionaries with every tensor in them changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, x) for x in value])
    return {k: _mapped(change, x) for k, x in value.items()} if isinstance(value, dict) else value


class StandIn(TorchDispatchMode):
    """The device, while the context lasts. `reads` counts by operation what made the host wait."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch then asks no driver

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self._names = _Names()

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._open.enter_context(self._names)
        self._open.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        # A parameter that moves to another device is another tensor: its values cannot be exchanged in place.
        conversion = torch.__future__.set_overwrite_module_params_on_conversion
        self._open.callback(conversion, torch.__future__.get_overwrite_module_params_on_conversion())
        conversion(True)
        self._open.enter_context(patch.object(torch, "Generator", _Generator))
        self._open.enter_context(patch.object(devices, "available_devices", lambda: ["cuda:0", "cpu"]))
        self._open.enter_context(patch.object(torch.cuda, "mem_get_info", lambda device=None: (MEMORY, MEMORY)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._open.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, dict(kwargs or {})
        if torch.is_inference_mode_enabled():  # what autograd would have taken apart arrives whole
            super().__enter__()
            try:
                found = func.decompose(*args, **kwargs)
            finally:
                super().__exit__(None, None, None)
            if found is not NotImplemented:
                return found
        tensors = list[Tensor]()
        _mapped(tensors.append, (args, kwargs))
        mine = {id(x.held): x for x in tensors if isinstance(x, OnDevice)}
        if name in ("pin_memory", "_pin_memory"):
            return args[0]
        asked = kwargs.get("device")
        if asked is not None and asked.type == "meta" and not self._names.meta:
            asked = CUDA  # what autograd makes like a tensor of ours
        if asked is not None and asked.type == "cuda":
            kwargs["device"], kwargs["pin_memory"] = CPU, False
        here = bool(mine) if asked is None else asked.type == "cuda"
        if name == "copy_":
            here = isinstance(args[0], OnDevice)
        if mine:
            self._check(func, name, args, tensors)
            self._count(name, args, here)
        if name in RESHAPING and mine:
            with torch._C._DisableTorchDispatch():
                func(*args, **kwargs)
        args, kwargs = _mapped(lambda x: x.held if isinstance(x, OnDevice) else x, (args, kwargs))
        if "pin_memory" in kwargs:
            kwargs.pop("pin_memory")
        found = func(*args, **kwargs)
        return _mapped(lambda x: mine[id(x)] if id(x) in mine else OnDevice(x), found) if here else found

    def _check(self, func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
        odd = [x for x in tensors if not isinstance(x, OnDevice) and (x.ndim or name in INDEXING)]
        if odd and name not in MOVING:
            raise RuntimeError(f"{func} meets tensors on {CUDA} and on {odd[0].device} {tuple(odd[0].shape)}")

    def _count(self, name: str, args: Any, here: bool) -> None:
        masks = name in INDEXING and any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        if name in WAITING or masks or (name in MOVING and not here):
            self.reads[name] += 1
