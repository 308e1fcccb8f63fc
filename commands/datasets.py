"""`apm datasets`: what can be named, what of it is there, and how to get the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.common import Json, Quiet, console, drawing, drawn, emit_json, say, table

if TYPE_CHECKING:
    from glom.datasets.check import DatasetCheck

app = typer.Typer(
    help="Data sets: what can be named, what is there, and fetching it.", invoke_without_command=True,
    add_completion=False,
)  # fmt: skip

Root = Annotated[
    str | None,
    typer.Option("--root", help="Folder that holds the data sets; $APM_DATA or the user's cache if not given.",
                 metavar="DIR"),
]  # fmt: skip
MARKS = {"complete": "complete", "incomplete": "INCOMPLETE", "absent": "-"}


@app.callback()
def datasets(context: typer.Context, as_json: Json = False) -> None:
    """List the data sets that can be named, and the corruptions that can be applied to any."""
    if context.invoked_subcommand is None:
        list_datasets(as_json)


@app.command("list")
def list_datasets(as_json: Json = False) -> None:
    """List the data sets that can be named, and the corruptions that can be applied to any."""
    from glom.datasets.corruptions import KNOWN
    from glom.datasets.registry import dataset_names

    rows = dataset_names()
    if as_json:
        emit_json({"datasets": [asdict(row) for row in rows], "corruptions": list(KNOWN)})
        return
    shown = []
    for row in rows:
        get = "ships" if row.offline else row.download or "ask"
        shown.append((row.name, row.what, row.size, get, ", ".join(map(str, row.tables))))
    table(["name", "what", "images", "get", "table"], shown, right=(3, 4))
    print("\ncorruptions, for any pictures: --corruption NAME:SEVERITY, 1 to 5, with the")
    print("strengths published for their size (cifar10-c, tiny-imagenet-c or imagenet-c);")
    print("NAME:SEVERITY@SCALE names one")
    console().print(", ".join(KNOWN))
    say("\nget: what `apm datasets prepare NAME` downloads, or whether somebody has to be asked; table: the poster's.")
    say("Also: an image folder, a CSV or TSV manifest, NAME:FOLDER for a named set kept elsewhere.")
    say("imagenet-c, cifar10-c and cifar100-c are named with a corruption: imagenet-c/fog/5;")
    say("sets of several domains alone or with one of them: pacs, pacs/sketch.")


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A named data set, one variant of it (imagenet-c/fog/5), or `all`.")],
    root: Root = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be repeated.", metavar="S")
    ] = None,
    read: Annotated[bool, typer.Option("--read", help="Open every picture, count the unreadable.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count the images and classes that are there, against what was published. Never writes.

    Exit code 0: complete (with `all`: of what is there). 1: incomplete. 2: not there, or no such data set.
    """
    from glom.datasets.check import ABSENT, INCOMPLETE, checking
    from glom.datasets.registry import dataset_names
    from glom.errors import InputError

    where = Path(root).expanduser() if root else None
    if where is not None and not where.exists():
        raise InputError(f"{where}: no such folder; --root names the folder that holds the data sets")
    names = [info.name for info in dataset_names() if not info.offline] if name == "all" else [name]
    if name == "all" and split:
        raise InputError("--split goes with one data set, not with all")
    with drawing(quiet) as draw:
        found = [drawn(checking(n, where, split, read), draw) for n in names]
    if as_json:
        emit_json({"datasets": [one.as_dict() for one in found]})
    elif name == "all":
        show_all(found)
    else:
        show_one(found[0])
    states = {one.state for one in found}
    code = 1 if INCOMPLETE in states else 2 if states == {ABSENT} else 0
    if code == 2:
        say(f"error: {found[0].problems[0]}" if name != "all" else f"error: none of them is in {found[0].root}")
    if code:
        raise typer.Exit(code)


def show_one(found: DatasetCheck) -> None:
    """Its splits, what is wrong, and the verdict; nothing where it is not there."""
    if found.state == "absent":
        return
    outlined = any(row.outlines is not None for row in found.splits)
    rows = [
        (
            row.split,
            _count(row.images),
            _count(row.expected_images),
            _count(row.classes),
            _count(row.expected_classes),
            _count(row.unreadable),
            *([_count(row.outlines)] if outlined else []),
        )
        for row in found.splits
    ]
    heads = ["split", "images", "published", "classes", "published", "unreadable", *(["outlines"] if outlined else [])]
    table(heads, rows, title=f"{found.name} in {found.root} ({found.layout})", right=range(1, len(heads)))
    for problem in found.problems[:20]:
        console().print(f"- {problem}", markup=False)
    if len(found.problems) > 20:
        print(f"- and {len(found.problems) - 20} more; --json lists all")
    print(f"{found.name}: {found.state}" + (f" in this layout: {found.part}" if found.part else ""))


def show_all(found: list[DatasetCheck]) -> None:
    """One line a data set."""
    rows = []
    for one in found:
        images = sum(row.images or 0 for row in one.splits)
        more = f" (and {len(one.problems) - 1} more)" if len(one.problems) > 1 else ""
        said = "" if one.state == "absent" else "".join(one.problems[:1]) + more or one.part
        rows.append((one.name, MARKS[one.state], f"{images:,}" if images else "-", said))
    table(["name", "state", "images", "what is wrong"], rows, title=f"in {found[0].root}", right=(2,))


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="A named data set.")],
    root: Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download what may be downloaded, after saying how much; for the rest, say where to ask and where to put it.

    Exit code 1 where it is neither there nor could be downloaded.
    """
    from glom.datasets.check import checking
    from glom.datasets.named.catalogue import NAMED
    from glom.datasets.prepare import fetch, make_plan
    from glom.errors import RunError

    plan = make_plan(name, Path(root).expanduser() if root else None)
    if not as_json:
        show_plan(asdict(plan))
    checked = None
    if not dry_run and (plan.there or plan.download):
        with drawing(quiet) as draw:
            if plan.download:
                fetch(NAMED[name], plan.root, draw)
            checked = drawn(checking(name, plan.root), draw)
        if not as_json:
            show_one(checked)
    if as_json:
        emit_json({**asdict(plan), "root": str(plan.root), "check": checked.as_dict() if checked else None})
    if checked is not None and not checked.complete:
        again = f"; remove {plan.there} to fetch it again" if plan.there and not plan.download else ""
        raise RunError(f"{name} is {checked.state}: {checked.problems[0]}{again}")
    if not dry_run and checked is None:
        raise RunError(f"{name} cannot be downloaded from here; get it from {plan.source} and put it into {plan.root}")


def show_plan(plan: Mapping[str, Any]) -> None:
    """What would be done, in a few lines."""
    rows = [("from", plan["source"]), ("licence", plan["licence"]), ("images", plan["images"])]
    if plan["there"]:
        rows.append(("here", plan["there"] + ("" if plan["download"] else ": nothing to download")))
    if plan["download"]:
        rows += [("downloads", f"{plan['download']} into {plan['root']} ({plan['free']} free)")]
        rows += [("", address) for address in plan["addresses"]]
    if plan["terms"]:
        rows.append(("note", plan["terms"]))
    rows += [("" if number else "layout", f"ROOT/{line}") for number, line in enumerate(plan["layout"])]
    print(f"{plan['name']}: {plan['what']}")
    for label, text in rows:
        print(f"  {label:<10}{text}")
