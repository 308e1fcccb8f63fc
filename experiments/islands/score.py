"""Islands of every layer scored against people's outlines, beside both baselines and the people themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
from PIL import Image

from experiments.islands.settings import ScoreSettings
from glom.backbones.video import (
    Backbone,
    clip_for,
    default_backbone,
    feature_grids,
    load_backbone,
    select_layers,
    untrained,
)
from glom.colours import Array
from glom.datasets.segmentation import CompositePicture, SegmentedPicture, open_segmentation
from glom.errors import GlomError, InputError, RunError, demand_some, lost
from glom.runs.artifacts import RunFolder, read_json, read_results
from glom.runs.events import Event
from glom.runs.statistics import bootstrap_ci
from glom.settings import write_settings
from probes.agreement import neighbour_agreement, resize_grid
from probes.metrics import Outlines, human_score, score
from probes.partition import Partition, colour_position, count_islands, enlarge, parse_partition, partition

OBJECTS = ("panoptic_ari", "mbo", "mbo_class", "miou")  # the object-centric field's, beside those of segmentation
SEGMENTS = ("ari", "fg_ari", "nmi", "covering", "covering_best", "boundary_f", "boundary_f_matched")
MEASURES = (*SEGMENTS, *OBJECTS, "neighbour_agreement", "islands")
PAIRED = ("ari", "fg_ari", "nmi", "covering", "boundary_f", "boundary_f_matched", *OBJECTS)
CHOSEN_BY = "covering"
RULE = "covering: mean over annotators"  # kept with a run, so that pictures scored by another rule do not mix with it


class Scores(TypedDict):
    """Every measure's means over `n` pictures, a row a layer, beside both baselines and people; see `summarise`."""

    n: int
    skipped: int
    mask_size: list[list[int]] | None
    layers: list[dict[str, Any]]
    baselines: dict[str, Any]
    human: dict[str, Any] | None
    held_out: dict[str, Any] | None


def run(settings: ScoreSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Scores]]:
    """Score every picture; the result is what `summarise` gives.

    Raises:
        InputError: the request is wrong, or no picture at all could be scored.
    """
    how = parse_partition(settings.partition)
    name, note = (settings.backbone, "") if settings.backbone else default_backbone()
    data = open_segmentation(settings.data, settings.split, settings.limit or None, settings.seed)
    backbone = load_backbone(name, settings.device)
    layers = select_layers(backbone, settings.layers)
    frames, size = settings.frames or backbone.frames, settings.size or backbone.view
    notes = [*([note] if note else []), *backbone.fit(frames, size)]
    twin = untrained(backbone, settings.seed)
    held = settings.manifest(data=data.name, backbone=name, frames=frames, size=size)
    held |= {"data_fingerprint": data.fingerprint(), "limit": len(data.pictures), "measure": RULE}
    places = [backbone.layers[i][0] for i in layers]
    extra = {
        "notes": notes,
        "what": backbone.what,
        "layer_indices": layers,
        "places": places,
    }
    total = len(data.pictures)
    with RunFolder(out, "islands-score", held, resume, extra) as folder:
        write_settings(out, settings)
        done = {r["id"] for r in folder.records()}
        for message in [*notes, *folder.warnings]:
            yield Event("scoring", len(done), total, message)
        for index, item in enumerate(data.pictures):
            if item.id in done:
                continue
            begun = time.perf_counter()
            record: dict[str, Any] = {"id": item.id, "index": index}
            message = ""
            try:
                record |= {"status": "ok", **score_picture(item, backbone, twin, layers, (frames, size), settings, how)}
            except GlomError as error:
                message = f"{item.id}: {error}"
                record |= lost(error)
            folder.append(record, time.perf_counter() - begun)
            done.add(item.id)
            yield Event("scoring", len(done), total, message)
        result = summarise(folder.records(), layers, places)
        demand_some(folder.records(), f"pictures of {data.name}")
        folder.conclude(result)
    yield Event(result=cast(Scores, result))


