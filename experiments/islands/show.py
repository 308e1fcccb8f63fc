"""Islands of a picture, layer by layer: a sheet, a page to explore, a figure, and on request the raw grids."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from PIL import Image

from experiments.islands.drawn import Drawn, Truth, draw, figure_layers
from experiments.islands.finer import FINER, DrawnFiner, FinerScores, check_finer, draw_finer, summarise_finer
from experiments.islands.settings import ShowSettings
from glom.backbones.video import Backbone, clip_for, default_backbone, feature_grids, load_backbone, select_layers
from glom.colours import Array
from glom.datasets.outlined import outlines_beside
from glom.datasets.reading import read_image
from glom.errors import GlomError, RunError, demand_some, lost
from glom.runs.artifacts import RunFolder, command_line, disk_error
from glom.runs.events import Event
from glom.runs.files import file_stem, replacing, write_text
from glom.settings import write_settings
from probes.agreement import at_most
from probes.explorer import Picture, View, layered, page, store
from probes.explorer.runs import outlined
from probes.figures.islands import keep_sheet, redraw_sheet
from probes.figures.outlined import redraw_outlines
from probes.partition import Partition, parse_partition
from probes.reduction import PERPLEXITY, default_cache, reduce_rgb, relative

FIGURES = "figures"  # their folder in a run's, so that no picture's name is a figure's
SHEETS = "sheets"  # what sheets are drawn from
VIEWED = 100  # pictures that the run's view keeps


@dataclass
class Shown:
    """One picture that could be read: its name in the run folder, pixels, the layers that are finite."""

    path: str
    stem: str
    image: Image.Image
    grids: dict[int, Array]

    @property
    def note(self) -> str:
        """A sentence where the picture is one colour all over, else nothing."""
        pixels = np.asarray(self.image)
        if not (pixels == pixels[0, 0]).all():
            return ""
        return "one colour all over: one island; what its layers still tell apart is the frame's border"


class Written(TypedDict):
    """What was written of one picture."""

    image: str
    sheet: str
    page: str
    figure: str
    islands: list[Drawn]
    finer: NotRequired[list[DrawnFiner]]


class Sheets(TypedDict):
    """A backbone's islands on every picture that could be read, and why the others were `skipped`.

    `left_out`: layers that are not finite on some picture; `layers`: the others.
    """

    backbone: str
    what: str
    notes: list[str]
    layers: list[int]
    left_out: list[int]
    pictures: list[Written]
    skipped: list[dict[str, str]]
    finer: NotRequired[list[FinerScores]]
    seconds: float


def run(settings: ShowSettings, out: Path) -> Iterator[Event[Sheets]]:
    """Write sheets and pages.

    A picture that cannot be read or is too small is said in one line and passed over.

    Raises:
        InputError: the request is wrong, or no picture at all could be shown.
    """
    name, note = (settings.backbone, "") if settings.backbone else default_backbone()
    backbone = load_backbone(name, settings.device)
    layers = select_layers(backbone, settings.layers)
    how = (settings.partition, parse_partition(settings.partition), settings.seed)
    check_finer(settings.finer, how[1], settings.partition)
    figured = figure_layers(layers, select_layers(backbone, settings.figure) if settings.figure else None)
    view = (settings.frames or backbone.frames, settings.size or backbone.view)
    notes = [*([note] if note else []), *backbone.fit(*view)]
    held = settings.manifest(images=[Path(p).name for p in settings.images], backbone=name)
    held |= {"frames": view[0], "size": view[1], "cache": None}
    begun = time.perf_counter()
    with RunFolder(out, "islands-show", held, extra={"notes": notes}) as folder:
        write_settings(out, settings)
        for said in notes:
            yield Event(message=said)
        shown, failed = yield from _watched(backbone, layers, view, settings, out)
        read, layers = layers, _finite(shown, layers)
        figured = [i for i in figured if i in layers] or figure_layers(layers, None)
        by_layer = yield from _by_layer(shown, layers, settings)
        pictures: list[Written] = []
        page_of: View = {"title": f"Islands of {name}", "facts": _facts(backbone, notes, settings), "notes": []}
        seen: list[Picture] = []
        for number, item in enumerate(shown):
            panels = [colours[number] for colours in by_layer]
            if item.note:  # t-SNE and the scaling would blow the border up to a rainbow
                panels = [np.full_like(panel, 0.5) for panel in panels]
            picture = _picture(item, [f"{i}: {backbone.layers[i][0]}" for i in layers], panels, backbone.name)
            seen += [picture][: VIEWED - len(seen)]
            sheet, html = _write(item, picture, panels, page_of, out)
            chosen = [(i, backbone.layers[i][0], item.grids[i]) for i in figured]
            truth, message = _truth(item)
            drawn = _outline(item, chosen, how, truth, out, backbone.name)
            figure = f"{FIGURES}/{item.stem}.png"
            pictures.append({"image": item.path, "sheet": sheet, "page": html, "figure": figure, "islands": drawn})
            yield Event("drawing", number + 1, len(shown), message)
            if settings.finer:
                ways = draw_finer(item.image, backbone, chosen, settings, truth, out / FINER / item.stem)
                pictures[-1]["finer"] = yield from _fitted(ways, number * len(chosen), len(shown) * len(chosen))
        _keep(page_of, seen, len(shown), out)
        result: Sheets = {
            "backbone": name,
            "what": backbone.what,
            "notes": notes,
            "layers": layers,
            "left_out": [i for i in read if i not in layers],
            "pictures": pictures,
            "skipped": failed,
            "seconds": round(time.perf_counter() - begun, 3),
        }
        if settings.finer:
            result["finer"] = summarise_finer([row for picture in pictures for row in picture["finer"]])
        folder.conclude(result)
    yield Event(result=result)


def figures(folder: Path) -> list[Path]:
    """Draw a run's sheets and figures again from what it kept. Raises `InputError` for a damaged file."""
    sheets = [redraw_sheet(path, folder / f"{path.stem}.png") for path in sorted((folder / SHEETS).glob("*.npz"))]
    outlined = [*(folder / FIGURES).glob("*.npz"), *(folder / FINER).glob("*/*.npz")]
    return [*sheets, *(file for path in sorted(outlined) for file in redraw_outlines(path))]


