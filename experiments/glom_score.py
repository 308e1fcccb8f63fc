"""A GLOM's islands measured on held-out composites: their number a level, and ARI against parts and wholes.

Beside every figure stand the same GLOM with random weights and, where there is a truth, colour + position of the pixels
averaged to the same grid. All intervals are 95 % bootstrap over pictures, all differences paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.glom_data import HELD_OUT_SEED, composites
from experiments.glom_train import new_glom
from glom.artifacts import RunFolder, public_command, read_json, write_json, write_record
from glom.consensus.checkpoint import load_glom
from glom.consensus.goodness import blended, hybrids, level_goodness, moved_tops
from glom.consensus.model import Glom
from glom.consensus.objectives import ObjectiveSettings, objective_of
from glom.datasets.composites import CompositeBatch
from glom.devices import resolve_device
from glom.errors import InputError
from glom.seeds import sample_seed
from glom.statistics import bootstrap_ci
from probes.islands import Array, neighbour_agreement, resize_grid
from probes.level_figures import levels_figure
from probes.levels import centred, check_threshold, cut_score, island_counts
from probes.partition import colour_position

BATCH = 16
OTHERS = (0.7, 0.8, 0.9, 0.95)  # thresholds the count is also given at
FAKES = ("hybrid", "hybrid_soft_seam", "own_top_moved", "blobs")
MEASURES = ("islands", "islands_raw", "neighbour_agreement", "ari_wholes", "ari_parts")


@dataclass(frozen=True)
class ScoreSettings:
    """What decides the scores.

    Attributes:
        trained: folder of the trained GLOM.
        source: objects of the composites, "" for those it was trained on.
        limit: held-out composites.
        iterations: updates, 0 for as many as it was trained with.
        threshold: cosine from which neighbours are one island.
        seed: of the composites, of k-means and of the untrained twin.
    """

    trained: str
    source: str = ""
    limit: int = 200
    iterations: int = 0
    threshold: float = 0.9
    seed: int = 0


def run_score(
    settings: ScoreSettings, out: Path, device: str = "auto", record: str | None = None
) -> Iterator[dict[str, Any]]:
    """Score, yielding `{"stage", "done", "total"}` and, last, the same with `"result"`.

    Raises:
        InputError: the request is wrong, or `out` is taken.
    """
    check_threshold(settings.threshold)
    if settings.limit < 2:
        raise InputError(f"--limit must be at least 2 pictures, got {settings.limit}")
    where = resolve_device(device)
    glom, facts = load_glom(settings.trained)
    size = int(facts.get("size", 48))
    made, name, _ = composites(settings.source or facts.get("source", ""), size, "test", HELD_OUT_SEED + settings.seed)
    twin = new_glom(glom.config, sample_seed(settings.seed, "glom", "untrained"))
    networks = {"trained": glom.to(where), "untrained": twin.eval().to(where)}
    held = {**asdict(settings), "trained": Path(settings.trained).name, "source": name, "facts": facts}
    total, count = settings.limit, settings.iterations or glom.config.iterations
    states: dict[str, list[Array]] = {n: [] for n in networks}
    early: list[NDArray[np.float32]] = []
    truths: list[CompositeBatch] = []
    with RunFolder(out, "glom-score", held, extra={"command": public_command()}) as folder:
        for begin in range(0, total, BATCH):
            batch = made.batch(range(begin, min(begin + BATCH, total)))
            truths.append(batch)
            for which, network in networks.items():
                found = look(network, batch.images.to(where), count)
                states[which].append(found[-1])
                if which == "trained":
                    early.append(found)
            yield {"stage": "looking", "done": min(begin + BATCH, total), "total": total}
        whole = {which: np.concatenate(parts) for which, parts in states.items()}
        flat = {which: centred(x) for which, x in whole.items()}
        wholes, parts = (torch.cat([getattr(t, k) for t in truths]).numpy() for k in ("masks", "parts"))
        images = torch.cat([t.images for t in truths])
        rows: dict[str, list[list[dict[str, float]]]] = {which: [] for which in networks}
        pixels: list[dict[str, float]] = []
        for i in range(total):
            for which in networks:
                found_rows = measure(whole[which][i], flat[which][i], wholes[i], parts[i], settings)
                rows[which].append(found_rows)
            small = resize_grid(images[i].permute(1, 2, 0).numpy(), *whole["trained"].shape[1:3])
            pixels.append(both_ari(colour_position(small.clip(0, 1)), wholes[i], parts[i], settings.seed, False))
            folder.append({"id": str(i), "index": i, **{w: rows[w][i] for w in networks}, "pixels": pixels[i]})
            yield {"stage": "scoring", "done": i + 1, "total": total}
        result: dict[str, Any] = {
            "trained": Path(settings.trained).name,
            "objective": facts.get("objective", ""),
            "steps": facts.get("step"),
            "data": facts.get("data"),
            "source": name,
            "training": training_of(settings.trained),
            "n": total,
            "threshold": settings.threshold,
            "config": glom.config.as_dict(),
            "levels": summarise(rows["trained"]),
            "untrained": summarise(rows["untrained"]),
            "pixels": mean_and_interval(pixels, ("ari_wholes", "ari_parts")),
            "differences": differences(rows, pixels),
            "iterations": by_iteration(np.concatenate(early, 1), settings.threshold),
            "thresholds": {str(t): _counts(flat, t) for t in OTHERS},
            "task": held_out_task(networks, images.to(where), facts, settings.seed),
        }
        result["verdict"] = verdict(result)
        write_json(out / "summary.json", result)
        levels_figure(result, out / "levels.png")
        folder.finish()
    if record:
        write_record(Path(record), result)
    yield {"stage": "scoring", "done": total, "total": total, "result": result}


@torch.inference_mode()
def look(glom: Glom, images: Tensor, iterations: int) -> NDArray[np.float32]:
    """Every iteration's state as grids: (B, 3, H, W) -> (T, B, h, w, L, d)."""
    cells = glom.grid(images)
    found = [state.unflatten(1, cells).float().cpu().numpy() for state in glom.all_states(images, iterations)]
    return np.stack(found)


