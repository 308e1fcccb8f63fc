"""A machine to hold in the hand: an APM that is loaded by name, asked about pictures, saved and shared.

    machine = Machine.from_pretrained("apm-cifar10")
    machine.percept("cat.jpg", grid=(64, 64))        a whole grid: features, colours, token
    machine.ask("cat.jpg", [(0.31, 0.74)])           any points, each independently of every other

The formula is `glom.apm`'s and the numbers are its plain forward's; they are computed by `glom.execution`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glom import execution
from glom.adaptation.overfit import to_pixels
from glom.apm import APMConfig, AsynchronousPerceptionMachine, Percept
from glom.checkpoints import FILE, SHIPPED, find_checkpoint, load_apm, save_apm
from glom.colours import pca_rgb
from glom.columns import check_queries, grid_queries, picture
from glom.errors import InputError
from glom.hub import Pretrained
from glom.notebook import Showing, side_by_side
from glom.official import read_official
from glom.pictures import Picture, as_image
from glom.runs.seeds import fixed_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 4096  # cells a side: beyond it features take gigabytes


@dataclass(frozen=True, repr=False)
class GridPercept(Showing):
    """What a machine says of a picture on a regular grid.

    Attributes:
        features: (h, w, F) float32.
        rgb: (h, w, 3) float32 in [0, 1], or None for a machine without a colour head.
        token: (F,), read over the machine's own grid, whatever grid was asked.
        picture: what was folded.
    """

    features: Tensor
    rgb: Tensor | None
    token: Tensor
    picture: Image.Image = field(compare=False)

    def colours(self) -> NDArray[np.float32]:
        """(h, w, 3) in [0, 1]: the features' first three principal components on the RGB cube."""
        return pca_rgb(self.features.numpy())[0]

    def to_image(self) -> Image.Image:
        """The picture, the features as colours, and the decoded colours, side by side."""
        panels = [self.picture, _image(self.colours())]
        return side_by_side([*panels, *([] if self.rgb is None else [_image(self.rgb.numpy())])])

    @property
    def caption(self) -> str:
        h, w, f = self.features.shape
        decoded = "" if self.rgb is None else ", decoded colours"
        return f"percept of {h} x {w} locations: the picture, {f} features as colours{decoded}"

    def __repr__(self) -> str:
        rgb = "None" if self.rgb is None else str(tuple(self.rgb.shape))
        return f"GridPercept(features={tuple(self.features.shape)}, rgb={rgb}, token={tuple(self.token.shape)})"


