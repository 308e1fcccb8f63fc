"""What a page is made of: plain dictionaries, which are packed, kept in a run folder and read again as they are."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.colours import Array, pca_rgb
from probes.agreement import at_most, unit
from probes.explorer.codes import Codes, encode
from probes.partition.cuts import SIDE
from probes.partition.tree import grow

if TYPE_CHECKING:
    from probes.patched import Patched, Said

SHOWN = 512  # longest side of a picture in a page, pixels
MASKED = 256  # longest side of the outlines
FEATURES = 900_000  # bytes of codes a picture and source: a page of three pictures stays well below `PAGE_BYTES`
ALIKE = 8  # of 255, in the mean: less is the same picture at another size
PATCHED = 3  # times as many, where features were replaced: the picture as it is keeps its grids
SIDES = (56, 40, 28, 20, 14)  # to which grids are averaged down where they would take more


class Stage(Codes):
    """One grid: a layer, a level at an iteration, a training step. See `Codes`; the rest is for drawing.

    `colours`: (h * w, 3) uint8, its place in the RGB cube. `tree`: (m - 1, 2) uint16, the joins of
    `probes.partition.tree` over a grid of `tree_shape`, which a page cuts into any number of islands.
    """

    h: int
    w: int
    colours: NDArray[np.uint8]
    tree: NDArray[np.uint16]
    tree_shape: list[int]


class Axis(TypedDict):
    """What a slider moves along: its name ("layer", "iteration", "training step"), and its places' names."""

    name: str
    labels: list[str]


class Patch(TypedDict):
    """What a source's stages are from the place `first` on where a layer's features were replaced.

    `cells`: (h, w) uint8, 1 where they were. `said`: the most probable classes then, none without a classifier.
    """

    name: str
    cells: NDArray[np.uint8]
    first: int
    stages: list[Stage]
    said: list[Said]


class Source(TypedDict):
    """One run's, or one network's, view of a picture: a stage for each combination of its axes, the last fastest.

    `patches`: what a button of the page swaps stages for. `said`: the most probable classes as it is.
    """

    name: str
    axes: list[Axis]
    stages: list[Stage]
    patches: NotRequired[list[Patch]]
    said: NotRequired[list[Said]]


class Picture(TypedDict):
    """One picture, everything that looked at it, and people's outlines where there are any.

    `image`: a JPEG. `masks`: (H, W) int32 a person, negative where void. `background`: labels that are no object.
    """

    name: str
    image: bytes
    width: int
    height: int
    sources: list[Source]
    masks: NotRequired[list[NDArray[np.int32]]]
    background: NotRequired[list[int] | None]
    note: NotRequired[str]


class View(TypedDict):
    """A page: what it is called, its facts, and whatever of the rest there is; `page/` says what each is drawn by.

    `traces`: test-time training, a picture each. `ways`: interpolations. `tables`: of a benchmark, or of a run's lines.
    `figures`: pictures as they are, each with its name. `notes`: what could not be shown, and why.
    """

    title: str
    facts: list[list[str]]
    notes: list[str]
    pictures: NotRequired[list[Picture]]
    traces: NotRequired[list[dict[str, Any]]]
    ways: NotRequired[list[dict[str, Any]]]
    tables: NotRequired[list[dict[str, Any]]]
    figures: NotRequired[list[dict[str, Any]]]


def stage_of(grid: Array, colours: Array | None = None, codes: Codes | None = None) -> Stage:
    """One grid (h, w, F).

    Args:
        colours: (h, w, 3) in [0, 1]; None for its principal components.
        codes: of the grid, where they are known already.
    """
    h, w = grid.shape[:2]
    drawn = pca_rgb(grid)[0] if colours is None else colours
    coarse = unit(at_most(unit(grid), SIDE))
    joins = grow(coarse).joins if coarse.shape[0] * coarse.shape[1] > 1 else np.zeros((0, 2), np.int64)
    return {
        **(encode(grid) if codes is None else codes),
        "h": h,
        "w": w,
        "colours": (drawn.reshape(-1, 3) * 255).round().astype(np.uint8),
        "tree": joins.astype(np.uint16),
        "tree_shape": list(coarse.shape[:2]),
    }


