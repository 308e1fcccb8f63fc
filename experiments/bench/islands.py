"""`apm bench islands`: the fast t-SNE beside scikit-learn's and openTSNE's, and what looking into a network costs it.

All run in turn, round after round, in one process; headline figures are medians of ratios taken round by round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import torch
from PIL import Image

from experiments.bench.going import SILENT, Going
from experiments.bench.settings import IslandsSettings
from experiments.bench.timing import interleave, ratios, spread
from glom.backbones.video import clip_for, feature_grids, load_backbone
from glom.colours import Array
from glom.datasets.reading import read_image
from glom.errors import InputError
from glom.runs.artifacts import read_manifest, read_result, read_timing
from probes.reduction import PERPLEXITY, embed, principal, trustworthiness

T = TypeVar("T")


def run_islands(settings: IslandsSettings, tell: Going = SILENT) -> dict[str, Any]:
    """Measure both; see the module.

    Returns:
        `tsne_speedup` (scikit-learn's time / ours), `tsne_speedup_opentsne` (likewise; None where openTSNE is not
        installed), `trustworthiness`, `trustworthiness_sklearn` and `trustworthiness_opentsne` (k as in the settings),
        `hook_overhead` (all blocks' grids / the bare forward); `spread` of the ratios over rounds, `seconds` of each
        thing timed, `tsne_grid` and `hooked_grids` with the shapes, and `asked`, the settings.

    Raises:
        InputError: a picture that cannot be read, a layer that does not exist, fewer than one round.
    """
    image = photograph(settings.image)
    three = 2 + (find_spec("openTSNE") is not None)
    tell.expect(three * settings.tsne_rounds + 2 * (settings.hook_rounds + settings.hook_warmup))
    tsne = compare_tsne(real_grid(image, settings), settings, tell)
    hooks = compare_hooks(image, settings, tell)
    names = ("tsne_speedup", "tsne_speedup_opentsne", *(f"trustworthiness{of}" for of in ("", "_sklearn", "_opentsne")))
    result = {key: tsne[key] for key in names}
    result["hook_overhead"] = hooks["hook_overhead"]
    result["spread"] = {**tsne["ratio"], "hook_overhead": hooks["ratio"]}
    result["seconds"] = {**tsne["seconds"], **hooks["seconds"]}
    result |= {"tsne_grid": tsne["grid"], "hooked_grids": hooks["grids"]}
    return {**result, "asked": asdict(settings)}


def photograph(path: str) -> Image.Image:
    """The picture at `path`, or a photograph that every installation has."""
    if path:
        return read_image(path)
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image("china.jpg"))


def real_grid(image: Image.Image, settings: IslandsSettings) -> Array:
    """One layer's features of the picture, (h, w, F)."""
    backbone = load_backbone(settings.backbone, "cpu")
    clip = clip_for(backbone, image, size=settings.size or None)
    [grid] = feature_grids(backbone, clip, [settings.layer], time="mean").values()
    return grid[0].numpy()


def compare_tsne(grid: Array, settings: IslandsSettings, tell: Going = SILENT) -> dict[str, Any]:
    """The t-SNEs on the same grid (h, w, F) from its principal components, openTSNE's where it is installed."""
    points = grid.reshape(-1, grid.shape[-1])
    if settings.neighbours * 2 >= len(points):
        raise InputError(f"{len(points)} locations are too few for neighbourhoods of {settings.neighbours}")
    found: dict[str, Array] = {}

    def run(name: str, exact: bool) -> None:
        found[name] = embed(points, "tsne", settings.seed, exact)

    work = {"tsne_fast": lambda: run("fast", False), "tsne_sklearn": lambda: run("sklearn", True)}
    if find_spec("openTSNE") is not None:
        work["tsne_opentsne"] = lambda: found.update(opentsne=embed_opentsne(points, settings.seed))
    seconds = interleave(work, settings.tsne_rounds, warmup=0, tell=tell, about="t-SNE")
    others = {"tsne_speedup": "tsne_sklearn", "tsne_speedup_opentsne": "tsne_opentsne"}
    ratio = {
        key: spread(ratios(seconds[name], seconds["tsne_fast"])) for key, name in others.items() if name in seconds
    }
    trust = {name: round(trustworthiness(points, y, settings.neighbours), 5) for name, y in found.items()}
    return {
        **{key: ratio[key]["median"] if key in ratio else None for key in others},
        "trustworthiness": trust["fast"],
        "trustworthiness_sklearn": trust["sklearn"],
        "trustworthiness_opentsne": trust.get("opentsne"),
        "ratio": ratio,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "grid": list(grid.shape),
    }


def embed_opentsne(points: Array, seed: int) -> Array:
    """openTSNE's embedding (Policar, Strazar & Zupan 2024) of (n, F) in three dimensions, by all its own defaults but
    perplexity and threads: (n, 3). Its interpolation works in one or two dimensions only, so that it is a tree's."""
    model = import_module("openTSNE").TSNE(3, perplexity=PERPLEXITY, n_jobs=torch.get_num_threads(), random_state=seed)
    x = principal(points)
    return np.zeros((len(points), 3), np.float32) if x is None else np.asarray(model.fit(x), dtype=np.float32)


def compare_hooks(image: Image.Image, settings: IslandsSettings, tell: Going = SILENT) -> dict[str, Any]:
    """The grids of every block, copied out, against the bare forward pass of the same clip."""
    backbone = load_backbone(settings.hooked, "cpu")
    clip = clip_for(backbone, image, settings.hook_frames or None, settings.hook_size or None)
    backbone.fit(clip.shape[1], clip.shape[2])
    grids: dict[int, torch.Tensor] = {}

    def bare() -> None:
        with torch.inference_mode():
            backbone.run(clip[None])

    def hooked() -> None:
        grids.update(feature_grids(backbone, clip, "all"))

    seconds = interleave(
        {"forward": bare, "forward_and_grids": hooked},
        settings.hook_rounds,
        settings.hook_warmup,
        tell=tell,
        about="hooks",
    )
    ratio = spread(ratios(seconds["forward_and_grids"], seconds["forward"]))
    return {
        "hook_overhead": ratio["median"],
        "ratio": ratio,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "grids": [list(g.shape) for g in grids.values()],
    }


class Cost(TypedDict):
    """What a whole run took: wall seconds, processor seconds of it and of its processes, and how many processes in the
    machine wanted a core, its own among them, at the end (load average of one minute; None where there is none)."""

    seconds: float
    processor_seconds: float
    load: float | None


def costing(work: Callable[[], T]) -> tuple[T, Cost]:
    """What `work` returns, and what it cost."""

    def used() -> float:
        return sum(os.times()[:4])  # children's count once they are waited for

    begun, before = time.perf_counter(), used()
    found = work()
    seconds, busy = round(time.perf_counter() - begun, 1), round(used() - before, 1)
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return found, {"seconds": seconds, "processor_seconds": busy, "load": load}


def score_record(folder: Path, name: str, cost: Cost | None = None) -> dict[str, Any]:
    """A finished run of `apm islands score` as one record, every figure to five digits.

    Args:
        folder: the run. name: of the record. cost: of all of it, where it was run without a break.

    Raises:
        InputError: the folder holds no finished run.
    """
    manifest, summary = read_manifest(folder), read_result(folder)
    seconds = list(read_timing(folder).values())
    return {
        "bench": name,
        "what": manifest["what"],
        "notes": manifest["notes"],
        "cost": cost,
        "seconds_per_picture": round(float(np.mean(seconds)), 2) if seconds else None,
        "date": manifest["started"][:10],
        **rounded(summary),
    }


def rounded(value: Any, digits: int = 5) -> Any:
    """Every float in a tree of lists and dictionaries, rounded."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    return [rounded(v, digits) for v in value] if isinstance(value, list) else value
