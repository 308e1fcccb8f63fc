"""The folding ablation: what each part of an APM buys, one axis at a time or as a product.

Every machine is overfit anew on one picture - token, feature grid and colours together (`glom.adaptation.overfit`) -
and read once at the end. A record is one picture x seed x setting; runs can be stopped and resumed at any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from experiments.folding.report import Ablation, Cost, draw, summarise
from experiments.folding.settings import OVERFIT, VARIANT, FoldingSettings, Setting, settings_of
from experiments.folding.variants import VariantAPM
from glom.adaptation.overfit import OverfitSettings, from_pixels, overfit, to_pixels
from glom.apm import APMConfig, preset
from glom.backbones.video import squeezed
from glom.columns import grid_queries, picture
from glom.datasets.pictures import open_pictures
from glom.devices import now, resolve_device
from glom.errors import GlomError, InputError, demand_some, lost
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import fixed_seed, sample_seed
from glom.settings import defaults_of, write_settings
from glom.teachers.asked import Asked, strangers
from glom.teachers.base import Teacher
from glom.teachers.grids import grid_teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.known import SHIPPED_MODELS
from probes.alike import psnr
from probes.fields import grid_scores, unfold_columns
from probes.metrics import Outlines, adjusted_rand, score
from probes.partition import enlarge, parse_partition, partition


def machine_for(setting: Setting, base: APMConfig, token: torch.Tensor) -> VariantAPM:
    """The machine a setting asks for, its parameters not drawn yet."""
    own = {k: v for k, v in setting.changes.items() if k not in (*VARIANT, *OVERFIT)}
    variant = {k: v for k, v in setting.changes.items() if k in VARIANT}
    with fixed_seed():
        return VariantAPM(replace(base, **own), **variant, token=token)


def overfit_for(setting: Setting, settings: FoldingSettings) -> OverfitSettings:
    """How that machine is overfit; never more locations a step than its grid has."""
    changed = {k: v for k, v in setting.changes.items() if k in OVERFIT}
    points = changed.get("points", settings.points)
    subset = changed.get("subset", settings.subset)
    subset = 0 if subset >= points**2 else subset
    return OverfitSettings(
        iterations=settings.iterations, points=points, lr=settings.lr, subset=subset, execution="plain"
    )


@dataclass(frozen=True)
class Seen:
    """One picture as every machine meets it."""

    folded: torch.Tensor
    token: torch.Tensor
    grid: torch.Tensor
    colours: np.ndarray
    islands: np.ndarray
    truths: Sequence[np.ndarray]


def look(image: Image.Image, truths: Sequence[np.ndarray], teacher: Teacher, settings: FoldingSettings) -> Seen:
    """Fold, teach and cut once for all machines, on the teacher's device. The picture is squeezed onto the square."""
    size = preset(settings.apm).image_size
    view = squeezed(teacher, image)[None]
    token, grid = teacher.token(view)[0], teacher.grid(view)[0]
    small = image.convert("RGB").resize((size, size), Image.Resampling.BOX)
    islands = partition(grid.cpu().numpy(), parse_partition(settings.partition), settings.seed)
    folded, colours = picture(image, size).to(teacher.device), np.asarray(small, dtype=np.float32) / 255
    return Seen(folded, token, grid, colours, islands, truths)


