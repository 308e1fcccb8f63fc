"""Values of settings by their types: read from a text, taken from a TOML file, and written as TOML."""

from __future__ import annotations

import json
import math
import types
import typing
from pathlib import Path
from typing import Any


def bare(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was among it."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [k for k in typing.get_args(hint) if k is not type(None)]
        return kinds[0], len(kinds) < len(typing.get_args(hint))
    return hint, False


def parsed(text: str, kind: Any, none: str) -> Any:
    """The value of a type that a text stands for; `none` says None. Raises `ValueError` where it stands for none."""
    kind, optional = bare(kind)
    if optional and text == none:
        return None
    if typing.get_origin(kind) is tuple:
        inside = typing.get_args(kind)
        if len(inside) == 2 and inside[1] is not Ellipsis and "x" in text and "," not in text:
            text = text.replace("x", ",")
        parts = [p.strip() for p in text.split(",") if p.strip()]
        if inside[-1] is not Ellipsis and len(parts) != len(inside):
            raise ValueError(text)
        return tuple(parsed(p, inside[0], none) for p in parts)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return Path(text).expanduser() if kind is Path else kind(text)


def taken(value: Any, kind: Any, none: str) -> Any:
    """The value of a type from one of a TOML file; `none` says None. Raises `TypeError` for one of another type."""
    kind, optional = bare(kind)
    if optional and value == none:
        return None
    if typing.get_origin(kind) is tuple:
        inside = typing.get_args(kind)
        if not isinstance(value, list) or (inside[-1] is not Ellipsis and len(value) != len(inside)):
            raise TypeError
        return tuple(taken(v, inside[0], none) for v in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if type(value) is not kind:
        raise TypeError
    return value


def words(kind: Any) -> str:
    """What a value of a type is, for a message."""
    if typing.get_origin(kind) is tuple:
        inside = typing.get_args(kind)
        many = "" if inside[-1] is Ellipsis else f"{len(inside)} "
        what = {int: "whole numbers", float: "numbers", str: "names"}[bare(inside[0])[0]]
        return f"{many}{what} with {'commas or an x' if many == '2 ' else 'commas'} between"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")


def toml(value: Any, none: str) -> str:
    """A value as TOML has it; `none` for None, which it has no word for."""
    if value is None:
        return json.dumps(none)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(toml(one, none) for one in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return json.dumps(str(value), ensure_ascii=False) if isinstance(value, str | Path) else str(value)