def measure(
    state: Array, flat: Array, wholes: NDArray[np.int64], parts: NDArray[np.int64], settings: ScoreSettings
) -> list[dict[str, float]]:
    """One picture's levels: (h, w, L, d), as they are and without the levels' means, against its masks (H, W)."""
    raw, own = np.moveaxis(state, 2, 0), np.moveaxis(flat, 2, 0)
    counts, raw_counts = island_counts(own, settings.threshold), island_counts(raw, settings.threshold)
    return [
        {
            "islands": float(counts[level]),
            "islands_raw": float(raw_counts[level]),
            "neighbour_agreement": neighbour_agreement(own[level]),
            **both_ari(own[level], wholes, parts, settings.seed),
        }
        for level in range(len(own))
    ]


def both_ari(
    grid: Array, wholes: NDArray[np.int64], parts: NDArray[np.int64], seed: int, cosine: bool = True
) -> dict[str, float]:
    """ARI of one grid against wholes and against parts, each cut into as many pieces as there are."""
    return {
        "ari_wholes": cut_score(grid, wholes, seed, cosine),
        "ari_parts": cut_score(grid, parts, seed, cosine),
    }


def mean_and_interval(rows: Sequence[dict[str, float]], measures: Sequence[str]) -> dict[str, Any]:
    """`{measure: mean, ..., "ci95": {measure: [low, high]}}`."""
    values = {m: [row[m] for row in rows] for m in measures}
    means: dict[str, Any] = {m: float(np.mean(v)) for m, v in values.items()}
    return means | {"ci95": {m: list(bootstrap_ci(v)) for m, v in values.items()}}


def summarise(rows: Sequence[Sequence[dict[str, float]]]) -> list[dict[str, Any]]:
    """Means over pictures, a row a level, numbered from 1."""
    return [
        {"level": level + 1, **mean_and_interval([row[level] for row in rows], MEASURES)}
        for level in range(len(rows[0]))
    ]