def measure(
    seen: Seen, setting: Setting, settings: FoldingSettings, head: ZeroShotHead | None, label: int | None, key: str
) -> tuple[dict[str, Any], float]:
    """Overfit one machine on one picture and read it: the record's measures, and the seconds of the overfit.

    Returns:
        error: |token - teacher's|^2 over |teacher's|^2; cosine of the two; agrees, correct: 0 or 1 (None without
        classes or a label); grid_r2 at the teacher's cells; psnr (dB) at the folded picture's size; islands_teacher:
        ARI with the islands of the teacher's own grid; islands_truth, covering: against people's outlines, or None.
    """
    generator = torch.Generator().manual_seed(sample_seed(settings.seed, key, "folding"))
    apm = machine_for(setting, preset(settings.apm, features=len(seen.token)), seen.token)
    apm.reset(generator, "default")  # drawn on the CPU: equal weights on every device
    device = seen.folded.device
    apm.to(device)
    h, w = seen.grid.shape[:2]
    begun = now(device)
    colours = from_pixels(torch.from_numpy(seen.colours).to(device))
    how = overfit_for(setting, settings)
    for _ in overfit(apm, seen.folded, seen.token, seen.grid, how, generator, colours=colours):
        pass
    seconds = now(device) - begun
    with torch.no_grad():
        T, images = apm.fold(seen.folded[None]), seen.folded[None]
        cells = apm.config.cells
        token = unfold_columns(apm, T, grid_queries(cells, cells, device=device), images).token
        features = unfold_columns(apm, T, grid_queries(h, w, device=device), images).features
        side = seen.colours.shape[0]
        rgb = unfold_columns(apm, T, grid_queries(side, side, device=device), images).rgb
    assert token is not None and features is not None and rgb is not None
    grid = features[0].reshape(h, w, -1).cpu().numpy()
    labels = partition(grid, parse_partition(settings.partition), settings.seed)
    found: dict[str, Any] = {
        "error": float((token[0] - seen.token).square().sum() / seen.token.square().sum()),
        "cosine": float(F.cosine_similarity(token[0], seen.token, dim=0)),
        "agrees": None,
        "correct": None,
        "grid_r2": grid_scores(grid, seen.grid.cpu().numpy())["r2"],
        "psnr": psnr(to_pixels(rgb[0]).cpu().numpy(), seen.colours.reshape(-1, 3)),
        "islands_teacher": adjusted_rand(seen.islands, labels),
        "islands_truth": None,
        "covering": None,
    }
    if head is not None:
        both = torch.stack([token[0], seen.token]).to(head.weights.device)
        said, own = head(both).argmax(-1).tolist()
        found["agrees"] = float(said == own)
        found["correct"] = None if label is None else float(said == label)
    if len(seen.truths):
        shape = seen.truths[0].shape
        scores = score(seen.truths, enlarge(labels, *shape), Outlines(seen.truths))
        found["islands_truth"], found["covering"] = scores["ari"], scores["covering"]
    return {k: None if v is None else float(f"{v:.6g}") for k, v in found.items()}, seconds


def cost(setting: Setting, settings: FoldingSettings, width: int) -> Cost:
    """`parameters`, and `bytes`: weights, gradients, both of Adam's moments, and what a step's forward keeps."""
    apm = machine_for(setting, preset(settings.apm, features=width), torch.ones(width))
    how = overfit_for(setting, settings)
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch.nn.Parameter):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    size = apm.config.image_size
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        asked = grid_queries(how.points, how.points)[: how.subset or None]
        held = apm(torch.zeros(1, 3, size, size), asked, ("features", "rgb", "token"))
    del held
    parameters = sum(p.numel() for p in apm.parameters())
    return {"parameters": parameters, "bytes": 16 * parameters + sum(kept.values())}


def run(settings: FoldingSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Ablation]]:
    """Overfit every machine on every picture.

    Raises:
        InputError: a wrong request, a teacher whose grid is not as wide as its token, no picture that can be read.
        RunError: the disk is full; what was written stays.
    """
    where = resolve_device(settings.device)
    asked = settings_of(settings)
    pictures, classes, name, fingerprint = open_pictures(settings.data, settings.limit or None)
    teacher = grid_teacher(settings.teacher, 0, str(where))
    head = None
    if classes is not None:
        from glom.teachers.zero_shot import choose_templates

        head = teacher.zero_shot_head(classes, choose_templates("simple"))
    warnings = strangers(SHIPPED_MODELS.get(teacher.name), classes or ())
    Asked(name, len(pictures), tuple(classes or ()), teacher.name, warnings=tuple(warnings)).say()
    held = settings.manifest(data=name, data_fingerprint=fingerprint)
    costs = {s.key: cost(s, settings, teacher.width) for s in asked}
    extra = {"costs": costs, "device": str(where)}
    total = len(asked) * settings.seeds * len(pictures)
    with RunFolder(out, "folding", held, resume, extra, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        done = {r["id"] for r in folder.records()}
        passed: list[dict[str, str]] = []
        yield Event("overfitting", len(done), total)
        for number, item in enumerate(pictures):
            keys = [(s, k, f"{s.key}/{k}/{item.id}") for k in range(settings.seeds) for s in asked]
            if all(key in done for *_, key in keys):
                continue
            try:
                seen = look(*item.read(), teacher, settings)
            except GlomError as error:
                passed.append(lost(error))
                yield Event("overfitting", len(done), total, f"{item.id}: {error}")
                continue
            if seen.grid.shape[-1] != len(seen.token):
                raise InputError(f"{settings.teacher}: its grid and token differ in width; choose another --teacher")
            for setting, k, key in keys:
                if key in done:
                    continue
                # Every setting meets a picture with the same random numbers: differences are paired.
                found, seconds = measure(seen, setting, settings, head, item.label, f"{k}/{item.id}")
                record = {"id": key, "picture": item.id, "number": number, "seed": k}
                folder.append({**record, "axis": setting.axis, "setting": setting.name, **found}, seconds)
                done.add(key)
                yield Event("overfitting", len(done), total)
        demand_some([*({"status": "ok"} for _ in done), *passed], f"pictures of {name}")
        result = summarise(out, settings, costs)
        draw(result, out / "folding.png")
        folder.conclude(result)
    yield Event(result=result)
