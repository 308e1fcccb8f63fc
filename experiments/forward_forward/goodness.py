"""The goodness of one picture: by label, layer and iteration, and where in the picture it comes from."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiments.forward_forward.evaluate import known_of
from experiments.forward_forward.settings import GoodnessSettings
from glom.datasets.reading import read_image
from glom.devices import resolve_device
from glom.errors import InputError
from glom.forward_forward import Learner
from glom.forward_forward.checkpoint import restore
from glom.forward_forward.conv import ConvLearner
from glom.forward_forward.recurrent import Recurrent
from glom.forward_forward.scaling import Scaling
from glom.runs.artifacts import check_target, disk_error, write_json
from glom.runs.events import Event, as_events
from glom.runs.files import file_stem
from glom.teachers.asked import asked_about
from probes.figures.goodness import figure_endings, goodness_figure


def run_goodness(settings: GoodnessSettings, out: Path | None = None) -> Iterator[Event[dict[str, Any]]]:
    """Draw a picture's goodness, with the numbers beside the figure as JSON.

    Three readings of "where": a local network's layers are maps, so their squared states are shown at their places, an
    iteration a column. The units of a fully connected layer have no place; there a patch of the picture is blanked, and
    the map shows how much goodness, with the label read, the layer loses by it. `out`: see `figure_path`.

    Raises:
        InputError: no network there, no picture there, or nowhere to write.
        RunError: the figure could not be written.
    """
    folder, image, patch = Path(settings.folder), Path(settings.image), settings.patch
    path = figure_path(folder, image, out)
    place = resolve_device(settings.device)
    learner, _, state = restore(folder, place)
    original = read_image(image)
    asked = asked_about([(image.name, original)], state["classes"], str(folder), known_of(folder, state)).say()
    pixels = fit(original, learner.shape)
    scaling = Scaling(tuple(state["scaling"]["mean"]), tuple(state["scaling"]["std"]))
    x = scaling(pixels[None], learner.dtype, place)
    found = yield from as_events(read_goodness(learner, x, patch), "blanking", 1)
    found |= {
        **asked.kept(),
        "classes": state["classes"],
        "picture": (pixels.permute(1, 2, 0).squeeze(-1).float() / 255).tolist(),
        "title": f"{image.name}, {learner.settings.mode}, epoch {state['epoch']}",
    }
    try:
        goodness_figure(found, path)
    except OSError as error:
        raise disk_error(error, path) from error
    write_json(path.with_suffix(".json"), found)
    shown = {
        "figure": str(path),
        "numbers": str(path.with_suffix(".json")),
        "class": state["classes"][found["guess"]],
        "names": {k: state["classes"][v] for k, v in found["readouts"].items()},
        "among": len(state["classes"]),
        **{k: found[k] for k in ("guess", "softmax", "goodness", "by_iteration", "readouts")},
        **asked.kept(),
    }
    yield Event(result=shown)


def figure_path(folder: Path, image: Path, out: Path | None = None) -> Path:
    """Where the figure of a picture goes.

    Args:
        folder: the run folder: `goodness-NAME.png` in it, where `out` is None.
        out: a figure, its format known by its ending, or a folder for `goodness-NAME.png`.

    Raises:
        InputError: an ending that is no figure's, a figure or numbers that are there already, or no folder to write in.
    """
    path = (out or folder) / f"goodness-{file_stem(image)}.png"
    if out is not None and not out.is_dir():
        path, endings = out, figure_endings()
        if path.suffix.lower() not in endings:
            raise InputError(f"--out {out}: name a figure ({', '.join(endings)}) or a folder that is there")
        check_target(path, "`out`")
    for taken in (path, path.with_suffix(".json")):
        if taken.exists():
            raise InputError(f"{taken} is there already and is not overwritten; move it away or choose another --out")
    return path


def fit(picture: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """A picture as (C, H, W) uint8 of the network's shape."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise InputError(f"the network reads pictures of {channels} channels; a file has 1 or 3")
    fitted = picture.convert("L" if channels == 1 else "RGB")
    if fitted.size != (width, height):
        fitted = fitted.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(fitted))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


