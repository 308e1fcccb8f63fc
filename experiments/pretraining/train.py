"""Pre-training an APM on a folder of pictures: the teacher's grid and the picture's colours, at sampled locations.

    L = mean_q |f_q - G(q)|^2 / Var(G) + w mean_q |rgb_q - I(q)|^2            q: locations drawn anew every step

G(q) is the teacher's grid read at q, Var(G) its variance over the training pictures (so that 1 is what the mean feature
reaches). All random numbers follow from the seed and the step, so a run that was killed and resumed makes the very
same steps, and R ranks make those of one process: rank r takes every R-th picture of each batch.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from experiments.pretraining.data import Rows, Source, to_input
from experiments.pretraining.prepare import Prepared, Ranks
from experiments.pretraining.settings import GridTrainSettings
from glom import execution
from glom.adaptation.overfit import jittered_queries
from glom.apm import AsynchronousPerceptionMachine, blank_apm
from glom.checkpoints import load_apm
from glom.columns import grid_queries, sample_at
from glom.errors import InputError, RunError
from glom.runs.artifacts import RunFolder
from glom.runs.saving import save_state
from glom.runs.seeds import sample_seed
from glom.teachers.hub import first_line
from glom.training.optimisation import parameter_groups, warmup_cosine

STATE = "state.pt"
RECORD = 10  # steps between two lines of results.jsonl
KEEP = 500  # steps between two states, at most; one is kept after every epoch as well
STATISTICS = 2048  # pictures that G's mean and variance are taken over


class Losses(nn.Module):
    """The machine and its losses as one module, so that DistributedDataParallel sees one forward."""

    def __init__(self, apm: AsynchronousPerceptionMachine, variance: float, rgb_weight: float, bf16: bool) -> None:
        super().__init__()
        self.apm, self.variance, self.rgb_weight, self.bf16 = apm, variance, rgb_weight, bf16

    def forward(self, images: Tensor, grids: Tensor, queries: Tensor) -> Tensor:
        """(B, 3, S, S), (B, h, w, F), (N, 2) -> (3,): the loss, its feature part, its colour part."""
        outputs = ("features", "rgb") if self.rgb_weight else ("features",)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            percept = execution.run(self.apm, images, queries, outputs)
        assert percept.features is not None
        feature = F.mse_loss(percept.features.float(), sample_at(grids, queries)) / self.variance
        colour = feature.new_zeros(())
        if percept.rgb is not None:
            colour = F.mse_loss(percept.rgb.float(), sample_at(rearrange(images, "b c h w -> b h w c"), queries))
        return torch.stack([feature + self.rgb_weight * colour, feature.detach(), colour.detach()])


def batches(usable: Rows, count: int, settings: GridTrainSettings, epoch: int) -> list[Rows]:
    """One epoch's batches of rows: every picture once, in the epoch's own view and order; a short last one is left out.

    Args:
        usable: rows that can be read. count: pictures in the data set.
    """
    view = epoch % settings.views
    rows = usable[usable // count == view]
    order = np.random.default_rng(sample_seed(settings.seed, f"epoch {epoch}", "order")).permutation(len(rows))
    size = min(settings.batch, len(rows))
    return [rows[order[i : i + size]] for i in range(0, len(rows) - size + 1, size)] if size else []


def draw_queries(h: int, w: int, settings: GridTrainSettings, step: int) -> Tensor:
    """The locations of one step, (N, 2), shared by its pictures: one in every cell of a lattice over the picture.

    Each is anywhere in its cell with probability `anywhere`, else moved to the nearest centre of the teacher's h x w
    grid. Spread so, a step never sees the borders alone, where most grids hardly vary.
    """
    if not settings.queries:
        return grid_queries(h, w)
    generator = torch.Generator().manual_seed(sample_seed(settings.seed, f"step {step}", "queries"))
    points = jittered_queries(math.isqrt(settings.queries), generator)
    size = torch.tensor([w, h])
    centres = ((points * size).floor().clamp_max(size - 1) + 0.5) / size
    free = torch.rand(len(points), 1, generator=generator) < settings.anywhere
    return torch.where(free, points, centres)


def rate(step: int, total: int, settings: GridTrainSettings) -> float:
    """The learning rate of a step."""
    return settings.lr * warmup_cosine(step, total, max(1, round(settings.warmup * total)))


def build(ready: Prepared, device: torch.device) -> tuple[Losses, torch.optim.Optimizer]:
    """The machine at its start (`init`, or one that answers with the mean feature everywhere) and its optimiser."""
    settings = ready.settings
    rows = ready.train.usable()
    mean, variance = statistics(ready.train, rows[rows < len(ready.split.train)])
    if not variance > 0:
        raise InputError(f"{settings.teacher}'s grids do not vary over these pictures; there is nothing to learn")
    if settings.init:
        apm = warm_start(settings)
    else:
        apm = blank_apm(settings.apm)
        apm.reset(torch.Generator().manual_seed(sample_seed(settings.seed, "weights", "grid-train")), "default")
        with torch.no_grad():
            apm.feature_head.bias.copy_(mean)
    model = Losses(apm.to(device), variance, settings.rgb_weight, settings.precision == "bf16")
    groups = parameter_groups(apm.named_parameters(), settings.weight_decay)
    return model, torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def warm_start(settings: GridTrainSettings) -> AsynchronousPerceptionMachine:
    """The machine of `init`, ready to go on learning.

    Raises:
        InputError: no such checkpoint, or a machine of another shape than asked for.
    """
    apm, _ = load_apm(settings.init)
    wanted, found = asdict(settings.apm), asdict(apm.config)
    other = [f"{name} {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if other:
        raise InputError(f"{settings.init} is another machine than asked for: {'; '.join(other)}")
    return apm.train()


def statistics(source: Source, rows: Rows) -> tuple[Tensor, float]:
    """The mean feature (F,) and the variance around it, over pictures spread over the data set, a few at a time.

    Raises:
        InputError: none of them can be read.
    """
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, STATISTICS).astype(int))]
    count, total, squares = 0, torch.zeros(source.shape[2], dtype=torch.float64), 0.0
    for start in range(0, len(chosen), 64):
        grids = source.fetch(chosen[start : start + 64])[0].flatten(0, 2).double()
        count += len(grids)
        total += grids.sum(0)
        squares += float(grids.square().sum())
    if not count:
        raise InputError("no picture to learn from could be read")
    mean = total / count
    return mean.float(), squares / count / len(mean) - float(mean.square().mean())


def train(
    ready: Prepared, folder: RunFolder | None, state: Path, group: Ranks, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Every step from the last kept state on, yielding `{"stage", "done", "total", "loss", "pictures_per_second"}`.

    Args:
        folder: where steps are recorded, on the first rank; None on the others.
        state: the file the state is kept in.

    Raises:
        InputError: ranks and micro-batches that do not divide the batch.
        RunError: a loss that is not finite; the last state stays.
    """
    settings, count = ready.settings, len(ready.split.train)
    model, optimiser = build(ready, device)
    usable = ready.train.usable()
    sizes = [len(batches(usable, count, settings, epoch)) for epoch in range(settings.epochs)]
    total, pieces = sum(sizes), group.world * settings.accumulate
    size = min(settings.batch, count)
    if size % pieces:
        raise InputError(f"a batch of {size} pictures cannot be shared by {group.world} ranks x {settings.accumulate}")
    step = restore(state, model.apm, optimiser) if state.is_file() else 0
    wrapped = DistributedDataParallel(model) if group.world > 1 else model
    known = {record["id"] for record in folder.records()} if folder else set()
    first, begun = step, time.perf_counter()
    yield {"stage": "training", "done": step, "total": total, "loss": None, "pictures_per_second": 0.0}
    for epoch in range(settings.epochs):
        start = sum(sizes[:epoch])
        if start + sizes[epoch] <= step:
            continue
        for rows in batches(usable, count, settings, epoch)[step - start :]:
            for param_group in optimiser.param_groups:
                param_group["lr"] = rate(step, total, settings)
            queries = draw_queries(*ready.train.shape[:2], settings, step).to(device)
            losses = group.mean(backward(wrapped, ready.train, rows[group.rank :: group.world], queries, settings))
            loss, feature, colour = losses.tolist()
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss of step {step + 1} is {loss}; start again with a lower --lr than {settings.lr}"
                )
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
            if folder and (step % RECORD == 0 or step in (1, total)) and f"step {step}" not in known:
                record = {"id": f"step {step}", "index": step, "loss": loss, "feature_loss": feature}
                folder.append({**record, "rgb_loss": colour, "lr": rate(step - 1, total, settings)})
            if folder and (step % KEEP == 0 or step == start + sizes[epoch]):
                keep(state, model.apm, optimiser, step)
            speed = (step - first) * size / (time.perf_counter() - begun)
            yield {"stage": "training", "done": step, "total": total, "loss": loss, "pictures_per_second": speed}
    yield {"apm": model.apm}