def score_picture(
    item: SegmentedPicture | CompositePicture,
    backbone: Backbone,
    twin: Backbone,
    layers: Sequence[int],
    view: tuple[int, int],
    settings: ScoreSettings,
    how: Partition,
) -> dict[str, Any]:
    """One picture: `layers`, `baselines` and `human`, each measure by name. Raises `InputError` for a faulty pair."""
    image, maps = item.read()
    truths = list(maps)
    classes = item.classes(image.width, image.height)
    outlines = Outlines(truths)

    def measure(grid: Array, cosine: bool = True) -> dict[str, float | None]:
        labels = partition(grid, how, settings.seed, cosine)
        large = enlarge(labels, image.height, image.width)
        found = score(truths, large, outlines, item.background, None, classes, settings.one_to_one)
        return {**found, "neighbour_agreement": neighbour_agreement(grid), "islands": float(count_islands(labels))}

    def measure_all(network: Backbone) -> list[dict[str, float | None]]:
        grids = feature_grids(network, clip_for(network, image, *view), layers, time="mean")
        return [measure(resize_grid(grids[i][0].numpy(), settings.grid, settings.grid)) for i in layers]

    small = image.resize((settings.grid, settings.grid), Image.Resampling.BOX)
    pixels = colour_position((np.asarray(small, dtype=np.float32) / 255).astype(np.float32))
    return {
        "mask_size": [image.width, image.height],
        "layers": measure_all(backbone),
        "baselines": {"pixels": measure(pixels, cosine=False), "untrained": measure_all(twin)},
        "human": human_score(truths, outlines, item.background, settings.one_to_one),
    }


def summarise(records: Sequence[dict[str, Any]], layers: Sequence[int], places: Sequence[str]) -> dict[str, Any]:
    """Means over the scored pictures with 95 % bootstrap intervals; paired differences from both baselines.

    `mask_size` is [width, height] of the smallest and of the largest mask, at which all is measured. `layers` holds
    every layer on all pictures. `held_out` is one figure for the network, its layer chosen on other pictures than those
    it is scored on (see `chosen_elsewhere`), the untrained network's alike; None for one picture.
    """
    rows = [r for r in records if r["status"] == "ok"]
    result: dict[str, Any] = {"n": len(rows), "skipped": len(records) - len(rows), "layers": []}
    sizes = sorted((r["mask_size"] for r in rows if "mask_size" in r), key=lambda size: (size[0] * size[1], size))
    result["mask_size"] = [sizes[0], sizes[-1]] if sizes else None
    plain = [r["baselines"]["pixels"] for r in rows]
    twins = []
    for position, (layer, place) in enumerate(zip(layers, places, strict=True)):
        own = [r["layers"][position] for r in rows]
        twin = [r["baselines"]["untrained"][position] for r in rows]
        entry = {"layer": layer, "name": place, **means(own)}
        entry["minus_pixels"], entry["minus_untrained"] = paired(own, plain), paired(own, twin)
        result["layers"].append(entry)
        twins.append({"layer": layer, "name": place, **means(twin)})
    result["baselines"] = {"pixels": means(plain), "untrained": twins}
    people = [r["human"] for r in rows if r["human"] is not None]
    result["human"] = {"n": len(people), **means(people)} if people else None
    result["held_out"] = held_out(rows, layers) if len(rows) > 1 else None
    return result


def held_out(rows: Sequence[dict[str, Any]], layers: Sequence[int]) -> dict[str, Any]:
    """The network at a layer chosen elsewhere, beside both baselines; the untrained one's layer is chosen likewise."""
    own, own_layers = chosen_elsewhere([r["layers"] for r in rows])
    twin, twin_layers = chosen_elsewhere([r["baselines"]["untrained"] for r in rows])
    return {
        "by": CHOSEN_BY,
        "layers": [layers[i] for i in own_layers],
        **means(own),
        "minus_pixels": paired(own, [r["baselines"]["pixels"] for r in rows]),
        "minus_untrained": paired(own, twin),
        "untrained": {"layers": [layers[i] for i in twin_layers], **means(twin)},
    }


