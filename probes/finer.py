"""Grids finer than a network's own: an APM overfit on the grids of several views, beside three ways without one.

A network's grid is known at its own locations only. Crops of the same picture, shown at the network's own size, give
grids whose locations lie between them (cf. FeatUp, Fu et al. 2024); an APM that is overfit on all of them is asked
anywhere. Beside it stand the one grid interpolated bilinearly, the same under a guided filter (He, Sun & Tang 2010),
and the mean of all views, each interpolated, which has the APM's information.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glom import execution
from glom.apm import APMConfig, AsynchronousPerceptionMachine, blank_apm
from glom.backbones.base import Backbone
from glom.backbones.video import clip_for, feature_grids
from glom.colours import Array
from glom.columns import grid_queries, picture, sample_at
from glom.errors import InputError
from glom.runs.seeds import sample_seed
from probes.agreement import at_most, resize_grid

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
ASKED = 256  # locations a step
FOLDED = 224  # side in pixels of the picture that is folded
WAYS = ("bilinear", "guided", "average", "apm")


@dataclass(frozen=True)
class Fitting:
    """How a field is fitted.

    Attributes:
        views: crops to learn from, beside the whole picture; 0: its grid alone.
        zoom: the smallest crop's side, a share of the picture's.
        patch: side of the local patch in the column; 0: none.
        iterations: steps of Adam.
        lr: its rate, which falls as a cosine.
    """

    views: int = 48
    zoom: float = 0.5
    patch: int = 5
    iterations: int = 500
    lr: float = 2e-3


@dataclass(frozen=True)
class View:
    """A crop of the picture in [0, 1]^2 coordinates, and the network's grid over it, (h, w, F)."""

    box: Box
    grid: Tensor

    def points(self) -> Tensor:
        """Where in the picture the grid's locations lie, (h w, 2)."""
        h, w = self.grid.shape[:2]
        return grid_queries(h, w, self.box, device=self.grid.device)


def crops(image: Image.Image, how: Fitting, seed: int) -> Iterator[tuple[Box, Image.Image]]:
    """The whole picture first, then random crops: squares of the squeezed picture, of side zoom to 1."""
    rng, (w, h) = np.random.default_rng(seed), image.size
    boxes = [WHOLE]
    for _ in range(how.views):
        side = rng.uniform(how.zoom, 1)
        x, y = rng.uniform(0, 1 - side, 2)
        boxes.append((float(x), float(y), float(x + side), float(y + side)))
    for x0, y0, x1, y1 in boxes:
        left, upper, right, lower = round(x0 * w), round(y0 * h), round(x1 * w), round(y1 * h)
        # The crop's edges fall on whole pixels: its box is where they fell.
        yield (left / w, upper / h, right / w, lower / h), image.crop((left, upper, right, lower))


def average(views: Sequence[View], queries: Tensor) -> Tensor:
    """The mean over views of their bilinear interpolation, (N, F).

    A view counts where it covers the location; the first covers all of them.
    """
    total = torch.zeros(len(queries), views[0].grid.shape[-1], device=queries.device)
    count = torch.zeros(len(queries), 1, device=queries.device)
    for view in views:
        x0, y0, x1, y1 = view.box
        inside = (queries - queries.new_tensor([x0, y0])) / queries.new_tensor([x1 - x0, y1 - y0])
        covered = ((inside >= 0) & (inside <= 1)).all(-1, keepdim=True)
        total += covered * sample_at(view.grid[None], inside.clamp(0, 1))[0]
        count += covered
    return total / count


def field_machine(grid: Tensor, patch: int) -> APMConfig:
    """A machine for the field: the picture folded at 224 px, a location code as fine as four times the grid.

    The code is the sinusoidal one: Fourier features of whole turns take one border of the picture for the opposite one.
    """
    return APMConfig(
        features=grid.shape[-1],
        image_size=FOLDED,
        patch=14,
        cells=4 * max(grid.shape[:2]),
        trunk=(512, 512),
        local_patch=patch,
        readout="mean",
        rgb=None,
    )


def machine_for(views: Sequence[View], how: Fitting, generator: torch.Generator) -> AsynchronousPerceptionMachine:
    """`field_machine` with weights drawn by `generator`, where the views' grids are."""
    apm = blank_apm(field_machine(views[0].grid, how.patch))
    apm.reset(generator, "default")
    return apm.to(views[0].grid.device)


