"""Sets whose pictures come in several domains: paintings and sketches of what was photographed, contours, cues apart.

    pacs/art_painting/dog/pic_001.jpg        NAME/DOMAIN is one domain, NAME alone all of them, domains in front of ids

Each is read from class folders. DomainNet's lists of training and test pictures are followed where they lie there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.class_files import read_lines
from glom.datasets.folder import folder_dataset
from glom.datasets.labels import whole_array
from glom.datasets.named.cifar_c import CIFAR10, read_array
from glom.datasets.named.layouts import Layout, plural
from glom.datasets.prompts import clip_templates
from glom.datasets.reading import one_line
from glom.datasets.sources import ArraySource
from glom.errors import InputError, unknown

CUES = re.compile(r"([a-z]+)\d*-([a-z]+)\d*")  # the shape's picture, the texture's: `cat7-truck3`
LISTED = {"test": "_test.txt", "train": "_train.txt"}


@dataclass(frozen=True)
class Shift:
    """One set of domains.

    Attributes:
        name: what opens it.
        bases: folders that its domains may lie in, under the root; the root itself is the last.
        domains: domain -> (pictures as published, folders it may be called).
        classes: how many.
        whole: whether the name alone means all domains; otherwise one has to be named.
        lists: pictures of (test, train) by domain, where its authors divided them.
    """

    name: str
    bases: tuple[str, ...]
    domains: Mapping[str, tuple[int, tuple[str, ...]]]
    classes: int
    whole: bool = True
    lists: Mapping[str, tuple[int, int]] | None = None

    def layouts(self, variant: str) -> tuple[Layout, ...]:
        """Of one domain, or of all ("").

        Raises:
            InputError: no such domain.
        """
        if variant not in self.domains and (variant or not self.whole):
            raise unknown(f"domain of {self.name}", variant, self.domains, f"write {self.name}/DOMAIN")
        chosen = [variant] if variant else list(self.domains)
        places = tuple(
            f"{base}{folder}" for base in (*self.bases, "") for name in chosen for folder in self.domains[name][1]
        )
        shape: tuple[str, ...] = (f"{self.bases[0]}DOMAIN/CLASS/NAME.jpg",)
        count = sum(self.domains[name][0] for name in chosen)
        found = (Layout("class folders", places, {"test": (count, self.classes)}, partial(self._read, variant), shape),)
        if self.lists is None:
            return found
        sizes = [self.lists[name] for name in chosen]
        counts = {split: (sum(n[i] for n in sizes), self.classes) for i, split in enumerate(LISTED)}
        places = tuple(f"{place}{end}" for place in places for end in LISTED.values())
        shape = (*shape, f"{self.bases[0]}DOMAIN{LISTED['test']}")
        return (Layout("lists", places, counts, partial(self._read, variant), shape), *found)

    def _read(self, variant: str, place: Path, root: Path, split: str) -> ImageDataset:
        base = place.parent
        if variant:
            return replace(self._domain(base, variant, split), name=f"{self.name}/{variant}")
        parts = {name: self._domain(base, name, split) for name in self.domains}
        first = next(iter(parts.values()))
        for name, part in parts.items():
            if part.classes != first.classes:
                raise InputError(f"{self.name}: {name} has other class folders than {next(iter(parts))}")
        samples = tuple(replace(s, id=f"{name}/{s.id}") for name, part in parts.items() for s in part)
        return replace(first, name=self.name, samples=samples)

    def _domain(self, base: Path, domain: str, split: str) -> ImageDataset:
        folder = next((base / name for name in self.domains[domain][1] if (base / name).is_dir()), None)
        if folder is None:
            raise InputError(f"{self.name}: no folder '{self.domains[domain][1][0]}' in {one_line(base)}")
        found = folder_dataset(folder)
        if found.classes is None:
            raise InputError(f"{self.name}: {one_line(folder)} should hold class folders, not pictures")
        if self.lists is not None and (here := _listed(base, folder.name, split)) is not None:
            found = found.select(here)
        return found


def _listed(base: Path, folder: str, split: str) -> list[str] | None:
    """Ids of a split's pictures, from lines `DOMAIN/CLASS/NAME.jpg LABEL`; None where there are no lists."""
    if not any((base / f"{folder}{end}").is_file() for end in LISTED.values()):
        return None
    return [line.rsplit(" ", 1)[0].partition("/")[2] for line in read_lines(base / f"{folder}{LISTED[split]}")]


def cue_conflict(found: ImageDataset) -> ImageDataset:
    """The texture's class beside the shape's, in `other_labels`: a file's name says both (Geirhos et al. 2019).

    Raises:
        InputError: a name that does not, or that tells another shape than its folder.
    """
    classes, textures = found.classes or (), dict[str, int]()
    for sample in found:
        said = CUES.fullmatch(Path(sample.id).stem)
        if said is None or said[2] not in classes or classes[sample.label or 0] != said[1]:
            raise InputError(
                f"{found.name}: '{sample.id}' is not called SHAPE-TEXTURE, such as {classes[0]}1-{classes[-1]}2.png"
            )
        textures[sample.id] = classes.index(said[2])
    return replace(found, other_labels={"texture": textures})


