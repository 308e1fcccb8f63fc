"""Which settings of test-time training suit a small network: chosen on held-out training pictures, corrupted.

Every candidate adapts to the same pictures, and is read after several numbers of steps: one descent serves them all.
No test picture is seen before the choice; after it, some are answered with it, once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from experiments.recipes.mae_settings import MAETinySettings
from experiments.recipes.mvit_tiny_ship import Pictures
from glom.datasets.base import ImageDataset
from glom.datasets.corruptions import CORRUPTIONS, Corruption, corrupt
from glom.masked.adapt import Adapter, AdaptSettings
from glom.masked.adapt import read as losses_of
from glom.masked.network import MaskedClassifier
from glom.masked.parts import Masked, load_masked, load_part, save_config
from glom.masked.shapes import HeadShape, MAEShape
from glom.runs.artifacts import RunFolder, read_results, write_json
from glom.runs.events import Event
from glom.runs.seeds import sample_seed
from glom.runs.statistics import bootstrap_ci

SEVERITIES = (3, 5)
READ = (1, 2, 5, 10, 20)
MASKS = 16
CANDIDATES = tuple(
    AdaptSettings(max(READ), MASKS, lr, momentum, 0.0, decoder)
    for lr, momentum, decoder in ((1e-3, 0.9, True), (5e-3, 0.9, True), (2e-2, 0.9, True))
)


@dataclass(frozen=True)
class Trial:
    """One corrupted held-out picture, as the network sees it."""

    id: str
    label: int
    image: Tensor


def trials(held: ImageDataset, masked: Masked, count: int, seed: int) -> list[Trial]:
    """`count` held-out pictures, spread over the classes: clean and under the 15 corruptions in turn.

    Severities are 3 in one round and 5 in the next.
    """
    found = []
    conditions = ("clean", *CORRUPTIONS)
    for number, sample in enumerate(held.limit(count)):
        turn, place = divmod(number, len(conditions))
        name, image = conditions[place], sample.image()
        if place:
            corruption = Corruption(name, SEVERITIES[turn % len(SEVERITIES)])
            image = corrupt(image, corruption, sample_seed(seed, sample.id, "corruption"))
            name = str(corruption)
        assert sample.label is not None
        found.append(Trial(f"{sample.id} {name}", sample.label, masked.view(image)))
    return found


def probe(folder: RunFolder, device: torch.device) -> tuple[Masked, MaskedClassifier]:
    """The folder's network with its probed head: what is adapted."""
    masked = load_masked(str(folder.path))
    model = masked.classifier(len(masked.classes))
    load_part(model, masked.parts["vit-probe"], "vit-probe", folder.path)
    return masked, model.to(device)


def choose(held: ImageDataset, settings: MAETinySettings, folder: RunFolder, device: torch.device) -> Iterator[Event]:
    """Try every candidate on every trial; write `adapt.json` and the best candidate into `config.json`.

    The best has the highest accuracy over all trials; among equals, the least mean negative log-likelihood.
    """
    masked, model = probe(folder, device)
    cases = trials(held, masked, settings.chosen_on, settings.seed)
    done = {r["id"] for r in folder.records()}
    total, count = len(CANDIDATES) * len(cases), 0
    for number, candidate in enumerate(CANDIDATES):
        adapter = Adapter(model.mae, candidate)
        for case in cases:
            name = f"adapt {number} {case.id}"
            if name not in done:
                begun = time.perf_counter()
                read = read_out(model, adapter, case, sample_seed(settings.seed, case.id, "method"), device)
                record = {"id": name, "stage": "adapt", "candidate": number, "read": read}
                folder.append(record, time.perf_counter() - begun)
            count += 1
            yield Event("adapt", count, total)
    found = summarise([r for r in read_results(folder.path) if r.get("stage") == "adapt"])
    write_json(folder.path / "adapt.json", found)
    best = AdaptSettings(**found["chosen"])
    shape, head = MAEShape(**asdict(settings.shape)), HeadShape(**asdict(settings.head))
    save_config(folder.path, shape, head, masked.classes, masked.view, best)


