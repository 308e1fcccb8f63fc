"""What run folders hold, read again: JSON, lines and manifests, each checked for being what was written."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glom.errors import InputError


def read_json(path: Path) -> Any:
    """Read a JSON file; `InputError` where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every complete record of a JSONL file; a half-line at its end (a kill) is passed over.

    Raises:
        InputError: a damaged line before the end, which no kill explains.
    """
    return [record for record, _ in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Every complete record with its line's check sum."""
    raw = path.read_bytes() if path.exists() else b""
    complete = raw[: raw.rfind(b"\n") + 1]
    for number, line in enumerate(complete.splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged at line {number}; move it away and run again") from error
        yield record, zlib.crc32(line)


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest. Raises `InputError` where there is none, or what lies there is none."""
    path = folder / "manifest.json"
    found = read_json(path)
    kinds = {"kind": str, "settings": dict, "format": int, "notices": list, "versions": dict}
    if not isinstance(found, dict) or not all(isinstance(found.get(k, kind()), kind) for k, kind in kinds.items()):
        raise InputError(f"{path} is no manifest of a run; choose another folder")
    return {"kind": "", "settings": {}, **found}


def parts(folder: Path, stem: str) -> Iterator[dict[str, Any]]:
    """Every line of `stem`.jsonl, or of what several processes have written, in the order of their names."""
    for path in sorted(folder.glob(f"{stem}*.jsonl")):
        yield from read_lines(path)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """A run's records, each sample once, in the order of their `index` where they have one.

    Raises:
        InputError: a line that is none, or that is not what was written, by the check sums of timing.jsonl.
    """
    written: dict[Any, set[int]] = {}
    for entry in parts(folder, "timing"):
        if isinstance(entry.get("id"), str) and "crc" in entry:
            written.setdefault(entry["id"], set()).add(entry["crc"])
    unique: dict[str, dict[str, Any]] = {}
    unknown: dict[str, str] = {}
    for path in sorted(folder.glob("results*.jsonl")):
        for number, (record, crc) in enumerate(_lines(path), 1):
            name = record.get("id")
            wrong = f"{path} is not as it was written, at line {number}; move it away and run again"
            if not isinstance(name, str) or crc not in written.get(name, {crc}):
                raise InputError(wrong)
            if name not in written:
                unknown[name] = wrong
            unique[name] = record
    # A kill may leave a line without its check sum, which is written after it; the name of another is then not missing.
    if unknown and not written.keys() <= unique.keys():
        raise InputError(next(iter(unknown.values())))
    return sorted(unique.values(), key=lambda r: r.get("index", 0))


def read_timing(folder: Path, what: str = "seconds") -> dict[str, float]:
    """Seconds by sample id: all told, or "own", a method's part, of the lines that have it."""
    lines = (line for line in parts(folder, "timing") if isinstance(line.get("id"), str))
    return {line["id"]: float(line[what]) for line in lines if isinstance(line.get(what), int | float)}