class Machine(AsynchronousPerceptionMachine, Pretrained):
    """An Asynchronous Perception Machine (Modi & Rawat, NeurIPS 2024) that takes pictures.

    Args:
        config: every width and choice, see `glom.apm.APMConfig`; `glom.preset` has the named ones.
        meta: what is known about its weights: `teacher`, `grid`, `settings`, `results`.

    Example:
        >>> machine = Machine.from_pretrained("apm-cifar10")
        >>> machine.percept(Image.new("RGB", (48, 32)), grid=(5, 7))
        GridPercept(features=(5, 7, 128), rgb=(5, 7, 3), token=(128,))
        >>> machine.ask(Image.new("RGB", (48, 32)), [(0.31, 0.74)]).features.shape
        torch.Size([1, 128])
    """

    FILE: ClassVar[str] = FILE

    def __init__(self, config: APMConfig, meta: Mapping[str, Any] | None = None) -> None:
        super().__init__(config)
        self.meta = dict(meta or {})

    # -- asking -----------------------------------------------------------------------------------------------------

    def percept(self, picture: Picture, grid: int | tuple[int, int] | None = None) -> GridPercept:
        """Everything it says of a picture, on a regular grid.

        The whole picture is squeezed onto the square that is folded, so that locations are the picture's own.

        Args:
            picture: see `glom.pictures.as_image`.
            grid: (height, width) in cells, one number for a square, None for the machine's own; 1 to 4,096 a side.

        Raises:
            InputError: a picture that cannot be read, or a grid out of range.
        """
        h, w = _grid(grid, self.config.cells)
        image = as_image(picture)
        folded = self._folded(image)
        found = self._asked(folded, grid_queries(h, w, device=folded.device))
        assert found.features is not None
        with torch.no_grad():
            token = execution.run(self, folded, None, ("token",)).token
        assert token is not None
        rgb = None if found.rgb is None else found.rgb.reshape(h, w, 3)
        return GridPercept(found.features.reshape(h, w, -1), rgb, token[0].float().cpu(), image)

    def ask(self, picture: Picture, points: Sequence[tuple[float, float]] | Tensor) -> Percept:
        """What it says at any points, each independently of every other.

        Args:
            picture: see `glom.pictures.as_image`.
            points: N of (x, y) in [0, 1]^2, x to the right and y down; in any order.

        Returns:
            features (N, F); rgb (N, 3) in [0, 1], or None without a colour head; no token.

        Raises:
            InputError: a picture that cannot be read, no points, or points outside the picture.
        """
        queries = torch.as_tensor(points, dtype=torch.float32)
        return self._asked(self._folded(as_image(picture)), check_queries(queries))

    @property
    def pixels(self) -> str:
        """How it was shown pictures: "imagenet" (normalised RGB), or the official pre-training's "bgr-minmax"."""
        return str(self.meta.get("pixels", "imagenet"))

    def _folded(self, image: Image.Image) -> Tensor:
        show = bgr_minmax if self.pixels == "bgr-minmax" else picture
        return show(image, self.config.image_size)[None].to(self.fold.conv.weight.device)

    def _asked(self, folded: Tensor, queries: Tensor) -> Percept:
        """(1, 3, S, S) and (N, 2) -> features (N, F) and pixels (N, 3), on the CPU."""
        found = execution.ask(self, folded, queries, ("features",) if self.rgb_head is None else ("features", "rgb"))
        assert found.features is not None
        if found.rgb is None:
            return Percept(found.features[0])
        bgr = self.pixels == "bgr-minmax"
        return Percept(found.features[0], found.rgb[0].flip(-1).clamp(0, 1) if bgr else to_pixels(found.rgb[0]))

    # -- keeping ----------------------------------------------------------------------------------------------------

    def write_file(self, folder: Path) -> Path:
        return save_apm(folder, self, self.meta)

    @classmethod
    def read_file(cls, file: Path, device: torch.device) -> Self:
        """The machine of a `file`, on `device`. Raises `InputError` for a file of anything else."""
        apm, meta = load_apm(file)
        with fixed_seed():
            machine = cls(apm.config, meta)
        machine.load_state_dict(apm.state_dict())
        return machine.eval().requires_grad_(False).to(device)

    @classmethod
    def find_file(cls, name: str | Path, hub: dict[str, Any]) -> Path:
        return find_checkpoint(name) if str(name) in SHIPPED else super().find_file(name, hub)


def _grid(grid: int | tuple[int, int] | None, own: int) -> tuple[int, int]:
    sides = (own, own) if grid is None else (grid, grid) if isinstance(grid, int) else tuple(grid)
    if len(sides) != 2 or not all(isinstance(n, int) and 1 <= n <= LARGEST for n in sides):
        raise InputError(f"a grid is (height, width), each 1 to {LARGEST:,} cells, got {grid}")
    return sides[0], sides[1]


def _image(colours: NDArray[np.floating]) -> Image.Image:
    """(h, w, 3) in [0, 1] -> a picture."""
    return Image.fromarray((colours.clip(0, 1) * 255).round().astype(np.uint8))


def bgr_minmax(image: Image.Image, size: int) -> Tensor:
    """What the official pre-training folds: (3, size, size) of blue, green, red, from 0 at the picture's darkest value.

    Its darkest value becomes 0 and its brightest 1, over all three channels; resized bilinearly between pixel centres,
    without the averaging that this toolkit's `picture` does (the release's `predict_test_image.py`). One colour all
    over, where the release divides by zero, becomes zeros.
    """
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)[0].round().flip(0)
    low, high = resized.min(), resized.max()
    return (resized - low) / (high - low).clamp_min(1e-12)


def load(name: str | Path, device: torch.device | str = "cpu") -> Machine:
    """A pre-trained machine: `Machine.from_pretrained`.

    Args:
        name: one that ships (`apm-cifar10`), a file, a folder of `apm grid train`, `OWNER/NAME` on the hub, or
            `official:FILE` for a checkpoint of the official release (`glom.official`).
        device: where it is to run, as torch names it.

    Raises:
        InputError: nothing there, another kind of model, a damaged file, or a hub that cannot be reached.
    """
    kind, colon, file = str(name).partition(":")
    if colon and kind == "official":
        apm, about = read_official(file)
        with fixed_seed():
            machine = Machine(apm.config, about)
        machine.load_state_dict(apm.state_dict())
        return machine.eval().requires_grad_(False).to(device)
    return Machine.from_pretrained(name, device=device)