def read_out(
    model: MaskedClassifier, adapter: Adapter, case: Trial, seed: int, device: torch.device
) -> dict[str, list[float]]:
    """Steps taken -> [1 if right, negative log-likelihood of the right class, reconstruction loss before the step]."""
    image, read = case.image.to(device), {}

    def look(loss: float) -> list[float]:
        with torch.no_grad():
            scores = model(image[None]).log_softmax(-1)[0]
        return [float(int(scores.argmax()) == case.label), round(-float(scores[case.label]), 5), round(loss, 5)]

    read["0"] = look(0.0)
    with adapter.restored():
        for step, loss in enumerate(adapter.descend(image, seed), 1):
            [value] = losses_of([loss], step)
            if step in READ:
                read[str(step)] = look(value)
    return read


def summarise(records: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for every candidate and number of steps, the unadapted network first; which is chosen."""
    first = [r["read"]["0"] for r in records if r["candidate"] == 0]
    base = [100 * x[0] for x in first]
    rows: list[dict[str, Any]] = []
    for number, candidate in enumerate(CANDIDATES):
        own = [r for r in records if r["candidate"] == number]
        for steps in READ:
            values = [r["read"][str(steps)] for r in own]
            right = [100 * v[0] for v in values]
            low, high = bootstrap_ci([a - b for a, b in zip(right, base, strict=True)])
            rows.append(
                {
                    "settings": asdict(replace(candidate, steps=steps)),
                    "accuracy": round(sum(right) / len(right), 4),
                    "gain": round((sum(right) - sum(base)) / len(right), 4),
                    "gain_ci95": [round(low, 4), round(high, 4)],
                    "nll": round(sum(v[1] for v in values) / len(values), 5),
                    "loss": round(sum(v[2] for v in values) / len(values), 5),
                }
            )
    best = max(rows, key=lambda row: (row["accuracy"], -row["nll"]))
    return {
        "n": len(first),
        "unadapted": {
            "accuracy": round(sum(base) / len(base), 4),
            "nll": round(sum(x[1] for x in first) / len(first), 5),
        },
        "rows": rows,
        "chosen": best["settings"],
        "gain": best["gain"],
        "gain_ci95": best["gain_ci95"],
    }


def answer_adapted(
    pictures: Pictures, settings: MAETinySettings, folder: RunFolder, device: torch.device
) -> Iterator[Event]:
    """Answer for `tested_on` clean test pictures with the chosen settings, and without; a line for each."""
    masked, model = probe(folder, device)
    assert masked.adapt is not None
    adapter = Adapter(model.mae, masked.adapt)
    done = {r["id"] for r in folder.records()}
    chosen = torch.linspace(0, len(pictures.images) - 1, min(settings.tested_on, len(pictures.images))).long().tolist()
    for count, index in enumerate(chosen, 1):
        name = f"ttt-mae {index}"
        if name not in done:
            begun = time.perf_counter()
            image, label = masked.view.normalise(pictures.images[index]).to(device), int(pictures.labels[index])
            with torch.no_grad():
                plain = int(model(image[None]).argmax()) == label
                with adapter.on(image, sample_seed(settings.seed, name, "method")):
                    right = int(model(image[None]).argmax()) == label
            record = {"id": name, "stage": "ttt-mae", "right": right, "unadapted": plain}
            folder.append(record, time.perf_counter() - begun)
        yield Event("ttt-mae", count, len(chosen))


def tested(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Top-1 in percent, adapted and not, and their paired difference, each with a 95 % bootstrap interval."""
    right, plain = ([100.0 * r[key] for r in records] for key in ("right", "unadapted"))
    gain = [a - b for a, b in zip(right, plain, strict=True)]
    found: dict[str, Any] = {"n": len(records)}
    for name, values in (("test_accuracy", right), ("unadapted", plain), ("difference", gain)):
        low, high = bootstrap_ci(values)
        key = "ci95" if name == "test_accuracy" else f"{name}_ci95"
        found |= {name: round(sum(values) / len(values), 4), key: [round(low, 4), round(high, 4)]}
    return found
