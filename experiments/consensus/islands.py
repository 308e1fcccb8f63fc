"""A GLOM looking at pictures: a sheet of levels by iterations, a page to explore, a film of the islands forming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.consensus.data import picture
from experiments.consensus.settings import IslandSettings
from experiments.consensus.sheets import Drawn, Looked, islands_of, look_at
from glom.backbones.patching import VALUES, region_cells
from glom.consensus.checkpoint import load_glom
from glom.consensus.model import Glom
from glom.consensus.patching import patched_states
from glom.consensus.training import new_glom
from glom.devices import resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, command_line, disk_error
from glom.runs.events import Event
from glom.runs.files import write_text
from glom.settings import write_settings
from probes.explorer import Picture, Source, View, layered, page, picture_of, store
from probes.figures.again import draw
from probes.figures.levels import level_film, level_sheet
from probes.patched import Patched, read_patches, read_region

DECODES = ("denoise", "mask")  # objectives that train the way back to pixels
MAX_COLUMNS = 64 * 64


class Shown(Drawn):
    """The same, with its page and its film."""

    page: str
    film: str


class Sheets(TypedDict):
    """A trained GLOM's islands on every picture that could be read, and why the others were `skipped`."""

    trained: str
    objective: str | None
    iterations: int
    size: int
    pictures: list[Shown]
    skipped: list[dict[str, str]]


