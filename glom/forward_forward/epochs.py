"""One epoch of any network that learns batch by batch: the loop that trainings and the estimator share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from glom.errors import RunError
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.learner import Diverged, Learner
from glom.forward_forward.settings import FFSettings
from glom.forward_forward.twin import Twin
from glom.runs.seeds import sample_seed
from glom.training.optimisation import flushed

Step = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor | None]]
TELL = 20  # steps between two reports


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: training pictures that were wrong when they came, and the last step's mean squares."""

    wrong: int
    squares: Tensor | None


def run_epoch(
    learner: Learner | ConvLearner | Twin,
    step: Step,
    images: Tensor,
    labels: Tensor,
    settings: FFSettings,
    epoch: int,
    stage: str = "forward-forward",
) -> Generator[float, None, Epoch]:
    """Every picture once, in an order of the epoch's own; the share that is done is yielded now and then.

    Random numbers follow from the seed, the epoch and the stage, so that a resumed training is the uninterrupted one.

    Args:
        learner: checked after the last step. step: learns from a batch, see `Learner.learn`.
        images: (N, C, H, W) in the network's dtype. labels: (N,).

    Raises:
        RunError: a goodness or a weight that is no sensible number any more.
    """
    count = len(labels)
    steps = -(-count // settings.batch)
    if settings.paired and count % settings.batch == 1:
        steps -= 1  # one picture alone makes no negative: it joins the batch before
    generator = torch.Generator(images.device)
    generator.manual_seed(sample_seed(settings.seed, f"epoch {epoch}", stage))
    order = torch.randperm(count, generator=generator, device=images.device)
    wrong = torch.zeros((), dtype=torch.long, device=images.device)
    squares: Tensor | None = None
    for number in range(steps):
        last = number + 1 == steps
        index = order[number * settings.batch : None if last else (number + 1) * settings.batch]
        try:
            with flushed():
                logits, squares = step(images[index], labels[index], generator)
            if last:
                learner.check(images[index])
        except Diverged as error:
            kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "no epoch was complete"
            advice = "" if isinstance(learner, Twin) else "; use a lower `lr`"
            raise RunError(
                f"{error} at step {epoch * steps + number + 1} (epoch {epoch + 1}); {kept}{advice}"
            ) from error
        wrong += (logits.argmax(1) != labels[index]).sum()
        if number % TELL == TELL - 1:
            yield (number + 1) / steps
    return Epoch(int(wrong), squares)
