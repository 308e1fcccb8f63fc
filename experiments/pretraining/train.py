"""Pre-training an APM on a folder of pictures: the teacher's grid and the picture's colours, at sampled locations.

    L = mean_q |f_q - G(q)|^2 / Var(G) + w mean_q |rgb_q - I(q)|^2            q: locations drawn anew every step

G(q) is the teacher's grid read at q, Var(G) its variance over the training pictures (so that 1 is what the mean feature
reaches). All random numbers follow from the seed and the step, so a run that was killed and resumed makes the very
same steps, and R ranks make those of one process: rank r takes every R-th picture of each batch.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import asdict
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from experiments.pretraining.data import Rows, Source, to_input
from experiments.pretraining.prepare import Prepared
from experiments.pretraining.settings import GridTrainSettings
from glom import execution
from glom.adaptation.overfit import jittered_queries
from glom.apm import AsynchronousPerceptionMachine, blank_apm
from glom.checkpoints import load_apm
from glom.columns import grid_queries, sample_at
from glom.errors import InputError
from glom.execution import Ranks
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.training.loop import Training
from glom.training.optimisation import parameter_groups, warmup_cosine

RECORD = 10  # steps between two lines of results.jsonl
KEEP = 500  # steps between two states, at most; one is kept after every epoch as well
STATISTICS = 2048  # pictures that G's mean and variance are taken over


def losses(
    apm: AsynchronousPerceptionMachine, images: Tensor, grids: Tensor, queries: Tensor, variance: float, weight: float
) -> Tensor:
    """(B, 3, S, S), (B, h, w, F), (N, 2) -> (3,): the loss, its feature part, its colour part (of this `weight`)."""
    percept = execution.run(apm, images, queries, ("features", "rgb") if weight else ("features",))
    assert percept.features is not None
    feature = F.mse_loss(percept.features.float(), sample_at(grids, queries)) / variance
    colour = feature.new_zeros(())
    if percept.rgb is not None:
        colour = F.mse_loss(percept.rgb.float(), sample_at(rearrange(images, "b c h w -> b h w c"), queries))
    return torch.stack([feature + weight * colour, feature.detach(), colour.detach()])


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


def build(ready: Prepared) -> tuple[AsynchronousPerceptionMachine, float]:
    """The machine at its start (`init`, or one that answers with the mean feature everywhere), and Var(G)."""
    settings = ready.settings
    rows = ready.train.usable()
    mean, variance = statistics(ready.train, rows[rows < len(ready.split.train)])
    if not variance > 0:
        raise InputError(f"{settings.teacher}'s grids do not vary over these pictures; there is nothing to learn")
    if settings.init:
        return warm_start(settings), variance
    apm = blank_apm(settings.apm)
    apm.reset(torch.Generator().manual_seed(sample_seed(settings.seed, "weights", "grid-train")), "default")
    with torch.no_grad():
        apm.feature_head.bias.copy_(mean)
    return apm, variance


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
) -> Generator[Event, None, AsynchronousPerceptionMachine]:
    """Every step from the last kept state on; returns the machine.

    Args:
        folder: where steps are recorded, on the first rank; None on the others.
        state: the file the state is kept in.

    Raises:
        InputError: ranks and micro-batches that do not divide the batch.
        RunError: a loss that is not finite; the last state stays.
    """
    settings, count = ready.settings, len(ready.split.train)
    apm, variance = build(ready)
    apm.to(device)
    usable, size = ready.train.usable(), min(settings.batch, count)
    ends = list(accumulate(len(batches(usable, count, settings, epoch)) for epoch in range(settings.epochs)))
    if size % (group.world * settings.accumulate):
        raise InputError(f"a batch of {size} pictures cannot be shared by {group.world} ranks x {settings.accumulate}")

    @lru_cache(maxsize=2)  # what is read ahead may be of the next epoch
    def batches_of(epoch: int) -> list[Rows]:
        return batches(usable, count, settings, epoch)

    def parts(step: int) -> list[Rows]:
        """This rank's share of a batch, micro-batch by micro-batch."""
        epoch = bisect_right(ends, step)
        rows = batches_of(epoch)[step - ends[epoch]]  # counted from the epoch's end
        return np.array_split(rows[group.rank :: group.world], settings.accumulate)

    def loss(step: int) -> Iterator[Tensor]:
        """Of the parts; where no picture can be read, nothing."""
        queries = draw_queries(*ready.train.shape[:2], settings, step).to(device)
        for part in parts(step):
            grids, pictures = ready.train.fetch(part)
            if not len(pictures):
                yield torch.zeros(3, device=device)
                continue
            images = to_input(pictures).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
                found = losses(apm, images, grids.to(device), queries, variance, settings.rgb_weight)
            yield found * (1 / settings.accumulate)

    groups = parameter_groups(apm.named_parameters(), settings.weight_decay)
    optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=True)
    training = Training(apm, optimiser, lambda step: rate(step, ends[-1], settings), ends[-1], state, None, group=group)
    first, begun = training.restore(), time.perf_counter()
    ready.train.expect(row for step in range(first, ends[-1]) for part in parts(step) for row in part.tolist())
    known = {record["id"] for record in folder.records()} if folder else set()

    def told(values: list[float]) -> None:
        step = training.done
        if folder and (step % RECORD == 0 or step in (1, ends[-1])) and f"step {step}" not in known:
            record = {"id": f"step {step}", "index": step, "loss": values[0], "feature_loss": values[1]}
            folder.append({**record, "rgb_loss": values[2], "lr": training.rate(step - 1)})

    yield Event("training", first, ends[-1])
    for values in training.run(loss, lambda done: done % KEEP == 0 or done in ends, told):
        speed = (training.done - first) * size / (time.perf_counter() - begun)
        yield Event("training", training.done, ends[-1], values={"loss": values[0], "pictures/s": speed})
    return apm
