"""A trained network on disk: what a training folder's `checkpoint.pt` holds, read as tensors and plain values."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from glom.errors import InputError
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.learner import Learner
from glom.forward_forward.networks import learner_of, twin_of
from glom.forward_forward.settings import FFSettings, own
from glom.forward_forward.twin import Twin

CHECKPOINT = "checkpoint.pt"


def error_rates(
    learner: Learner | ConvLearner | Twin, images: Tensor, labels: Tensor, batch: int = 500
) -> Generator[int, None, dict[str, float]]:
    """Percent wrong by read-out (`goodness`, `softmax`, and `backprop` of a twin), over pictures on the device.

    Yields how many pictures are done.
    """
    wrong: dict[str, int] = {}
    for start in range(0, len(labels), batch):
        x, y = images[start : start + batch], labels[start : start + batch]
        with torch.inference_mode():
            scores = {"backprop": learner(x)} if isinstance(learner, Twin) else learner.readouts(x)
            for name, table in scores.items():
                wrong[name] = wrong.get(name, 0) + int((table.argmax(1) != y).sum())
        yield start + len(y)
    return {name: round(100 * count / len(labels), 4) for name, count in wrong.items()}


class Layer(TypedDict):
    """What a layer knows: errors in %, and how well its goodness tells right classes from wrong ones, 0.5 by chance.

    `summed_error` is that of all goodness up to this layer: what the layer adds to those below it.
    """

    layer: int
    readout_error: float
    goodness_error: float | None
    summed_error: NotRequired[float | None]
    goodness_auroc: float | None


def by_layer(
    learner: ConvLearner, images: Tensor, labels: Tensor, batch: int = 500
) -> Generator[int, None, list[Layer]]:
    """What each layer knows, over pictures on the device; yields how many are done.

    Returns:
        a layer: `readout_error` of its linear read-out, `goodness_error` of its goodness and `summed_error` of goodness
        summed over the layers up to it, in percent; `goodness_auroc`, the chance that the right class's goodness in a
        picture is above a wrong one's in any picture. The last three are None without labels, where goodness tells no
        classes apart.
    """
    from sklearn.metrics import roc_auc_score

    parts: list[list[dict[str, Tensor]]] = []
    for x in images.split(batch):
        parts.append(learner.by_layer(x))
        yield min(len(labels), batch * len(parts))
    found: list[Layer] = []
    summed: Tensor | float = 0.0
    for number in range(len(learner.layers)):
        layer = {name: torch.cat([p[number][name] for p in parts]) for name in parts[0][number] if name != "place"}

        def error(scores: Tensor) -> float:
            return round(100 * float((scores.argmax(1) != labels).float().mean()), 4)

        row: Layer = {
            "layer": number + 1,
            "readout_error": error(layer["softmax"]),
            "goodness_error": None,
            "summed_error": None,
            "goodness_auroc": None,
        }
        if "goodness" in layer:
            right = torch.nn.functional.one_hot(labels, learner.classes).flatten().cpu().numpy()
            summed = summed + layer["goodness"]
            row["goodness_error"], row["summed_error"] = error(layer["goodness"]), error(summed)
            row["goodness_auroc"] = round(float(roc_auc_score(right, layer["goodness"].flatten().cpu().numpy())), 4)
        found.append(row)
    return found


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values, never code. Raises `InputError` where there is none, or a damaged one."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; `apm ff train` writes it")
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict) or "network" not in found:
        raise InputError(f"{path} is no checkpoint of apm ff train")
    return found


def restore(folder: Path, device: torch.device) -> tuple[Learner | ConvLearner, Twin | None, dict[str, Any]]:
    """The network of a run folder, its twin where one was trained, and the checkpoint.

    Raises:
        InputError: no checkpoint, a damaged one, or one without a complete epoch.
    """
    state = load_checkpoint(folder / CHECKPOINT)
    if state["network"] is None:
        raise InputError(f"{folder} holds no complete epoch yet; go on with `resume`")
    saved: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in own(state["settings"]).items()}
    settings = FFSettings(**saved)
    c, h, w = state["shape"]
    learner = learner_of((c, h, w), len(state["classes"]), settings, device)
    learner.load(state["network"])
    twin = None
    if state["twin"] is not None:
        twin = twin_of((c, h, w), len(state["classes"]), settings, device)
        twin.load(state["twin"])
    return learner, twin, state
