"""`apm convert official`: a checkpoint of the official release as one of this toolkit's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from commands.common import Json, emit_json, table

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def convert() -> None:
    """Checkpoints of other programs, read into this toolkit's formats."""


@app.command()
def official(
    file: Annotated[str, typer.Argument(help="A checkpoint of the official release, .pth, .pt or .safetensors.")],
    out: Annotated[str, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    as_json: Json = False,
) -> None:
    """A published APM, pre-training or test-time, with the release's outputs; `glom.load(OUT)` then reads it."""
    from glom.errors import InputError

    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{out} is there already and is no empty folder; nothing is overwritten: choose another")
    from glom.machine import load

    machine = load(f"official:{file}")
    machine.save_pretrained(folder)
    result: dict[str, Any] = {"file": str(folder / machine.FILE), **machine.meta}
    result["parameters"] = sum(p.numel() for p in machine.parameters())
    config = machine.config
    result |= {"trunk": list(config.trunk), "features": config.features, "image_size": config.image_size}
    if as_json:
        emit_json(result)
        return
    pictures = {"bgr-minmax": "BGR, from 0 at the darkest value to 1", "imagenet": "RGB, ImageNet's mean and deviation"}
    rows = [
        ("network", f"{result['official']}, trunk {'-'.join(map(str, config.trunk))}, {config.features} features"),
        ("parameters", f"{result['parameters']:,}"),
        ("pictures it was shown", f"{config.image_size} px, {pictures[result['pixels']]}"),
        ("what the file does not say", result["assumed"]),
        ("dropped, since its forward never calls it", ", ".join(result["dropped"]) or "nothing"),
        ("written", result["file"]),
    ]
    table(["official checkpoint", ""], rows)
