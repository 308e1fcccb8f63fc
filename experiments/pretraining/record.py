"""A finished run folder as one file that can leave the machine: settings, machine, versions, figures, no paths."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from glom.errors import InputError
from glom.runs.artifacts import make_parent, public_name, read_json, write_json


def record_run(folder: Path, target: Path) -> dict[str, Any]:
    """Write what a run folder's manifest and summary say together into `target`, and return it.

    Raises:
        InputError: no finished run there, or a folder for `target` that cannot be made.
        RunError: `target` cannot be written.
    """
    manifest = read_json(folder / "manifest.json")
    name = "matrix.json" if manifest.get("kind") == "shortcut-matrix" else "summary.json"
    if manifest.get("status") != "complete":
        raise InputError(f"{folder} holds no finished run; nothing is recorded")
    words = [public_name(w) for w in shlex.split(manifest["command"])]
    kept = {key: manifest[key] for key in ("kind", "settings", "machine", "versions", "started") if key in manifest}
    record = {"command": shlex.join(words), **kept, "results": read_json(folder / name)}
    make_parent(target)
    write_json(target, record)
    return record
