"""Test-time training of pictures at hand: what the teacher said, and what a machine overfit on its token says.

    answer = adapt("cat.jpg", "glom-tiny")
    answer.name, answer.teacher_name, answer.cosine, answer.trace

The protocol is `glom.adaptation.ttt`'s: a fresh machine for every picture, read after the last step, the teacher beside
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glom.adaptation.case import Adaptation, Case, Step
from glom.adaptation.objectives import get_objective, require
from glom.adaptation.settings import TTTSettings, settings_for
from glom.adaptation.ttt import adapt_group, stack_size
from glom.columns import picture as folded_picture
from glom.devices import resolve_device
from glom.errors import InputError, RunError
from glom.notebook import Showing
from glom.pictures import Picture, as_images
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.known import SHIPPED_MODELS
from glom.teachers.registry import load_teacher
from glom.teachers.views import seen
from glom.teachers.zero_shot import Templates, choose_templates


class NamedStep(Step):
    """The same, with the name of the class."""

    name: str


@dataclass(frozen=True, repr=False)
class Answer(Showing):
    """One picture's answer; the teacher's own stands beside it, always.

    Attributes:
        name, teacher_name: the classes of the adapted machine's token and of the teacher's.
        probability, teacher_probability: what each gives its class among `classes`; a softmax over these classes says
            nothing of any other.
        classes: C names.
        probabilities: (C,), the adapted token's.
        cosine: of the adapted token with the teacher's, in [-1, 1].
        token, teacher_token: (F,).
        trace: what was read at each iteration.
        picture: what was read.
    """

    name: str
    teacher_name: str
    probability: float
    teacher_probability: float
    classes: tuple[str, ...]
    probabilities: Tensor
    cosine: float
    token: Tensor
    teacher_token: Tensor
    trace: tuple[NamedStep, ...]
    picture: Image.Image = field(compare=False)

    @property
    def agrees(self) -> bool:
        """Whether both name the same class."""
        return self.name == self.teacher_name

    def to_image(self) -> Image.Image:
        return self.picture

    @property
    def caption(self) -> str:
        own, teacher = f"{100 * self.probability:.0f} %", f"{100 * self.teacher_probability:.0f} %"
        return (
            f"adapted: {self.name} ({own}); teacher: {self.teacher_name} ({teacher}), of {len(self.classes)} classes; "
            f"cosine {self.cosine:.4f} after {len(self.trace) - 1} iterations"
        )

    def __repr__(self) -> str:
        return f"Answer({self.caption})"


def adapt(
    picture: Picture,
    teacher: Teacher | str = "glom-tiny",
    *,
    classes: Sequence[str] | None = None,
    templates: str | Templates = "simple",
    settings: TTTSettings | str = "fast",
    seed: int = 0,
    device: str = "auto",
) -> Answer:
    """`adapt_many` of one `picture`: `teacher`, `classes`, `templates`, `settings`, `seed` and `device` are as there.

    Raises:
        InputError: as `adapt_many`.

    Example:
        >>> adapt(Image.new("RGB", (32, 32), "navy"), "glom-tiny", classes=["ship", "cat"]).agrees
        True
    """
    options: dict[str, Any] = {"classes": classes, "templates": templates, "settings": settings}
    return adapt_many([picture], teacher, **options, seed=seed, device=device)[0]


def adapt_many(
    pictures: Sequence[Picture] | Tensor,
    teacher: Teacher | str = "glom-tiny",
    *,
    classes: Sequence[str] | None = None,
    templates: str | Templates = "simple",
    settings: TTTSettings | str = "fast",
    seed: int = 0,
    device: str = "auto",
) -> list[Answer]:
    """Distil the teacher's token once for each picture, overfit a fresh APM, classify, forget.

    Modi & Rawat, NeurIPS 2024, section 3. A machine overfit on one token converges to its teacher's answer
    (docs/ttt.md): what this shows is the poster's procedure, not a gain.

    Args:
        pictures: a list of what `glom.pictures.as_image` takes, or a batch (B, 3, H, W).
        teacher: one that is loaded, or a name of `glom.load_teacher`.
        classes: C names for a teacher with a text encoder, or those of a classifier's classes to choose among; None
            for what the teacher knows by itself.
        templates: prompts, by name ("photo", "simple", "imagenet") or as sentences with one {}.
        settings: how, or a preset's name ("fast", "published", "exact").
        seed: a picture's random numbers follow from it and the picture's file name, or place in the list.
        device: of a teacher given by name: "auto", "cpu", "cuda[:n]" or "mps".

    Returns:
        An `Answer` for each, in order.

    Raises:
        InputError: a picture, teacher, class or setting that is none; no class names at all.
        RunError: a loss that is not finite.
    """
    images = as_images(pictures)
    if isinstance(teacher, str):
        teacher = load_teacher(teacher, str(resolve_device(device)))
    settings = settings_for(teacher.name, settings) if isinstance(settings, str) else settings
    require(get_objective(settings.objective), teacher.has_grid, teacher.name)
    names = tuple(classes) if classes is not None else known_classes(teacher)
    sentences = choose_templates(templates) if isinstance(templates, str) else templates
    head = teacher.zero_shot_head(names, sentences)
    ids = [Path(p).name if isinstance(p, str | Path) else f"picture {i}" for i, p in enumerate(pictures)]
    step = stack_size(settings, teacher.device)
    answers = []
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        cases = [_case(teacher, image, name, settings) for image, name in zip(images[part], ids[part], strict=True)]
        found = adapt_group(cases, settings, head, seed, teacher.device, keep_trace=True)
        answers += [_answer(*one, head) for one in zip(found, cases, images[part], strict=True)]
    return answers


def known_classes(teacher: Teacher) -> tuple[str, ...]:
    """The classes a teacher knows by itself: a classifier's own, or what the CLIP that ships was trained on.

    Raises:
        InputError: a text encoder that could name anything.
    """
    if teacher.classes is not None:
        return teacher.classes
    if teacher.name in SHIPPED_MODELS:
        return SHIPPED_MODELS[teacher.name].classes()
    raise InputError(f"{teacher.name} can name anything: give the classes to choose among")


def _case(teacher: Teacher, image: Image.Image, name: str, settings: TTTSettings) -> Case:
    views = teacher.preprocess(image)[None].to(teacher.device)
    grid = None
    if "grid" in get_objective(settings.objective).needs:
        grid, image = teacher.grid(views)[0], seen(teacher, image)  # the grid lies over the teacher's crop
    size = settings.config(teacher.width).image_size
    return Case(name, None, folded_picture(image, size), teacher.token(views)[0].clone(), grid)


def _answer(found: Adaptation, case: Case, image: Image.Image, head: ZeroShotHead) -> Answer:
    if found.failed:
        raise RunError(f"{case.id}: {found.failed}")
    tokens = torch.stack([found.token, case.token.cpu()]).to(head.weights.device)
    own, teacher = head(tokens).softmax(-1).cpu()
    return Answer(
        name=head.classes[found.apm_class],
        teacher_name=head.classes[found.teacher_class],
        probability=float(own[found.apm_class]),
        teacher_probability=float(teacher[found.teacher_class]),
        classes=head.classes,
        probabilities=own,
        cosine=found.cosine,
        token=found.token,
        teacher_token=case.token.cpu(),
        trace=tuple({**step, "name": head.classes[step["class"]]} for step in found.trace),
        picture=image,
    )