def _fitted(ways: Iterator[list[DrawnFiner]], before: int, total: int) -> Generator[Event, None, list[DrawnFiner]]:
    """A picture's rows, with an event a layer; `before`: layers of other pictures that were fitted already."""
    found: list[DrawnFiner] = []
    for done, rows in enumerate(ways, before + 1):
        found += rows
        yield Event("fitting", done, total)
    return found


def _watched(
    backbone: Backbone, layers: list[int], view: tuple[int, int], settings: ShowSettings, out: Path
) -> Generator[Event, None, tuple[list[Shown], list[dict[str, str]]]]:
    """The pictures that could be read, and why the others were not. Raises `InputError` where none could."""
    shown: list[Shown] = []
    failed: list[dict[str, str]] = []
    for done, path in enumerate(settings.images, 1):
        name, said = Path(path).name, []
        try:
            shown.append(_look(path, backbone, layers, view, settings, out, [s.stem for s in shown]))
            said += [f"{name}: {shown[-1].note}"] if shown[-1].note else []
            odd = ", ".join(str(i) for i in layers if i not in shown[-1].grids)
            said += [f"{name}: not finite, and left out: layer {odd}"] if odd else []
        except GlomError as error:
            failed.append({"image": path, **lost(error)})
            said.append(f"skipped: {error}")
        yield Event("watching", done, len(settings.images), "\n".join(said))
    demand_some([*({"status": "ok"} for _ in shown), *failed], "pictures")
    return shown, failed


def _look(
    path: str,
    backbone: Backbone,
    layers: list[int],
    view: tuple[int, int],
    settings: ShowSettings,
    out: Path,
    taken: list[str],
) -> Shown:
    image = read_image(path)
    grids = feature_grids(backbone, clip_for(backbone, image, *view), layers, finite=False)
    whole = [i for i in layers if bool(grids[i].isfinite().all())]
    if not whole:
        raise RunError(f"{Path(path).name}: no layer of {backbone.name} is finite")
    stem = file_stem(path, taken)
    if settings.save_grids:
        names = {f"layer_{i}": grid.numpy() for i, grid in grids.items()}
        with replacing(out / f"{stem}.npz") as file:
            np.savez_compressed(file, **names)  # type: ignore[arg-type]
    return Shown(path, stem, image, {i: at_most(grids[i].mean(0).numpy(), settings.grid) for i in whole})


def _finite(shown: list[Shown], layers: list[int]) -> list[int]:
    """The layers that are finite on every picture; the others are dropped of all. Raises `RunError` for none."""
    kept = [i for i in layers if all(i in item.grids for item in shown)]
    if not kept:
        raise RunError("no layer is finite on every picture")
    for item in shown:
        item.grids = {i: item.grids[i] for i in kept}
    return kept


