"""Training a forward-forward network, and its backpropagation twin: checkpoints, exact resumption, one result."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.forward_forward.evaluate import Errors, evaluate
from experiments.forward_forward.settings import EvalSettings, FFRun
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward import FFSettings, Learner
from glom.forward_forward.checkpoint import CHECKPOINT, by_layer, error_rates, load_checkpoint
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.epochs import Epoch, Step, run_epoch
from glom.forward_forward.networks import learner_of, twin_of
from glom.forward_forward.pictures import check_fit, read_pictures
from glom.forward_forward.scaling import Scaling
from glom.forward_forward.twin import Twin
from glom.runs.artifacts import RunFolder, read_manifest
from glom.runs.events import Event, finished
from glom.runs.saving import save_state
from glom.settings import defaults_of, write_settings
from glom.teachers.asked import Asked
from probes.figures.again import draw
from probes.figures.layers import layers_figure

# Settings of stages that may be asked for later: the read-outs' alone, the twin's.
READOUTS, TWIN = ("readout_epochs",), ("baseline_epochs", "baseline_lr")
STAGES = {  # epochs of it, which of them is next, what of the checkpoint it changes
    "forward-forward": ("epochs", "epoch", "network"),
    "read-out": ("readout_epochs", "readout_epoch", "network"),
    "backprop": ("baseline_epochs", "twin_epoch", "twin"),
}


@dataclass(frozen=True)
class Loaded:
    """Training pictures ready to learn from, and those held out; the whole split's names, files and fingerprint."""

    images: Tensor
    labels: Tensor
    held_images: Tensor
    held_labels: Tensor
    scaling: Scaling
    name: str
    classes: tuple[str, ...]
    files: frozenset[Path]
    fingerprint: str


def load(request: FFRun, device: torch.device) -> Loaded:
    """Read the training split onto the device; the last `holdout` of a shuffle by the seed are kept out.

    Raises:
        InputError: no such data, or too few pictures to learn from, in all or of a class.
    """
    pictures = read_pictures(
        request.named, "train", request.data_root, request.download, request.limit or None, request.workers or 0
    )
    settings = request.how
    if settings.holdout >= len(pictures.images):
        raise InputError(f"holdout {settings.holdout} leaves none of the {len(pictures.images)} training pictures")
    if settings.paired and len(pictures.images) - settings.holdout < 2:
        raise InputError("negatives without labels are made of two pictures; only one is left to train on")
    scaling = Scaling.of(pictures.images)
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    images, labels = scaling(pictures.images, dtype, device), pictures.labels.to(device)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(settings.seed)).to(device)
    kept = order[: len(order) - settings.holdout] if settings.holdout else slice(None)
    if settings.mode == "conv":
        counts = torch.bincount(labels[kept], minlength=len(pictures.classes)).tolist()
        few = next((c for c, count in enumerate(counts) if count < 2), None)
        if few is not None:
            raise InputError(
                f"{pictures.name}: class '{pictures.classes[few]}' has {counts[few]} training pictures; "
                "convolutional layers compare two or more of every class"
            )
    out = order[len(order) - settings.holdout :]
    return Loaded(
        images[kept],
        labels[kept],
        images[out],
        labels[out],
        scaling,
        pictures.name,
        pictures.classes,
        pictures.files,
        pictures.fingerprint(),
    )


def check_test_split(request: FFRun, data: Loaded) -> None:
    """See before the training that the test set, which is read last, is there and can be asked about.

    Raises:
        InputError: no test split, one of other classes or another size, or one with pictures that are trained on.
    """
    pictures = read_pictures(request.named, "test", request.data_root, request.download, workers=request.workers or 0)
    shared = pictures.files & data.files
    if shared:
        raise InputError(
            f"{request.named}: {len(shared)} of the test pictures are training pictures; "
            "a folder needs train/ and test/"
        )
    check_fit(pictures, data.images.shape[1:], data.classes, "test split: the training split has")


