"""What a method says of a few neighbouring pictures, as lines of a benchmark: a class each, or why there is none.

Beside the class a line keeps what the trust metrics need, however many classes there are: how probable the answer (`p`)
and the label (`p_label`) were, the sum of the squared probabilities (`squares`: with `p_label` the Brier score) and
their entropy in nats. Probabilities are the softmax of what the method returns. What else a picture shows stands under
its name, as the `texture` of a cue-conflict picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, from_numpy, isfinite
from torch.special import entr

from experiments.comparison.conditions import Condition
from experiments.comparison.legs import Visit
from glom.datasets.base import Sample
from glom.datasets.loading import read_ahead
from glom.errors import GlomError, RunError, lost
from glom.methods import Method, Task
from glom.methods.views import Key
from glom.runs.seeds import sample_seed
from glom.teachers.corrupted import corrupted


def shown(sample: Sample, condition: Condition, task: Task, seed: int) -> Image.Image:
    """A sample's picture as every method sees it, corrupted once for all of them.

    Raises:
        InputError: it cannot be read, or is too small.
    """
    return _kept(_look(sample, condition, task, seed), task)


Look = tuple[Image.Image | Tensor, Key | None]
"""A picture; of a corrupted one its pixels, and what they are kept by."""


def look_at(visits: Sequence[Visit], task: Task, seed: int, workers: int) -> Iterator[Look | GlomError]:
    """Every picture in turn, as `shown` has it, for `answer_block`."""

    def look(number: int) -> Look:
        return _look(visits[number].sample, visits[number].condition, task, seed)

    return read_ahead(look, range(len(visits)), workers)


def _look(sample: Sample, condition: Condition, task: Task, seed: int) -> Look:
    image, kind = sample.image(), condition.corruption
    if kind is None:
        return image, None
    drawn = sample_seed(seed, sample.id, "corruption")
    key = task.key(image, ("corrupted", str(kind), condition.corrupt, drawn))
    known = task.views.known(key)
    if known is None:
        known = from_numpy(np.array(corrupted(task.teacher, image, kind, drawn, condition.corrupt)))
    return known, key


def _kept(look: Look, task: Task) -> Image.Image:
    made, key = look
    if isinstance(made, Image.Image):
        return made
    assert key is not None
    return Image.fromarray(task.views.get(key, lambda: made).cpu().numpy())


def answer_block(
    method: Method, block: Sequence[Visit], looks: Iterator[Look | GlomError], seed: int
) -> tuple[list[dict[str, Any]], float, float]:
    """A record a picture: its class and how probable it is, or why there is none; the scale of its corruption.

    Args:
        looks: of `look_at`, from which the block's are taken.

    Returns:
        The records; seconds a picture, all told; and those of the method alone, the making of views that another method
        had made before it among them.
    """
    begun = time.perf_counter()
    records = [_asked(visit) for visit in block]
    good, images = [], []
    for record, (condition, _, _), look in zip(records, block, looks):
        if isinstance(look, GlomError):
            record |= lost(look)
            continue
        images.append(_kept(look, method.task))
        good.append(record)
        if condition.corruption is not None:
            record["scale"] = condition.corruption.scale_for(images[-1].size)
    seeds = [sample_seed(seed, record["id"], "method") for record in good]
    asked, spared = time.perf_counter(), method.task.views.spared
    try:
        answers: list[Tensor | GlomError] = list(method.predict_many(images, seeds)) if good else []
    except GlomError as error:
        answers = [error] if len(good) == 1 else [_alone(method, *x) for x in zip(images, seeds, strict=True)]
    own = time.perf_counter() - asked + method.task.views.spared - spared
    for record, answer in zip(good, answers, strict=True):
        record |= lost(answer) if isinstance(answer, GlomError) else _line(method, record, answer)
    return records, (time.perf_counter() - begun) / len(block), own / max(1, len(good))


def _asked(visit: Visit) -> dict[str, Any]:
    others = {name: labels.get(visit.sample.id) for name, labels in visit.condition.dataset.other_labels.items()}
    return {"id": visit.sample.id, "index": visit.place, "label": visit.sample.label, **others}


def _line(method: Method, record: dict[str, Any], answer: Tensor) -> dict[str, Any]:
    p = answer.float().softmax(-1)
    if not bool(isfinite(p).all()):
        return lost(RunError(f"{method.name}'s class scores are not finite"))
    line: dict[str, Any] = {"status": "ok", "class": int(answer.argmax()), "p": round(float(p.max()), 6)}
    if record["label"] is not None:
        line["p_label"] = round(float(p[record["label"]]), 6)
    return line | {"squares": round(float((p * p).sum()), 6), "entropy": round(float(entr(p).sum()), 6)}


def _alone(method: Method, image: Image.Image, seed: int) -> Tensor | GlomError:
    try:
        return method.predict(image, seed)
    except GlomError as error:
        return error
