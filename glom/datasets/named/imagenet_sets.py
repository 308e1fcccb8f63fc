"""ImageNet and what was drawn from it, all with the classes in ImageNet's order and known by their wnids.

    imagenet           Russakovsky et al. 2015: 1,000 classes; the validation set serves as the test set
    imagenet-a, -r     Hendrycks et al. 2021 (two papers): 200 classes each, a subset of the 1,000
    imagenet-v2        Recht et al. 2019, matched-frequency: folders 0 to 999, to be read as numbers
    imagenet-sketch    Wang et al. 2019: 1,000 classes
    imagenet-c         Hendrycks & Dietterich 2019, as downloaded: CORRUPTION/SEVERITY/WNID

A subset has the classes of the subset: a head of 200 rows, as its authors and the tables score it. The same pictures
opened as a plain folder have ImageNet's 1,000, which is a harder question.
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.class_files import WNID, read_lines
from glom.datasets.classes import imagenet_names, imagenet_wnids
from glom.datasets.corruptions import BLURS, CORRUPTIONS, DIGITALS, EXTRA, NOISES, SEVERITIES, WEATHERS
from glom.datasets.folder import folder_dataset
from glom.datasets.named.layouts import Layout, plural
from glom.datasets.prompts import clip_templates
from glom.datasets.reading import one_line
from glom.errors import InputError, unknown

# ImageNet-C's fifth archive is not part of its score, but of what is downloaded.
GROUPS = {"noise": NOISES, "blur": BLURS, "weather": WEATHERS, "digital": DIGITALS, "extra": EXTRA}
# The root itself is known by a class folder in it; the slash takes folders alone.
A_WNID, A_NUMBER = "n" + 8 * "[0-9]" + "/", "[0-9]/"
BASES = ("imagenet/images", "imagenet", "ILSVRC/Data/CLS-LOC", "ILSVRC2012", "")


@cache
def subset_wnids(letter: str) -> tuple[str, ...]:
    """The 200 wnids of ImageNet-A ("a") or -R ("r") in ImageNet's order, from the lists that timm carries."""
    # Found without importing timm, which would load torch.
    spec = importlib.util.find_spec("timm")
    assert spec is not None and spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "data" / "_info" / f"imagenet_{letter}_synsets.txt"
    return tuple(read_lines(path))


def names_of(wnids: Sequence[str]) -> tuple[str, ...]:
    """Class names as prompts use them. Raises `KeyError` for a wnid that is not among the 1,000."""
    called = dict(zip(imagenet_wnids(), imagenet_names(), strict=True))
    return tuple(called[wnid] for wnid in wnids)


def wnid_dataset(name: str, folder: Path, wnids: Sequence[str]) -> ImageDataset:
    """Class folders named by wnids, labelled by their place in `wnids`; a class without a folder keeps its label.

    Raises:
        InputError: no pictures, folders that are no wnids, or wnids of other classes than these.
    """
    found = folder_dataset(folder, renamed=True)
    keys = found.keys or ()
    used = sorted({keys[sample.label] for sample in found if sample.label is not None})
    strange = [key for key in used if not WNID.fullmatch(key)]
    if strange or not used:
        what = f"'{one_line(strange[0])}' is no wnid" if strange else "its pictures lie in no class folders"
        raise InputError(f"{name}: {one_line(folder)} should hold folders such as {wnids[0]}, but {what}")
    outside = sorted(set(used) - set(wnids))
    if outside:
        raise InputError(
            f"{name}: {len(outside)} of the {len(used)} class folders in {one_line(folder)} are none of its "
            f"{len(wnids):,} classes, the first of them {outside[0]}; is this another data set?"
        )
    place = {wnid: index for index, wnid in enumerate(wnids)}
    return _labelled(name, found, [place.get(key) for key in keys], wnids)


def _labelled(name: str, found: ImageDataset, label_of: Sequence[int | None], wnids: Sequence[str]) -> ImageDataset:
    """The same samples with labels in `wnids`; loose pictures beside the class folders are passed over."""
    samples = tuple(replace(s, label=label_of[s.label]) for s in found.samples if s.label is not None)
    return ImageDataset(
        name, samples, names_of(wnids), clip_templates(name), tuple(wnids), found.passed_over, found.notes
    )