def fit(
    apm: AsynchronousPerceptionMachine,
    folded: Tensor,
    views: Sequence[View],
    how: Fitting,
    generator: torch.Generator,
) -> Iterator[float]:
    """Fit the field to every view's features at their own locations, in place; yields the relative squared error.

    Half of the locations asked in a step are the first grid's: it is the one the scale is measured from.
    """
    points = torch.cat([v.points() for v in views])
    wanted = torch.cat([v.grid.flatten(0, 1) for v in views])
    own = len(views[0].points())
    scale = wanted.square().mean()
    optimiser = torch.optim.Adam(apm.parameters(), lr=how.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.iterations)
    for _ in range(how.iterations):
        some = torch.randint(len(points), (min(ASKED, len(points)),), generator=generator)
        if len(views) > 1:
            some[: len(some) // 2] = torch.randint(own, (len(some) // 2,), generator=generator)
        else:
            some = torch.arange(own)
        found = execution.run(apm, folded, points[some], ("features",)).features
        assert found is not None
        loss = F.mse_loss(found[0], wanted[some]) / scale
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        yield float(loss.detach())


def ask(apm: AsynchronousPerceptionMachine, folded: Tensor, height: int, width: int) -> Array:
    """The field on a grid, (h, w, F)."""
    found = execution.ask(apm, folded, grid_queries(height, width, device=folded.device)).features
    assert found is not None
    return found.reshape(height, width, -1).cpu().numpy()


def guided(grid: Array, guide: Array, radius: int = 2, smooth: float = 1e-3) -> Array:
    """A grid at a picture's resolution, its edges the picture's (He, Sun & Tang 2010, "Guided Image Filtering").

    In every window of cells the features are taken for an affine function of the colour, f = A c + b, by least squares;
    A and b, which vary slowly, are interpolated, not f (the fast form: He & Sun 2015, arXiv 1505.00996).

    Args:
        grid: (h, w, F).
        guide: (H, W, 3) in [0, 1], H >= h and W >= w.
        radius: a window is 2 radius + 1 cells a side.
        smooth: what is added to the colours' variance; without colour above it a window's mean stays.

    Returns:
        (H, W, F) float32.
    """
    from scipy.ndimage import uniform_filter

    def mean(x: NDArray[Any]) -> NDArray[np.float64]:
        side = (2 * radius + 1, 2 * radius + 1, *([1] * (x.ndim - 2)))
        counted = uniform_filter(np.ones(x.shape[:2]), side[:2], mode="constant")
        return uniform_filter(x, side, mode="constant") / counted.reshape(*x.shape[:2], *([1] * (x.ndim - 2)))

    (h, w, _), (height, width, _) = grid.shape, guide.shape
    colours, features = resize_grid(guide, h, w).astype(np.float64), grid.astype(np.float64)
    c, f = mean(colours), mean(features)
    spread = mean(colours[..., :, None] * colours[..., None, :]) - c[..., :, None] * c[..., None, :]
    both = mean(colours[..., :, None] * features[..., None, :]) - c[..., :, None] * f[..., None, :]
    A = np.linalg.solve(spread + smooth * np.eye(3), both)
    b = f - np.einsum("hwc,hwcf->hwf", c, A)
    found = resize_grid(mean(b).astype(np.float32), height, width)
    slopes = mean(A).astype(np.float32)
    for colour in range(3):
        found += guide[..., colour, None] * resize_grid(slopes[:, :, colour], height, width)
    return found


def finer_grids(
    backbone: Backbone,
    image: Image.Image,
    layers: Sequence[int],
    times: int,
    *,
    frames: int | None = None,
    size: int | None = None,
    most: int = 0,
    seed: int = 0,
    how: Fitting | None = None,
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Layers' grids so many times finer, one layer after another.

    Args:
        backbone: it watches the picture and each crop of it as a boring video.
        image: the picture, squeezed as ever.
        layers: their numbers.
        times: finer along both sides, 2 or more.
        frames: of the boring video; None for the backbone's own.
        size: its side in pixels; None likewise.
        most: side to which larger grids are averaged down first; 0: none is.
        seed: of the crops and the fits.
        how: the fit.

    Yields:
        (layer, {way of `WAYS`: (times h, times w, F)}).

    Raises:
        InputError: a picture whose crops are smaller than one patch, `times` below 2.
    """
    if times < 2:
        raise InputError(f"`finer` is 2 or more times the network's grid, got {times}")
    how = how or Fitting()
    views: dict[int, list[View]] = {layer: [] for layer in layers}
    for box, crop in crops(image, how, sample_seed(seed, "", "views")):
        for layer, grid in feature_grids(backbone, clip_for(backbone, crop, frames, size), layers, "mean").items():
            small = at_most(grid[0].numpy(), most) if most else grid[0].numpy()
            views[layer].append(View(box, torch.from_numpy(small).to(backbone.device)))
    folded = picture(image, FOLDED)[None].to(backbone.device)
    for layer, seen in views.items():
        own = seen[0].grid.cpu().numpy()
        height, width = times * own.shape[0], times * own.shape[1]
        generator = torch.Generator().manual_seed(sample_seed(seed, str(layer), "finer"))
        apm = machine_for(seen, how, generator)
        for _ in fit(apm, folded, seen, how, generator):
            pass
        queries = grid_queries(height, width, device=backbone.device)
        shrunk = image.convert("RGB").resize((width, height), Image.Resampling.BOX)
        colours = (np.asarray(shrunk, np.float32) / 255).astype(np.float32)
        yield (
            layer,
            {
                "bilinear": resize_grid(own, height, width),
                "guided": guided(own, colours),
                "average": average(seen, queries).reshape(height, width, -1).cpu().numpy(),
                "apm": ask(apm, folded, height, width),
            },
        )
