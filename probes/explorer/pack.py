"""A tree of facts, pictures and arrays as one run of bytes, which Python and a page both read.

    zlib( length of the head, 4 bytes, little-endian | head: the tree as JSON, UTF-8 | blobs )

In the head an array is `{"$": [kind, offset, shape]}`, its offset counted from the first blob and a multiple of 4;
`raw` is a file's bytes, as a JPEG's. A run folder holds it as `view.bin`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glom.errors import InputError
from glom.runs.artifacts import finite
from glom.runs.files import to_bytes, write_whole

VIEW = "view.bin"
KINDS = {"i1": "<i1", "u1": "<u1", "i2": "<i2", "u2": "<u2", "i4": "<i4", "f4": "<f4"}


def pack(tree: Mapping[str, Any]) -> bytes:
    """Raises `TypeError` for what is neither JSON, bytes nor an array of `KINDS`."""
    blobs: list[bytes] = []
    place = 0

    def leaf(kind: str, data: bytes, shape: list[int]) -> dict[str, Any]:
        nonlocal place
        at, gap = place, -len(data) % 4
        blobs.append(data + bytes(gap))
        place += len(data) + gap
        return {"$": [kind, at, shape]}

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): walk(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [walk(part) for part in value]
        if isinstance(value, bytes):
            return leaf("raw", value, [len(value)])
        if isinstance(value, np.ndarray):
            kind = value.dtype.str[1:]
            if kind not in KINDS:
                raise TypeError(f"a view holds arrays of {', '.join(KINDS)}, not {value.dtype}")
            return leaf(kind, np.ascontiguousarray(value, KINDS[kind]).tobytes(), list(value.shape))
        return value.item() if isinstance(value, np.generic) else value

    head = to_bytes(json.dumps(finite(walk(tree)), ensure_ascii=False, allow_nan=False))
    head += b" " * (-len(head) % 4)
    return zlib.compress(b"".join([len(head).to_bytes(4, "little"), head, *blobs]), 6)


def unpack(data: bytes) -> dict[str, Any]:
    """What was packed, arrays read-only. Raises `InputError` for bytes that are cut or are something else."""
    try:
        raw = zlib.decompress(data)
        size = int.from_bytes(raw[:4], "little")
        head, blobs = json.loads(raw[4 : 4 + size]), memoryview(raw)[4 + size :]
    except (zlib.error, ValueError) as error:
        raise InputError(f"it is cut or damaged ({error})") from error

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            if value.keys() == {"$"}:
                kind, at, shape = value["$"]
                if kind == "raw":
                    return bytes(blobs[at : at + shape[0]])
                return np.frombuffer(blobs, KINDS[kind], int(np.prod(shape)), at).reshape(shape)
            return {key: walk(part) for key, part in value.items()}
        return [walk(part) for part in value] if isinstance(value, list) else value

    return dict(walk(head))


def store(tree: Mapping[str, Any], folder: Path) -> None:
    """Keep a view in a run folder, whole or not at all. Raises `RunError` where the disk is full."""
    write_whole(folder / VIEW, pack(tree))


def load(folder: Path) -> dict[str, Any] | None:
    """The view that a run folder keeps, None where it keeps none. Raises `InputError` for one that is damaged."""
    path = folder / VIEW
    try:
        return unpack(path.read_bytes()) if path.is_file() else None
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
