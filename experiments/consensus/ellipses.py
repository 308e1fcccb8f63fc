"""A GLOM in the world of ellipses measured: part and whole by update, islands of the wholes, noise and unseen poses.

Every figure is a mean over held-out pictures with its 95 % bootstrap interval. Islands are of the top level, after its
mean over all pictures is removed: the cosine of ellipses of one whole and of two; ARI of k-means, told the number of
wholes and nothing else; and how many islands there are where ellipses whose cosine is at least the threshold belong
together. Beside them stand the untrained network and the same k-means on the ellipses' places.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from experiments.consensus.measures import mean_and_interval
from glom.consensus.ellipses import EllipseGlom
from glom.datasets.ellipses import PARTS, TRAINED, EllipseBatch, Ellipses, Reach
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from probes.agreement import unit
from probes.levels import cut_score

MEASURES = ("part", "whole", "pose_error", "cos_within", "cos_between", "ari", "islands")
NOISES = (0.0, 0.05, 0.1, 0.2, 0.4)
TURNS, SHAPES = ((1.0, 1.25), (1.25, 1.5), (1.5, 2.0)), ((1.0, 1.5), (1.5, 2.0))


class EllipseLevels(TypedDict):
    """A row an update, both baselines after the last, a row a condition, and what guessing gives."""

    iterations: list[dict[str, Any]]
    untrained: dict[str, Any]
    places: dict[str, Any]
    chance: dict[str, float]
    noise: list[dict[str, Any]]
    turned: list[dict[str, Any]]
    shaped: list[dict[str, Any]]


def score_ellipses(
    networks: dict[str, EllipseGlom], total: int, iterations: int, threshold: float, seed: int, folder: RunFolder
) -> Generator[Event[Any], None, EllipseLevels]:
    """Score `trained` and `untrained` on `total` pictures, a line a picture in `folder`, yielding events."""
    glom = networks["trained"]
    made = Ellipses(glom.world)
    device = next(glom.parameters()).device

    def draw(name: str, jitter: float, reach: Reach = TRAINED) -> EllipseBatch:
        generator = torch.Generator().manual_seed(sample_seed(seed, name, "held-out ellipses"))
        return made.batch(total, generator, jitter, reach).to(device)

    clean = draw("as trained", 0.0)
    spread = clean.poses.flatten(0, 1).var(0)

    def rows(network: EllipseGlom, batch: EllipseBatch, every: bool = False) -> list[list[dict[str, float]]]:
        with torch.inference_mode():
            states = list(network.settle(batch, iterations))
            chosen = states if every else states[-1:]
            return [measure(network, state, batch, spread, threshold, seed) for state in chosen]

    by_update = rows(glom, clean, every=True)
    for index, row in enumerate(by_update[-1]):
        folder.append({"id": str(index), "index": index, **row})
    twin = rows(networks["untrained"], clean)[-1]
    truth, places = clean.objects.cpu().numpy(), clean.places.cpu().numpy()
    plain = [{"ari": cut_score(p[None], t[None], seed, False)} for p, t in zip(places, truth, strict=True)]
    result: EllipseLevels = {
        "iterations": [{"iteration": i, **mean_and_interval(row, MEASURES)} for i, row in enumerate(by_update, 1)],
        "untrained": mean_and_interval(twin, ("cos_within", "cos_between", "ari", "islands")),
        "places": mean_and_interval(plain, ("ari",)),
        "chance": {"part": 1 / (PARTS * glom.world.classes), "whole": 1 / glom.world.classes},
        "noise": [],
        "turned": [],
        "shaped": [],
    }
    turn = glom.world.turn
    conditions: list[tuple[list[dict[str, Any]], dict[str, Any], EllipseBatch]] = [
        *((result["noise"], {"jitter": j}, draw("noise", j)) for j in NOISES),
        *(
            (result["turned"], {"degrees": [turn * a, turn * b]}, draw("turned", 0.0, Reach(turn=(a, b))))
            for a, b in TURNS
        ),
        *((result["shaped"], {"times": list(s)}, draw("shaped", 0.0, Reach(shape=s))) for s in SHAPES),
    ]
    for done, (into, about, batch) in enumerate(conditions, 1):
        into.append(about | mean_and_interval(rows(glom, batch)[-1], MEASURES))
        yield Event("scoring", done, len(conditions))
    return result


def measure(
    glom: EllipseGlom, state: Tensor, batch: EllipseBatch, spread: Tensor, threshold: float, seed: int
) -> list[dict[str, float]]:
    """One state (L, B, n, d) against the truth, errors of poses in shares of `spread`, (6,): a row a picture."""
    part = (glom.part(state[0]).argmax(-1) == batch.parts).float().mean(1)
    whole = (glom.kind(state[-1]).argmax(-1) == batch.kinds).float().mean(1)
    error = ((glom.pose(state[-1]) - batch.poses).square() / spread).mean((1, 2))
    top = state[-1].float().cpu().numpy()
    top = unit(top - top.mean((0, 1)))
    objects = batch.objects.cpu().numpy()
    cosines = top @ top.swapaxes(1, 2)
    one = objects[:, :, None] == objects[:, None]
    pairs = ~np.eye(one.shape[-1], dtype=bool)
    found = []
    for i in range(len(top)):
        within, between = cosines[i][one[i] & pairs], cosines[i][~one[i]]
        found.append(
            {
                "part": float(part[i]),
                "whole": float(whole[i]),
                "pose_error": float(error[i]),
                "cos_within": float(within.mean()),
                "cos_between": float(between.mean()) if between.size else 0.0,
                "ari": cut_score(top[i][None], objects[i][None], seed),
                "islands": float(count_of(cosines[i], threshold)),
            }
        )
    return found


def count_of(cosines: NDArray[np.floating], threshold: float) -> int:
    """How many islands (n, n) cosines make, whoever agrees belonging together."""
    return int(connected_components(cosines >= threshold - 1e-6, directed=False)[0])
