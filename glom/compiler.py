"""torch's compiler, loaded when it is asked for and not because another library is.

torchvision takes a function from `torch._dynamo` for an operation that nothing here calls, timm and torch's optimisers
tell it what not to compile: each loads all of it, as long again as torch itself. Meanwhile a stand-in of its modules is
there, which answers these (where no compiler is loaded, nothing is being compiled) and asks the real one, for good, for
anything else. Importing this leaves torch alone.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

DYNAMO, UTILS = "torch._dynamo", "torch._dynamo.utils"


class _Later(ModuleType):
    """The stand-in of a module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _leave()
        return getattr(importlib.import_module(self.__name__), name)


class _Within:  # neither of importlib.abc's classes, which every command would wait for
    """Finds and loads the real compiler where one of its own modules is imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{DYNAMO}."):
            return None
        _leave()
        importlib.import_module(DYNAMO)  # which may import that module itself
        held = fullname in sys.modules
        return ModuleSpec(fullname, self) if held else find_spec(fullname)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: it was loaded by the one above it."""


def _leave() -> None:
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Within)]
    for name in (DYNAMO, UTILS):
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(UTILS).is_compile_supported(device_type))


def _graph_break(msg: str = "") -> None:
    """No graph is being made."""


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **told: Any) -> Callable[..., Any]:
    """`torch._dynamo.disable`: where the compiler is not even loaded, nothing is being compiled."""
    if fn is None:
        return lambda fn: _disable(fn, recursive, **told)
    function = fn

    @functools.cache
    def disabled() -> Callable[..., Any]:
        real: Callable[..., Any] = importlib.import_module(DYNAMO).disable(function, recursive, **told)
        return real

    @functools.wraps(fn)
    def called(*args: Any, **kwargs: Any) -> Any:
        loaded = not isinstance(sys.modules.get(DYNAMO), _Later | None)
        return disabled()(*args, **kwargs) if loaded else function(*args, **kwargs)

    return called


def load_later() -> bool:
    """Put the stand-in there, until the compiler is asked for. Returns False where one of both is there already."""
    if DYNAMO in sys.modules or UTILS in sys.modules:
        return False
    modules = {name: _Later(name) for name in (DYNAMO, UTILS)}
    modules[DYNAMO].__path__ = []  # a package
    vars(modules[DYNAMO]).update(disable=_disable, graph_break=_graph_break)
    vars(modules[UTILS])["is_compile_supported"] = _is_compile_supported
    sys.modules.update(modules)
    sys.meta_path.insert(0, _Within())
    return True


@contextmanager
def without_compiler() -> Iterator[None]:
    """What is imported within finds a stand-in of the compiler, unless it is loaded already."""
    put = load_later()
    try:
        yield
    finally:
        if put:
            _leave()
