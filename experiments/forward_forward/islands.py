"""The islands of a forward-forward network with local receptive fields: its states at each location, layer by layer.

A local network's layers are maps, so it can be asked what a GLOM is asked: how many islands a layer has, at which
iteration, and whether they are a picture's parts and wholes. Where a GLOM has levels, it has layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from experiments.consensus.data import HELD_OUT_SEED, composites
from experiments.consensus.measures import Look, check_asked, score_levels, verdict
from experiments.consensus.sheets import islands_of, look_at
from experiments.forward_forward.goodness import fit
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward import Learner
from glom.forward_forward.checkpoint import restore
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.scaling import Scaling
from glom.runs.artifacts import RunFolder, disk_error, public_command, write_json, write_record
from probes.figures.levels import level_sheet, levels_figure
from probes.levels import check_threshold

GREY = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R BT.601), as Pillow's mode L


def open_local(folder: Path, device: torch.device) -> tuple[Learner, Scaling, dict[str, Any]]:
    """The network of a run folder, how its pixels are scaled, and its checkpoint.

    Raises:
        InputError: no network there, or one whose units have no places.
    """
    learner, _, state = restore(folder, device)
    if learner.settings.mode != "local":
        raise InputError(
            f"{folder} holds a {learner.settings.mode} network: fully connected layers have no places, and so no "
            "islands; train one with --mode local"
        )
    return learner, Scaling(tuple(state["scaling"]["mean"]), tuple(state["scaling"]["std"])), state


@torch.inference_mode()
def look(learner: Learner, scaling: Scaling, pixels: Tensor) -> NDArray[np.float32]:
    """States at every place, with the label that the network reads clamped at its top.

    Args:
        pixels: (B, C, H, W) uint8.

    Returns:
        (T, B, H, W, layers, d). Layers of fewer units at a location than the widest have zeros behind theirs, which
        change no cosine.
    """
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


def run_islands(
    folder: Path, images: Sequence[str], out: Path, device: str = "auto", threshold: float = 0.9
) -> Iterator[dict[str, Any]]:
    """A sheet of layers by iterations for every picture, yielding `{"stage", "done", "total"}`, last with `"result"`.

    Args:
        folder: of `apm ff train --mode local`.
        images: paths of any pictures; squeezed to the network's size, grey where the network is.
        out: a new folder for the sheets and `islands.json`.
        threshold: cosine from which neighbouring locations are one island.

    Raises:
        InputError: the request is wrong, or no picture at all could be shown.
        RunError: a sheet could not be written.
    """
    check_threshold(threshold)
    learner, scaling, state = open_local(folder, resolve_device(device))

    def see(path: str) -> tuple[Image.Image, NDArray[np.float32], None]:
        image = read_image(path)
        return image, look(learner, scaling, fit(image, learner.shape)[None])[:, 0], None

    held = {"trained": folder.name, "epoch": state["epoch"], "images": [Path(p).name for p in images]}
    held["threshold"] = threshold
    with RunFolder(out, "ff-islands", held, extra={"command": public_command()}) as run:
        shown, failed = yield from look_at(images, see)
        pictures = []
        for item, _, colours, counts in islands_of(shown, threshold):
            name = Path(item.path).name
            sheet = out / f"{item.stem}.png"
            try:
                level_sheet(item.image, colours, counts, None, sheet, f"{name}: epoch {state['epoch']}", "layer")
            except OSError as error:
                raise disk_error(error, sheet) from error
            pictures.append({"image": item.path, "sheet": sheet.name, "islands": counts.tolist()})
            yield {"stage": "drawing", "done": len(pictures), "total": len(shown)}
        result = {**held, "iterations": learner.settings.iterations, "pictures": pictures, "skipped": failed}
        del result["images"]
        write_json(out / "islands.json", result)
        run.finish()
    yield {"stage": "drawing", "done": len(shown), "total": len(shown), "result": result}


def run_score(
    folder: Path,
    out: Path,
    limit: int = 200,
    source: str = "",
    threshold: float = 0.9,
    seed: int = 0,
    device: str = "auto",
    record: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Score a local network on held-out composites of its own size, as `experiments.consensus.measures` does.

    The layers are scored at the last iteration whose goodness is read. Untrained is the network as it was before its
    first step.

    Args:
        folder: of `apm ff train --mode local`.
        out: a new folder for `summary.json`, `layers.png` and a line a picture.
        limit: held-out composites.
        source: of the composites' objects, see `experiments.consensus.data.composites`.
        threshold: cosine from which neighbouring locations are one island.
        seed: of the composites and of k-means.
        record: a file the result is written to as well.

    Yields:
        `{"stage", "done", "total"}` and, last, the same with `"result"`.

    Raises:
        InputError: the request is wrong, or `out` is taken.
    """
    check_asked(limit, threshold)
    place = resolve_device(device)
    learner, scaling, state = open_local(folder, place)
    channels, height, width = learner.shape
    if height != width or channels not in (1, 3):
        raise InputError(
            f"composites are square, grey or in colour; this network reads {list(learner.shape)} (C, H, W)"
        )
    made, name, note = composites(source, height, "test", HELD_OUT_SEED + seed)
    settings = learner.settings
    untrained = Learner(learner.shape, learner.classes, settings, place)

    def looking(network: Learner) -> Look:
        return lambda images: look(network, scaling, (images[:, :channels] * 255).round().to(torch.uint8))

    held = {"trained": folder.name, "epoch": state["epoch"], "limit": limit, "source": name, "threshold": threshold}
    held["seed"] = seed
    with RunFolder(out, "ff-score", held, extra={"command": public_command()}) as run:
        yield {"stage": "looking", "done": 0, "total": limit, "message": note}
        scores, _ = yield from score_levels(
            {"trained": looking(learner), "untrained": looking(untrained)},
            made, limit, run, threshold, seed, settings.read[1] - 1, grey if channels == 1 else None,
        )  # fmt: skip
        result: dict[str, Any] = {
            **{k: v for k, v in held.items() if k != "limit"},
            "objective": f"forward-forward, local fields, epoch {state['epoch']}",
            "n": limit,
            "read": settings.read[1],
            "size": height,
            "widths": list(settings.widths),
            "field": settings.field,
            **scores,
        }
        result["verdict"] = verdict(result, "layer")
        write_json(out / "summary.json", result)
        levels_figure(result, out / "layers.png", "layer")
        run.finish()
    if record:
        write_record(Path(record), result)
    yield {"stage": "scoring", "done": limit, "total": limit, "result": result}


def grey(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) as a network of one channel is given them: three equal channels."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor(GREY))[:, None].expand_as(images)
