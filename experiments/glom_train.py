"""Training a GLOM: one run folder, resumable bit for bit.

Every step's pictures and random numbers come from the run's seed and the step's number alone, so that weights, Adam's
state and the step are all that a resumption needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.glom_data import batches
from glom.artifacts import RunFolder, public_command, read_json
from glom.consensus.checkpoint import load_training, save_glom, save_training
from glom.consensus.config import GlomConfig
from glom.consensus.model import Glom
from glom.consensus.objectives import Loss, ObjectiveSettings, objective_of
from glom.devices import native_bf16, resolve_device, resolve_precision
from glom.errors import InputError, RunError
from glom.seeds import fixed_seed, sample_seed

SAVE_EVERY = 100
LIMIT = 1e4  # a weight beyond this is a divergence: they begin around 1 / sqrt(width), and nets read at unit scale
LOG_EVERY = 20


@dataclass(frozen=True)
class TrainSettings:
    """What decides a training.

    Attributes:
        objective: one of `glom.consensus.objectives.OBJECTIVES`.
        data, source, limit: see `experiments.glom_data.batches`.
        size: side of the pictures in pixels, a multiple of the patch.
        steps: optimiser steps; the rate rises over the first twentieth and falls to zero as a cosine.
        batch: pictures a step.
        lr, weight_decay: AdamW's.
        precision: "fp32" or "bf16" products, "auto" for bf16 where the machine has it in hardware.
        seed: of weights, data and noise.
        config: the network.
        task: the objective's own settings.
    """

    objective: str = "mask"
    data: str = "composites"
    source: str = ""
    limit: int = 0
    size: int = 48
    steps: int = 1500
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.01
    precision: str = "auto"
    seed: int = 0
    config: GlomConfig = field(default_factory=GlomConfig)
    task: ObjectiveSettings = field(default_factory=ObjectiveSettings)

    def __post_init__(self) -> None:
        objective_of(self.objective)
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"--steps and --batch must be at least 1, got {self.steps} and {self.batch}")
        if self.objective == "forward-forward" and self.batch < 2:
            raise InputError("forward-forward needs --batch 2 or more: negatives are halves of two pictures")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"--lr must be above 0, got {self.lr:g}")
        if self.size < self.config.patch or self.size % self.config.patch:
            raise InputError(f"--size must be a multiple of the patch ({self.config.patch} px), got {self.size}")


def rate(step: int, settings: TrainSettings) -> float:
    """The learning rate of step 0, 1, ...: a linear rise over the first twentieth, then half a cosine to zero."""
    rise = max(1, settings.steps // 20)
    if step < rise:
        return settings.lr * (step + 1) / rise
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, settings.steps - rise)))


def new_glom(config: GlomConfig, seed: int) -> Glom:
    """A GLOM with random weights that depend on the seed alone; the state of the global generator is left as it was."""
    with fixed_seed(sample_seed(seed, "glom", "weights")):
        return Glom(config)


def run_train(
    settings: TrainSettings, out: Path, resume: bool = False, device: str = "auto"
) -> Iterator[dict[str, Any]]:
    """Train, yielding `{"step", "loss", "levels", "measure", "message"}` and, last, `{"result": ...}`.

    Raises:
        InputError: the request is wrong, `out` holds another run, or this one without `resume`.
        RunError: the loss or the weights are no sensible numbers any more; the last good checkpoint stays.
    """
    where = resolve_device(device)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if native_bf16() else "fp32"
    resolve_precision(precision, where)
    draw, facts, notes = batches(settings.data, settings.source, settings.size, settings.limit, settings.seed)
    held = {**asdict(settings), **facts, "config": settings.config.as_dict(), "precision": precision}
    held["task"] = _task(settings.task, out)
    loss_of = objective_of(settings.objective)
    glom = new_glom(settings.config, settings.seed).to(where)
    optimiser = torch.optim.AdamW(glom.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    about = {k: held[k] for k in ("objective", "data", "size", "seed", "steps", "task")}
    about |= {"source": facts.get("source", "") if settings.data == "composites" else ""}
    with RunFolder(out, "glom-train", held, resume, {"command": public_command()}) as folder:
        begun = load_training(out, glom, optimiser)
        started, log = time.perf_counter(), folder.records()
        event: dict[str, Any] = dict(log[-1]) if log else {}
        if not begun:
            _save(out, glom, optimiser, 0, about)
        for message in [*notes, *folder.warnings]:
            yield {"step": begun, "message": message}
        for step in range(begun, settings.steps):
            generator = torch.Generator().manual_seed(sample_seed(settings.seed, str(step), "glom-train"))
            images = draw(settings.batch, generator).to(where)
            for group in optimiser.param_groups:
                group["lr"] = rate(step, settings)
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = loss_of(glom, images, generator, settings.task)
            loss.total.backward()
            _check(loss, glom, step + 1, settings.objective, out)
            if settings.objective != "forward-forward":  # one norm over all levels would let them know of each other
                torch.nn.utils.clip_grad_norm_(glom.parameters(), 1.0)
            optimiser.step()
            done = step + 1
            _check_weights(glom, done, out)
            event = _record(done, loss)
            if done % LOG_EVERY == 0 or done in (1, settings.steps):
                folder.append(event)
            if done % SAVE_EVERY == 0 or done == settings.steps:
                _save(out, glom, optimiser, done, about)
            yield {**event, "message": ""}
        seconds = time.perf_counter() - started
        folder.finish(seconds=round(seconds + folder.manifest.get("seconds", 0.0), 3))
        result = {
            "objective": settings.objective,
            "data": facts,
            "steps": settings.steps,
            "parameters": sum(p.numel() for p in glom.parameters()),
            "loss": event.get("loss"),
            "levels": event.get("levels"),
            "measure": event.get("measure"),
            "seconds": round(seconds, 3),
        }
    yield {"result": result}


def _record(step: int, loss: Loss) -> dict[str, Any]:
    levels = [float(v) for v in loss.levels]
    return {"id": f"step-{step}", "index": step, "step": step, "loss": float(loss.total.detach()), "levels": levels,
            "measure": loss.measure}  # fmt: skip


def _check(loss: Loss, glom: Glom, step: int, name: str, out: Path) -> None:
    """Raise `RunError` for a loss or a gradient that is no number, before it reaches the weights."""
    norms: list[Tensor] = [p.grad.norm() for p in glom.parameters() if p.grad is not None]
    if bool(torch.isfinite(loss.total.detach())) and bool(torch.isfinite(torch.stack(norms)).all()):
        return
    level = next((i + 1 for i, v in enumerate(loss.levels.tolist()) if not math.isfinite(v)), None)
    where = f", first on level {level}" if level else ""
    raise _diverged(f"the {name} loss diverged at step {step}{where}", step, out)


def _check_weights(glom: Glom, step: int, out: Path) -> None:
    """Raise `RunError` for weights that a step left infinite, no number or beyond all measure, before they are kept."""
    for name, weights in glom.named_parameters():
        # The nets of all levels lie side by side: net k of those going up and of those going down speaks to level k.
        by_level = name.startswith(("up.", "down."))
        largest = weights.detach().abs().flatten(1 if by_level else 0).amax(-1)
        for level, value in enumerate(largest.reshape(-1).tolist(), 1):
            if not value < LIMIT:
                where = f"the weights of level {level}" if by_level else "the weights"
                raise _diverged(f"{where} ({name}) diverged at step {step}", step, out)


def _diverged(what: str, step: int, out: Path) -> RunError:
    kept = (step - 1) // SAVE_EVERY * SAVE_EVERY
    return RunError(f"{what}; the checkpoint of step {kept} is kept in {out}; try a lower --lr")


def _task(task: ObjectiveSettings, out: Path) -> dict[str, Any]:
    """The objective's settings as the run folder `out` holds them.

    Runs made before negatives could be chosen hold none of them and had the kind that is the default. They go on, and
    so do later ones, which hold it.
    """
    held, manifest = asdict(task), out / "manifest.json"
    there = read_json(manifest).get("settings", {}).get("task", {}) if manifest.is_file() else {}
    if task.negatives == ObjectiveSettings.negatives and "negatives" not in there:
        del held["negatives"]
    return held


def _save(out: Path, glom: Glom, optimiser: torch.optim.Optimizer, step: int, about: dict[str, Any]) -> None:
    save_glom(out, glom, {**about, "step": step})
    save_training(out, glom, optimiser, step)
