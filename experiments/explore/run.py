"""Run folders and pictures put on one page, or on as many as the pictures need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from experiments.explore.settings import ExploreSettings
from glom.backbones.base import Backbone
from glom.backbones.patching import layer_number
from glom.backbones.registry import load_backbone
from glom.backbones.video import select_layers
from glom.datasets.class_files import read_class_names
from glom.datasets.reading import read_image
from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.artifacts import check_target, command_line, make_parent
from glom.runs.events import Event
from glom.runs.files import short_names
from probes.explorer import Pages, Picture, Source, View, merged, read_run
from probes.explorer.runs import outlined
from probes.explorer.write import is_page
from probes.look import islands
from probes.patched import read_patches, read_region


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
    begun, out = time.perf_counter(), _target(settings.out)
    folders = [Path(w) for w in settings.what if Path(w).is_dir()]
    images = [Path(w) for w in settings.what if not Path(w).is_dir()]
    names = [name for name in (settings.backbone, settings.against) if name]
    networks = {name: load_backbone(name, settings.device) for name in names} if images else {}
    patches = _patches(settings, networks)
    views: list[View] = []
    failed: list[dict[str, str]] = []
    for done, folder in enumerate(folders, 1):
        try:
            views.append(read_run(folder, settings.data))
            message = "\n".join(f"{folder.name}: {note}" for note in views[-1]["notes"])
        except GlomError as error:
            failed.append({"what": str(folder), **lost(error)})
            message = f"skipped: {error}"
        yield Event("reading runs", done, len(folders), message)
    whole = merged(views, _title(folders, images))
    whole["facts"].append(["command", command_line()])
    pictures = whole.pop("pictures", [])
    make_parent(out)
    pages = Pages(out, whole)
    for picture in pictures:
        pages.add(picture)
    for done, (path, name) in enumerate(zip(images, short_names(images), strict=True), 1):
        said: list[str] = []
        try:
            pages.add(_seen(path, name, networks, settings, patches, said))
        except InputError as error:
            failed.append({"what": str(path), **lost(error)})
            said = [f"skipped: {error}"]
        yield Event("looking at pictures", done, len(images), "\n".join(said))
    demand_some([*({"status": "ok"} for _ in range(len(views) + pages.pictures)), *failed], "runs and pictures")
    written = pages.close()
    result: Explored = {
        "pages": [str(page) for page in written],
        "bytes": sum(page.stat().st_size for page in written),
        "pictures": pages.pictures,
        "traces": len(whole.get("traces", [])),
        "tables": len(whole.get("tables", [])),
        "worst": round(pages.worst, 5) if pages.pictures else None,
        "notes": whole["notes"],
        "skipped": failed,
        "seconds": round(time.perf_counter() - begun, 3),
    }
    yield Event("writing", 1, 1, result=result)


def _target(path: str) -> Path:
    out = Path(path)
    check_target(out, "`out`")
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"`out` is a page, so that a browser opens it: {out.name} does not end in .html")
    if out.is_file() and not is_page(out):
        raise InputError(f"{out} is no page of this kind and is not replaced; choose another `out`")
    return out


def _patches(settings: ExploreSettings, networks: Mapping[str, Backbone]) -> list[tuple[str, str, str]]:
    """Layer, region and value of each patch. Raises `InputError` for what no picture could be patched by."""
    asked = read_patches(settings.patch)
    if asked and not networks:
        raise InputError("`patch` is of pictures, and there is none; a run of `apm islands patch` brings its own")
    for layer, _, _ in asked:
        network = networks[settings.backbone]
        if layer_number(network, layer) > max(select_layers(network, settings.layers)):
            raise InputError(f"`layers` {settings.layers} names no layer from the patched one on, {layer}")
    return asked


def _seen(
    path: Path,
    name: str,
    networks: Mapping[str, Backbone],
    settings: ExploreSettings,
    patches: Sequence[tuple[str, str, str]],
    said: list[str],
) -> Picture:
    """One picture, called `name`, as every network sees it, the first also patched and asked for its class.

    `said` gets what is wrong with its outlines.
    """
    image, notes, sources = read_image(path), list[str](), list[Source]()
    first: dict[str, Any] = {
        "patches": [(layer, read_region(region, image), value) for layer, region, value in patches],
        "classes": read_class_names(Path(settings.classes)) if settings.classes else (),
    }
    for who, network in networks.items():
        own = {} if sources else first
        found = islands(image, network, settings.layers, size=settings.size or None, **own)
        notes += [note for note in found.notes if note not in notes]
        sources.append(found.source(who))
    return outlined(path, image, sources, said, "; ".join(notes), name)


def _title(folders: list[Path], images: list[Path]) -> str:
    names = [path.resolve().name for path in (*folders, *images)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
