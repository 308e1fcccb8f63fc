"""What a method says of a few neighbouring pictures, as lines of a benchmark: a class each, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, isfinite

from experiments.comparison.conditions import Condition
from glom.datasets.base import Sample
from glom.errors import GlomError, RunError, lost
from glom.methods import Method
from glom.runs.seeds import sample_seed
from glom.teachers.base import Teacher
from glom.teachers.corrupted import corrupted


def shown(sample: Sample, condition: Condition, teacher: Teacher, seed: int) -> Image.Image:
    """A sample's picture as every method sees it. Raises `InputError` where it cannot be read or is too small."""
    image, kind = sample.image(), condition.corruption
    if kind is None:
        return image
    return corrupted(teacher, image, kind, sample_seed(seed, sample.id, "corruption"), condition.corrupt)


def answer_block(
    method: Method, block: Sequence[tuple[int, Sample]], condition: Condition, seed: int
) -> list[dict[str, Any]]:
    """A record a sample: its class and how probable it is, or why there is none; the scale of its corruption."""
    records: list[dict[str, Any]] = [{"id": s.id, "index": i, "label": s.label} for i, s in block]
    good, images = [], []
    for record, (_, sample) in zip(records, block, strict=True):
        try:
            images.append(shown(sample, condition, method.task.teacher, seed))
            good.append(record)
            if condition.corruption is not None:
                record["scale"] = condition.corruption.scale_for(images[-1].size)
        except GlomError as error:
            record |= lost(error)
    seeds = [sample_seed(seed, record["id"], "method") for record in good]
    try:
        answers: list[Tensor | GlomError] = list(method.predict_many(images, seeds)) if good else []
    except GlomError as error:
        answers = [error] if len(good) == 1 else [_alone(method, *x) for x in zip(images, seeds, strict=True)]
    for record, answer in zip(good, answers, strict=True):
        if isinstance(answer, GlomError):
            record |= lost(answer)
        elif not bool(isfinite(answer).all()):
            record |= lost(RunError(f"{method.name}'s class scores are not finite"))
        else:
            sure = float(answer.float().softmax(-1).max())
            record |= {"status": "ok", "class": int(answer.argmax()), "p": round(sure, 6)}
    return records


def _alone(method: Method, image: Image.Image, seed: int) -> Tensor | GlomError:
    try:
        return method.predict(image, seed)
    except GlomError as error:
        return error
