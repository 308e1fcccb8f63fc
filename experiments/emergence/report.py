"""What an emergence run leaves behind: the curve, the film and `summary.json`, all from what was saved on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from PIL import Image
from torch import Tensor

from experiments.emergence.data import HeldOut, Task
from experiments.emergence.score import UNMASKED, Cuts, cut, directions, interval, score_grids, score_pixels, verdict
from experiments.emergence.settings import EmergeSettings
from experiments.emergence.train import Trainer, accuracy_of, build, class_scores_of, look, places
from glom.backbones.mvit_tiny import TinyMViT, parameters
from glom.colours import rgb_cube
from glom.runs.artifacts import read_result, read_results
from glom.runs.files import replacing
from probes.agreement import unit
from probes.figures.again import draw as keep_drawn
from probes.figures.base import GREY, to_image
from probes.figures.emergence import curve_figure, film, flat_colours
from probes.reduction import reduce_rgb

FILM = "film"  # the folder of what the film is made of
FPS = 3.0
VERMILION = "#d55e00"
ACCURACY = 1000  # held-out pictures: more than for the islands, since they cost next to nothing


def keep_grids(folder: Path, step: int, grids: Sequence[Tensor]) -> None:
    """Keep one picture's grids, (h, w, D) a layer, for the film; half precision, whole or not at all."""
    path = folder / FILM / f"step-{step:06d}.npz"
    with replacing(path) as file:
        np.savez(file, *[g.numpy().astype(np.float16) for g in grids])


def keep_picture(folder: Path, held: HeldOut, index: int) -> None:
    """Keep the filmed picture itself, and its mask as outlines lie beside a picture: for the explorer."""
    parts = {"images": to_image(held.images[index].permute(1, 2, 0).numpy())}
    if held.masks is not None:
        parts["masks"] = Image.fromarray(held.masks[index].numpy().astype(np.uint8))
    for name, image in parts.items():
        with replacing(folder / FILM / name / "picture.png") as file:
            image.save(file, "PNG")