def _above(place: Path) -> Path:
    """The folder of class folders, of which `place` is one where the root itself was named."""
    return place.parent if WNID.fullmatch(place.name) or place.name.isdecimal() else place


def subset_layouts(name: str, letter: str, folder: str, counts: dict[str, tuple[int, int]]) -> tuple[Layout, ...]:
    """ImageNet-A's and -R's: class folders in `imagenet-a/`, in CoOp's folder around it, or in the root itself."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return wnid_dataset(name, _above(place), subset_wnids(letter))

    shape = (f"{name}/WNID/NAME.jpg", f"{folder}/{name}/WNID/NAME.jpg")
    places = (name, f"{folder}/{name}")
    return (Layout("class folders", (*places, A_WNID), counts, read, shape),)


def sketch_layouts(counts: dict[str, tuple[int, int]]) -> tuple[Layout, ...]:
    """ImageNet-Sketch: the archive's `sketch/`, or CoOp's `imagenet-sketch/images/`."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return wnid_dataset("imagenet-sketch", _above(place), imagenet_wnids())

    places = ("imagenet-sketch/images", "imagenet-sketch/sketch", "imagenet-sketch", "sketch", A_WNID)
    shape = ("imagenet-sketch/images/WNID/NAME.JPEG", "imagenet-sketch/sketch/WNID/NAME.JPEG", "sketch/WNID/NAME.JPEG")
    return (Layout("class folders", places, counts, read, shape),)


def v2_layouts(counts: dict[str, tuple[int, int]]) -> tuple[Layout, ...]:
    """ImageNetV2: folders called 0 to 999, which sorted as words would come in another order (0, 1, 10, 100, ...)."""
    name, inner = "imagenet-v2", "imagenetv2-matched-frequency-format-val"

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        place = _above(place)
        found = folder_dataset(place)
        keys = found.keys or ()
        strange = [key for key in keys if not key.isdecimal() or int(key) >= 1000]
        if strange or not keys:
            what = f"'{one_line(strange[0])}' is none" if strange else "it has no class folders"
            raise InputError(f"{name}: {one_line(place)} should hold folders called 0 to 999, but {what}")
        return _labelled(name, found, [int(key) for key in keys], imagenet_wnids())

    places = (inner, f"imagenetv2/{inner}", f"imagenet-v2/{inner}", "imagenetv2-matched-frequency", A_NUMBER)
    return (Layout("class folders", places, counts, read, (f"{inner}/0/NAME.jpeg", f"imagenetv2/{inner}/0/NAME.jpeg")),)


# -- ImageNet itself ----------------------------------------------------------------------------------------------


def imagenet_layouts(counts: dict[str, tuple[int, int]]) -> tuple[Layout, ...]:
    """train/WNID and val/WNID as torchvision leaves them, the same in CoOp's `images/` or Kaggle's folders; the
    validation pictures may also lie flat, as they are downloaded, beside a list of their classes."""

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        folder = place.parent / ("train" if split == "train" else "val")
        if not folder.is_dir():
            raise InputError(f"imagenet: no '{folder.name}' folder in {one_line(place.parent)}")
        found = folder_dataset(folder, renamed=True)
        if found.classes is None:
            return _flat(found, folder)
        return wnid_dataset("imagenet", folder, imagenet_wnids())

    places = tuple(f"{base}/{part}".lstrip("/") for base in BASES for part in ("val", "train"))
    shape = ("imagenet/val/WNID/NAME.JPEG", "imagenet/train/WNID/NAME.JPEG", "imagenet/images/val/WNID/NAME.JPEG")
    return (Layout("class folders", places, counts, read, shape),)


