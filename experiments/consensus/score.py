"""A GLOM's islands measured on held-out composites, level by level, and the objective it was trained on.

What is measured and what stands beside it: `experiments.consensus.measures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.consensus.data import HELD_OUT_SEED, composites
from experiments.consensus.ellipses import EllipseLevels, score_ellipses
from experiments.consensus.measures import BATCH, Levels, Look, score_levels, verdict
from experiments.consensus.settings import ScoreSettings
from glom.consensus.checkpoint import load_columns
from glom.consensus.columns import Columns
from glom.consensus.config import ObjectiveSettings
from glom.consensus.ellipses import EllipseGlom
from glom.consensus.goodness import blended, hybrids, level_goodness, moved_tops
from glom.consensus.model import Glom
from glom.consensus.objectives import objective_of
from glom.consensus.training import new_ellipse_glom, new_glom
from glom.devices import resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, public_command, read_manifest, read_result
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.settings import write_settings
from probes.figures.ellipses import ellipses_figure
from probes.figures.levels import levels_figure

FAKES = ("hybrid", "hybrid_soft_seam", "own_top_moved", "blobs")


class About(TypedDict):
    """What was scored, how it was trained, and on how many pictures."""

    trained: str
    objective: str
    steps: int | None
    data: str | None
    training: dict[str, Any] | None
    n: int
    threshold: float
    config: dict[str, Any]


class Scores(Levels, About):
    """A trained GLOM's levels on held-out composites, and what the figures say, in sentences."""

    source: str
    task: dict[str, Any] | None
    verdict: list[str]


class EllipseScores(EllipseLevels, About):
    """A GLOM in the world of ellipses, whose settings are `ellipses`."""

    ellipses: dict[str, Any]


def run(settings: ScoreSettings, out: Path) -> Iterator[Event[Scores | EllipseScores]]:
    """Score a GLOM and its untrained twin.

    Raises:
        InputError: the request is wrong, or `out` is taken.
    """
    where = resolve_device(settings.device)
    glom, facts = load_columns(settings.trained)
    if isinstance(glom, EllipseGlom):
        yield from _run_ellipses(settings, out, glom.to(where), facts)
        return
    size = int(facts.get("size", 48))
    made, name, _ = composites(settings.source or facts.get("source", ""), size, "test", HELD_OUT_SEED + settings.seed)
    twin = new_glom(glom.config, sample_seed(settings.seed, "glom", "untrained"))
    networks = {"trained": glom.to(where), "untrained": twin.eval().to(where)}
    held = settings.manifest(trained=Path(settings.trained).name, source=name, facts=facts)
    total, count = settings.limit, settings.iterations or glom.config.iterations

    def looking(network: Glom) -> Look:
        return lambda images: look(network, images.to(where), count)

    with RunFolder(out, "glom-score", held) as folder:
        write_settings(out, settings)
        looks = {which: looking(network) for which, network in networks.items()}
        scores, images = yield from score_levels(looks, made, total, folder, settings.threshold, settings.seed)
        result: Scores = {
            **_about(settings, glom, facts),
            "source": name,
            **scores,
            "task": held_out_task(networks, images.to(where), facts, settings.seed),
            "verdict": verdict(scores),
        }
        levels_figure(result, out / "levels.png")
        folder.conclude(result)
    yield Event("scoring", total, total, result=result)


def figures(folder: Path) -> list[Path]:
    """Draw a score's figure again, PNG and SVG. Raises `InputError` where it has found nothing yet."""
    result = read_result(folder)
    name, draw = ("ellipses", ellipses_figure) if "ellipses" in result else ("levels", levels_figure)
    return [draw(result, folder / f"{name}{ending}") for ending in (".png", ".svg")]


