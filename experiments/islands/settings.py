"""What showing and scoring islands are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.settings import Settings, setting

MAX_GRID = 128
CANDIDATES = ",".join(
    (
        *("kmeans:3", "kmeans:4", "kmeans:6", "kmeans:8", "kmeans:auto", "ncut:4", "ncut:auto"),
        *("tree", "tree:3", "tree:4", "tree:6", "tree:12", "threshold:0.9", "tokencut", "tokencut:0.5", "maskcut"),
        *("kmeans:4+settled:3:0.1", "kmeans:4+settled:6:0.1", "kmeans:6+settled:6:0.1", "kmeans:4+settled:6:0.05"),
        "tree:4+settled:6:0.1",
    )
)


@dataclass(frozen=True, kw_only=True)
class Watching(Settings):
    """A backbone that watches boring videos, and the grids of it that are looked at."""

    backbone: str = settings.backbone()
    layers: str = setting("all", "all, first,last, or numbers such as 0,3,7.", metavar="L")
    frames: int = setting(0, "Frames of the boring video; 0: the backbone's.", least=0)
    size: int = setting(0, "Side of the frames in pixels; 0: the backbone's.", least=0)
    seed: int = settings.seed()
    device: str = settings.device()


@dataclass(frozen=True, kw_only=True)
class ShowSettings(Watching):
    """Pictures whose islands are drawn. One colour code for all (`joint`) goes by cosines with common anchors."""

    images: tuple[str, ...] = setting(help="Pictures.", kind="any pictures", argument=True, metavar="IMAGE...")
    reduce: str = setting("tsne", "To three colours, by tsne, umap or pca.", choices=("tsne", "umap", "pca"))
    joint: bool = setting(False, "One colour code for all layers and pictures.")
    exact: bool = setting(False, "scikit-learn's t-SNE on all points (slow).")
    grid: int = setting(56, "Side above which grids are averaged down.", least=2, most=MAX_GRID, metavar="N")
    partition: str = setting("kmeans:6", "How outlined islands are cut, as for a score.", metavar="P")
    figure: str = setting("", "Layers outlined in the figure.", metavar="L", shown="three, evenly spaced")
    finer: int = setting(
        0,
        "Also outline grids so many times finer, as an APM's field and three ways without.",
        least=0,
        most=8,
        metavar="N",
    )
    save_grids: bool = setting(False, "Also write the raw grids (T', h, w, D), npz.")
    cache: bool = setting(True, "Neither read nor keep embeddings.")


@dataclass(frozen=True, kw_only=True)
class PatchSettings(Watching):
    """One picture watched as it is, and with a layer's features replaced at a region; later `layers` are compared."""

    image: str = setting(help="A picture.", kind="picture", argument=True)
    layer: str = setting(help="Which is patched: a number, or its name in the network.", metavar="L")
    region: str = setting(help="x,y or x0,y0,x1,y1 in [0, 1], all, or a mask picture.", metavar="R")
    value: str = setting(help="zero, mean (of the layer), or a picture whose features are put there.", metavar="V")
    partition: str = setting("kmeans:6", "How islands are cut, as for a score.", metavar="P")
    grid: int = setting(56, "Side above which grids are averaged down.", least=2, most=MAX_GRID, metavar="N")
    classes: str | None = settings.classes()


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Watching):
    """Pictures with outlines that islands are scored by: all layers at one `grid`, so that none wins by fineness."""

    layers: str = setting("all", "all, first,last, or numbers such as 0,3,7, and joins such as 3+7+11.", metavar="L")
    data: str = settings.data(
        help="bsds500, coco, voc, pictures with masks, or a made set, see docs/datasets.md.", kind="outlines"
    )
    partition: str = setting("kmeans:6", "kmeans:6, ncut:auto, tree, maskcut, ...; see docs/islands.md.", metavar="P")
    grid: int = setting(56, "Side that all grids are brought to.", least=2, metavar="N")
    split: str = setting("val", "Split of a bsds500 folder.")
    one_to_one: bool = setting(False, "Also boundary F matched one to one, as BSDS does (slow).")
    limit: int = settings.limit("Pictures, the first by name,")
    choose_on: str = setting("", "Pictures with outlines that choose layer and cut; none of DATA.", kind="outlines")
    choose_split: str = setting("train", "Split of a bsds500 folder to choose on.")
    choose_limit: int = settings.limit("Pictures to choose on")
    candidates: str = setting(CANDIDATES, "Partitions to choose from, by commas.", metavar="P,P", shown="21 of them")
    finalists: int = setting(3, "Layers, best by --partition, that meet every candidate; 0: all.", least=0)
    slots: str = setting("", "The --out of `apm slots train`: slot attention, scored beside.", metavar="DIR")
    workers: int | None = settings.workers()
    jobs: int = setting(0, "Processes that cut and score; 0: as many as pay.", least=0)


@dataclass(frozen=True, kw_only=True)
class RecordedScoreSettings(ScoreSettings):
    """As many pictures as a recorded table has."""

    limit: int = settings.limit("Pictures, the first by name,", 100)