def chosen_elsewhere(
    scores: Sequence[Sequence[dict[str, Any]]], by: str = CHOSEN_BY
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """Each picture's scores at the layer that was best on the other half of the pictures: two-fold cross-fitting.

    The best of many layers on the very pictures it is scored on would be ahead of a baseline, which has no layers to
    choose from, by the choice alone.

    Args:
        scores: a picture, then a layer: measures by name; two pictures or more. by: the measure that chooses.

    Returns:
        The chosen scores, picture by picture, and the layers' places: first that of the even pictures (chosen on the
        odd ones), then that of the odd.
    """
    places = range(len(scores[0]))
    best = [max(places, key=lambda p: mean_of([s[p].get(by) for s in half])) for half in (scores[1::2], scores[::2])]
    return [s[best[i % 2]] for i, s in enumerate(scores)], (best[0], best[1])


def mean_of(values: Sequence[float | None]) -> float:
    """Of those that are known; below all else where none is."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else -np.inf


def means(rows: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """`{measure: mean, ..., "ci95": {measure: [low, high]}}`; None where a measure does not apply."""
    result: dict[str, Any] = {}
    intervals = {}
    for measure in MEASURES:
        values = [float(v) for r in rows if (v := r.get(measure)) is not None]
        if rows and measure not in rows[0]:
            continue
        result[measure] = float(np.mean(values)) if values else None
        intervals[measure] = list(bootstrap_ci(values)) if values else None
    return {**result, "ci95": intervals}


def paired(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """`{measure: [mean difference, low, high]}` over the same pictures, 95 %, of the measures that apply."""
    result = {}
    for measure in PAIRED:
        both = [(a.get(measure), b.get(measure)) for a, b in zip(first, second, strict=True)]
        difference = [x - y for x, y in both if x is not None and y is not None]
        if difference:
            result[measure] = [float(np.mean(difference)), *bootstrap_ci(difference)]
    return result


def load_run(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A score run's manifest and its scored pictures. Raises `InputError` for a folder that is none."""
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict) or manifest.get("kind") != "islands-score":
        raise InputError(f"{folder} is no run of `apm islands score`")
    if manifest["settings"].get("measure") != RULE:
        raise InputError(f"{folder} was scored when covering was the best over annotators; score it again")
    return manifest, [r for r in read_results(folder) if r["status"] == "ok"]


def compare(folders: Sequence[Path], by: str = "covering") -> dict[str, Any]:
    """Runs beside the first one, on the pictures all of them scored, each at a layer chosen by one measure on the
    other half of these pictures.

    Raises:
        InputError: fewer than two runs, fewer than two pictures in common, an unknown measure.
    """
    if by not in PAIRED:
        raise InputError(f"--by must be one of {', '.join(PAIRED)}, got '{by}'")
    if len(folders) < 2:
        raise InputError("compare needs at least two run folders")
    runs = [load_run(f) for f in folders]
    if all(layer.get(by) is None for _, rows in runs for r in rows for layer in r["layers"]):
        raise InputError(f"--by {by}: these runs do not have it, as their masks do not or as it is newer than they are")
    prints = {json.dumps(m["settings"]["data_fingerprint"]) for m, _ in runs}
    shared = set.intersection(*({r["id"] for r in rows} for _, rows in runs))
    if len(shared) < 2 or len({m["settings"]["data"] for m, _ in runs}) > 1:
        raise InputError("these runs have fewer than two pictures in common; compare runs over the same data")
    result: dict[str, Any] = {"n": len(shared), "by": by, "same_data": len(prints) == 1, "runs": []}
    base: list[dict[str, Any]] = []
    for folder, (manifest, rows) in zip(folders, runs, strict=True):
        rows = sorted((r for r in rows if r["id"] in shared), key=lambda r: r["id"])
        chosen, best = chosen_elsewhere([r["layers"] for r in rows], by)
        entry = {"folder": str(folder), "backbone": manifest["settings"]["backbone"]}
        entry |= {
            "partition": manifest["settings"]["partition"],
            "layers": [manifest["layer_indices"][i] for i in best],
        }
        entry |= means(chosen)
        if base:
            entry["minus_first"] = paired(chosen, base)
        base = base or chosen
        result["runs"].append(entry)
    return result


def load_summary(folder: Path) -> dict[str, Any]:
    """The summary of a run as far as it got. Raises `RunError` where nothing was scored yet."""
    manifest, _ = load_run(folder)
    result = summarise(read_results(folder), manifest["layer_indices"], manifest["places"])
    if not result["n"]:
        raise RunError(f"{folder} holds no scored picture yet")
    return result
