"""Every data set that can be named: what it is, how it may lie, how it is come by. Read it as a table."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType

from glom.datasets.named.cifar_c import cifar_c_layouts
from glom.datasets.named.coop import aircraft_layout, coop_layout, ucf_layout
from glom.datasets.named.idx import idx_layout
from glom.datasets.named.imagenet_sets import (
    GROUPS,
    VARIANTS,
    imagenet_c_layouts,
    imagenet_layouts,
    sketch_layouts,
    subset_layouts,
    v2_layouts,
)
from glom.datasets.named.layouts import Archive, Download, Layout, NamedSet
from glom.datasets.named.picture_sets import bsds_layouts, coco_layouts, voc_layouts
from glom.datasets.named.shifts import SHIFTS, cifar101_layouts
from glom.datasets.named.torchvision_sets import SETS, torchvision_layout

MB = 1_000_000
IMAGENET_TERMS = "ImageNet's terms: research use"
RESEARCH = "research use"
VGG = "https://www.robots.ox.ac.uk/~vgg/data"
CIFAR = "https://www.cs.toronto.edu/~kriz/cifar.html"
ZENODO_C = "https://zenodo.org/records/2235448/files"
HENDRYCKS = "https://people.eecs.berkeley.edu/~hendrycks"
COCO_BASES = ("coco/", "COCO/", "coco/images/", "")
COCO_FILES = "http://images.cocodataset.org"
COOP_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
BERKELEY = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"

# name: file, pictures beside it, where it may lie, images in train, val and test, classes (Zhou et al. 2022, table of
# data sets in the appendix)
COOP: dict[str, Layout] = {
    "flowers102": coop_layout(
        "flowers102", "split_zhou_OxfordFlowers.json", "jpg", ("oxford_flowers", "flowers-102", ""),
        (4_093, 1_633, 2_463), 102,
    ),
    "dtd": coop_layout(
        "dtd", "split_zhou_DescribableTextures.json", "images", ("dtd", "dtd/dtd", ""), (2_820, 1_128, 1_692), 47
    ),
    "oxford-pets": coop_layout(
        "oxford-pets", "split_zhou_OxfordPets.json", "images", ("oxford_pets", "oxford-iiit-pet", ""),
        (2_944, 736, 3_669), 37,
    ),
    "ucf101": coop_layout(
        "ucf101", "split_zhou_UCF101.json", "UCF-101-midframes", ("ucf101", ""), (7_639, 1_898, 3_783), 101
    ),
    "caltech101": coop_layout(
        "caltech101", "split_zhou_Caltech101.json", "101_ObjectCategories", ("caltech-101", "caltech101", ""),
        (4_128, 1_649, 2_465), 100,
    ),
    "food101": coop_layout(
        "food101", "split_zhou_Food101.json", "images", ("food-101", ""), (50_500, 20_200, 30_300), 101
    ),
    "sun397": coop_layout("sun397", "split_zhou_SUN397.json", "SUN397", ("sun397", ""), (15_880, 3_970, 19_850), 397),
    "eurosat": coop_layout("eurosat", "split_zhou_EuroSAT.json", "2750", ("eurosat", ""), (13_500, 5_400, 8_100), 10),
}  # fmt: skip


def _fixed(*layouts: Layout) -> partial[tuple[Layout, ...]]:
    return partial(_same, layouts)


def _same(layouts: tuple[Layout, ...], variant: str) -> tuple[Layout, ...]:
    return layouts


def _either(bases: tuple[str, ...], places: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{base}{place}" for base in bases for place in places)


def _torchvision(
    name: str, what: str, size: str, licence: str, source: str, download: int, tables: tuple[int, ...] = ()
) -> NamedSet:
    """A set of torchvision's, in CoOp's layout first where there is one; `download` in MB."""
    kind = SETS[name]
    coop = [COOP[name]] if name in COOP else []
    fetch = Download((), kind.kind, MappingProxyType(dict(next(iter(kind.splits.values())))), download * MB)
    terms = f"the few-shot split {COOP[name].places[0]} comes from CoOp's page, {COOP_PAGE}" if coop else ""
    layouts = _fixed(*coop, torchvision_layout(kind))
    return NamedSet(name, what, size, licence, source, layouts, download=fetch, terms=terms, tables=tables)


def _idx(
    name: str, kind: str, folders: tuple[str, ...], what: str, licence: str, source: str, download: int
) -> NamedSet:
    """MNIST or its like: idx files, fetched by torchvision's class `kind`; `download` in MB."""
    fetch = Download((), kind, MappingProxyType({"train": False}), download * MB)
    return NamedSet(name, what, "70,000", licence, source, _fixed(idx_layout(name, folders)), download=fetch)


