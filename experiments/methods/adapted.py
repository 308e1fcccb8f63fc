"""The APM, overfit on the teacher's answer for the test picture, in every objective."""

from __future__ import annotations

from PIL import Image
from torch import Tensor

from experiments.methods.base import METHODS, Method, Task
from experiments.ttt_run import settings_for
from glom.columns import picture
from glom.objectives import OBJECTIVES, get_objective, require
from glom.teachers.views import seen
from glom.ttt import Case, adapt
from glom.ttt_settings import TTTSettings


class Adapted(Method):
    """Distil once, overfit, classify the token after the last iteration, reset (`glom.ttt`)."""

    source = "Modi & Rawat 2024, section 3; preset `fast` (docs/ttt.md)"
    objective = "token-mse"
    settings: TTTSettings

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.settings = settings_for(task.teacher.name, "fast", objective=self.objective)
        require(get_objective(self.objective), task.teacher.has_grid, task.teacher.name)
        self.head = task.head()
        self.size = self.settings.config(task.teacher.width).image_size

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        task = self.task
        grid = "grid" in get_objective(self.objective).needs
        view = task.read([image])
        token = task.teacher.token(view)[0]
        case = Case(
            "",
            None,
            picture(seen(task.teacher, image) if grid else image, self.size),
            token,
            task.teacher.grid(view)[0] if grid else None,
        )
        return self.head(adapt(case, self.settings, self.head, seed, task.device).token.to(task.device))


def _name(objective: str) -> str:
    return "apm" if objective == "token-mse" else f"apm-{objective.removeprefix('token').strip('+-').replace('+', '-')}"


for _objective, _entry in OBJECTIVES.items():
    METHODS[_name(_objective)] = type(
        f"Adapted_{_objective}",
        (Adapted,),
        {
            "name": _name(_objective),
            "objective": _objective,
            "what": f"an APM overfit on the test picture, {_objective}",
        },
    )