def _colours(shown: list[Shown], settings: ShowSettings) -> Iterator[list[Array]]:
    """A layer's colours for all pictures at a time; under `joint`, all layers' at once, layer by layer."""
    cache = default_cache() if settings.cache else None
    options: dict[str, Any] = {"seed": settings.seed, "cache_dir": cache, "exact": settings.exact}
    if settings.joint:
        relatives = [relative(list(item.grids.values())) for item in shown]
        grids = [relatives[p][layer] for layer in range(len(shown[0].grids)) for p in range(len(shown))]
        yield reduce_rgb(grids, settings.reduce, True, **options)
        return
    for layer in shown[0].grids:
        yield reduce_rgb([item.grids[layer] for item in shown], settings.reduce, False, **options)


def _by_layer(
    shown: list[Shown], layers: list[int], settings: ShowSettings
) -> Generator[Event, None, list[list[Array]]]:
    """A layer's colours for all pictures, layer by layer."""
    coloured: list[list[Array]] = []
    for colours in _colours(shown, settings):
        coloured.append(colours)
        message = _few_points(shown[0], layers[len(coloured) - 1], settings)
        yield Event("reducing", len(coloured), 1 if settings.joint else len(layers), message)
    if not settings.joint:
        return coloured
    count = len(shown)
    return [coloured[0][i * count : (i + 1) * count] for i in range(len(layers))]


def _few_points(first: Shown, layer: int, settings: ShowSettings) -> str:
    """The sentence about a layer with fewer locations than t-SNE's neighbourhoods ask for, else nothing."""
    if settings.joint or settings.reduce != "tsne":
        return ""
    count = first.grids[layer].shape[0] * first.grids[layer].shape[1]
    if count > 3 * PERPLEXITY:
        return ""
    return f"layer {layer}: {count} locations are few for t-SNE's perplexity of {PERPLEXITY:g}; it is lowered"


def _facts(backbone: Backbone, notes: list[str], settings: ShowSettings) -> list[list[str]]:
    """What a page says of all its pictures."""
    facts = [["backbone", f"{backbone.name} ({backbone.what})"]]
    facts += [["colours", f"{settings.reduce}, {'one code for all layers' if settings.joint else 'layer by layer'}"]]
    return [*facts, *(["note", note] for note in notes), ["command", command_line()]]


def _picture(item: Shown, names: list[str], panels: list[Array], backbone: str) -> Picture:
    """What a page shows of it; what is wrong with outlines beside it is said by `_truth`."""
    source = layered(backbone, [("layer", names)], list(item.grids.values()), panels)
    return outlined(Path(item.path), item.image, [source], [], item.note)


def _keep(view: View, seen: list[Picture], count: int, out: Path) -> None:
    """The run's view, of its first pictures."""
    if len(seen) < count:
        view["notes"].append(f"the first {len(seen)} of {count} pictures; each has a page of its own in the folder")
    store({**view, "pictures": seen}, out)


def _write(item: Shown, picture: Picture, panels: list[Array], view: View, out: Path) -> tuple[str, str]:
    sheet, target, name = out / f"{item.stem}.png", out / f"{item.stem}.html", Path(item.path).name
    source = picture["sources"][0]
    named = list(zip((f"layer {label}" for label in source["axes"][0]["labels"]), panels, strict=True))
    try:
        keep_sheet(out / SHEETS / f"{item.stem}.npz", item.image, named, sheet, f"{name}, {source['name']}")
        write_text(target, page({**view, "title": f"Islands of agreement: {name}", "pictures": [picture]}))
    except OSError as error:
        raise disk_error(error, out) from error
    return sheet.name, target.name


def _truth(item: Shown) -> tuple[Truth | None, str]:
    """The outlines beside the picture, or what is wrong with them."""
    beside = outlines_beside(Path(item.path))
    try:
        return None if beside is None else Truth.of(beside), ""
    except GlomError as error:
        return None, f"{error}; not scored"


def _outline(
    item: Shown,
    chosen: list[tuple[int, str, Array]],
    how: tuple[str, Partition, int],
    truth: Truth | None,
    out: Path,
    name: str,
) -> list[Drawn]:
    """The figure, PNG and SVG, in a folder of its own."""
    try:
        return draw(item.image, chosen, how, truth, out / FIGURES / f"{item.stem}.npz", (Path(item.path).name, name))
    except OSError as error:
        raise disk_error(error, out) from error
