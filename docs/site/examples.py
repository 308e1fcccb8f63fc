"""What the reference is told of docstrings: their `Example:` is the `Examples:` that its reader knows as a doctest."""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Read by mkdocstrings, see mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of every name that is read."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
