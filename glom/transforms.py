"""torchvision's transforms, and torchvision itself loaded without torch's compiler.

One module of torchvision takes a single function from `torch._dynamo`, for an operation that nothing here calls, and
so loads all of it: as long again as torch itself. Meanwhile a stand-in of both modules is there, which asks the real
one when that function is called, and for any other name at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = ("torch._dynamo", "torch._dynamo.utils")


class _Later(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _leave()
        return getattr(importlib.import_module(self.__name__), name)


def _leave() -> None:
    for name in COMPILER:
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


@contextmanager
def without_compiler() -> Iterator[None]:
    """What is imported within finds a stand-in of the compiler, unless it is loaded already."""
    if not any(name in sys.modules for name in COMPILER):
        modules = {name: _Later(name) for name in COMPILER}

        def is_compile_supported(device_type: str) -> bool:
            return bool(importlib.import_module(COMPILER[1]).is_compile_supported(device_type))

        vars(modules[COMPILER[1]])["is_compile_supported"] = is_compile_supported
        sys.modules.update(modules)
    try:
        yield
    finally:
        _leave()


with without_compiler():
    from torchvision import transforms

__all__ = ["transforms", "without_compiler"]
