"""Names of a package, and libraries, that are imported when first asked for; what would be imported instead."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def lazily(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Args:
        package: its `__name__`.
        places: public name -> "module" or "module:name there"; the name is the same there unless given.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, there = places[name].partition(":")
        value = getattr(import_module(module), there or name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted([*vars(sys.modules[package]), *places])


def libraries_later() -> None:
    """Leave out what libraries load and nothing may ask for, until something does: of a process of the program's own,
    before torch."""
    from glom import compiler, text_towers

    compiler.load_later()
    text_towers.load_later()


def warn_of_another(package: str, beside: str) -> None:
    """Warn where `import PACKAGE` would give another than the one that was installed beside ours.

    A folder in the directory where Python or a notebook was started comes before everything that is installed.

    Args:
        package: its name.
        beside: the `__file__` of a package of ours.
    """
    spec = find_spec(package)
    places = [Path(place) for place in (spec.submodule_search_locations or [spec.origin or ""])] if spec else []
    ours = Path(beside).parent.parent / package
    if places and ours.is_dir() and not any(place.resolve() == ours.resolve() for place in places):
        warnings.warn(
            f"`import {package}` gives {places[0]}, which hides glom-apm's: rename it, or start elsewhere",
            stacklevel=3,
        )
