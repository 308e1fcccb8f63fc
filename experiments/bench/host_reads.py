"""`apm bench host-reads`: how often each model's step waits for the device, counted on one that is none.

Every loop runs twice, some steps and some more, on `experiments.bench.standin.StandIn`: what the second run reads
beyond the first is read in the loop. Numbers are held against the CPU's by tests/experiments/bench/test_standin.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from experiments.bench.going import SILENT, Going
from experiments.bench.standin import StandIn
from experiments.bench.steps import Step
from glom import execution
from glom.adaptation.case import Case
from glom.adaptation.objectives import OBJECTIVES
from glom.adaptation.overfit import field_config, overfit
from glom.adaptation.settings import OverfitSettings, ttt_preset
from glom.adaptation.ttt import adapt_group
from glom.apm import blank_apm, preset
from glom.consensus.config import GlomConfig, TrainSettings
from glom.consensus.training import Trainer, new_ellipse_glom, new_glom
from glom.datasets.ellipse_settings import EllipseSettings
from glom.datasets.ellipses import Ellipses
from glom.forward_forward import FFSettings
from glom.forward_forward.networks import learner_of
from glom.masked.adapt import Adapter, AdaptSettings
from glom.masked.network import MAEShape, build_mae
from glom.runs.seeds import fixed_seed
from glom.slots.config import SlotConfig
from glom.slots.model import FeatureSlots, PixelSlots
from glom.teachers.heads import ZeroShotHead
from glom.training.loop import Training

Loop = Callable[[torch.device, int], Any]
"""So many steps on a device; what they found, as tensors or numbers that devices can be compared by."""

FEW, MORE = 1, 4
SMALL = {"apm": "apm-tiny", "graphs": False}


@dataclass(frozen=True)
class Read:
    """A loop, and what it is allowed to read a step, with why."""

    loop: Loop
    allowed: float = 0.0
    why: str = ""


class Row(TypedDict):
    """Reads a step within the loop, and before and after it together; by which operations; why, where there are any."""

    what: str
    in_loop: float
    around: int
    operations: dict[str, int]
    why: str


class HostReads(TypedDict):
    """One row a loop, and the largest number a step among those that say nothing of reading."""

    rows: list[Row]
    most_unsaid: float


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers on the CPU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _ttt(samples: int, **changes: Any) -> Loop:
    def loop(device: torch.device, steps: int) -> Any:
        settings = ttt_preset("fast", iterations=steps, **{**SMALL, **changes})
        cases = [
            Case(f"picture {s}", 0, draw(3, 32, 32, seed=s), draw(128, seed=s + 9), draw(4, 4, 128, seed=s + 99))
            for s in range(samples)
        ]
        head = ZeroShotHead(tuple("abcde"), draw(5, 128), 10.0, None)
        found = adapt_group(cases, settings, head, 0, device)
        return [one.token for one in found], [one.loss for one in found]

    return loop


def _execution(how: str, readout: str) -> Loop:
    def loop(device: torch.device, steps: int) -> Any:
        step = Step(preset("apm-tiny", readout=readout, rgb=None), 0, device)
        for _ in range(steps):
            step(how, chunk=100 if how == "streamed" else None)
        token = execution.run(step.apm, step.image, None, ("token",), how).token
        return None if token is None else token.detach().cpu()

    return loop


def _overfit(device: torch.device, steps: int) -> Any:
    apm = blank_apm(field_config(preset("apm-tiny", features=16, heads=4, rgb=(8,))))
    generator = torch.Generator().manual_seed(0)
    apm.reset(generator, "default")
    apm.to(device)
    picture, token, grid = (draw(*shape).to(device) for shape in ((3, 32, 32), (16,), (4, 4, 16)))
    events = overfit(apm, picture, token, grid, OverfitSettings(iterations=steps, points=5), generator)
    return [event.values["loss"] for event in events]


def _glom(objective: str) -> Loop:
    def loop(device: torch.device, steps: int) -> Any:
        size = {"levels": 2, "dim": 16, "hidden": 16}
        if objective == "recover":
            world = EllipseSettings()
            settings = TrainSettings.of(world="ellipses", objective=objective, steps=steps, batch=2)
            glom: Any = new_ellipse_glom(replace(settings.config, **size), world, 0)  # type: ignore[arg-type]
            trainer = Trainer(glom.to(device), settings, Ellipses(world).batch)
        else:
            settings = TrainSettings(objective=objective, steps=steps, batch=2, precision="fp32")
            glom = new_glom(GlomConfig(**size), 0)  # type: ignore[arg-type]
            trainer = Trainer(glom.to(device), settings, lambda n, g: torch.rand(n, 3, 24, 24, generator=g))
        return list(trainer.training.run(trainer.loss))

    return loop


def _slots(features: int) -> Loop:
    def loop(device: torch.device, steps: int) -> Any:
        config = SlotConfig(slots=3, dim=8, hidden=8, width=4, side=8, features=features)
        with fixed_seed():
            model = (FeatureSlots if features else PixelSlots)(config).to(device)
        inputs = draw(2, 8, 8, features) if features else draw(2, 3, 8, 8).sigmoid()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        training = Training(model, optimiser, lambda step: 1e-3, steps)
        noise = draw(2, 3, 8)
        return list(training.run(lambda step: model(inputs.to(device), noise.to(device)).loss()))

    return loop


def _mae(device: torch.device, steps: int) -> Any:
    shape = MAEShape(size=32, patch=8, width=16, layers=1, heads=2, decoder_width=8, decoder_layers=1, decoder_heads=1)
    with fixed_seed():
        mae: Any = build_mae(shape)
        mae.to(device)
    with Adapter(mae, AdaptSettings(steps, 2)).on(draw(3, 32, 32).to(device), 0) as losses:
        return losses


def _forward_forward(mode: str) -> Loop:
    def loop(device: torch.device, steps: int) -> Any:
        local: dict[str, Any] = {"field": 5} if mode == "local" else {}
        settings = FFSettings(mode=mode, widths=(12, 12), batch=4, precision="fp32", **local)
        learner: Any = learner_of((1, 8, 8), 3, settings, device)
        generator = torch.Generator(device).manual_seed(0)
        images, labels = draw(4, 1, 8, 8).sigmoid().to(device), torch.tensor([0, 1, 2, 0]).to(device)
        return torch.stack([learner.learn(images, labels, 1.0, generator)[1].detach() for _ in range(steps)]).cpu()

    return loop


def reads() -> dict[str, Read]:
    """Every model's step by name."""
    found = {f"step, {how}, {readout}": Read(_execution(how, readout))
             for how in ("plain", "folded", "streamed") for readout in ("mean", "attention", "location")}  # fmt: skip
    for name in OBJECTIVES.known():
        found[f"test-time training, stack of 2, {name}"] = Read(_ttt(2, objective=name))
    for how in ("plain", "folded", "streamed"):
        found[f"test-time training, one, {how}"] = Read(_ttt(1, execution=how))
    found["test-time training, whole grid"] = Read(_ttt(2, queries=None))
    found["test-time training, solved"] = Read(_ttt(1, initialisation="solve"))
    found["test-time training, stop rule"] = Read(_ttt(2, stop="cosine:1"), 1, "who goes on is known before each step")
    found["overfitting"] = Read(_overfit)
    for name in ("denoise", "mask", "contrast", "forward-forward", "recover"):
        found[f"GLOM, {name}"] = Read(_glom(name))
    for name, features in (("pixels", 0), ("features", 6)):
        found[f"slots, {name}"] = Read(_slots(features))
    found["masked autoencoder at test time"] = Read(_mae)
    for mode in ("supervised", "unsupervised", "recurrent", "local", "conv"):
        found[f"forward-forward, {mode}"] = Read(
            _forward_forward(mode), 1, "a step's goodness decides whether the next is taken"
        )
    return found


def counted(loop: Loop, steps: int) -> tuple[Any, Counter[str]]:
    """What a loop finds on the stand-in device, and its reads by operation."""
    with StandIn() as device:
        found = loop(torch.device("cuda:0"), steps)
        return found, Counter(device.reads)


def row(name: str, read: Read, more: Counter[str] | None = None) -> Row:
    """One loop, counted; `more` are the reads of `MORE` steps, where they are known."""
    few, more = counted(read.loop, FEW)[1], counted(read.loop, MORE)[1] if more is None else more
    in_loop = (more.total() - few.total()) / (MORE - FEW)
    extra = {operation: n for operation, n in (more - few).items() if n}
    around = few.total() - round(in_loop * FEW)
    return {"what": name, "in_loop": round(in_loop, 2), "around": around, "operations": extra, "why": read.why}


def run_host_reads(tell: Going = SILENT) -> HostReads:
    """Count every loop."""

    made, loops = list[Row](), reads()
    tell.expect(len(loops))
    for name, read in loops.items():
        made.append(row(name, read))
        tell.row(name, in_loop=made[-1]["in_loop"])
    return {"rows": made, "most_unsaid": max((r["in_loop"] for r in made if not r["why"]), default=0.0)}
