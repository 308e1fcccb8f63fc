"""What a plan will cost on this machine, and how that is known: the run so far, a few pictures, or FLOPs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from experiments.comparison.answers import shown
from experiments.comparison.conditions import base_task, task_of
from experiments.comparison.run import open_conditions
from experiments.comparison.settings import BenchmarkSettings
from experiments.reproduce.plan import Block, Plan
from experiments.reproduce.settings import Request
from glom.errors import GlomError
from glom.methods import make_method
from glom.runs.artifacts import read_timing
from glom.runs.seeds import sample_seed

SAMPLES = 8  # pictures a method is timed on, after one that warms it up
FULL = {  # pictures of the published test sets, for those that are not here
    "ImageNet": 50_000, "ImageNet-A": 7_500, "ImageNet-V2": 10_000, "ImageNet-R": 30_000, "ImageNet-Sketch": 50_889,
    "Flower102": 2_463, "DTD": 1_692, "Pets": 3_669, "UCF101": 3_783, "Caltech101": 2_465, "Food101": 30_300,
    "SUN397": 19_850, "Aircraft": 3_333, "EuroSAT": 8_100,
}  # fmt: skip
CLASSES = {
    "ImageNet-A": 200, "ImageNet-R": 200, "Flower102": 102, "DTD": 47, "Pets": 37, "UCF101": 101, "Caltech101": 100,
    "Food101": 101, "SUN397": 397, "Aircraft": 100, "EuroSAT": 10,
}  # fmt: skip
VIEWS, STEPS = 64, 1200  # of TPT and its kin; of the published APM
MEMO_VIEWS = 64
MASKINGS = 20 * 128  # of TTT-MAE: steps and maskings a step (Gandelsman et al. 2022)
MAE_LARGE = 61.6e9  # multiply-adds of ViT-L/16 on 224 px


@dataclass(frozen=True)
class Cost:
    """One method over one block: pictures over all its columns, seconds a picture, and how that is known."""

    block: str
    method: str
    pictures: int
    seconds: float
    how: str

    @property
    def minutes(self) -> float:
        return self.pictures * self.seconds / 60

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.__dict__, "minutes": round(self.minutes, 2)}


def usable(block: Block, request: Request, limit: int) -> Block:
    """The block with every line that cannot be made here left out, and why: found by making each method once."""
    if not block.runnable:
        return block
    settings = block.settings(request, limit)
    try:
        base = base_task(settings)
        task = task_of(open_conditions(settings, base.teacher)[0], base)
    except GlomError as error:
        return replace(block, why=str(error))
    lines = []
    for line in block.lines:
        try:
            if not line.why:
                make_method(line.method, task, bool(block.train))
            lines.append(line)
        except GlomError as error:
            lines.append(replace(line, why=str(error)))
    return replace(block, lines=tuple(lines))


def estimate(plan: Plan, request: Request, out: Path) -> list[Cost]:
    """A `Cost` a block and method. Blocks that cannot be run are counted from FLOPs, at the full size of their data.

    Learning from labelled pictures is not counted.
    """
    costs: list[Cost] = []
    for block in plan.blocks:
        if block.runnable:
            settings = block.settings(request, plan.limit)
            costs += measured(block, settings, out / "runs" / block.name)
        elif block.teacher.startswith("open_clip:"):
            costs += counted(block, plan.limit)
    return costs


def measured(block: Block, settings: BenchmarkSettings, runs: Path) -> list[Cost]:
    """From the times a run in `runs` has written, else from `SAMPLES` pictures of the first data set."""
    base = base_task(settings)
    conditions = open_conditions(settings, base.teacher)
    pictures = sum(len(c.dataset) for c in conditions)
    before = {m: [s for c in conditions for s in read_timing(runs / c.name / m).values()] for m in settings.methods}
    found = [Cost(block.name, m, pictures, statistics.mean(s), "measured in this run") for m, s in before.items() if s]
    left = [m for m in settings.methods if not before[m]]
    if not left:
        return found
    first = conditions[len(conditions) // 2]
    task = task_of(first, base)
    samples = first.dataset.samples[: SAMPLES + 1]
    images = [shown(sample, first, task, settings.seed) for sample in samples]
    seeds = [sample_seed(settings.seed, sample.id, "method") for sample in samples]
    for name in left:
        method = make_method(name, task, bool(settings.train))
        count = min(max(1, method.together), SAMPLES)
        method.predict(images[0], seeds[0])
        spared, begun = task.views.spared, time.perf_counter()
        method.predict_many(images[-count:], seeds[-count:])
        seconds = (time.perf_counter() - begun + task.views.spared - spared) / count
        found.append(Cost(block.name, name, pictures, seconds, f"measured here on {count} of the pictures"))
    return found


def counted(block: Block, limit: int) -> list[Cost]:
    """From multiply-adds and the rate of one large product here: at least so long, as nothing else is counted."""
    image, text = encoder_madds(block.teacher)
    rate = product_rate()
    found = []
    for line in block.lines:
        pictures, work = 0, 0.0
        for column in block.columns:
            n = FULL.get(column.published, 50_000)
            n = min(n, limit) if limit else n
            pictures += n
            work += n * madds(line.method, image, text, CLASSES.get(column.published, 1000))
        if work:
            how = f"from FLOPs, at {2 * rate / 1e9:.0f} GFLOP/s, one large product's rate here"
            found.append(Cost(block.name, line.method, pictures, work / rate / pictures, how))
    return found


def madds(method: str, image: float, text: float, classes: int) -> float:
    """Multiply-adds a picture, from those of one picture and one prompt; 0 for a method that is not known.

    A backward pass counts as two forward passes; through frozen weights to a prompt, as one.
    """
    if method in ("zero-shot", "ensemble", "tda", "coop"):
        return image
    if method == "cocoop":
        return image + classes * text
    if method in ("tpt", "tpt+coop", "tpt+cocoop"):
        return VIEWS * image + 3 * classes * text
    if method in ("views", "zero"):
        return VIEWS * image
    if method == "memo":
        return 3 * MEMO_VIEWS * image
    if method.startswith("apm"):
        return image + STEPS * student_madds()
    if method in ("joint-train", "fine-tune", "vit-probe"):
        return MAE_LARGE
    if (
        method == "ttt-mae"
    ):  # the encoder reads a quarter of the tokens, forwards and backwards; its decoder is not counted
        return MAE_LARGE * (1 + MASKINGS * 0.25 * 3)
    return 0.0


@cache
def encoder_madds(teacher: str) -> tuple[float, float]:
    """Multiply-adds of one picture and of one prompt of an open_clip model, by name; random weights are enough."""
    from open_clip import get_model_config

    from experiments.bench import compute_models as models

    name = teacher.partition(":")[2].partition("@")[0]
    config = get_model_config(name)
    assert config is not None
    model: Any = models.clip("meta", name)
    size = int(config["vision_cfg"]["image_size"])
    with torch.no_grad():
        image = models.counted_madds(lambda: model.encode_image(models.pictures("meta", size)))
        text = models.counted_madds(lambda: model.encode_text(models.captions("meta")))
    return image, text


@cache
def student_madds() -> float:
    """One step of the published APM, forwards and backwards, in folded execution."""
    from experiments.bench.compute_models import STUDENT, count_apm

    return count_apm(STUDENT.cells, "folded").step


@cache
def product_rate(size: int = 1024, rounds: int = 5) -> float:
    """Multiply-adds a second of one square product in float32, the median of `rounds`."""
    a = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    a @ a
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begun)
    return size**3 / statistics.median(seconds)


def total_minutes(costs: Sequence[Cost]) -> float:
    """Of all of them."""
    return sum(cost.minutes for cost in costs)
