"""`apm datasets`: what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from commands.common import Json, emit_json, say, table

app = typer.Typer(help="Data sets: what can be named.", invoke_without_command=True, add_completion=False)


@app.callback()
def datasets(context: typer.Context, as_json: Json = False) -> None:
    """List the data sets that can be named, and the corruptions that can be applied to any."""
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from glom.datasets.corruptions import CORRUPTIONS
    from glom.datasets.registry import dataset_names

    rows = [asdict(r) for r in dataset_names()]
    if as_json:
        emit_json({"datasets": rows, "corruptions": list(CORRUPTIONS)})
        return
    shown = [(r["name"], r["what"], r["size"], r["licence"], "shipped" if r["offline"] else "") for r in rows]
    table(["name", "what", "images", "licence", ""], shown)
    say("Also: an image folder, a CSV or TSV manifest, NAME:FOLDER for a named set kept elsewhere.")
    say("Missing sets go to $APM_DATA or the user's cache: apm datasets download NAME.")
    table(["corruptions of ImageNet-C: --corruption NAME:SEVERITY, 1 to 5"], [[", ".join(CORRUPTIONS)]])


@app.command("download")
def download(
    name: Annotated[str, typer.Argument(help="A named data set.")],
    split: Annotated[str, typer.Option("--split", help="train, val or test.")] = "test",
) -> None:
    """Fetch a named data set through torchvision, then count what is there."""
    from glom.datasets.registry import open_dataset

    dataset = open_dataset(name, split=split, download=True)
    classes = len(dataset.classes or ())
    print(f"{dataset.name}: {len(dataset)} images, {classes} classes")
