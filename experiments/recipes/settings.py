"""The recipes of what ships; the defaults are what the shipped weights were trained with.

Fields without a help are not asked for on the command line: other values are other networks.
"""

from __future__ import annotations

from dataclasses import dataclass

from glom import settings
from glom.settings import Settings, setting

FROM = "CIFAR-10: `cifar10` (torchvision), or a folder with train/CLASS and test/CLASS."


@dataclass(frozen=True, kw_only=True)
class Shipped(Settings):
    """What every recipe is asked for."""

    data: str = settings.data("cifar10", FROM, kind="", named=True)
    limit: int = settings.limit("Pictures of either split")
    seed: int = settings.seed()
    workers: int | None = settings.workers()


@dataclass(frozen=True, kw_only=True)
class TinyClipSettings(Shipped):
    """glom-tiny: a small CLIP on class names in sentences."""

    limit: int = settings.limit("Training pictures")
    epochs: int = setting(24, "Passes over the training pictures.", least=1)
    batch_size: int = 256
    lr: float = 4e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    translate: int = 4
    cutout: int = 10
    synonym_share: float = 0.3
    bf16: bool = True


@dataclass(frozen=True, kw_only=True)
class MViTSettings(Shipped):
    """What the trainings of both video transformers are told; each has values of its own."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup: int
    decay: int
    label_smoothing: float
    small: tuple[int, ...]
    sizes: tuple[int, ...]
    bf16: bool


@dataclass(frozen=True, kw_only=True)
class MViTTinySettings(MViTSettings):
    """mvit-v2-tiny: a video transformer that learns to classify boring videos.

    Attributes:
        batch_size, lr, weight_decay: of AdamW. The rate goes up linearly for `warmup` epochs, stays, and goes down to
            zero over the last `decay` (Hu et al. 2024, "MiniCPM", section 4): until then longer and shorter trainings
            are the same one.
        label_smoothing: of the cross-entropy.
        translate, cutout: pixels pictures are shifted by at most, and the side of the square cut out of them.
        small, sizes: sides in pixels before and during the decay, one drawn for each batch: small pictures first are
            quicker (Tan & Le 2021, "EfficientNetV2", section 4), and no single scale is learnt.
        bf16: products in bfloat16.
    """

    epochs: int = setting(15, "Passes over the training pictures.", least=1)
    batch_size: int = 128
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 1
    decay: int = 5
    label_smoothing: float = 0.1
    translate: int = 4
    cutout: int = 0
    small: tuple[int, ...] = (16, 20, 24)
    sizes: tuple[int, ...] = (24, 28, 32)
    bf16: bool = True


@dataclass(frozen=True, kw_only=True)
class MViTPhotoSettings(MViTSettings):
    """mvit-v2-photo: the small video transformer goes on, deeper, with photographs; classification and nothing else.

    Attributes:
        also: more photographs, whose labels (if any) are not used.
        teacher: the classifier that gives soft labels.
        start: the backbone whose weights training begins with.
        per_place: weight of the loss in which every location classifies, beside that of the whole view.
        own: weight of the cross-entropy with the data set's own classes, on the pictures that have one.
        stored: side in pixels of the squares that pictures are kept as.
        least: share of a picture that a view shows at least.
        colour: how far brightness, contrast and saturation go.
        The others: as `MViTTinySettings` has them.
    """

    data: str = settings.data("caltech101", "Labelled photographs: a folder with train/CLASS and test/CLASS.", kind="")
    also: tuple[str, ...] = setting((), "More photographs, by folder or name; only soft labels are learnt on them.")
    teacher: str = setting("efficientnet-lite2", "Classifier whose class probabilities are the soft labels.")
    start: str = setting("mvit-v2-tiny", "Backbone to begin with: a shipped one, or mvit-v2-tiny@FOLDER.")
    epochs: int = setting(8, "Passes over the training pictures.", least=1)
    per_place: float = setting(0.5, "Weight of the loss in which every location classifies.", least=0)
    own: float = 0.5
    batch_size: int = setting(32, "Pictures a step.", least=1)
    lr: float = setting(7e-4, "Highest rate of learning.", above=0)
    weight_decay: float = 0.05
    warmup: int = 1
    decay: int = setting(3, "Last epochs, in which the rate goes down to nothing.", least=0)
    label_smoothing: float = 0.1
    stored: int = 128
    least: float = 0.2
    colour: float = 0.4
    small: tuple[int, ...] = setting((32, 40, 48), "Sides of the views in pixels, one drawn a batch.", least=8)
    sizes: tuple[int, ...] = setting((48, 56, 64), "The same in the last epochs.", least=8)
    bf16: bool = True
