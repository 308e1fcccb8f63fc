"""`apm export`: a machine as one file that runs without this toolkit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.common import Json, Quiet, emit_json, follow


def export(
    checkpoint: Annotated[str, typer.Argument(help="apm-cifar10, a file, a folder of `apm grid train`, OWNER/NAME.")],
    kind: Annotated[str, typer.Option("--format", "-f", help="onnx or pt2.", metavar="onnx|pt2")] = "onnx",
    out: Annotated[str, typer.Option("--out", "-o", help="The file.", metavar="FILE", show_default="its name")] = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The machine as ONNX or a torch program, for any number of pictures and locations, held against the original."""
    from glom.export import exporting
    from glom.machine import load

    machine = load(checkpoint)
    path = Path(out or f"{Path(checkpoint).stem}.{kind}")
    difference = follow(exporting(machine, path, kind), quiet)
    if as_json:
        emit_json({"file": str(path), "max_difference": difference})
        return
    print(f"{path}: at most {difference:.1e} from the machine, for 1, 49 and 5,000 locations")
