"""Methods by name: one of the table, or two of them, of which one starts from what the other leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from glom.errors import GlomError, InputError
from glom.methods.base import METHODS, Method, Task


@dataclass(frozen=True)
class ComposedSettings:
    """Those of both."""

    start: Any
    then: Any


class Composed(Method):
    """Two methods, one after the other: `then` starts from the head or the teacher that `start` leaves."""

    begin: ClassVar[type[Method]]
    end: ClassVar[type[Method]]

    def __init__(self) -> None:
        self.start, self.then = self.begin(), self.end()
        self.together = self.then.together

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self._given = task
        self.start.prepare(task)
        self.needs_shots, self.why_shots = self.start.needs_shots, self.start.why_shots
        self._go_on()

    def _go_on(self) -> None:
        self.then.prepare(replace(self.start.leaves(), augment=self._given.augment))
        self.together, self.constants = self.then.together, self.then.constants
        self.settings = ComposedSettings(self.start.settings, self.then.settings)

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        return self.then.predict(image, seed)

    def predict_many(self, images: Sequence[Image.Image], seeds: Sequence[int]) -> Sequence[Tensor | GlomError]:
        return self.then.predict_many(images, seeds)

    def stream_state(self) -> dict[str, Tensor] | None:
        return None if self.start.stateful else self.then.stream_state()

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        self.then.load_stream_state(state)

    def learner(self) -> Method:
        return self.start.learner()

    def load(self, state: dict[str, Tensor]) -> None:
        self.start.load(state)
        self._go_on()


def method_class(name: str) -> type[Method]:
    """A method by name: one of `METHODS`, or two of them as `A+B`, in either order.

    The one that leaves something to start from comes first; where both do, the one that is named first.

    Raises:
        InputError: an unknown name, or two methods of which neither starts from the other.
    """
    parts = name.split("+")
    if name in METHODS or len(parts) != 2 or not all(part in METHODS for part in parts):
        return METHODS[name]
    pair = [METHODS[part] for part in parts]
    found = [(a, b) for a, b in (pair, pair[::-1]) if a.starts and b.follows]
    if not found:
        able = ", ".join(sorted(n for n, make in METHODS.items() if make.starts))
        raise InputError(f"{name}: neither of the two starts from what the other leaves; one must be of: {able}")
    begin, end = found[0]
    listed = {
        "what": f"{end.what}, from what {begin.name} leaves",
        "source": f"{begin.source}; {end.source}",
        "needs_text": begin.needs_text or end.needs_text,
        "needs_shots": begin.needs_shots,
        "needs_second": begin.needs_second or end.needs_second,
        "stateful": begin.stateful or end.stateful,
        "constants": end.constants,
    }
    return type("Composed", (Composed,), {"name": name, "begin": begin, "end": end, **listed})


def make_method(name: str, task: Task, shots: bool) -> Method:
    """A method, ready for its task.

    Raises:
        InputError: an unknown name, a teacher without the text encoder it needs, no second teacher, or no labelled
            pictures to learn from.
    """
    method = method_class(name)()
    if method.needs_text and not task.teacher.has_text:
        raise InputError(f"{name} needs a teacher with a text encoder; {task.teacher.name}: {task.teacher.no_text}")
    if method.needs_second and task.second is None:
        raise InputError(f"{name} listens to a second teacher: name one with `second` TEACHER")
    method.prepare(task)
    if method.needs_shots and not shots:
        raise InputError(f"{name} {method.why_shots}: name them with `train` DATA and `shots` K")
    return method