def _shift(name: str, what: str, size: str, licence: str, source: str, terms: str) -> NamedSet:
    """A set of several domains; none of them can be fetched without a page or a form."""
    shift = SHIFTS[name]
    return NamedSet(name, what, size, licence, source, shift.layouts, tuple(shift.domains), "DOMAIN", terms=terms)


NAMED: dict[str, NamedSet] = {
    found.name: found
    for found in (
        # -- ImageNet and what was drawn from it: the poster's tables 1 and 2 -----------------------------------------
        NamedSet(
            "imagenet", "1,000 classes of objects", "1,331,167", IMAGENET_TERMS,
            "https://image-net.org/download-images.php",
            _fixed(*imagenet_layouts({"test": (50_000, 1000), "val": (50_000, 1000), "train": (1_281_167, 1000)})),
            terms="its terms have to be accepted on its page, with an account", tables=(1,),
        ),
        NamedSet(
            "imagenet-a", "200 classes, hard pictures", "7,500", "MIT",
            "https://github.com/hendrycks/natural-adv-examples",
            _fixed(*subset_layouts("imagenet-a", "a", "imagenet-adversarial", {"test": (7_500, 200)})),
            download=Download((
                Archive(f"{HENDRYCKS}/imagenet-a.tar", 687_552_512, md5="c3e55429088dc681f30d81f4726b6595"),
            )),
            tables=(1,),
        ),
        NamedSet(
            "imagenet-v2", "a second test set for ImageNet", "10,000", "MIT",
            "https://github.com/modestyachts/ImageNetV2", _fixed(*v2_layouts({"test": (10_000, 1000)})),
            download=Download((Archive(
                "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
                1_260 * MB,
            ),)),
            tables=(1,),
        ),
        NamedSet(
            "imagenet-r", "200 classes, art and toys", "30,000", "MIT",
            "https://github.com/hendrycks/imagenet-r",
            _fixed(*subset_layouts("imagenet-r", "r", "imagenet-rendition", {"test": (30_000, 200)})),
            download=Download((
                Archive(f"{HENDRYCKS}/imagenet-r.tar", 2_190 * MB, md5="a61312130a589d0ca1a8fca1f2bd3337"),
            )),
            tables=(1,),
        ),
        NamedSet(
            "imagenet-sketch", "1,000 classes as sketches", "50,889", "MIT",
            "https://github.com/HaohanWang/ImageNet-Sketch", _fixed(*sketch_layouts({"test": (50_889, 1000)})),
            download=Download((Archive(
                "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip",
                7_600 * MB, "imagenet-sketch",
            ),)),
            tables=(1,),
        ),
        NamedSet(
            "imagenet-c", "ImageNet test, corrupted", "75 x 50,000", "CC BY 4.0",
            "https://zenodo.org/records/2235448", imagenet_c_layouts, VARIANTS, "CORRUPTION/SEVERITY",
            Download(tuple(
                Archive(
                    f"{ZENODO_C}/{group}.tar", size * MB, "imagenet-c", md5,
                    _either(("imagenet-c/", "ImageNet-C/", ""), (GROUPS[group][0], f"{group}/{GROUPS[group][0]}")),
                )
                for group, size, md5 in (
                    ("noise", 22_000, "e80562d7f6c3f8834afb1ecf27252745"),
                    ("blur", 7_100, "2d8e81fdd8e07fef67b9334fa635e45c"),
                    ("weather", 12_000, "33ffea4db4d93fe4a428c40a6ce0c25d"),
                    ("digital", 7_600, "89157860d7b10d5797849337ca2e5c03"),
                )
            )),
            "or generate it from clean pictures: `corruption` NAME:SEVERITY", tables=(2,),
        ),
        _torchvision(
            "imagenette", "10 easy classes of ImageNet", "13,394", IMAGENET_TERMS,
            "https://github.com/fastai/imagenette", 1_557,
        ),
        # -- the same classes in other domains ------------------------------------------------------------------------
        _shift(
            "pacs", "7 classes: photos, paintings, cartoons, sketches", "9,991", "not stated",
            "https://domaingeneralization.github.io", "a link on its page leads to a shared folder",
        ),
        _shift(
            "shape-texture", "16 classes: line drawings, silhouettes, cue conflict", "1,600", "CC BY 4.0",
            "https://github.com/rgeirhos/texture-vs-shape", "clone that repository: its folder stimuli is the set",
        ),
        _shift(
            "office-home", "65 classes of objects at home, 4 domains", "15,588", RESEARCH,
            "https://www.hemanthdv.org/officeHomeDataset.html", "a link on its page leads to a shared folder",
        ),
        _shift(
            "vlcs", "5 classes from 4 other data sets", "10,729", RESEARCH,
            "https://github.com/facebookresearch/DomainBed", "DomainBed's script leads to a shared folder",
        ),
        _shift(
            "domainnet", "345 classes, 6 domains", "586,575", RESEARCH,
            "https://ai.bu.edu/M3SDA", "six archives and twelve lists on its page; take the cleaned version",
        ),
        _shift(
            "imagenet-d", "113 classes of ImageNet, made by diffusion", "4,835", "MIT",
            "https://github.com/chenshuang-zhang/imagenet_d", "a link on its page leads to a shared folder",
        ),
        # -- small pictures -------------------------------------------------------------------------------------------
        _torchvision(
            "cifar10", "10 classes of objects, 32x32", "60,000", "MIT", CIFAR, 170
        ),
        NamedSet(
            "cifar10.1", "a second test set for CIFAR-10", "2,000", "MIT",
            "https://github.com/modestyachts/CIFAR-10.1", cifar101_layouts, ("v6", "v4"), "VERSION",
            terms="clone that repository: its folder datasets holds the arrays",
        ),
        _torchvision(
            "cifar100", "100 classes of objects, 32x32", "60,000", "not stated", CIFAR, 169
        ),
        NamedSet(
            "cifar10-c", "CIFAR-10 test, corrupted", "75 x 10,000", "CC BY 4.0",
            "https://zenodo.org/records/2535967", partial(cifar_c_layouts, "cifar10-c", "CIFAR-10-C"), VARIANTS,
            "CORRUPTION/SEVERITY",
            Download((Archive(
                "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar", 2_918_471_680,
                md5="56bf5dcef84df0e2308c6dcbcbbd8499",
            ),)),
        ),
        NamedSet(
            "cifar100-c", "CIFAR-100 test, corrupted", "75 x 10,000", "CC BY 4.0",
            "https://zenodo.org/records/3555552", partial(cifar_c_layouts, "cifar100-c", "CIFAR-100-C"), VARIANTS,
            "CORRUPTION/SEVERITY",
            Download((Archive(
                "https://zenodo.org/records/3555552/files/CIFAR-100-C.tar", 2_918_473_216,
                md5="11f0ed0f1191edbf9fa23466ae6021d3",
            ),)),
        ),
        _idx(
            "mnist", "MNIST", ("MNIST/raw", "MNIST", "mnist", "raw"), "handwritten digits, 28x28 grey", "CC BY-SA 3.0",
            "https://yann.lecun.com/exdb/mnist", 12,
        ),
        _idx(
            "fashion-mnist", "FashionMNIST", ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion", "raw"),
            "10 kinds of clothing, 28x28", "MIT", "https://github.com/zalandoresearch/fashion-mnist", 31,
        ),
        _torchvision(
            "stl10", "10 classes of objects, 96x96", "13,000", IMAGENET_TERMS,
            "https://cs.stanford.edu/~acoates/stl10", 2_640,
        ),
        # -- fine-grained and others: the poster's table 3 ------------------------------------------------------------
        _torchvision(
            "flowers102", "102 kinds of flowers", "8,189", RESEARCH, f"{VGG}/flowers/102", 345, (3,)
        ),
        _torchvision("dtd", "47 textures", "5,640", RESEARCH, f"{VGG}/dtd", 625, (3,)),
        _torchvision(
            "oxford-pets", "37 breeds of cats and dogs", "7,349", "CC BY-SA 4.0", f"{VGG}/pets", 811, (3,)
        ),
        NamedSet(
            "ucf101", "101 actions, frames of films", "13,320", RESEARCH,
            "https://www.crcv.ucf.edu/data/UCF101.php", _fixed(COOP["ucf101"], ucf_layout("ucf101")),
            terms=f"the middle frames and the split are on CoOp's page, {COOP_PAGE}", tables=(3,),
        ),
        _torchvision(
            "caltech101", "101 kinds of objects", "8,677", "CC BY 4.0",
            "https://data.caltech.edu/records/mzrjq-6wc02", 137, (3,),
        ),
        _torchvision(
            "food101", "101 dishes", "101,000", RESEARCH,
            "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101", 4_996, (3,),
        ),
        _torchvision(
            "sun397", "397 kinds of places", "108,754", RESEARCH,
            "https://vision.princeton.edu/projects/2010/SUN", 39_100, (3,),
        ),
        NamedSet(
            "fgvc-aircraft", "100 variants of aircraft", "10,000", RESEARCH,
            f"{VGG}/fgvc-aircraft",
            _fixed(aircraft_layout(
                "fgvc-aircraft", {"test": (3_333, 100), "train": (3_334, 100), "val": (3_333, 100)}
            )),
            download=Download((), "FGVCAircraft", MappingProxyType({"split": "test"}), 2_753 * MB),
            tables=(3,),
        ),
        _torchvision(
            "eurosat", "10 kinds of land from above", "27,000", "MIT",
            "https://github.com/phelber/eurosat", 94, (3,),
        ),
        # -- pictures without labels, with outlines -------------------------------------------------------------------
        NamedSet(
            "coco", "everyday scenes with outlines", "123,287",
            "annotations CC BY 4.0, pictures as on Flickr", "https://cocodataset.org/#download",
            _fixed(*coco_layouts()),
            download=Download(tuple(
                Archive(f"{COCO_FILES}/{file}.zip", size * MB, "coco", gives=_either(COCO_BASES, (gives,)))
                for file, size, gives in (
                    ("annotations/annotations_trainval2017", 253, "annotations/instances_val2017.json"),
                    ("zips/val2017", 816, "val2017"),
                    ("zips/train2017", 19_337, "train2017"),
                )
            )),
        ),
        NamedSet(
            "voc", "photographs with objects and their classes", "2,913", "pictures as on Flickr",
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012", _fixed(*voc_layouts()),
            download=Download((Archive(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar", 1_999_639_040,
                md5="6cd6e144f989b92b3379bac3b3de84fd",
            ),)),
        ),
        NamedSet(
            "bsds500", "photographs with outlines", "500", RESEARCH,
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds", _fixed(*bsds_layouts()),
            download=Download((Archive(BERKELEY, 71 * MB),)),
        ),
    )
}  # fmt: skip