@torch.inference_mode()
def read_goodness(learner: Learner | ConvLearner, x: Tensor, patch: int) -> Generator[float, None, dict[str, Any]]:
    """Everything the figure shows of one picture (1, C, H, W); yields the share that is read of what takes long."""
    readouts = learner.readouts(x)
    guess = int(next(iter(readouts.values())).argmax())
    found: dict[str, Any] = {
        "guess": guess,
        "readouts": {k: int(v.argmax()) for k, v in readouts.items()},
        "softmax": float(readouts["softmax"].float().softmax(-1).max()),
        "by_iteration": None,
        "read": list(learner.settings.read),
        "map_signed": True,
        "map_rows": ["lost"],
        "map_name": "below: what a layer's goodness loses where the picture is blanked",
    }
    table = learner.goodness(x)[0]
    if isinstance(learner, ConvLearner):
        # A normalised layer has a mean square of about 1, which is no threshold of any class.
        found |= {"goodness": (table if learner.labelled else table[:1]).tolist(), "even": [1.0] * len(learner.layers)}
        found |= {"maps": _squares(learner, x)[None].tolist(), "map_signed": False, "map_rows": ["squares"]}
        return found | {"map_name": "below: mean square of a layer's activities at each place"}
    # Without labels in the input there is one goodness, the same for all.
    found["goodness"] = (table if learner.settings.mode != "unsupervised" else table[:1]).tolist()
    network, rule = learner.network, learner.settings.rule
    theta = rule.threshold * rule.sign
    found["even"] = [theta * (a.units if rule.goodness == "sum" else 1) for a in network.layers]
    if isinstance(network, Recurrent):
        found["by_iteration"] = network.watch(x.flatten(1))[0].tolist()
        found["map_name"] = "right: what a layer's goodness loses where the picture is blanked"
    if isinstance(network, Recurrent) and learner.settings.mode == "local":
        found["maps"] = _places(network, x, guess).tolist()
        found["map_signed"] = False
        found["map_rows"] = [f"it. {t + 1}" for t in range(learner.settings.iterations)]
        found["map_name"] = "right: mean square of the states at each location"
    else:
        found["maps"] = (yield from _blanked(learner, x, guess, patch))[None].tolist()
    return found


def _squares(learner: ConvLearner, x: Tensor) -> Tensor:
    """(layers, H, W): mean square of a layer's activities at each place of the picture (1, C, H, W)."""
    maps = [s["place"][:, None] for s in learner.by_layer(x)]
    return torch.cat([F.interpolate(m, x.shape[-2:], mode="nearest")[0] for m in maps])


def _places(network: Recurrent, x: Tensor, label: int) -> Tensor:
    """(iterations, layers, H, W): mean square over a location's units, with the label that was read."""
    found = network.located(x.flatten(1), torch.tensor([label], device=x.device))
    return torch.stack([torch.stack([s[0].float().square().mean(-1) for s in layers]) for layers in found])


def _blanked(learner: Learner, x: Tensor, label: int, patch: int) -> Generator[float, None, Tensor]:
    """(layers, h, w): goodness of the whole picture minus that with a patch around each second pixel set to nothing."""
    height, width = x.shape[-2:]
    rows, columns = range(0, height, 2), range(0, width, 2)
    copies = x.repeat(len(rows) * len(columns), 1, 1, 1)
    empty = x.amin()
    for number, (r, c) in enumerate((r, c) for r in rows for c in columns):
        top, left = max(0, r - patch // 2), max(0, c - patch // 2)
        copies[number, :, top : r + (patch + 1) // 2, left : c + (patch + 1) // 2] = empty
    whole = learner.goodness(x)[0, label]
    parts: list[Tensor] = []
    for block in (blocks := copies.split(500)):
        parts.append(learner.goodness(block)[:, label])
        yield len(parts) / len(blocks)
    return (whole - torch.cat(parts)).T.reshape(-1, len(rows), len(columns)).float()
