"""Islands of one picture, layer by layer, as an object: seen, cut and scored.

islands = look("photo.jpg", backbone="mvit-v2-tiny")
islands.show(); islands.labels("kmeans:6"); islands.score(masks)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glom.backbones.base import Backbone
from glom.backbones.registry import MVIT_TINY, load_backbone
from glom.backbones.video import clip_for, feature_grids, select_layers
from glom.colours import Array, pca_rgb
from glom.errors import InputError
from glom.notebook import Showing, side_by_side
from glom.pictures import Picture, as_image
from glom.runs.files import write_text
from glom.teachers.base import Teacher
from probes.agreement import neighbour_agreement
from probes.metrics import Outlines, score
from probes.partition import Labels, count_islands, enlarge, parse_partition, partition
from probes.patched import Intervention, Patched, Said, patch_name, watch, watch_patched

if TYPE_CHECKING:
    from probes.explorer.shape import Source, View


@dataclass(frozen=True, repr=False)
class Islands(Showing):
    """What each layer of a backbone makes of one picture.

    Attributes:
        picture: what was watched, as a boring video.
        grids: {layer's number: (h, w, D) float32}, averaged over time.
        names: {layer's number: its name in the network}.
        backbone: the network's name.
        notes: what had to be interpolated, a sentence each.
        patched: the same where features were replaced, one each. said: the most probable classes as it is, if any.
    """

    picture: Image.Image = field(compare=False)
    grids: dict[int, Array]
    names: dict[int, str]
    backbone: str
    notes: tuple[str, ...] = ()
    patched: tuple[Patched, ...] = ()
    said: tuple[Said, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were read, first to last."""
        return tuple(self.grids)

    def grid(self, layer: int = -1) -> Array:
        """(h, w, D) of one layer; negative numbers count from the last that was read. Raises `InputError`."""
        if layer in self.grids:
            return self.grids[layer]
        if -len(self.grids) <= layer < 0:
            return self.grids[self.layers[layer]]
        raise InputError(f"layer {layer} was not read; {self.backbone} was read at {', '.join(map(str, self.layers))}")

    @cached_property
    def colours(self) -> dict[int, Array]:
        """{layer: (h, w, 3) in [0, 1]}: each layer's first three principal components on the RGB cube."""
        return {layer: pca_rgb(grid)[0] for layer, grid in self.grids.items()}

    def agreement(self, layer: int = -1) -> float:
        """Mean cosine of neighbouring locations of one `layer`, in [-1, 1]."""
        return neighbour_agreement(self.grid(layer))

    def labels(self, how: str = "kmeans:6", layer: int = -1, seed: int = 0) -> Labels:
        """(h, w) labels from 0.

        Args:
            how: `kmeans:6`, `ncut:auto`, `tree`, `maskcut`, ...: see `probes.partition.forms.FORMS`.
            layer: as `grid` takes it. seed: of a cut that draws.

        Raises:
            InputError: another `how`, or a layer that was not read.
        """
        return partition(self.grid(layer), parse_partition(how), seed)

    def score(
        self,
        masks: NDArray[np.integer] | Sequence[NDArray[np.integer]],
        how: str = "kmeans:6",
        layer: int = -1,
        background: int | None = None,
        seed: int = 0,
    ) -> dict[str, float | None]:
        """One layer's islands against people's, at the masks' own size; see `probes.metrics.score`.

        A layer chosen by this score must be reported on other pictures.

        Args:
            masks: (H, W) whole numbers, one array or several annotators'.
            how: as `labels` takes it, and `layer` and `seed`.
            background: the label of what is no object, or None.

        Raises:
            InputError: masks of different or other shapes.
        """
        truths = [masks] if isinstance(masks, np.ndarray) else [np.asarray(mask) for mask in masks]
        for mask in truths:
            if mask.ndim != 2 or mask.dtype.kind not in "iub" or mask.shape != truths[0].shape:
                raise InputError(
                    f"masks are (H, W) of whole numbers and of one size, got {mask.dtype} {tuple(mask.shape)}"
                )
        if not truths:
            raise InputError("no masks to score against")
        height, width = truths[0].shape
        found = enlarge(self.labels(how, layer, seed), height, width)
        return score(truths, found, Outlines(truths), background)

    def source(self, name: str = "") -> Source:
        """What a page shows of it (`probes.explorer`): every layer, under the backbone's name or another."""
        from probes.explorer.shape import layered

        places = [f"{layer}: {self.names[layer]}" for layer in self.layers]
        colours = None if self.patched else list(self.colours.values())
        axes, grids = [("layer", places)], list(self.grids.values())
        return layered(name or self.backbone, axes, grids, colours, self.patched, self.said)

    def view(self, name: str = "picture", masks: Sequence[NDArray[np.integer]] = ()) -> View:
        """What a page shows of it: the picture under `name`, with people's outlines `masks` (H, W), if any."""
        from probes.explorer.shape import picture_of

        shown = picture_of(name, self.picture, [self.source()], masks, None, "; ".join(self.notes))
        return {
            "title": f"{name}, {self.backbone}",
            "facts": [["backbone", self.backbone]],
            "notes": [],
            "pictures": [shown],
        }

    def export(self, path: str | Path, name: str = "picture", masks: Sequence[NDArray[np.integer]] = ()) -> Path:
        """Write the page to look at it with: one file that a browser opens, which needs no network.

        Args:
            path: of the page, replaced where it is there.
            name: the picture's. masks: people's outlines, (H, W) whole numbers each.

        Raises:
            RunError: it cannot be written.
        """
        from probes.explorer.write import page

        target = Path(path)
        write_text(target, page(self.view(name, masks)))
        return target

    def widget(self) -> Any:
        """The page's view as a notebook's widget. Raises `InputError` where the package anywidget is not installed."""
        from probes.explorer.widget import widget

        return widget(self.view())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any] | tuple[Any, Any]:
        """The widget where a notebook can show one, with the picture for those that cannot."""
        try:
            shown = self.widget()._repr_mimebundle_(include=include, exclude=exclude)
        except InputError:
            return {"text/html": self._repr_html_(), "text/plain": repr(self)}
        data, more = shown if isinstance(shown, tuple) else (shown, {})
        return {**data, "text/html": self._repr_html_(), "text/plain": repr(self)}, more

    def to_image(self) -> Image.Image:
        """The picture and up to six of the layers, first to last, side by side."""
        chosen = np.unique(np.linspace(0, len(self.layers) - 1, min(6, len(self.layers))).round().astype(int))
        panels = [self.colours[self.layers[i]] for i in chosen]
        pixels = [Image.fromarray((panel * 255).round().astype(np.uint8)) for panel in panels]
        square = self.picture.resize((256, 256), Image.Resampling.BOX)  # as it was watched: squeezed
        return side_by_side([square, *pixels])

    @property
    def caption(self) -> str:
        last = self.layers[-1]
        h, w, d = self.grids[last].shape
        count = count_islands(self.labels())
        return (
            f"{self.backbone}: {len(self.layers)} layers, the last ({self.names[last]}) {h} x {w} x {d}, neighbours "
            f"agree to {self.agreement():.2f}, {count} islands of 6 clusters"
        )

    def __repr__(self) -> str:
        return f"Islands({self.backbone}, layers={list(self.layers)})"


def islands(
    picture: Picture,
    backbone: Backbone | Teacher | str = MVIT_TINY,
    layers: str | Sequence[int] = "all",
    *,
    frames: int | None = None,
    size: int | None = None,
    finer: int = 0,
    patches: Sequence[Intervention] = (),
    classes: Sequence[str] = (),
    device: str = "auto",
) -> Islands:
    """Show a backbone one picture as a boring video and read its layers.

    Baselines belong beside every number read from this: `islands(picture, backbone.untrained())`, and
    `probes.partition.colour_position`.

    Args:
        picture: see `glom.pictures.as_image`.
        backbone: one that is loaded, a teacher (a model of one's own is one by `glom.teacher`), or a name of
            `glom.load_backbone`.
        layers: "all", "first,last", or numbers.
        frames: of the boring video; None for the backbone's own.
        size: its side in pixels; None likewise.
        finer: so many times finer along both sides than the network's grids, each layer as an APM's field that was
            overfit on the grids of 49 views (`probes.finer`, seconds a layer); 0: as they are.
        patches: (layer, region, value) each, as `with backbone.patch(...)` takes them: what is seen where features are
            replaced, which the page and the widget show at a button's press.
        classes: names to choose from, for a network that reads text; the page then says what it takes the picture for.
        device: of a backbone given by name.

    Raises:
        InputError: a picture, backbone, layer, size or patch that is none; patches of finer grids.

    Example:
        >>> islands(Image.new("RGB", (64, 48)), layers="first,last").layers
        (0, 5)
    """
    if finer and patches:
        raise InputError("patches are of the network's own grids; leave `finer` out")
    image = as_image(picture)
    network = _network(backbone, device)
    clip = clip_for(network, image, frames, size)
    notes = network.fit(clip.shape[1], clip.shape[2])
    read = select_layers(network, layers)
    if patches or classes:
        grids, said = watch(network, clip, read, classes)
    else:
        grids, said = {i: g[0].numpy() for i, g in feature_grids(network, clip, read, "mean").items()}, []
    names = {i: network.layers[i][0] for i in grids}
    patched = [watch_patched(network, clip, read, patch, patch_name(*patch), classes) for patch in patches]
    if finer:
        from probes.finer import finer_grids

        found = finer_grids(network, image, list(grids), finer, frames=frames, size=size)
        grids = {layer: ways["apm"] for layer, ways in found}
        notes = [*notes, f"grids are {finer} times finer than the network's: an APM's field, overfit on several views"]
    return Islands(image, grids, names, network.name, tuple(notes), tuple(patched), tuple(said))


def _network(backbone: Backbone | Teacher | str, device: str) -> Backbone:
    if isinstance(backbone, str):
        return load_backbone(backbone, device)
    if isinstance(backbone, Backbone):
        return backbone
    from glom.backbones.images import as_backbone  # loads the libraries of every teacher

    return as_backbone(backbone)
