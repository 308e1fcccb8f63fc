"""What a method says of a few neighbouring pictures, as lines of a benchmark: a class each, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor, isfinite

from experiments.methods import Method
from glom.datasets.base import Sample
from glom.datasets.corruptions import Corruption, corrupt
from glom.errors import GlomError, RunError, lost
from glom.seeds import sample_seed


def corrupted(sample: Sample, corruption: Corruption | None, seed: int) -> Image.Image:
    """A sample's picture as every method sees it. Raises `InputError` where it cannot be read or is too small."""
    image = sample.image()
    return image if corruption is None else corrupt(image, corruption, sample_seed(seed, sample.id, "corruption"))


def answer_block(
    method: Method, block: Sequence[tuple[int, Sample]], corruption: Corruption | None, seed: int
) -> list[dict[str, Any]]:
    """A record a sample: its class, or why there is none."""
    records: list[dict[str, Any]] = [{"id": s.id, "index": i, "label": s.label} for i, s in block]
    good, images = [], []
    for record, (_, sample) in zip(records, block, strict=True):
        try:
            images.append(corrupted(sample, corruption, seed))
            good.append(record)
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
            record |= {"status": "ok", "class": int(answer.argmax())}
    return records


def _alone(method: Method, image: Image.Image, seed: int) -> Tensor | GlomError:
    try:
        return method.predict(image, seed)
    except GlomError as error:
        return error
