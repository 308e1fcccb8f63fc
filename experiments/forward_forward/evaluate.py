"""What a trained forward-forward network gets wrong on the test set, and the record that is published of a run."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired

from experiments.forward_forward.settings import EvalSettings
from glom.datasets.registry import dataset_names
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward.checkpoint import CHECKPOINT, Layer, by_layer, error_rates, load_checkpoint, restore
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.pictures import check_fit, read_pictures
from glom.forward_forward.scaling import Scaling
from glom.runs.artifacts import public_name, read_manifest
from glom.runs.events import Event, as_events
from glom.teachers.asked import Asked, Kept
from glom.teachers.known import Known


def known_of(folder: Path, state: dict[str, Any]) -> Known:
    """What a run folder's network was trained on, of its checkpoint."""
    channels, height, width = state["shape"]
    classes, size = tuple(state["classes"]), min(height, width)
    return Known(public_name(str(folder)), lambda: classes, folder.name, channels == 3, size, 3 * size)


class Errors(Kept):
    """Errors on the test set in %, by the first read-out and by all; the backpropagation twin's, where there is one; of
    convolutional layers what each knows."""

    test_error: float
    baseline_test_error: float | None
    epochs: int
    seconds_per_epoch: float | None
    readouts: dict[str, float]
    baseline_epochs: int
    baseline_seconds_per_epoch: float | None
    complete: bool
    test_pictures: int
    layers: NotRequired[list[Layer]]


def evaluate(settings: EvalSettings) -> Generator[Event[Any], None, Errors]:
    """Errors on the test set, in percent, of what a run folder holds; yields events.

    Raises:
        InputError: no checkpoint, or test pictures of another shape or other classes.
    """
    folder, place = Path(settings.folder), resolve_device(settings.device)
    data = settings.data or data_of(folder, settings.data_root)
    learner, twin, state = restore(folder, place)
    pictures = read_pictures(
        data, "test", settings.data_root, limit=settings.limit or None, workers=settings.workers or 0
    )
    check_fit(pictures, state["shape"], state["classes"], f"{folder} was trained on")
    asked = Asked(f"{pictures.name}/test", len(pictures.labels), pictures.classes, str(folder)).say()
    scaling = Scaling(tuple(state["scaling"]["mean"]), tuple(state["scaling"]["std"]))
    images, labels = scaling(pictures.images, learner.dtype, place), pictures.labels.to(place)
    count = len(labels)
    errors = yield from as_events(error_rates(learner, images, labels), "evaluating", count)
    baseline = None
    if twin is not None:
        baseline = (yield from as_events(error_rates(twin, images, labels), "twin", count))["backprop"]
    seconds = {
        stage: [r["seconds"] for r in state["history"] if r["stage"] == stage]
        for stage in ("forward-forward", "backprop")
    }
    found: Errors = {
        "test_error": next(iter(errors.values())),
        "baseline_test_error": baseline,
        "epochs": state["epoch"],
        "seconds_per_epoch": _mean(seconds["forward-forward"]),
        "readouts": errors,
        "baseline_epochs": state["twin_epoch"],
        "baseline_seconds_per_epoch": _mean(seconds["backprop"]),
        "complete": state["epoch"] == learner.settings.epochs
        and state.get("readout_epoch", 0) == learner.settings.readout_epochs,
        "test_pictures": len(labels),
        **asked.kept(),
    }
    if isinstance(learner, ConvLearner):
        found["layers"] = yield from as_events(by_layer(learner, images, labels), "layer by layer", count)
    return found


def run(settings: EvalSettings) -> Iterator[Event[Errors]]:
    """The same as a study; raises as `evaluate`."""
    result = yield from evaluate(settings)
    yield Event(result=result)


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def data_of(folder: Path, data_root: Path | None = None) -> str:
    """The name of the data a run folder was trained on.

    Of a folder of pictures the last name alone is kept, since records leave the machine: it is found again in
    `data_root`, or where the program is run.

    Raises:
        InputError: `folder` holds no run, or one on a folder that is not found so.
    """
    held = read_manifest(folder)["settings"]
    if "data" not in held:
        raise InputError(f"{folder} is no run of apm ff train")
    name = str(held["data"])
    known = name in {info.name for info in dataset_names()}
    if data_root is None and not known and not Path(name).is_dir():
        raise InputError(f"{folder} was trained on a folder '{name}', whose place is not kept; name it: --data FOLDER")
    return name


def about(folder: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """What a record holds of a run: the result and every epoch. Raises `InputError` where `folder` holds no run."""
    history = load_checkpoint(folder / CHECKPOINT)["history"]
    curve = [{k: v for k, v in r.items() if k != "id"} for r in history]
    return {"experiment": "ff", "result": result, "curve": curve}
