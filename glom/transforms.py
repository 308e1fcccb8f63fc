"""torchvision's transforms."""

from __future__ import annotations

from glom.compiler import without_compiler

with without_compiler():
    from torchvision import transforms

__all__ = ["transforms"]
