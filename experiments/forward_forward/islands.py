"""The islands of a forward-forward network with local receptive fields: its states at each location, layer by layer.

A local network's layers are maps, so it can be asked what a GLOM is asked: how many islands a layer has, at which
iteration, and whether they are a picture's parts and wholes. Where a GLOM has levels, it has layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.consensus.islands import levels_of
from experiments.consensus.sheets import Drawn, islands_of, look_at
from experiments.forward_forward.goodness import fit
from experiments.forward_forward.settings import IslandSettings
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward import Learner
from glom.forward_forward.checkpoint import restore
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.scaling import Scaling
from glom.runs.artifacts import RunFolder, disk_error
from glom.runs.events import Event
from glom.settings import write_settings
from probes.explorer import View, picture_of, store
from probes.figures.again import draw
from probes.figures.levels import level_sheet


def iterations(learner: Learner | ConvLearner) -> int:
    """How often a network looks at its picture."""
    return 1 if isinstance(learner, ConvLearner) else learner.settings.iterations


def open_local(folder: Path, device: torch.device) -> tuple[Learner | ConvLearner, Scaling, dict[str, Any]]:
    """The network of a run folder, how its pixels are scaled, and its checkpoint.

    Raises:
        InputError: no network there, or one whose units have no places.
    """
    learner, _, state = restore(folder, device)
    if learner.settings.mode not in ("local", "conv"):
        raise InputError(
            f"{folder} holds a {learner.settings.mode} network: fully connected layers have no places, and so no "
            "islands; train one with --mode local or conv"
        )
    return learner, Scaling(tuple(state["scaling"]["mean"]), tuple(state["scaling"]["std"])), state


@torch.inference_mode()
def look(learner: Learner | ConvLearner, scaling: Scaling, pixels: Tensor) -> NDArray[np.float32]:
    """States at every place, of a recurrent network with the label that it reads clamped at its top.

    A convolutional network has one iteration, and its coarser layers' states stand for all pixels that they cover.

    Args:
        pixels: (B, C, H, W) uint8.

    Returns:
        (T, B, H, W, layers, d). Layers of fewer units at a location than the widest have zeros behind theirs, which
        change no cosine.
    """
    if isinstance(learner, ConvLearner):
        return _layers(learner, scaling(pixels, learner.dtype, next(learner.net.parameters()).device))
    network = learner.network
    assert isinstance(network, Recurrent)
    place = network.layers[0].bias.value.device
    x = scaling(pixels, learner.dtype, place)
    labels = next(iter(learner.readouts(x).values())).argmax(1)
    widest = max(grid.channels for grid in network.grids)
    steps = [
        torch.stack([F.pad(s.float(), (0, widest - s.shape[-1])) for s in layers], 3)
        for layers in network.located(x.flatten(1), labels)
    ]
    return torch.stack(steps).cpu().numpy()


def _layers(learner: ConvLearner, x: Tensor) -> NDArray[np.float32]:
    """(B, C, H, W) -> (1, B, H, W, layers, d)."""
    maps = [F.interpolate(y.permute(0, 3, 1, 2), x.shape[-2:], mode="nearest") for y in learner.maps(x)]
    widest = max(y.shape[1] for y in maps)
    padded = [F.pad(y.permute(0, 2, 3, 1), (0, widest - y.shape[1])) for y in maps]
    return torch.stack(padded, 3)[None].cpu().numpy()


class Sheets(TypedDict):
    """A local network's islands on every picture that could be read, and why the others were `skipped`."""

    trained: str
    epoch: int
    threshold: float
    iterations: int
    pictures: list[Drawn]
    skipped: list[dict[str, str]]


def run(settings: IslandSettings, out: Path) -> Iterator[Event[Sheets]]:
    """A sheet of layers by iterations for every picture.

    Raises:
        InputError: the request is wrong, or no picture at all could be shown.
        RunError: a sheet could not be written.
    """
    learner, scaling, state = open_local(Path(settings.trained), resolve_device(settings.device))

    def see(path: str) -> tuple[Image.Image, NDArray[np.float32], None]:
        image = read_image(path)
        return image, look(learner, scaling, fit(image, learner.shape)[None])[:, 0], None

    held: dict[str, Any] = {"trained": Path(settings.trained).name, "epoch": state["epoch"]}
    held |= {"images": [Path(p).name for p in settings.images], "threshold": settings.threshold}
    with RunFolder(out, "ff-islands", held) as folder:
        write_settings(out, settings)
        shown, failed = yield from look_at(settings.images, see)
        pictures: list[Drawn] = []
        view: View = {"title": f"{held['trained']}: epoch {state['epoch']}", "facts": [], "notes": [], "pictures": []}
        for item, flat, colours, counts in islands_of(shown, settings.threshold):
            name = Path(item.path).name
            sheet = out / f"{item.stem}.png"
            try:
                drawn: dict[str, Any] = {"image": item.image, "colours": colours, "counts": counts, "decoded": None}
                draw(sheet, level_sheet, **drawn, title=f"{name}: epoch {state['epoch']}", word="layer")
            except OSError as error:
                raise disk_error(error, sheet) from error
            seen = levels_of(flat, colours, view["title"], "layer")
            view["pictures"].append(picture_of(name, item.image, [seen]))
            pictures.append({"image": item.path, "sheet": sheet.name, "islands": counts.tolist()})
            yield Event("drawing", len(pictures), len(shown))
        store(view, out)
        result: Sheets = {
            "trained": held["trained"],
            "epoch": state["epoch"],
            "threshold": settings.threshold,
            "iterations": iterations(learner),
            "pictures": pictures,
            "skipped": failed,
        }
        folder.conclude(result)
    yield Event("drawing", len(shown), len(shown), result=result)
