"""open_clip without transformers, until a text tower is Hugging Face's.

open_clip loads transformers for those towers and for captions, which nothing here writes; it takes as long as torch
does. `load_later` is for the program's own processes: a notebook finds open_clip as it is. Importing this leaves torch
alone.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

PACKAGE, ADAPTER, LIBRARY = "open_clip", "open_clip.hf_model", "transformers"


class _Adapter(ModuleType):
    """The stand-in of open_clip's adapter to transformers."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_adapter(), name)

    @staticmethod
    def HFTextEncoder(*settings: Any, **more: Any) -> Any:
        """A tower, by the real adapter."""
        return _adapter().HFTextEncoder(*settings, **more)


def _adapter() -> ModuleType:
    if isinstance(sys.modules.get(ADAPTER), _Adapter):
        del sys.modules[ADAPTER]
    return import_module(ADAPTER)


class _Finder:
    """Has open_clip loaded with the stand-in in place, and transformers out of its reach."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != PACKAGE:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or LIBRARY in sys.modules:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            adapter = sys.modules[ADAPTER] = _Adapter(ADAPTER)
            sys.modules[LIBRARY] = None  # type: ignore[assignment]  # an ImportError, which open_clip is ready for
            try:
                execute(module)
            finally:
                del sys.modules[LIBRARY]
            module.hf_model = adapter  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def load_later() -> None:
    """Have the next import of open_clip leave transformers out; where one of both is there, nothing."""
    if not {PACKAGE, LIBRARY} & sys.modules.keys():
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
