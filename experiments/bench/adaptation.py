"""A whole picture's adaptation, from drawing the weights to the class: its time, its cosine and its class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from experiments.bench.going import SILENT, Going
from experiments.bench.timing import beyond, interleave, precisions_here, spread
from glom.adaptation.case import Adaptation, Case
from glom.adaptation.settings import TTTSettings
from glom.adaptation.ttt import adapt
from glom.columns import picture
from glom.errors import GlomError
from glom.teachers.heads import ZeroShotHead

CLASSES = 1000


def random_case(settings: TTTSettings, features: int, seed: int) -> tuple[Case, ZeroShotHead]:
    """A random picture, token and head of 1,000 unit-length classes: nothing to exploit, so the harder case."""
    g = torch.Generator().manual_seed(seed)
    size = settings.config(features).image_size
    image, token = torch.randn(3, size, size, generator=g), torch.randn(features, generator=g)
    weights = F.normalize(torch.randn(CLASSES, features, generator=g), dim=-1)
    head = ZeroShotHead(tuple(str(c) for c in range(CLASSES)), weights, scale=100.0)
    return Case("random", None, image, token), head


def teacher_case(settings: TTTSettings, teacher: str) -> tuple[Case, ZeroShotHead]:
    """A shipped picture with a real teacher's token and classes. Raises `GlomError` where the teacher is not here."""
    from glom.datasets.registry import open_dataset
    from glom.teachers.registry import load_teacher

    loaded = load_teacher(teacher)
    dataset = open_dataset("cifar10-sample")
    sample = dataset.samples[0]
    image = sample.image()
    token = loaded.token(loaded.preprocess(image)[None])[0]
    classes = loaded.classes or dataset.classes or ()
    size = settings.config(loaded.width).image_size
    return Case(sample.id, None, picture(image, size), token), loaded.zero_shot_head(classes)


def extrapolated_adaptation(
    settings: TTTSettings, features: int, few: int, seed: int = 0, tell: Going = SILENT
) -> dict[str, Any]:
    """The random case's seconds from 1 and 1 + `few` steps, extrapolated to all: as `measure_adaptation`, no cases."""
    case, head = random_case(settings, features, seed)
    steps = (1, 1 + few)
    work: dict[str, Callable[[], object]] = {
        f"{precision}, {n} of {settings.iterations} steps": (
            lambda p=precision, n=n: adapt(case, replace(settings, precision=p, iterations=n), head, seed)  # type: ignore[misc]
        )
        for precision in precisions_here()
        for n in steps
    }
    taken = iter(interleave(work, 1, warmup=1, tell=tell, about="adaptation").values())
    seconds = {precision: [beyond((steps[0], a), (steps[1], b), settings.iterations)]
               for precision in precisions_here() for (a,), (b,) in [(next(taken), next(taken))]}  # fmt: skip
    return {"settings": settings.__dict__, "cases": [], "left_out": "extrapolated", "seconds_list": seconds}


def measure_adaptation(
    settings: TTTSettings, features: int, teacher: str, rounds: int, seed: int = 0, tell: Going = SILENT
) -> dict[str, Any]:
    """Adapt to a random token and, where it can be had, to a teacher's; in fp32 and, where the processor has them in
    hardware, with bf16 products, in turn.

    Returns:
        seconds_list: of the random case by precision, one a round. cases: per case and precision the seconds, the
        steps, the cosine with the teacher's token, whether the class is the teacher's, the cosine of both precisions.
        left_out: why the teacher's case is missing, or "".
    """
    cases = {"random token": random_case(settings, features, seed)}
    left_out = ""
    if teacher:
        try:
            cases[f"{teacher} on a shipped picture"] = teacher_case(settings, teacher)
        except (GlomError, ImportError) as error:
            left_out = f"{teacher}: {error}"
    found: dict[str, Any] = {"settings": settings.__dict__, "cases": [], "left_out": left_out}
    for name, (case, head) in cases.items():
        tell(f"adapting to a {name}" if name.startswith("random") else f"adapting to {name}")
        results: dict[str, Adaptation] = {}

        def run(precision: str, case: Case, head: ZeroShotHead, into: dict[str, Adaptation]) -> None:
            into[precision] = adapt(case, replace(settings, precision=precision), head, seed)

        work: dict[str, Callable[[], object]] = {
            precision: (lambda p=precision, c=case, h=head, r=results: run(p, c, h, r))  # type: ignore[misc]
            for precision in precisions_here()
        }
        seconds = interleave(work, rounds, warmup=1, tell=tell, about=name)
        if "seconds_list" not in found:
            found["seconds_list"] = seconds
        both = None
        if "bf16" in results:
            both = float(F.cosine_similarity(results["fp32"].token, results["bf16"].token, dim=0))
        found["cases"] += [
            {
                "case": name,
                "precision": precision,
                "seconds": spread(seconds[precision]),
                "steps": result.steps,
                "cosine": result.cosine,
                "same_class": result.apm_class == result.teacher_class,
                "cosine_fp32_bf16": both,
            }
            for precision, result in results.items()
        ]
    return found