def run(settings: IslandSettings, out: Path) -> Iterator[Event[Sheets]]:
    """Show every picture.

    Raises:
        InputError: the request is wrong, or no picture at all could be shown.
    """
    where = resolve_device(settings.device)
    glom, facts = load_glom(settings.trained)
    patch = glom.config.patch
    size, count = settings.size or int(facts.get("size", 48)), settings.iterations or glom.config.iterations
    if size % patch or (size // patch) ** 2 > MAX_COLUMNS:
        raise InputError(f"--size must be a multiple of {patch} px and at most {64 * patch}, got {size}")
    if settings.untrained:
        glom = new_glom(glom.config, 0).eval()
    glom = glom.to(where)
    names = [Path(path).name for path in settings.images]
    held = settings.manifest(images=names, trained=Path(settings.trained).name)
    decodes = facts.get("objective") in DECODES and not settings.untrained
    asked = read_patches(settings.patch)
    if any(level not in map(str, range(1, glom.config.levels + 1)) for level, _, _ in asked):
        raise InputError(f"`patch` begins with a level, 1 to {glom.config.levels}")

    def changed(item: Looked, flat: NDArray[np.float32]) -> list[Patched]:
        pixels = picture(item.path, size, patch)[1].to(where)
        return [patched(glom, pixels, item, flat, *one) for one in asked]

    def see(path: str) -> tuple[Image.Image, NDArray[np.float32], NDArray[np.float32] | None]:
        image, pixels = picture(path, size, patch)
        for _, region, _ in asked:
            read_region(region, image)  # one that is wrong passes this picture over
        return image, *look(glom, pixels.to(where), count, decodes)

    with RunFolder(out, "glom-islands", held) as folder:
        write_settings(out, settings)
        shown, failed = yield from look_at(settings.images, see)
        pictures: list[Shown] = []
        seen: list[Picture] = []
        view = about(facts, settings)
        for item, flat, colours, counts in islands_of(shown, settings.threshold):
            source = levels_of(flat, colours, view["title"], patches=changed(item, flat))
            seen.append(picture_of(Path(item.path).name, item.image, [source]))
            pictures.append(write_picture(item, seen[-1], colours, counts, view, out))
            yield Event("drawing", len(pictures), len(shown))
        result: Sheets = {"trained": held["trained"], "objective": facts.get("objective"), "iterations": count,
                          "size": size, "pictures": pictures, "skipped": failed}  # fmt: skip
        store({**view, "pictures": seen}, out)
        folder.conclude(result)
    yield Event("drawing", len(shown), len(shown), result=result)


@torch.inference_mode()
def look(
    glom: Glom, pixels: Tensor, count: int, decodes: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """States of one picture (1, 3, S, S), (T, h, w, L, d), and what each level says at the end, (L, S, S, 3)."""
    cells = glom.grid(pixels)
    states = list(glom.all_states(pixels, count))
    decoded = None
    if decodes:
        said = glom.decode(states[-1].permute(2, 0, 1, 3), glom.places(cells))
        decoded = said[:, 0].clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
    grids = [s[0].unflatten(0, cells).float().cpu().numpy() for s in states]
    return np.stack(grids), decoded


def about(facts: dict[str, Any], settings: IslandSettings) -> View:
    """What a page says of the GLOM."""
    what = "untrained" if settings.untrained else f"{facts.get('objective')}, {facts.get('step')} steps"
    lines = [
        ["colours", "principal components, one code a level for all iterations and pictures shown"],
        ["agreement", "cosine after the mean of the pictures shown is removed, level by level"],
        ["counted", f"connected columns whose neighbours agree by {settings.threshold:g} or more"],
        ["command", command_line()],
    ]
    return {"title": f"GLOM {Path(settings.trained).name} ({what})", "facts": lines, "notes": []}


@torch.inference_mode()
def patched(
    glom: Glom, pixels: Tensor, item: Looked, flat: NDArray[np.float32], level: str, region: str, value: str
) -> Patched:
    """What the states of one picture (1, 3, S, S) are where a level is held to something else.

    Args:
        item: the picture as it is. flat: its states (T, h, w, L, d) without the mean that is taken off all.
        level, region, value: of `probes.patched.read_patches`.

    Raises:
        InputError: no such region, another picture that cannot be read.
    """
    where, cells = read_region(region, item.image), glom.grid(pixels)
    other = value if value in VALUES else picture(value, pixels.shape[-1], glom.config.patch)[1].to(pixels.device)
    states = patched_states(glom, pixels, int(level), where, other, len(flat))
    grids = np.stack([s[0].unflatten(0, cells).float().cpu().numpy() for s in states]) - (item.states - flat)
    places = {k * len(flat) + t: grids[t, :, :, k] for k in range(flat.shape[3]) for t in range(len(flat))}
    name = f"level {level}, {region if ',' in region else Path(region).name}: {Path(value).name}"
    return Patched(name, region_cells(where, *cells), places, [])


def levels_of(
    flat: NDArray[np.float32],
    colours: NDArray[np.float32],
    name: str,
    word: str = "level",
    patches: Sequence[Patched] = (),
) -> Source:
    """States (T, h, w, L, d) and their colours (T, h, w, L, 3) as a page has them: by level, then by iteration.

    Args:
        name: of the source. word: what a level is called.
        patches: with them colours are a place's own, the same as it is and patched.
    """
    steps, levels = flat.shape[0], flat.shape[3]
    places = [(t, k) for k in range(levels) for t in range(steps)]
    axes = [(word, [str(k + 1) for k in range(levels)]), ("iteration", [str(t + 1) for t in range(steps)])]
    drawn = None if patches else [colours[t, :, :, k] for t, k in places]
    return layered(name, axes, [flat[t, :, :, k] for t, k in places], drawn, patches)


def write_picture(
    item: Looked,
    picture: Picture,
    colours: NDArray[np.float32],
    counts: NDArray[np.int64],
    view: View,
    out: Path,
) -> Shown:
    """Sheet, page and film of one picture of `islands_of`; returns their names and the islands, (T, L), as lists."""
    name = Path(item.path).name
    sheet, target, film = (out / f"{item.stem}.{ending}" for ending in ("png", "html", "gif"))
    title = f"{name}: {view['title']}"
    shown: dict[str, Any] = {"image": item.image, "colours": colours, "counts": counts}
    try:
        draw(sheet, level_sheet, **shown, decoded=item.decoded, title=title)
        write_text(target, page({**view, "title": title, "pictures": [picture]}))
    except OSError as error:
        raise disk_error(error, out) from error
    draw(film, level_film, **shown)
    islands = counts.tolist()
    return {"image": item.path, "sheet": sheet.name, "page": target.name, "film": film.name, "islands": islands}
