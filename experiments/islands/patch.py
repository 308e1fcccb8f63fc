"""One layer's features replaced at a region: what changes in the later layers' islands, and in the class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from experiments.islands.settings import PatchSettings
from glom.backbones.patching import Region, layer_number, region_cells
from glom.backbones.video import clip_for, default_backbone, load_backbone, select_layers
from glom.colours import Array, pca_rgb
from glom.datasets.class_files import read_class_names
from glom.datasets.reading import read_image
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, read_json
from glom.runs.events import Event
from glom.settings import write_settings
from probes.agreement import at_most, unit
from probes.explorer import View, layered, picture_of, store
from probes.figures.base import keep, kept
from probes.figures.patched import PatchedLayer, patched_figure
from probes.metrics import adjusted_rand
from probes.partition import Labels, count_islands, parse_partition, partition
from probes.patched import Said, read_region, watch, watch_patched

ARRAYS = "patch.npz"
FIGURES = ("patch.png", "patch.svg")


class Changed(TypedDict):
    """A layer before and after. `cosine`: the mean over its locations of each with itself before, also of those inside
    the region and outside; `ari`: of the partition after with that before."""

    layer: int
    name: str
    grid: list[int]
    cosine: float
    cosine_inside: float | None
    cosine_outside: float | None
    ari: float
    islands_before: int
    islands_after: int


class Patched(TypedDict):
    """What was replaced, and what changed; `classes` where the network ends in a classifier."""

    image: str
    backbone: str
    layer: int
    name: str
    region: str
    locations: list[int]
    value: str
    notes: list[str]
    layers: list[Changed]
    classes: NotRequired[dict[str, list[Said]]]


def run(settings: PatchSettings, out: Path) -> Iterator[Event[Patched]]:
    """Watch a picture as it is and patched; write the numbers, the arrays and a figure.

    Raises:
        InputError: the request is wrong: picture, layer, region or value.
    """
    name, note = (settings.backbone, "") if settings.backbone else default_backbone()
    backbone = load_backbone(name, settings.device)
    image = read_image(settings.image)
    number = layer_number(backbone, settings.layer)
    region = read_region(settings.region, image)
    compared = [layer for layer in select_layers(backbone, settings.layers) if layer >= number]
    if not compared:
        raise InputError(f"`layers` {settings.layers} names no layer from the patched one on, {number}")
    classes = read_class_names(Path(settings.classes)) if settings.classes else ()
    clip = clip_for(backbone, image, settings.frames or None, settings.size or None)
    view = (clip.shape[1], clip.shape[2])
    notes = [*([note] if note else []), *backbone.fit(*view)]
    with backbone.patch(number, region, settings.value, *view):
        pass  # what is wrong with the request is said before there is a folder
    names = {key: Path(getattr(settings, key)).name for key in ("image", "value", "region")}
    held = settings.manifest(**names, backbone=name, layer=number, frames=view[0], size=view[1])
    with RunFolder(out, "islands-patch", held, extra={"notes": notes}) as folder:
        write_settings(out, settings)
        before, said = watch(backbone, clip, compared, classes)
        yield Event("watching", 1, 2, "\n".join(notes))
        what = f"layer {number}, {names['region']}: {names['value']}"
        after = watch_patched(backbone, clip, compared, (number, region, settings.value), what, classes)
        yield Event("watching", 2, 2)
        arrays: dict[str, NDArray[Any]] = {"region": after.cells}
        rows: list[Any] = []
        for layer in compared:
            row, kept = _compare(before[layer], after.grids[layer], region, settings)
            rows.append({"layer": layer, "name": backbone.layers[layer][0], **row})
            arrays |= {f"{key}_{layer}": value for key, value in kept.items()}
        keep(out / ARRAYS, image, **arrays)
        axes = [("layer", [f"{layer}: {backbone.layers[layer][0]}" for layer in compared])]
        seen = [layered(name, axes, list(before.values()), patches=[after], said=said)]
        whole: View = {"title": f"{names['image']}, patched in layer {number}", "facts": [], "notes": notes}
        store({**whole, "pictures": [picture_of(names["image"], image, seen)]}, out)
        result: Patched = {
            "image": names["image"],
            "backbone": name,
            "layer": number,
            "name": backbone.layers[number][0],
            "region": names["region"],
            "locations": [int(after.cells.sum()), after.cells.size],
            "value": names["value"],
            "notes": notes,
            "layers": rows,
        }
        if said:
            result["classes"] = {"before": said, "after": after.said}
        folder.conclude(result)
    figures(out)
    yield Event(result=result)


def _compare(
    before: Array, after: Array, region: Region, settings: PatchSettings
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A layer's row, and what its figure is drawn from."""
    before, after = at_most(before, settings.grid), at_most(after, settings.grid)
    cosines = (unit(before) * unit(after)).sum(-1)
    cells = region_cells(region, *cosines.shape)
    how = parse_partition(settings.partition)
    cuts: list[Labels] = [partition(grid, how, settings.seed) for grid in (before, after)]
    colours = pca_rgb(before, after)
    row = {
        "grid": list(cosines.shape),
        "cosine": float(cosines.mean()),
        "cosine_inside": float(cosines[cells].mean()),
        "cosine_outside": float(cosines[~cells].mean()) if not cells.all() else None,
        "ari": adjusted_rand(*cuts),
        "islands_before": count_islands(cuts[0]),
        "islands_after": count_islands(cuts[1]),
    }
    pixels = [(c * 255).round().astype(np.uint8) for c in colours]
    return row, {"before": pixels[0], "after": pixels[1], "cosine": cosines.astype(np.float16)}


def figures(folder: Path) -> list[Path]:
    """Draw a run's figure, PNG and SVG, from what it saved. Raises `InputError` where it saved nothing."""
    result = read_json(folder / "result.json")
    image, found = kept(folder / ARRAYS)
    layers = []
    for row in result["layers"]:
        before, after, cosine = (found[f"{key}_{row['layer']}"] for key in ("before", "after", "cosine"))
        h, w = row["grid"]
        titles = (
            f"layer {row['layer']}: {row['name']}, {h} x {w}",
            f"after: ARI with before {row['ari']:.2f}",
            f"cosine {row['cosine']:.2f}",
        )
        layers.append(PatchedLayer(titles, before / 255, after / 255, cosine.astype(np.float32)))
    return patched_figure(image, found["region"], layers, [folder / name for name in FIGURES], _caption(result))


def _caption(result: Patched) -> str:
    count, total = result["locations"]
    text = (
        f"{result['backbone']} watching {result['image']}, before and after the features of layer {result['layer']} "
        f"({result['name']}) were replaced at {count} of its {total} locations by {result['value']}. Colours: first "
        "three principal components, one code for before and after, a code a layer. ARI: of both partitions. Bottom: "
        "the cosine of each location with itself before; over it its mean. One picture, no interval."
    )
    if "classes" in result:
        first, last = result["classes"]["before"][0], result["classes"]["after"][0]
        text += (
            f" Class: {first['name']} ({first['probability']:.2f}), then {last['name']} ({last['probability']:.2f})."
        )
    return text