@dataclass(frozen=True)
class ShapeTexture(Shift):
    """Line drawings, silhouettes, and pictures with one class's shape and another's texture."""

    def _read(self, variant: str, place: Path, root: Path, split: str) -> ImageDataset:
        found = super()._read(variant, place, root, split)
        return cue_conflict(found) if variant == "cue-conflict" else found


def cifar101_layouts(variant: str) -> tuple[Layout, ...]:
    """CIFAR-10.1 (Recht et al. 2018): `v6`, the balanced one, or `v4`; two arrays each."""
    counts = {"": 2_000, "v6": 2_000, "v4": 2_021}
    if variant not in counts:
        raise unknown("version of cifar10.1", variant, [v for v in counts if v], "write cifar10.1/v6")
    version = variant or "v6"

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        pictures = read_array("cifar10.1", place)
        labels = read_array("cifar10.1", place.with_name(place.name.replace("_data", "_labels")))
        whole = whole_array(labels)
        if pictures.dtype != np.uint8 or pictures.shape[1:] != (32, 32, 3):
            raise InputError(f"cifar10.1: {place.name} should be (N, 32, 32, 3) uint8, it is {pictures.shape}")
        if whole is None or labels.shape != (len(pictures),):
            raise InputError(f"cifar10.1: {plural(len(pictures), 'picture')} need as many whole labels")
        samples = tuple(Sample(f"test/{i:06d}", int(whole[i]), ArraySource(pictures, i)) for i in range(len(pictures)))
        return ImageDataset(f"cifar10.1/{version}", samples, CIFAR10, clip_templates("cifar10"), CIFAR10)

    file = f"cifar10.1_{version}_data.npy"
    places = tuple(f"{base}{file}" for base in ("cifar10.1/", "CIFAR-10.1/datasets/", "datasets/", ""))
    shape = (f"cifar10.1/{file}", f"cifar10.1/cifar10.1_{version}_labels.npy")
    return (Layout("arrays", places, {"test": (counts[variant], 10)}, read, shape),)


SHIFTS: dict[str, Shift] = {
    shift.name: shift
    for shift in (
        Shift(
            "pacs", ("pacs/", "PACS/", "PACS/kfold/", "pacs/images/"),
            {
                "photo": (1_670, ("photo",)), "art_painting": (2_048, ("art_painting",)),
                "cartoon": (2_344, ("cartoon",)), "sketch": (3_929, ("sketch",)),
            },
            7,
        ),
        ShapeTexture(
            "shape-texture", ("shape-texture/", "texture-vs-shape/stimuli/", "stimuli/"),
            {
                "edges": (160, ("edges",)), "silhouettes": (160, ("silhouettes", "filled-silhouettes")),
                "cue-conflict": (1_280, ("cue-conflict", "style-transfer-preprocessed-512")),
            },
            16, whole=False,
        ),
        Shift(
            "office-home", ("office-home/", "OfficeHome/", "office_home/", "OfficeHomeDataset_10072016/"),
            {
                "art": (2_427, ("Art",)), "clipart": (4_365, ("Clipart",)), "product": (4_439, ("Product",)),
                "real-world": (4_357, ("Real World", "Real_World", "RealWorld", "Real")),
            },
            65,
        ),
        Shift(
            "vlcs", ("vlcs/", "VLCS/"),
            {
                "caltech101": (1_415, ("Caltech101",)), "labelme": (2_656, ("LabelMe",)),
                "sun09": (3_282, ("SUN09",)), "voc2007": (3_376, ("VOC2007",)),
            },
            5,
        ),
        Shift(
            "domainnet", ("domainnet/", "DomainNet/", "domain_net/"),
            {
                "clipart": (48_129, ("clipart",)), "infograph": (51_605, ("infograph",)),
                "painting": (72_266, ("painting",)), "quickdraw": (172_500, ("quickdraw",)),
                "real": (172_947, ("real",)), "sketch": (69_128, ("sketch",)),
            },
            345,
            lists={
                "clipart": (14_604, 33_525), "infograph": (15_582, 36_023), "painting": (21_850, 50_416),
                "quickdraw": (51_750, 120_750), "real": (52_041, 120_906), "sketch": (20_916, 48_212),
            },
        ),
        Shift(
            "imagenet-d", ("imagenet-d/", "ImageNet-D/"),
            {
                "background": (3_764, ("background",)), "texture": (498, ("texture",)),
                "material": (573, ("material",)),
            },
            113,
        ),
    )
}  # fmt: skip
