"""Run folders and pictures put on one page, or on as many as the pictures need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from experiments.explore.settings import ExploreSettings
from glom.backbones.registry import load_backbone
from glom.datasets.reading import read_image
from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.artifacts import check_target, command_line, make_parent
from glom.runs.events import Event
from probes.explorer import Pages, Source, View, layered, merged, read_run
from probes.explorer.runs import outlined
from probes.explorer.write import is_page
from probes.look import islands


class Explored(TypedDict):
    """The pages written, what they hold, and what could not be shown.

    `worst`: the greatest error of a cosine in the pages, None where they hold no features.
    """

    pages: list[str]
    bytes: int
    pictures: int
    traces: int
    tables: int
    worst: float | None
    notes: list[str]
    skipped: list[dict[str, str]]
    seconds: float


def run(settings: ExploreSettings) -> Iterator[Event[Explored]]:
    """Read, look, and write the page.

    A run or picture that cannot be read is said in one line and passed over.

    Raises:
        InputError: nothing could be read, or what lies where the page goes is no page of this kind.
    """
    begun, out = time.perf_counter(), Path(settings.out)
    check_target(out, "`out`")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"`out` is a page, so that a browser opens it: {out.name} does not end in .html")
    if out.is_file() and not is_page(out):
        raise InputError(f"{out} is no page of this kind and is not replaced; choose another `out`")
    folders = [Path(w) for w in settings.what if Path(w).is_dir()]
    images = [Path(w) for w in settings.what if not Path(w).is_dir()]
    names = [name for name in (settings.backbone, settings.against) if name]
    networks = [load_backbone(name, settings.device) for name in names] if images else []
    views: list[View] = []
    failed: list[dict[str, str]] = []
    for done, folder in enumerate(folders, 1):
        message = ""
        try:
            views.append(read_run(folder, settings.data))
            message = "\n".join(f"{folder.name}: {note}" for note in views[-1]["notes"])
        except GlomError as error:
            failed.append({"what": str(folder), **lost(error)})
            message = f"skipped: {error}"
        yield Event("reading runs", done, len(folders), message)
    whole = merged(views, _title(folders, images))
    whole["facts"] += [["command", command_line()]]
    pictures = whole.pop("pictures", [])
    make_parent(out)
    pages, worst, shown = Pages(out, whole), [0.0], 0
    for picture in pictures:
        pages.add(picture)
        worst += [stage["error"] for source in picture["sources"] for stage in source["stages"]]
        shown += 1
    for done, path in enumerate(images, 1):
        message = ""
        try:
            image, notes, sources = read_image(path), list[str](), list[Source]()
            for name, network in zip(names, networks, strict=True):
                found = islands(image, network, settings.layers, size=settings.size or None)
                notes += [note for note in found.notes if note not in notes]
                layer_names = [f"{i}: {found.names[i]}" for i in found.layers]
                sources.append(layered(name, [("layer", layer_names)], list(found.grids.values())))
            said: list[str] = []
            picture = outlined(path, image, sources, said, "; ".join(notes))
            worst += [stage["error"] for source in sources for stage in source["stages"]]
            pages.add(picture)
            shown += 1
            message = "\n".join(said)
        except InputError as error:
            failed.append({"what": str(path), **lost(error)})
            message = f"skipped: {error}"
        yield Event("looking at pictures", done, len(images), message)
    demand_some([*({"status": "ok"} for _ in range(len(views) + shown)), *failed], "runs and pictures")
    written = pages.close()
    result: Explored = {
        "pages": [str(page) for page in written],
        "bytes": sum(page.stat().st_size for page in written),
        "pictures": shown,
        "traces": len(whole.get("traces", [])),
        "tables": len(whole.get("tables", [])),
        "worst": round(max(worst), 5) if shown else None,
        "notes": whole["notes"],
        "skipped": failed,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    yield Event("writing", 1, 1, result=result)


def _title(folders: list[Path], images: list[Path]) -> str:
    names = [path.resolve().name for path in (*folders, *images)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