def measure(trainer: Trainer, held: HeldOut, settings: EmergeSettings, picture: int, folder: Path) -> dict[str, Any]:
    """One look, between two steps: accuracy, every layer's islands, and the filmed picture's grids kept."""
    plan = settings.plan
    scores = class_scores_of(trainer.net, held.images, plan.readout, trainer.device)
    count = min(settings.watch, len(held.images))
    _, grids = look(trainer.net, held.images[:count], plan.readout, trainer.device)
    _, filmed = look(trainer.net, held.images[picture : picture + 1], plan.readout, trainer.device)
    keep_grids(folder, trainer.training.done, [g[0] for g in filmed])
    layers = {}
    for name, grid in zip(places(plan), grids, strict=True):
        cuts = score_grids(grid, held, plan.size // 2, settings.seed)
        layers[name] = {c: {m: [round(x, 5) for x in v] for m, v in rows.items()} for c, rows in cuts.items()}
    accuracy = float(accuracy_of(scores, held.targets).mean())
    return {"step": trainer.training.done, "accuracy": accuracy, "watched": count, "layers": layers}


def film_picture(held: HeldOut) -> int:
    """Which held-out picture is filmed: among the first 40 the one whose objects cover nearest a third of it."""
    if held.masks is None:
        return 0
    share = (held.masks[:40] > 0).float().mean((1, 2))
    return int((share - 1 / 3).abs().argmin())


def make_film(
    folder: Path, held: HeldOut, index: int, best: tuple[str, str], settings: EmergeSettings, steps: Sequence[int]
) -> Path:
    """The film of one held-out picture: every layer's colours, one embedding a layer over all steps, and the best cut.

    Args:
        folder: of the run. held: with the picture at `index`. best: (layer, cut) whose islands are shown.
        steps: in which to show it; those whose grids were kept.
    """
    loaded = []
    for step in steps:
        with np.load(folder / FILM / f"step-{step:06d}.npz") as archive:
            # Directions, as they are compared by: lengths grow in training and would drown the early steps.
            loaded.append([unit(archive[name].astype(np.float32)) for name in archive.files])
    names, (layer, way) = places(settings.plan), best
    colours = [reduce_rgb(grids, "pca", joint=True, seed=settings.seed) for grids in zip(*loaded, strict=True)]
    image = held.images[index].permute(1, 2, 0).numpy()
    clusters = UNMASKED if held.counts is None else int(held.counts[index]) + 1
    side, at = settings.plan.size // 2, names.index(layer)
    flat = []
    for grids, shown in zip(loaded, colours[at], strict=True):
        flat.append(flat_colours(cut(directions(grids[at], side), clusters, settings.seed)[way], shown))
    # Means of many places lie close together: spread over the cube again, all steps alike.
    islands = rgb_cube(np.stack(flat).reshape(-1, 3)).reshape(len(flat), side, side, 3)
    rows = [(name, np.stack(shown)) for name, shown in zip(names, colours, strict=True)]
    still: list[tuple[str, Any]] = []
    if held.masks is not None:
        shades = held.masks[index].float() / max(1, int(held.masks[index].max()))
        still = [("mask", shades[..., None].expand(-1, -1, 3).numpy())]
    rows.append((f"{layer}, islands", islands))
    words = [f"step {step}" for step in steps]
    target = folder / f"islands.{settings.film}"
    return keep_drawn(target, film, image=image, rows=rows, still=still, words=words, fps=FPS)


class Measured(TypedDict):
    """What was measured at the end, see `summarise`: intervals are mean, low, high; a row a layer and cut."""

    recipe: str
    what: str
    data: str
    n: int
    classes: list[str]
    steps: int
    parameters: int
    accuracy: list[float]
    accuracy_n: int
    layers: list[dict[str, Any]]
    baselines: dict[str, list[dict[str, Any]]]


class Emerged(Measured):
    """The same, with every look on the way, and the verdict where there are masks."""

    verdict: NotRequired[dict[str, Any]]
    curve: list[dict[str, Any]]


def summarise(trainer: Trainer, task: Task, settings: EmergeSettings, records: Sequence[dict[str, Any]]) -> Emerged:
    """The run's last word: the trained network, the same one untrained, and colour + position, on held-out pictures."""
    plan, side = settings.plan, settings.plan.size // 2
    held = task.held_out(max(settings.images, ACCURACY))
    count = min(settings.images, len(held.images))
    scores = class_scores_of(trainer.net, held.images, plan.readout, trainer.device)
    accuracy = accuracy_of(scores, held.targets).tolist()

    def cuts_of(net: TinyMViT) -> dict[str, Cuts]:
        _, grids = look(net, held.images[:count], plan.readout, trainer.device)
        return {n: score_grids(g, held, side, settings.seed) for n, g in zip(places(plan), grids, strict=True)}

    own, twin = cuts_of(trainer.net), cuts_of(build(plan, len(task.classes), settings.seed).to(trainer.device))
    result: Measured = {
        "recipe": settings.recipe,
        "what": plan.what,
        "data": task.name,
        "n": count,
        "classes": list(task.classes),
        "steps": settings.total,
        "parameters": parameters(trainer.net),
        "accuracy": interval(accuracy),
        "accuracy_n": len(accuracy),
        "layers": rows_of(own),
        "baselines": {"untrained": rows_of(twin)},
    }
    curve: list[dict[str, Any]] = [
        {
            "step": r["step"],
            "loss": r["loss"],
            "accuracy": round(r["accuracy"], 4),
            "layers": {
                name: {c: {m: round(float(np.mean(v)), 4) for m, v in rows.items()} for c, rows in cuts.items()}
                for name, cuts in r["layers"].items()
            },
        }
        for r in records
    ]
    if held.masks is None:
        return {**result, "curve": curve}
    pixels = score_pixels(held, count, side, settings.seed)
    result["baselines"]["pixels"] = rows_of(pixels)
    return {**result, "verdict": verdict(own, twin, pixels, accuracy), "curve": curve}


def rows_of(layers: dict[str, Cuts]) -> list[dict[str, Any]]:
    """A row a layer and cut, every measure as [mean, low, high]."""
    return [
        {"layer": name, "cut": way, **{m: interval(v) for m, v in rows.items()}}
        for name, cuts in layers.items()
        for way, rows in cuts.items()
    ]


def best_row(rows: Sequence[dict[str, Any]], measure_name: str) -> dict[str, Any]:
    """The row with the highest mean."""
    return max(rows, key=lambda r: float(r[measure_name][0]))


def figures(folder: Path) -> list[Path]:
    """Draw a run's curve again, PNG and SVG. Raises `InputError` where it has found nothing yet."""
    records = sorted(read_results(folder), key=lambda record: record["step"])
    return [draw(folder, read_result(folder), records, f"curve{ending}") for ending in (".png", ".svg")]


def draw(folder: Path, result: Emerged, records: Sequence[dict[str, Any]], name: str = "curve.png") -> Path:
    """The curve's figure."""
    masks = "verdict" in result
    by, label = ("ari", "ARI of the islands") if masks else ("neighbour_agreement", "mean cosine of neighbours")
    way = best_row(result["layers"], by)["cut"]
    twins = [r for r in result["baselines"]["untrained"] if masks or r["cut"] == way]
    top = best_row(twins, by)
    bands = [(f"untrained at best ({top['layer']}, {top['cut']})", GREY, top[by])]
    if masks:
        plain = best_row(result["baselines"]["pixels"], by)
        bands.append((f"colour + position at best ({plain['layer']}, {plain['cut']})", VERMILION, plain[by]))
    title = f"{result['data']}, recipe {result['recipe']}: {way} islands, {records[-1]['watched']} held-out pictures"
    return curve_figure(records, way, by, label, bands, folder / name, title)
