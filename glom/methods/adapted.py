"""The APM, overfit on the teacher's answer for the test picture, in every objective."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from glom.adaptation.case import Case
from glom.adaptation.objectives import OBJECTIVES, get_objective, require
from glom.adaptation.settings import TTTSettings, settings_for
from glom.adaptation.ttt import BLOCK, adapt_group, stack_size
from glom.columns import picture
from glom.errors import RunError
from glom.methods.base import Task, Together, register
from glom.methods_list import HERE
from glom.teachers.views import seen


class Adapted(Together):
    """Distil once, overfit, classify the token after the last iteration, reset (`glom.adaptation.ttt`).

    Several pictures are adapted side by side, each with its own weights, optimiser state and random numbers.
    """

    objective = "token-mse"
    settings: TTTSettings

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.settings = settings_for(task.teacher.name, task.preset, objective=self.objective)
        self.constants = self.constants if task.preset == "published" else HERE
        self.together = min(BLOCK, stack_size(self.settings, task.device))
        require(get_objective(self.objective), task.teacher.has_grid, task.teacher.name)
        self.head = task.head()
        self.size = self.settings.config(task.teacher.width).image_size

    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        task = self.task
        grid = "grid" in get_objective(self.objective).needs
        tokens, grids = task.encoded(task.read(list(images)), grid)
        cases = [
            Case(
                str(seed),
                None,
                picture(seen(task.teacher, image) if grid else image, self.size),
                tokens[i],
                grids[i] if grids is not None else None,
            )
            for i, (image, seed) in enumerate(zip(images, seeds, strict=True))
        ]
        found = adapt_group(cases, self.settings, self.head, task.seed, task.device)
        failed = [x.failed for x in found if x.failed]
        if failed:
            raise RunError(failed[0])
        return [self.head(x.token.to(task.device)) for x in found]


def _name(objective: str) -> str:
    return "apm" if objective == "token-mse" else f"apm-{objective.removeprefix('token').strip('+-').replace('+', '-')}"


for _objective in OBJECTIVES:
    register(type(f"Adapted_{_objective}", (Adapted,), {"name": _name(_objective), "objective": _objective}))