def layered(
    name: str,
    axes: Sequence[tuple[str, Sequence[str]]],
    grids: Sequence[Array],
    colours: Sequence[Array] | None = None,
    patches: Sequence[Patched] = (),
    said: Sequence[Said] = (),
) -> Source:
    """A source of grids in the order of its axes.

    Where all of them would take more than `FEATURES` (with patches up to `PATCHED` times that), the finer ones are
    averaged down: a page then shows fewer locations, and cosines as true as before.

    Args:
        axes: (name, names of its places) each.
        grids: (h, w, F) each. colours: (h, w, 3) each, or None for every grid's own principal components, in one
            colour code with what it is where patched.
        patches: with grids for the last of the places each. said: the classes as it is.
    """
    places = [*range(len(grids)), *(len(grids) - len(p.grids) + k for p in patches for k in range(len(p.grids)))]
    every = [*grids, *(grid for p in patches for grid in p.grids.values())]
    room = FEATURES * min(1 + len(patches), PATCHED)
    for side in SIDES:
        small, size = [at_most(grid, side) for grid in every], 0
        codes: list[Codes] = []
        for grid in small:
            codes.append(encode(grid))
            size += codes[-1]["codes"].size
            if size > room and side > SIDES[-1]:
                break
        else:
            break
    shown: dict[int, Array] = {} if colours is None else {i: at_most(c, side) for i, c in enumerate(colours)}
    for place in range(len(grids)) if colours is None else ():
        alike = [i for i, at in enumerate(places) if at == place]
        shown |= zip(alike, pca_rgb(*[small[i] for i in alike]), strict=True)
    stages = [stage_of(small[i], shown.get(i), codes[i]) for i in range(len(every))]
    source: Source = {
        "name": name,
        "axes": [{"name": n, "labels": list(labels)} for n, labels in axes],
        "stages": stages[: len(grids)],
    }
    if patches:
        source["patches"], at = [], len(grids)
        for p in patches:
            own = stages[at : at + len(p.grids)]
            at += len(own)
            cells = p.cells.astype(np.uint8)
            first = len(grids) - len(own)
            source["patches"].append({"name": p.name, "cells": cells, "first": first, "stages": own, "said": p.said})
    if said:
        source["said"] = list(said)
    return source


def worst_of(source: Source) -> float:
    """The greatest error of a cosine among a source's stages, patched ones too."""
    stages = [*source["stages"], *(stage for p in source.get("patches", ()) for stage in p["stages"])]
    return max((stage["error"] for stage in stages), default=0.0)


def picture_of(
    name: str,
    image: Image.Image,
    sources: Sequence[Source],
    masks: Sequence[NDArray[np.integer]] = (),
    background: Sequence[int] | None = None,
    note: str = "",
) -> Picture:
    """One picture with what looked at it.

    Args:
        masks: (H, W) each, at any size; a page holds every so many'th pixel of large ones.
        background: labels of `masks` that are no object.
    """
    small = image.convert("RGB")
    small.thumbnail((SHOWN, SHOWN))
    found: Picture = {
        "name": name,
        "image": jpeg(small),
        "width": small.width,
        "height": small.height,
        "sources": list(sources),
        "note": note,
    }
    if masks:
        step = max(1, -(-max(masks[0].shape) // MASKED))
        found["masks"] = [np.asarray(mask[step // 2 :: step, step // 2 :: step]).astype(np.int32) for mask in masks]
        found["background"] = None if background is None else list(background)
    return found


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """The bytes of a JPEG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def merged(views: Sequence[Mapping[str, Any]], title: str) -> View:
    """Several views as one; a picture that several show (`_same`) is one picture, seen by the sources of all.

    Sources, and other pictures of the same name, are told apart by their view's title.
    """
    whole: View = {"title": title, "facts": [], "notes": []}
    pictures: list[Picture] = []
    for view in views:
        several = len(views) > 1
        whole["facts"] += [[f"{view['title']}: {k}" if several else k, v] for k, v in view["facts"]]
        whole["notes"] += view["notes"]
        for kind in ("traces", "ways", "tables", "figures"):
            if view.get(kind):
                whole.setdefault(kind, []).extend(view[kind])  # type: ignore[misc]
        if several and view.get("tables"):
            own = [{**table, "name": f"{view['title']}: {table['name']}"} for table in view["tables"]]
            whole["tables"][-len(own) :] = own
        before = pictures[:]
        for picture in view.get("pictures", []):
            first = next((other for other in before if _same(other, picture)), None)
            if first is None:
                taken = {other["name"] for other in before}
                name = f"{picture['name']}, {view['title']}" if picture["name"] in taken else picture["name"]
                pictures.append(cast(Picture, {**picture, "name": name, "sources": list(picture["sources"])}))
                continue
            taken = {source["name"] for source in first["sources"]}
            for source in picture["sources"]:
                name = f"{source['name']}, {view['title']}" if source["name"] in taken else source["name"]
                first["sources"].append(cast(Source, {**source, "name": name}))
            if "masks" in picture and "masks" not in first:
                first["masks"], first["background"] = picture["masks"], picture.get("background")
    if pictures:
        whole["pictures"] = pictures
    return whole


def _same(one: Picture, other: Picture) -> bool:
    """Whether two runs looked at the same picture: its very pixels, or as much under the same name at another size."""
    if one["image"] == other["image"]:
        return True
    return one["name"] == other["name"] and float(np.abs(_thumb(one) - _thumb(other)).mean()) < ALIKE


def _thumb(picture: Picture) -> Array:
    """(16, 16), 0 to 255."""
    small = Image.open(io.BytesIO(picture["image"])).convert("L").resize((16, 16), Image.Resampling.BOX)
    return np.asarray(small, np.float32)