def backward(model: nn.Module, source: Source, rows: Rows, queries: Tensor, settings: GridTrainSettings) -> Tensor:
    """Gradients of one rank's share of a batch, micro-batch by micro-batch; returns its mean losses, (3,).

    A micro-batch of which no picture can be read counts for nothing.
    """
    total = torch.zeros(3, device=queries.device)
    parts = np.array_split(rows, settings.accumulate)
    for number, part in enumerate(parts):
        grids, pictures = source.fetch(part)
        weight = 1 / len(parts)
        if not len(pictures):
            # All ranks have to take part in the exchange of gradients: a blank picture stands in, without weight.
            h, w, f = source.shape
            grids, pictures, weight = grids.new_zeros(1, h, w, f), pictures.new_zeros(1, *pictures.shape[1:]), 0.0
        last = number == len(parts) - 1
        # Ranks exchange gradients once a step, with the last micro-batch.
        alone = nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()
        with alone:
            losses = model(to_input(pictures).to(queries.device), grids.to(queries.device), queries) * weight
            losses[0].backward()
        total += losses.detach()
    return total


def keep(path: Path, apm: AsynchronousPerceptionMachine, optimiser: torch.optim.Optimizer, step: int) -> None:
    """Write weights, optimiser and step, whole or not at all. Raises `RunError` where the disk is full."""
    state = {"step": step, "apm": apm.state_dict(), "optimiser": optimiser.state_dict()}
    save_state(path, state)


def restore(path: Path, apm: AsynchronousPerceptionMachine, optimiser: torch.optim.Optimizer) -> int:
    """Load what `keep` wrote; returns the step. Raises `InputError` for a damaged file."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        apm.load_state_dict(saved["apm"])
        optimiser.load_state_dict(saved["optimiser"])
        return int(saved["step"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); delete it to start anew") from error