def _run_ellipses(
    settings: ScoreSettings, out: Path, glom: EllipseGlom, facts: dict[str, Any]
) -> Iterator[Event[EllipseScores]]:
    if settings.source:
        raise InputError(f"`source` is for composites; {settings.trained} was trained in the world of ellipses")
    count = settings.iterations or glom.config.iterations
    twin = new_ellipse_glom(glom.config, glom.world, sample_seed(settings.seed, "glom", "untrained"))
    networks = {"trained": glom, "untrained": twin.eval().to(next(glom.parameters()).device)}
    held = settings.manifest(trained=Path(settings.trained).name, facts=facts)
    with RunFolder(out, "glom-score", held) as folder:
        write_settings(out, settings)
        found = yield from score_ellipses(networks, settings.limit, count, settings.threshold, settings.seed, folder)
        result: EllipseScores = {**_about(settings, glom, facts), "ellipses": facts["ellipses"], **found}
        ellipses_figure(result, out / "ellipses.png")
        folder.conclude(result)
    yield Event("scoring", settings.limit, settings.limit, result=result)


def _about(settings: ScoreSettings, glom: Columns, facts: dict[str, Any]) -> About:
    return {
        "trained": Path(settings.trained).name,
        "objective": facts.get("objective", ""),
        "steps": facts.get("step"),
        "data": facts.get("data"),
        "training": training_of(settings.trained),
        "n": settings.limit,
        "threshold": settings.threshold,
        "config": glom.config.as_dict(),
    }


@torch.inference_mode()
def look(glom: Glom, images: Tensor, iterations: int) -> NDArray[np.float32]:
    """Every iteration's state as grids: (B, 3, H, W) -> (T, B, h, w, L, d)."""
    cells = glom.grid(images)
    found = [state.unflatten(1, cells).float().cpu().numpy() for state in glom.all_states(images, iterations)]
    return np.stack(found)


def training_of(trained: str) -> dict[str, Any] | None:
    """The command that trained it and how many seconds that took; None for weights without their run folder."""
    manifest = Path(trained) / "manifest.json"
    found = read_manifest(manifest.parent) if manifest.is_file() else {}
    if found.get("kind") != "glom-train":
        return None
    return {"command": public_command(found.get("command", "")), "seconds": found.get("seconds")}


@torch.inference_mode()
def held_out_task(networks: dict[str, Glom], images: Tensor, facts: dict[str, Any], seed: int) -> dict[str, Any] | None:
    """The trained objective itself on the held-out pictures, a figure a level; None for a GLOM without an objective.

    For forward-forward also the share of pictures whose goodness is above that of a fake: a hybrid with another
    picture's top half, one without an edge, the picture with its own top half moved, and a blend through soft blobs.
    """
    name = facts.get("objective")
    if not name:
        return None
    loss_of, task = objective_of(name), ObjectiveSettings(**facts.get("task", {}))
    result: dict[str, Any] = {}
    for which, network in networks.items():
        found, ranked = [], []
        for number, batch in enumerate(images.split(BATCH)):
            if len(batch) < 2:
                continue
            generator = torch.Generator().manual_seed(sample_seed(seed, str(number), "glom-score"))
            loss = loss_of(network, batch, generator, task)
            found.append(loss.levels.cpu())
            result["measure"] = loss.measure
            if name == "forward-forward":
                ranked.append(told_apart(network, batch, generator))
        result[which] = torch.stack(found).mean(0).tolist()
        if ranked:
            rates = torch.cat(ranked, -1).float().mean(-1).tolist()
            result[f"{which}_told_apart"] = dict(zip(FAKES, rates, strict=True))
    return result


def told_apart(glom: Glom, images: Tensor, generator: torch.Generator) -> Tensor:
    """Whether each level finds real pictures better than their fakes: (B, 3, H, W) -> (fakes, L, B) booleans."""
    fakes = [hybrids(images, generator), hybrids(images, generator, images.shape[-2] // 3), moved_tops(images)]
    fakes.append(blended(images, generator))
    real = level_goodness(glom, images)
    return torch.stack([real > level_goodness(glom, fake) for fake in fakes]).cpu()