def _flat(found: ImageDataset, folder: Path) -> ImageDataset:
    """Validation pictures without class folders, labelled by Kaggle's table or by the development kit."""
    label_of = _kaggle_labels(folder) or _devkit_labels(folder)
    if label_of is None:
        raise InputError(
            f"imagenet: the pictures in {one_line(folder)} lie in no class folders, and neither LOC_val_solution.csv "
            "nor ILSVRC2012_devkit_t12/data is near; sort them into val/WNID/"
        )
    unlisted = [s.id for s in found if Path(s.id).stem not in label_of]
    if unlisted:
        count = plural(len(unlisted), "picture has", "pictures have")
        raise InputError(f"imagenet: {count} no class in {one_line(folder)}, the first of them {unlisted[0]}")
    samples = tuple(Sample(s.id, label_of[Path(s.id).stem], s.source) for s in found)
    wnids = imagenet_wnids()
    return ImageDataset(
        "imagenet", samples, names_of(wnids), clip_templates("imagenet"), wnids, found.passed_over, found.notes
    )


def _near(folder: Path, name: str) -> Path | None:
    """The first of the folders above, up to four, that holds `name`."""
    return next((above / name for above in list(folder.parents)[:4] if (above / name).exists()), None)


def _kaggle_labels(folder: Path) -> dict[str, int] | None:
    path = _near(folder, "LOC_val_solution.csv")
    if path is None:
        return None
    place = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
    labels = {}
    for line in list(csv.reader(read_lines(path)))[1:]:
        wnid = line[1].split(" ")[0] if len(line) == 2 else ""
        if wnid not in place:
            raise InputError(f"{one_line(path)}: the line of '{one_line(line[0])}' names no wnid of ImageNet's")
        labels[line[0]] = place[wnid]
    return labels


def _devkit_labels(folder: Path) -> dict[str, int] | None:
    kit = _near(folder, "ILSVRC2012_devkit_t12")
    if kit is None:
        return None
    from scipy.io import loadmat

    path = kit / "data" / "meta.mat"
    try:
        synsets = loadmat(path, squeeze_me=True)["synsets"]
        numbers = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets.ravel()}
        truth = [int(line) for line in read_lines(kit / "data" / "ILSVRC2012_validation_ground_truth.txt")]
        place = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
        # The kit numbers classes in an order of its own, which is not that of the labels.
        return {f"ILSVRC2012_val_{i:08d}": place[numbers[number]] for i, number in enumerate(truth, 1)}
    except Exception as error:  # readers of Matlab's files raise nearly anything on damaged bytes
        raise InputError(f"{one_line(kit)}: the development kit cannot be read ({one_line(error)})") from error


# -- ImageNet-C ---------------------------------------------------------------------------------------------------


def imagenet_c_layouts(variant: str) -> tuple[Layout, ...]:
    """One corruption at one severity; the archives' folders may lie together or in one folder each group."""
    corruption, severity = parse_variant("imagenet-c", variant)
    group = next(name for name, members in GROUPS.items() if corruption in members)
    title = f"imagenet-c/{corruption}-{severity}"

    def read(place: Path, root: Path, split: str) -> ImageDataset:
        return replace(wnid_dataset("imagenet-c", place, imagenet_wnids()), name=title)

    inner = f"{corruption}/{severity}"
    places = tuple(
        f"{base}{between}{inner}" for base in ("imagenet-c/", "ImageNet-C/", "") for between in ("", f"{group}/")
    )
    shape = ("imagenet-c/CORRUPTION/SEVERITY/WNID/NAME.JPEG", "imagenet-c/GROUP/CORRUPTION/SEVERITY/WNID/NAME.JPEG")
    return (Layout("class folders", places, {"test": (50_000, 1000)}, read, shape),)


def parse_variant(name: str, variant: str) -> tuple[str, int]:
    """`fog/5` -> ("fog", 5). Raises `InputError` for an unknown corruption or severity, or none."""
    corruption, slash, severity = variant.partition("/")
    valid = (*CORRUPTIONS, *EXTRA)
    if not variant:
        raise InputError(f"{name} needs a corruption and a severity: {name}/gaussian_noise/5")
    if corruption not in valid:
        raise unknown(f"corruption of {name}", corruption, valid, f"write {name}/CORRUPTION/SEVERITY")
    if not slash or severity not in map(str, SEVERITIES):
        raise InputError(f"{name}: unknown severity '{severity}' of {corruption}; write {name}/{corruption}/1 to 5")
    return corruption, int(severity)


VARIANTS = tuple(f"{corruption}/{severity}" for corruption in CORRUPTIONS for severity in SEVERITIES)