def run(request: FFRun, out: Path, *, resume: bool = False) -> Iterator[Event[Errors]]:
    """Train; the folder then holds `checkpoint.pt`, the error of each epoch, and the result (the test set, once).

    The stages of its events are "forward-forward", of convolutional layers "read-out", and "backprop".

    Raises:
        InputError: the request or the data are wrong, or `out` holds another training.
        RunError: a goodness diverged; the checkpoint of the last good epoch is kept.
    """
    device = resolve_device(request.device)
    settings = request.how
    data = load(request, device)
    shape = tuple(data.images.shape[1:])
    learner = learner_of((shape[0], shape[1], shape[2]), len(data.classes), settings, device)
    check_test_split(request, data)
    held = _held(request, data, out, resume)
    asked = Asked(f"{data.name}/train", len(data.labels) + len(data.held_labels), data.classes).say()
    extra = {"classes": list(data.classes), "asked": asked.record()}
    with RunFolder(out, "ff", held, resume, extra, defaults=defaults_of(request.how)) as folder:
        write_settings(out, request)
        state = _begin(out, settings, data)
        if state["network"] is not None:
            learner.load(state["network"])
        _complete_lines(folder, state["history"])
        for message in folder.warnings:
            yield Event("forward-forward", state["epoch"], settings.epochs, message)

        def step(x: Tensor, y: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
            return learner.learn(x, y, settings.rate_share(state["epoch"]), g)

        yield from _epochs("forward-forward", learner, step, data, settings, state, folder)
        if isinstance(learner, ConvLearner) and settings.readout_epochs:
            yield from _readouts(learner, data, settings, state, folder)
        if settings.baseline:
            twin = twin_of((shape[0], shape[1], shape[2]), len(data.classes), settings, device)
            if state["twin"] is not None:
                twin.load(state["twin"])
            else:
                _settle(folder, state, settings, TWIN)

            def back(x: Tensor, y: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
                return twin.learn(x, y, twin.share(state["twin_epoch"]), g), None

            yield from _epochs("backprop", twin, back, data, settings, state, folder)
        test = EvalSettings(folder=str(out), data=request.named, data_root=request.data_root, device=request.device)
        result = yield from evaluate(test)
        if "layers" in result:
            draw(out / "layers.png", layers_figure, layers=result["layers"], curve=state["history"])
        folder.conclude(
            result, result={k: v for k, v in result.items() if k in ("test_error", "baseline_test_error", "epochs")}
        )
        yield Event(result=result)


def _readouts(
    learner: ConvLearner, data: Loaded, settings: FFSettings, state: dict[str, Any], folder: RunFolder
) -> Iterator[Event]:
    """The epochs in which the layers stay and their read-outs learn."""
    if not state["readout_epoch"]:
        _settle(folder, state, settings, READOUTS)

    def settle(x: Tensor, y: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return learner.settle(x, y, settings.readout_share(state["readout_epoch"]), g), None

    yield from _epochs("read-out", learner, settle, data, settings, state, folder)


def _held(request: FFRun, data: Loaded, out: Path, resume: bool) -> dict[str, Any]:
    """What must match for `out` to be gone on with.

    The read-outs' stage and the twin's may follow later and change nothing before them. So whether they are to be
    never counts, and their own settings only where they are asked for and have begun; until then, those that a folder
    may hold match themselves.
    """
    held = {"data": Path(request.named).name, **request.how.manifest(), "limit": request.limit or None}
    held["data_sha256"] = data.fingerprint
    del held["baseline"]
    if request.how.mode != "conv":  # as folders of before convolutions have it
        del held["objective"], held["cumulative"], held["readout_epochs"]
    checkpoint, manifest = out / CHECKPOINT, out / "manifest.json"
    begun = load_checkpoint(checkpoint) if resume and checkpoint.is_file() else {}
    written = read_manifest(manifest.parent)["settings"] if manifest.is_file() else {}
    free = set() if request.how.baseline and begun.get("twin") is not None else set(TWIN)
    if not (request.how.readout_epochs and begun.get("readout_epoch")):
        free |= set(READOUTS)
    return {k: v for k, v in held.items() if k not in free} | {k: written[k] for k in free if k in written}


def _settle(folder: RunFolder, state: dict[str, Any], settings: FFSettings, names: tuple[str, ...]) -> None:
    """Write down, before its first epoch, what a later stage is trained with."""
    chosen = {k: v for k, v in asdict(settings).items() if k in names}
    state["settings"] |= chosen | ({"baseline": True} if names == TWIN else {})
    folder.manifest["settings"] |= chosen
    folder.finish("running")  # on the disk now: a kill may come before the end


def _begin(out: Path, settings: FFSettings, data: Loaded) -> dict[str, Any]:
    if (out / CHECKPOINT).is_file():
        return {"readout_epoch": 0, **load_checkpoint(out / CHECKPOINT)}
    return {
        "settings": asdict(settings),
        "classes": list(data.classes),
        "shape": list(data.images.shape[1:]),
        "scaling": {"mean": list(data.scaling.mean), "std": list(data.scaling.std)},
        "network": None,
        "twin": None,
        "epoch": 0,
        "readout_epoch": 0,
        "twin_epoch": 0,
        "history": [],
    }


def _complete_lines(folder: RunFolder, history: list[dict[str, Any]]) -> None:
    """Write what a kill between a checkpoint and its line left out."""
    written = {record["id"] for record in folder.records()}
    for record in history:
        if record["id"] not in written:
            folder.append({k: v for k, v in record.items() if k != "seconds"}, record["seconds"])


def _epochs(
    stage: str,
    learner: Learner | ConvLearner | Twin,
    step: Step,
    data: Loaded,
    settings: FFSettings,
    state: dict[str, Any],
    folder: RunFolder,
) -> Iterator[Event]:
    """The epochs that are left, each with random numbers of its own, so that a resumed run is the uninterrupted one."""
    setting, key, part = STAGES[stage]
    total = getattr(settings, setting)
    for epoch in range(state[key], total):
        begun = time.perf_counter()
        work = run_epoch(learner, step, data.images, data.labels, settings, epoch, stage)
        done = yield from _told(work, stage, epoch, total, _figures(state, stage))
        record: dict[str, Any] = {"id": f"{stage}-{epoch + 1}", "stage": stage, "epoch": epoch + 1}
        record["train_error"] = round(100 * done.wrong / len(data.labels), 4)
        if done.squares is not None:
            record["mean_square"] = [[round(v, 4) for v in pair] for pair in done.squares.tolist()]
        seconds = time.perf_counter() - begun
        if len(data.held_labels):
            record["held_out_error"] = finished(error_rates(learner, data.held_images, data.held_labels))
            if isinstance(learner, ConvLearner):
                record["layers"] = finished(by_layer(learner, data.held_images, data.held_labels))
        state["history"].append({**record, "seconds": round(seconds, 3)})
        state[part], state[key] = learner.state(), epoch + 1
        save_state(folder.path / CHECKPOINT, state)
        folder.append(record, seconds)
        yield Event(stage, epoch + 1, total, values=_figures(state, stage))


def _told(
    work: Generator[float, None, Epoch], stage: str, epoch: int, total: int, note: dict[str, float]
) -> Generator[Event, None, Epoch]:
    """An epoch's progress as events."""
    while True:
        try:
            share = next(work)
        except StopIteration as end:
            return end.value
        yield Event(stage, epoch + share, total, values=note)


def _figures(state: dict[str, Any], stage: str) -> dict[str, float]:
    """The last epoch's error in percent."""
    last = next((r for r in reversed(state["history"]) if r["stage"] == stage), None)
    if last is None:
        return {}
    held = last.get("held_out_error")
    return {"held-out error": next(iter(held.values()))} if held else {"training error": last["train_error"]}
