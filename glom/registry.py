"""Names and what was registered under them, by one decorator.

A new thing is one decorator, and where a family needs it one file. Where a registry is given a package, the decorators
in its files are found by reading them, so that nothing heavy is imported until a thing is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from glom.compiler import without_compiler
from glom.errors import InputError, unknown

T = TypeVar("T")
Made = TypeVar("Made", bound=Callable[..., Any])
NAME = re.compile(r"[a-z0-9][a-z0-9_+-]*")


class Registry(Mapping[str, T]):
    """What is registered: by this program so far, and what the package's files will register once they are imported.

    A mapping whose names cost nothing to list; a thing's module is imported when the thing is asked for.
    """

    def __init__(self, kind: str, package: str = "", decorator: str = "") -> None:
        """An empty one.

        Args:
            kind: what is registered, for messages. package: whose files are read. decorator: its name there; its
                arguments are two plain strings, the name and what it is.
        """
        self.kind = kind
        self._held: dict[str, tuple[T, str, Callable[..., Any]]] = {}
        self._declared: dict[str, tuple[str, str]] = {}
        spec = find_spec(package) if package else None
        line = re.compile(rf'^@{decorator}\("([^"]+)", "([^"]+)"\)$', re.MULTILINE)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).glob("*.py")):
                for found in line.finditer(path.read_text("utf-8")):
                    self._declared[found[1]] = f"{package}.{path.stem}", found[2]

    def register(
        self, name: str, what: str = "", wrap: Callable[[Any], T] = lambda made: made
    ) -> Callable[[Made], Made]:
        """A decorator that keeps what it is put on under `name`.

        The same definition run again, as a notebook's cell is, takes the place of the first.

        Args:
            what: it is, in a few words; "" for the first line of its docstring. wrap: what is made of it to be kept.

        Raises:
            InputError: the name is taken, or not a name.
        """
        if not NAME.fullmatch(name):
            raise InputError(f"'{name}' cannot name any {self.kind}: use lower case letters, digits, -, + and _")

        def keep(made: Made) -> Made:
            own = self._declared.get(name, (made.__module__,))[0]
            before = self._held[name][2] if name in self._held else None
            if own != made.__module__ or before is made or (before and _place(before) != _place(made)):
                raise InputError(f"the {self.kind} '{name}' is registered already")
            self._held[name] = wrap(made), what or (made.__doc__ or "").strip().partition("\n")[0], made
            return made

        return keep

    def forget(self, name: str) -> None:
        """Take a name out again; one that is not there is no error."""
        self._held.pop(name, None)

    def known(self) -> dict[str, str]:
        """Every name, and what it is; those of the package first."""
        declared = {name: what for name, (_, what) in self._declared.items()}
        return declared | {name: what for name, (_, what, _) in self._held.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.known())

    def __len__(self) -> int:
        return len(self.known())

    def __contains__(self, name: object) -> bool:
        return name in self._held or name in self._declared

    def __getitem__(self, name: str) -> T:
        """What is registered, its module imported first. Raises `InputError` for another name."""
        if name not in self:
            raise unknown(self.kind, name, self.known())
        if name not in self._held:
            with without_compiler():
                import_module(self._declared[name][0])
        return self._held[name][0]


def _place(made: Callable[..., Any]) -> tuple[str, str]:
    return made.__module__, made.__qualname__
