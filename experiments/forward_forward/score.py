"""Islands a layer of a local network and how well they fit parts and wholes, on held-out composites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from experiments.consensus.data import HELD_OUT_SEED, composites
from experiments.consensus.measures import Levels, Look, score_levels, verdict
from experiments.forward_forward.islands import look, open_local
from experiments.forward_forward.settings import ScoreSettings
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward import Learner
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.networks import learner_of
from glom.runs.artifacts import RunFolder
from glom.runs.events import Event
from glom.settings import write_settings
from probes.figures.levels import layers_figure

GREY = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601), as Pillow's mode L


class Scores(Levels):
    """A local network's layers on held-out composites, and what the figures say, in sentences."""

    trained: str
    source: str
    threshold: float
    seed: int
    epoch: int
    objective: str
    n: int
    read: int
    size: int
    widths: list[int]
    field: int
    verdict: list[str]


def run(settings: ScoreSettings, out: Path) -> Iterator[Event[Scores]]:
    """Score a local network on held-out composites of its own size, as `experiments.consensus.measures` does.

    The layers are scored at the last iteration whose goodness is read. Untrained is the network as it was before its
    first step.

    Raises:
        InputError: the request is wrong, or `out` is taken.
    """
    place = resolve_device(settings.device)
    learner, scaling, state = open_local(Path(settings.trained), place)
    channels, height, width = learner.shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"composites are square, grey or in colour; this network reads {list(learner.shape)} (C, H, W)"
        )
    made, name, note = composites(settings.source, height, "test", HELD_OUT_SEED + settings.seed)
    shape = learner.settings
    untrained = learner_of(learner.shape, learner.classes, shape, place)
    conv = isinstance(learner, ConvLearner)

    def looking(network: Learner | ConvLearner) -> Look:
        return lambda images: look(network, scaling, (images[:, :channels] * 255).round().to(torch.uint8))

    held = settings.manifest(trained=Path(settings.trained).name, epoch=state["epoch"], source=name)
    with RunFolder(out, "ff-score", held) as folder:
        write_settings(out, settings)
        yield Event("looking", 0, settings.limit, note)
        scores, _ = yield from score_levels(
            {"trained": looking(learner), "untrained": looking(untrained)},
            made, settings.limit, folder, settings.threshold, settings.seed, 0 if conv else shape.read[1] - 1,
            grey if channels == 1 else None,
        )  # fmt: skip
        result: Scores = {
            "trained": held["trained"],
            "source": name,
            "threshold": settings.threshold,
            "seed": settings.seed,
            "epoch": state["epoch"],
            "objective": f"forward-forward, {shape.objective if conv else 'local fields'}, epoch {state['epoch']}",
            "n": settings.limit,
            "read": 1 if conv else shape.read[1],
            "size": height,
            "widths": list(shape.widths),
            "field": 3 if conv else shape.field,
            **scores,
            "verdict": verdict(scores, "layer"),
        }
        layers_figure(result, out / "layers.png")
        folder.conclude(result)
    yield Event("scoring", settings.limit, settings.limit, result=result)


def grey(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) as a network of one channel is given them: three equal channels."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(GREY))[:, None].expand_as(images)