def differences(
    rows: dict[str, list[list[dict[str, float]]]], pixels: Sequence[dict[str, float]]
) -> dict[str, list[dict[str, list[float]]]]:
    """Paired differences, `[mean, low, high]` each.

    Returns:
        `fall`: islands of a level minus those of the next one up, for every level but the top;
        `untrained`: trained minus untrained, and `pixels`: trained minus pixels, for every level.
    """
    own, twin = rows["trained"], rows["untrained"]
    levels = range(len(own[0]))

    def paired(values: list[float]) -> list[float]:
        return [float(np.mean(values)), *bootstrap_ci(values)]

    fall = [{"islands": paired([r[k]["islands"] - r[k + 1]["islands"] for r in own])} for k in levels[:-1]]
    twins = [
        {
            m: paired([a[k][m] - b[k][m] for a, b in zip(own, twin, strict=True)])
            for m in ("islands", "ari_wholes", "ari_parts")
        }
        for k in levels
    ]
    plain = [
        {m: paired([a[k][m] - b[m] for a, b in zip(own, pixels, strict=True)]) for m in ("ari_wholes", "ari_parts")}
        for k in levels
    ]
    return {"fall": fall, "untrained": twins, "pixels": plain}


def by_iteration(states: NDArray[np.float32], threshold: float) -> list[list[dict[str, Any]]]:
    """Islands after every iteration: (T, N, h, w, L, d) -> T rows of L `{"islands", "ci95"}`."""
    result = []
    for state in states:
        flat = np.moveaxis(centred(state), 3, 0)
        counts = [island_counts(level, threshold) for level in flat]
        result.append([{"islands": float(c.mean()), "ci95": list(bootstrap_ci(c))} for c in counts])
    return result


def training_of(trained: str) -> dict[str, Any] | None:
    """The command that trained it and how many seconds that took; None for weights without their run folder."""
    manifest = Path(trained) / "manifest.json"
    found = read_json(manifest) if manifest.is_file() else {}
    return {k: found.get(k) for k in ("command", "seconds")} if found.get("kind") == "glom-train" else None


def _counts(flat: dict[str, Array], threshold: float) -> dict[str, list[float]]:
    return {w: [float(island_counts(x, threshold).mean()) for x in np.moveaxis(s, 3, 0)] for w, s in flat.items()}


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


def verdict(result: dict[str, Any]) -> list[str]:
    """What the figures say, in sentences: a claim only where an interval stands behind it."""
    fall = [d["islands"] for d in result["differences"]["fall"]]
    twin = [u["islands"] for u in result["untrained"]]
    falls = [low > 0 for _, low, _ in fall]
    steps = ", ".join(f"{k + 1}->{k + 2} {m:+.1f} [{a:+.1f}, {b:+.1f}]" for k, (m, a, b) in enumerate(fall))
    state = "fall at every level" if all(falls) else "fall at some levels only" if any(falls) else "do not fall"
    lines = [f"islands {state} (level minus the next one up, 95 %: {steps})"]
    others = {t: all(a > b for a, b in pairwise(c["trained"])) for t, c in result["thresholds"].items()}
    agreeing = [t for t, falling in others.items() if falling]
    opposed = [t for t in others if t not in agreeing]
    lines.append(
        f"their number falls with every level at the thresholds {', '.join(agreeing) or 'none'}; "
        f"not at {', '.join(opposed) or 'none'}"
    )
    if all(a > b for a, b in pairwise(twin)):
        lines.append("the untrained GLOM's fall as well: averaging alone does that")
    for measure, name in (("ari_wholes", "wholes"), ("ari_parts", "parts")):
        best = max(range(len(result["levels"])), key=lambda k: result["levels"][k][measure])
        claims = []
        for other in ("pixels", "untrained"):
            mean, low, high = result["differences"][other][best][measure]
            word = "above" if low > 0 else "below" if high < 0 else "not apart from"
            claims.append(f"{word} {other} ({mean:+.3f} [{low:+.3f}, {high:+.3f}])")
        value = result["levels"][best][measure]
        lines.append(f"{name}: best level {best + 1}, ARI {value:.3f}: {', '.join(claims)}")
    return lines
