"""An APM trained beforehand on the teacher's grids, and a few steps towards the teacher's answer for the test picture.

An APM with random weights can only repeat the teacher (docs/ttt.md). A trained one has an answer of its own, and the
steps mix the two: docs/objective.md says when that is better than the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from glom.adaptation.settings import ttt_preset
from glom.apm import AsynchronousPerceptionMachine, blank_apm
from glom.checkpoints import SHIPPED, load_apm
from glom.columns import picture
from glom.errors import InputError
from glom.methods.aims import Aim, Trained, train
from glom.methods.base import Task, Together, register
from glom.teachers.base import Teacher
from glom.teachers.heads import ZeroShotHead
from glom.teachers.views import seen
from glom.weights import state_sha256


@dataclass(frozen=True)
class TrainedSettings:
    """`steps` of Adam at a constant `lr` on the teacher's token and grid of the test picture.

    `fingerprint` is of the machine's weights, as recorded: a run begun with other weights is not gone on with.
    """

    steps: int = 5
    lr: float = 1e-4
    fingerprint: str = ""


def trained_machine(teacher: Teacher) -> AsynchronousPerceptionMachine | None:
    """The shipped APM that was trained on this very teacher's grids, without its colours; None if there is none.

    An adapted copy of that teacher will do.
    """
    for name in SHIPPED:
        apm, meta = load_apm(name)
        if meta.get("teacher_fingerprint") in (teacher.fingerprint, teacher.stems_from):
            plain = blank_apm(replace(apm.config, rgb=None))
            plain.load_state_dict({k: v for k, v in apm.state_dict().items() if not k.startswith("rgb_head.")})
            return plain
    return None


def adapt_trained(
    machine: AsynchronousPerceptionMachine,
    ids: Sequence[str],
    pictures: Tensor,
    aim: Aim,
    head: ZeroShotHead,
    shape: tuple[int, int],
    how: TrainedSettings,
    marks: Sequence[int] = (),
) -> Trained:
    """A copy of the machine for each of S pictures (S, 3, side, side), a few steps on; see `aims.train`."""
    settings = ttt_preset("fast", apm="apm-tiny", iterations=how.steps, lr=how.lr, schedule="constant")
    return train(ids, pictures, aim, head, shape, settings, machine.config, marks=marks, start=machine)


@register
class TrainedAPM(Together):
    """The trained machine's token after `steps` steps; the machine is set back for the next picture."""

    name = "apm-trained"
    together = 8

    def __init__(self, settings: TrainedSettings | None = None) -> None:
        self.settings: TrainedSettings = settings or TrainedSettings()

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        machine = trained_machine(task.teacher)
        if machine is None:
            raise InputError(f"{self.name} needs an APM trained on the grids of {task.teacher.name}; none ships")
        self.machine, self.head = machine, task.head()
        own = state_sha256(machine.state_dict(), "apm", "fp32")
        self.settings = replace(self.settings, fingerprint=own)

    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> list[Tensor]:
        teacher, size = self.task.teacher, self.machine.config.image_size
        tokens, grid = self.task.encoded(self.task.read(list(images)), grid=True)
        assert grid is not None
        aim = Aim(tokens, grid=grid)
        shape = (grid.shape[1], grid.shape[2])
        folded = torch.stack([picture(seen(teacher, image), size) for image in images]).to(self.task.device)
        names = [str(seed) for seed in seeds]
        found = adapt_trained(self.machine, names, folded, aim, self.head, shape, self.settings)
        return list(self.head(found.token).unbind())
