"""Training slots: one run folder, resumable bit for bit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from experiments.slots.data import Source, source
from experiments.slots.settings import TrainSettings
from glom.devices import chosen_precision, resolve_device
from glom.errors import InputError
from glom.runs.artifacts import RunFolder, differences
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.settings import defaults_of, write_settings
from glom.slots.model import FeatureSlots, PixelSlots, Seen
from glom.slots.trained import load, new_model, save
from glom.training.epochs import Epochs
from glom.training.loop import STATE, Loss, Training
from glom.training.optimisation import warmup_cosine

STATISTICS = 512  # pictures that features are standardised over


class Facts(TypedDict):
    """What slots saw in training: a backbone's grids, or "" for pixels."""

    backbone: str
    layer: int
    size: int
    data: str


class Trained(Facts):
    """The last epoch's loss, and what was trained."""

    config: dict[str, Any]
    steps: int
    pictures: int
    parameters: int
    loss: float


def run(settings: TrainSettings, out: Path, *, resume: bool = False) -> Iterator[Event[Trained]]:
    """Train; DIR then holds the weights, a line an epoch, and all that going on needs.

    Raises:
        InputError: the request is wrong, `out` holds another run, or this one without `resume`.
        RunError: the loss is no number any more; the last state stays.
    """
    where = resolve_device(settings.device)
    seen = yield from source(settings)
    model, before = start(settings, seen)
    model.to(where)
    precision = chosen_precision(settings.precision, where)
    facts: Facts = {"backbone": seen.backbone, "layer": seen.layer, "size": seen.size, "data": seen.name}
    held = settings.manifest("cache", config=asdict(model.config), precision=precision, **facts)
    held["data_fingerprint"] = seen.fingerprint
    with RunFolder(out, "slots-train", held, resume, defaults=defaults_of(settings)) as folder:
        write_settings(out, settings)
        epochs = Epochs(seen.count, settings.batch, lambda epoch: sample_seed(settings.seed, f"epoch {epoch}", "slots"))
        rise = max(1, round(settings.warmup * settings.steps))
        training = Training(
            model,
            torch.optim.Adam(model.parameters(), lr=settings.lr),
            lambda step: settings.lr * warmup_cosine(step, settings.steps, rise),
            settings.steps,
            out / STATE,
            beside={"epochs": epochs},
        )
        begun, started = training.restore(), time.perf_counter()
        for message in folder.warnings:
            yield Event("training", begun, settings.steps, message)
        for event in epochs.run(training, losses(settings, seen, model, epochs, precision), folder, line):
            if training.kept == training.done:  # a training that is stopped can be scored as far as it came
                save(out, model, {**facts, "step": before + training.done, "of": before + training.total})
            yield event
        save(out, model, {**facts, "step": before + training.done, "of": before + training.total})
        result: Trained = {
            **facts,
            "config": asdict(model.config),
            "steps": training.done,
            "pictures": seen.count,
            "parameters": sum(p.numel() for p in model.parameters()),
            "loss": epochs.means(training.done)["loss"],
        }
        seconds = time.perf_counter() - started + folder.manifest.get("seconds", 0.0)
        folder.conclude(result, seconds=round(seconds, 3))
    yield Event(result=result)


def line(epoch: int, means: dict[str, float]) -> dict[str, Any]:
    """An epoch in the results."""
    return {"id": f"epoch {epoch}", "index": epoch, **means}


def losses(
    settings: TrainSettings, seen: Source, model: PixelSlots | FeatureSlots, epochs: Epochs, precision: str
) -> Loss:
    """Step -> its loss. What is drawn, slots' beginnings and the locations asked, comes from the epoch's generator."""
    config, device = model.config, next(model.parameters()).device
    asked = settings.queries if config.features and settings.queries < config.grid**2 else 0

    def loss(step: int) -> Tensor:
        inputs = seen.fetch(epochs.pictures(step)).to(device)
        noise = torch.randn(len(inputs), config.slots, config.dim, generator=epochs.generator).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            if isinstance(model, FeatureSlots) and asked:
                places = torch.randperm(config.grid**2, generator=epochs.generator)[:asked].to(device)
                return model(inputs, noise, places).loss()
            found: Seen = model(inputs, noise)
            return found.loss()

    return loss


def start(settings: TrainSettings, seen: Source) -> tuple[PixelSlots | FeatureSlots, int]:
    """The network before the first step, and the steps that `init` has behind it.

    Features are standardised over pictures spread over the data, or as they were for `init`.

    Raises:
        InputError: no such `init`, or one of another shape.
    """
    features = seen.shape[-1] if seen.backbone else 0
    slots = settings.config.slots or seen.slots
    config = replace(settings.config, slots=slots, side=seen.shape[1], features=features)
    if settings.init:
        earlier = load(settings.init, settings.device)
        other = differences(asdict(earlier.model.config), asdict(config))
        if other:
            raise InputError(f"{settings.init} holds other slots than asked for ({'; '.join(other)})")
        return earlier.model.train(), int(earlier.facts["step"])
    model = new_model(config, settings.seed)
    if isinstance(model, FeatureSlots):
        chosen = torch.linspace(0, seen.count - 1, min(STATISTICS, seen.count)).long()
        values = seen.fetch(chosen).flatten(0, 2)
        model.centre.copy_(values.mean(0))
        model.spread.copy_(values.std(0).clamp_min(1e-4))
    return model, 0
