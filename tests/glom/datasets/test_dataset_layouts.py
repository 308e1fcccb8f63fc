"""Every named data set on a miniature of its own layout, in real file formats: what opens, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glom.datasets import ImageDataset, clip_templates, coop_prompt, open_dataset
from glom.datasets.classes import imagenet_names, imagenet_wnids
from glom.datasets.coco import decode, label_map
from glom.datasets.named.catalogue import COOP, NAMED
from glom.datasets.named.cifar_c import cifar100_names
from glom.datasets.named.imagenet_sets import subset_wnids
from glom.datasets.segmentation import open_segmentation
from glom.errors import InputError
from tests.helpers_images import photo

WNIDS = imagenet_wnids()
FISH, SHARK, SNAIL = WNIDS[0], WNIDS[2], WNIDS[113]


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = photo(20, 24, seed)
    picture.save(path, "PNG" if path.suffix == ".png" else "JPEG")
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def labels(dataset: ImageDataset) -> dict[str, int | None]:
    return {sample.id: sample.label for sample in dataset}


def refused(spec: str, *expected: str, **options: Any) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset(spec, **options)
    text = str(caught.value)
    assert "\n" not in text
    for part in expected:
        assert part in text, text


# -- ImageNet and what was drawn from it -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["imagenet", "imagenet/images", "ILSVRC/Data/CLS-LOC", ""])
def test_imagenet(base: str, tmp_path: Path) -> None:
    save(tmp_path / base / "val" / SHARK / "ILSVRC2012_val_00000007.JPEG")
    save(tmp_path / base / "val" / FISH / "ILSVRC2012_val_00000009.JPEG")
    save(tmp_path / base / "train" / SNAIL / f"{SNAIL}_12.JPEG")
    dataset = open_dataset(f"imagenet:{tmp_path}")
    assert labels(dataset) == {
        f"{FISH}/ILSVRC2012_val_00000009.JPEG": 0,
        f"{SHARK}/ILSVRC2012_val_00000007.JPEG": 2,
    }
    assert (dataset.classes, dataset.keys) == (imagenet_names(), WNIDS)
    assert len(dataset.templates or ()) == 80
    assert labels(open_dataset(f"imagenet:{tmp_path}", split="val")) == labels(dataset)
    assert labels(open_dataset(f"imagenet:{tmp_path}", split="train")) == {f"{SNAIL}/{SNAIL}_12.JPEG": 113}
    assert dataset[0].image().size == (24, 20)


def test_half_of_imagenet(tmp_path: Path) -> None:
    save(tmp_path / "imagenet" / "val" / FISH / "a.JPEG")
    refused(f"imagenet:{tmp_path}", "no 'train' folder", split="train")
    save(tmp_path / "imagenet" / "val" / "cats" / "a.JPEG")
    refused(f"imagenet:{tmp_path}", "should hold folders such as n01440764", "'cats' is no wnid")


def flat(root: Path) -> Path:
    for number in (1, 2, 3):
        save(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    return root


def test_flat_validation_pictures_with_kaggles_table(tmp_path: Path) -> None:
    flat(tmp_path / "ILSVRC" / "Data" / "CLS-LOC")
    refused(f"imagenet:{tmp_path}", "in no class folders", "LOC_val_solution.csv")
    rows = [f"ILSVRC2012_val_{i:08d},{wnid} 1 2 3 4 " for i, wnid in ((3, FISH), (1, SNAIL), (2, SHARK))]
    table = write(tmp_path / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows]))
    assert list(labels(open_dataset(f"imagenet:{tmp_path}")).values()) == [113, 2, 0]
    write(table, "\n".join(["ImageId,PredictionString", *rows[:2]]))
    refused(f"imagenet:{tmp_path}", "1 picture has no class", "ILSVRC2012_val_00000002.JPEG")
    write(table, "ImageId,PredictionString\nILSVRC2012_val_00000001,n99999999 1 2 3 4")
    refused(f"imagenet:{tmp_path}", "names no wnid of ImageNet's")


def test_flat_validation_pictures_with_the_development_kit(tmp_path: Path) -> None:
    from scipy.io import savemat

    kit = flat(tmp_path / "imagenet") / "ILSVRC2012_devkit_t12" / "data"
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n3\n1\n")
    # The kit's numbers are not the labels: 1 is a shark here, 2 a snail, 3 a fish.
    synsets = np.array([(1, SHARK), (2, SNAIL), (3, FISH)], [("ILSVRC2012_ID", "f8"), ("WNID", "O")])
    savemat(kit / "meta.mat", {"synsets": synsets[:, None]})
    assert list(labels(open_dataset(f"imagenet:{tmp_path}")).values()) == [113, 0, 2]
    write(kit / "ILSVRC2012_validation_ground_truth.txt", "2\n3\nx\n")
    refused(f"imagenet:{tmp_path}", "development kit cannot be read")


@pytest.mark.parametrize(
    ("name", "letter", "coops"), [("imagenet-a", "a", "adversarial"), ("imagenet-r", "r", "rendition")]
)
def test_subsets_have_their_own_classes_in_imagenets_order(name: str, letter: str, coops: str, tmp_path: Path) -> None:
    subset = subset_wnids(letter)
    assert len(subset) == len(set(subset)) == 200
    assert [WNIDS.index(wnid) for wnid in subset] == sorted(WNIDS.index(wnid) for wnid in subset)
    for place in (f"{name}", f"imagenet-{coops}/{name}", "."):
        root = tmp_path / place.replace("/", "_").replace(".", "root")
        for index in (199, 0, 7):
            save(root / place / subset[index] / "x.jpg", index)
        write(root / place / "README.txt", "x")
        dataset = open_dataset(f"{name}:{root}")
        assert labels(dataset) == {f"{subset[i]}/x.jpg": i for i in (0, 7, 199)}
        assert dataset.keys == subset
        assert (dataset.classes or ())[7] == imagenet_names()[WNIDS.index(subset[7])]
    outside = next(wnid for wnid in WNIDS if wnid not in subset)
    save(root / outside / "x.jpg")
    refused(f"{name}:{root}", "1 of the 4 class folders", outside, "another data set?")
    assert open_dataset(str(root)).classes == imagenet_names()  # as a plain folder: all 1,000
    refused(f"{name}:{root}", f"unknown split of {name} 'train'", split="train")


def test_imagenet_v2_counts_its_folders(tmp_path: Path) -> None:
    inner = tmp_path / "imagenetv2" / "imagenetv2-matched-frequency-format-val"
    for number in (0, 2, 10, 113, 999):
        save(inner / str(number) / "a.jpeg", number)
    expected = {f"{n}/a.jpeg": n for n in (0, 10, 113, 2, 999)}
    for root in (tmp_path, inner.parent, inner):
        dataset = open_dataset(f"imagenet-v2:{root}")
        assert labels(dataset) == expected
        assert (dataset.classes or ())[2] == "great white shark"
        assert dataset.keys == WNIDS
    save(inner / "1000" / "a.jpeg")
    refused(f"imagenet-v2:{tmp_path}", "folders called 0 to 999", "'1000' is none")


def test_imagenet_sketch(tmp_path: Path) -> None:
    for place in ("imagenet-sketch/images", "imagenet-sketch/sketch", "sketch"):
        root = tmp_path / place.replace("/", "_")
        save(root / place / SHARK / "sketch_0.JPEG")
        assert labels(open_dataset(f"imagenet-sketch:{root}")) == {f"{SHARK}/sketch_0.JPEG": 2}
    assert labels(open_dataset(f"imagenet-sketch:{root / 'sketch'}")) == {f"{SHARK}/sketch_0.JPEG": 2}


def test_imagenet_c(tmp_path: Path) -> None:
    save(tmp_path / "imagenet-c" / "fog" / "5" / SHARK / "a.JPEG", 1)
    save(tmp_path / "imagenet-c" / "blur" / "glass_blur" / "1" / FISH / "a.JPEG", 2)
    dataset = open_dataset(f"imagenet-c/fog/5:{tmp_path}")
    assert (dataset.name, labels(dataset)) == ("imagenet-c/fog-5", {f"{SHARK}/a.JPEG": 2})
    assert open_dataset("imagenet-c/glass_blur/1", root=tmp_path).keys == WNIDS
    assert len(open_dataset(f"imagenet-c/fog/5:{tmp_path / 'imagenet-c'}")) == 1
    refused(f"imagenet-c/fog/4:{tmp_path}", "imagenet-c/fog/4: not there")
    refused("imagenet-c", "needs a corruption and a severity: imagenet-c/")
    refused("imagenet-c/fgo/4", "unknown corruption of imagenet-c 'fgo'; did you mean fog")
    for wrong in ("fog", "fog/", "fog/6", "fog/5/x"):
        refused(f"imagenet-c/{wrong}", "unknown severity")


# -- CIFAR-C ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "folder", "classes"), [("cifar10-c", "CIFAR-10-C", 10), ("cifar100-c", "CIFAR-100-C", 100)]
)
def test_cifar_c(name: str, folder: str, classes: int, tmp_path: Path) -> None:
    place = tmp_path / folder
    place.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (15, 32, 32, 3), np.uint8)  # three pictures, five severities
    truth = np.array([classes - 1, 0, 3] * 5, np.uint8)
    np.save(place / "fog.npy", pictures)
    refused(f"{name}/fog/2:{tmp_path}", "labels.npy is not in")
    np.save(place / "labels.npy", truth)
    for severity in (1, 2, 5):
        dataset = open_dataset(f"{name}/fog/{severity}:{tmp_path}")
        assert labels(dataset) == {"test/000000": classes - 1, "test/000001": 0, "test/000002": 3}
        for i in range(3):
            assert (np.asarray(dataset[i].image()) == pictures[3 * (severity - 1) + i]).all()
    assert isinstance(dataset[0].source.array, np.memmap)  # type: ignore[attr-defined]
    assert (dataset.name, len(dataset.classes or ())) == (f"{name}/fog-5", classes)
    assert open_dataset(f"{name}/fog/1:{place}").fingerprint() != dataset.fingerprint()

    np.save(place / "snow.npy", pictures[:14])
    refused(f"{name}/snow/2:{tmp_path}", "five severities of equal length", "(14, 32, 32, 3)")
    np.save(place / "snow.npy", pictures.astype(np.float32))
    refused(f"{name}/snow/2:{tmp_path}", "float32")
    np.save(place / "snow.npy", pictures[:10])
    refused(f"{name}/snow/2:{tmp_path}", "a whole number for each of the 10 pictures")
    np.save(place / "snow.npy", np.array([{"a": 1}], object))
    refused(f"{name}/snow/2:{tmp_path}", "cannot be read", "Python objects")
    write(place / "snow.npy", "half a file")
    refused(f"{name}/snow/2:{tmp_path}", "cannot be read (damaged, or not an array of numbers)")


def test_names_of_cifar100_are_torchvisions() -> None:
    names = cifar100_names()
    assert len(set(names)) == 100
    # CIFAR-100's labels follow the alphabet (Krizhevsky 2009); five of them have a space.
    assert list(names) == sorted(names)
    assert {"aquarium fish", "lawn mower", "maple tree", "pickup truck", "sweet pepper"} <= set(names)


# -- CoOp's splits ---------------------------------------------------------------------------------------------------


def split_of(entries: dict[str, list[list[Any]]]) -> str:
    return json.dumps({"train": [], "val": [], "test": []} | entries)


ENTRIES = {
    "train": [["a/1.jpg", 1, "big_dog"], ["b/1.jpg", 0, "cat"]],
    "val": [["a/2.jpg", 1, "big_dog"]],
    "test": [["a/3.jpg", 1, "big_dog"], ["c/1.jpg", 2, "Ox"]],
}


def coop(folder: Path, file: str, images: str, entries: dict[str, list[list[Any]]] = ENTRIES) -> Path:
    for seed, (name, _, _) in enumerate(entry for part in entries.values() for entry in part):
        save(folder / images / name, seed)
    return write(folder / file, split_of(entries))


@pytest.mark.parametrize(
    ("name", "folder", "file", "images"),
    [
        ("flowers102", "oxford_flowers", "split_zhou_OxfordFlowers.json", "jpg"),
        ("flowers102", "flowers-102", "split_zhou_OxfordFlowers.json", "jpg"),
        ("dtd", "dtd", "split_zhou_DescribableTextures.json", "images"),
        ("dtd", "dtd/dtd", "split_zhou_DescribableTextures.json", "images"),
        ("oxford-pets", "oxford_pets", "split_zhou_OxfordPets.json", "images"),
        ("oxford-pets", "oxford-iiit-pet", "split_zhou_OxfordPets.json", "images"),
        ("ucf101", "ucf101", "split_zhou_UCF101.json", "UCF-101-midframes"),
        ("caltech101", "caltech-101", "split_zhou_Caltech101.json", "101_ObjectCategories"),
        ("caltech101", "caltech101", "split_zhou_Caltech101.json", "101_ObjectCategories"),
        ("food101", "food-101", "split_zhou_Food101.json", "images"),
        ("sun397", "sun397", "split_zhou_SUN397.json", "SUN397"),
        ("sun397", "", "split_zhou_SUN397.json", "SUN397"),
        ("eurosat", "eurosat", "split_zhou_EuroSAT.json", "2750"),
    ],
)
def test_coops_layout(name: str, folder: str, file: str, images: str, tmp_path: Path) -> None:
    split = coop(tmp_path / folder, file, images)
    test = open_dataset(f"{name}:{tmp_path}")
    assert (test.name, test.classes, labels(test)) == (name, ("cat", "big dog", "Ox"), {"a/3.jpg": 1, "c/1.jpg": 2})
    assert test.templates == clip_templates(name)
    train, val = (open_dataset(f"{name}:{tmp_path}", split=part) for part in ("train", "val"))
    assert (labels(train), labels(val)) == ({"a/1.jpg": 1, "b/1.jpg": 0}, {"a/2.jpg": 1})
    assert train.classes == test.classes  # a class without training pictures is a class all the same
    assert test[0].image().size == (24, 20)
    by_file = open_dataset(f"{name}:{split}", split="val")
    assert by_file.fingerprint() == val.fingerprint()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"test": [["../a/3.jpg", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["/etc/passwd", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["a/b/../../../x.jpg", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["a\\..\\x.jpg", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["C:x.jpg", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["", 1, "dog"]]}, "leaves the folder"),
        ({"test": [["a.jpg", "1", "dog"]]}, "entry 0 of test is not [path, label, class name]"),
        ({"test": [["a.jpg", True, "dog"]]}, "is not [path, label, class name]"),
        ({"test": [["a.jpg", 1]]}, "is not [path, label, class name]"),
        ({"val": {"a": 1}}, "not a split file"),
        ({"test": [["a.jpg", -1, "dog"]]}, "has label -1"),
        ({"test": [["a.jpg", 1, " "]]}, "class name ' '"),
        ({"test": [["a.jpg", 1, "small_dog"]]}, "label 1 is called both 'big_dog' and 'small_dog'"),
        ({"test": [["a.jpg", 3, "ox"]]}, "no picture has label 2, though labels go up to 3"),
        ({"test": []}, "its part 'test' is empty"),
        # What is trained on and tested: refused, whatever the folder.
        (
            {"test": [["a/1.jpg", 1, "big_dog"]]},
            "1 picture is listed more than once; 'a/1.jpg' is in both train and test",
        ),
        ({"test": [["./a/2.jpg", 1, "big_dog"]]}, "'a/2.jpg' is in both val and test"),
        ({"test": [["x.jpg", 1, "big_dog"]] * 2}, "'x.jpg' is twice in test"),
    ],
)
def test_bad_splits(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    write(tmp_path / "dtd" / "split_zhou_DescribableTextures.json", split_of(ENTRIES | change))
    refused(f"dtd:{tmp_path}", "split_zhou_DescribableTextures.json", expected)


def test_splits_that_are_no_json_or_name_what_is_not_there(tmp_path: Path) -> None:
    file = coop(tmp_path / "dtd", "split_zhou_DescribableTextures.json", "images")
    for lost in ("a/3.jpg", "c/1.jpg"):
        (tmp_path / "dtd" / "images" / lost).unlink()
    refused(f"dtd:{tmp_path}", "2 of the 2 pictures that split_zhou_", "'test'", "the first of them a/3.jpg")
    assert len(open_dataset(f"dtd:{tmp_path}", split="train")) == 2
    for text in ("{", "[" * 100_000, '["train"]', "\x00"):
        write(file, text)
        refused(f"dtd:{tmp_path}", "not a ")
    refused(f"cifar10:{file}", "is a file; name the folder")


def test_aircraft_in_both_folders(tmp_path: Path) -> None:
    for number, place in enumerate(("fgvc_aircraft", "fgvc-aircraft-2013b/data")):
        folder = tmp_path / str(number) / place
        write(folder / "variants.txt", "707-320\nA300B4\nF-16A/B\n")
        for part, lines in (("test", "0000003 F-16A/B\n0000001 707-320\n"), ("train", "0000002 A300B4\n"), ("val", "")):
            write(folder / f"images_variant_{part}.txt", lines)
        for picture in (1, 2, 3):
            save(folder / "images" / f"{picture:07d}.jpg", picture)
        root = f"fgvc-aircraft:{tmp_path / str(number)}"
        dataset = open_dataset(root)
        assert (labels(dataset), dataset.classes) == (
            {"0000001.jpg": 0, "0000003.jpg": 2},
            ("707-320", "A300B4", "F-16A/B"),
        )
        assert labels(open_dataset(root, split="train")) == {"0000002.jpg": 1}
        refused(root, "images_variant_val.txt", "no names", split="val")
        write(folder / "images_variant_test.txt", "0000001 707-321\n")
        refused(root, "line 1 of images_variant_test.txt names no variant")
        write(folder / "images_variant_test.txt", "0000001 707-320\n0000009 707-320\n")
        refused(root, "1 of the 2 pictures that images_variant_test.txt lists", "0000009.jpg")


def test_ucf101_without_a_split_file(tmp_path: Path) -> None:
    lists, frames = tmp_path / "ucf101" / "ucfTrainTestlist", tmp_path / "ucf101" / "UCF-101-midframes"
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\n2 YoYo\n")
    write(lists / "testlist01.txt", "YoYo/v_YoYo_g01_c01.avi\nApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\n")
    write(lists / "trainlist01.txt", "YoYo/v_YoYo_g08_c01.avi 2\n")
    for folder, film in (("Yo_Yo", "YoYo_g01"), ("Apply_Eye_Makeup", "ApplyEyeMakeup_g01"), ("Yo_Yo", "YoYo_g08")):
        save(frames / folder / f"v_{film}_c01.jpg")
    dataset = open_dataset(f"ucf101:{tmp_path}")
    assert dataset.classes == ("Apply Eye Makeup", "Yo Yo")
    assert labels(dataset) == {"Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg": 0, "Yo_Yo/v_YoYo_g01_c01.jpg": 1}
    assert labels(open_dataset(f"ucf101:{tmp_path}", split="train")) == {"Yo_Yo/v_YoYo_g08_c01.jpg": 1}
    refused(f"ucf101:{tmp_path}", "no split 'val'", "split_zhou_UCF101.json", split="val")
    write(lists / "testlist01.txt", "YouYou/v.avi\n")
    refused(f"ucf101:{tmp_path}", "line 1 of testlist01.txt names no class")
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\n3 YoYo\n")
    refused(f"ucf101:{tmp_path}", "should have lines '1 ApplyEyeMakeup'")


# -- torchvision's, beyond those of test_datasets.py -----------------------------------------------------------------


def test_caltech101_and_sun397_as_torchvision_has_them(tmp_path: Path) -> None:
    things = tmp_path / "caltech101" / "101_ObjectCategories"
    for folder in ("BACKGROUND_Google", "Faces", "airplanes", "yin_yang", "wild_cat"):
        save(things / folder / "image_0001.jpg")
    save(things / "airplanes" / "image_0002.jpg", 1)
    dataset = open_dataset(f"caltech101:{tmp_path}")
    assert dataset.classes == ("off-center face", "airplane", "wild cat", "yin and yang symbol")
    assert labels(dataset)["caltech101/101_ObjectCategories/airplanes/image_0002.jpg"] == 1
    assert len(dataset) == 5
    assert all(sample.image().size == (24, 20) for sample in dataset)
    refused(f"caltech101:{tmp_path}", "no split 'train', only test, all", "split_zhou_Caltech101.json", split="train")

    places = tmp_path / "SUN397"
    write(places / "ClassName.txt", "/a/abbey\n/a/apartment_building/outdoor\n")
    save(places / "a" / "apartment_building" / "outdoor" / "sun_b.jpg")
    save(places / "a" / "abbey" / "sun_a.jpg")
    dataset = open_dataset(f"sun397:{tmp_path}")
    assert dataset.classes == ("abbey", "apartment building outdoor")
    assert labels(dataset) == {
        "SUN397/a/abbey/sun_a.jpg": 0,
        "SUN397/a/apartment_building/outdoor/sun_b.jpg": 1,
    }


def test_a_name_goes_before_a_folder_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APM_DATA", str(tmp_path / "elsewhere"))
    save(tmp_path / "imagenet-c" / "fog" / "5" / "cat" / "a.jpg")
    save(tmp_path / "cifar10" / "cat" / "a.jpg")
    for spec in ("imagenet-c/fog/5", "cifar10"):
        refused(spec, "not there, looked for", f"the folder of that name here is opened as ./{spec}")
        assert open_dataset(f"./{spec}").classes == ("cat",)
    assert open_dataset("cifar10/cat").classes is None  # no variant of CIFAR-10's: a folder
    save(tmp_path / "pacs" / "photo" / "mine" / "a.jpg")
    save(tmp_path / "elsewhere" / "pacs" / "photo" / "dog" / "a.jpg")
    taken = open_dataset("pacs/photo")
    assert taken.classes == ("dog",) and "opened as ./pacs/photo" in taken.notes[0]
    monkeypatch.chdir(tmp_path / "elsewhere")  # the folder of that name is the named data set's own
    assert not any("opened as" in note for note in open_dataset("pacs/photo").notes)


def test_coops_layout_goes_before_torchvisions(tmp_path: Path) -> None:
    save(tmp_path / "eurosat" / "2750" / "AnnualCrop" / "AnnualCrop_1.jpg")
    assert open_dataset(f"eurosat:{tmp_path}").classes == ("annual crop land",)
    coop(tmp_path / "eurosat", "split_zhou_EuroSAT.json", "2750")
    assert open_dataset(f"eurosat:{tmp_path}").classes == ("cat", "big dog", "Ox")


def test_published_counts_add_up() -> None:
    totals = {"flowers102": 8_189, "dtd": 5_640, "oxford-pets": 7_349, "ucf101": 13_320, "food101": 101_000}
    totals |= {"sun397": 39_700, "eurosat": 27_000, "caltech101": 8_677 - 435}  # CoOp leaves Faces_easy out
    assert set(totals) == set(COOP)
    for name, total in totals.items():
        assert sum(images for images, _ in COOP[name].counts.values()) == total
    for named in NAMED.values():
        for layout in named.layouts(named.variants[-1] if named.variants else ""):
            assert layout.shape and "test" in layout.counts


# -- pictures with outlines ------------------------------------------------------------------------------------------


def runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a mask, column by column, outside first."""
    values = mask.T.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    return [0, *counts] if values[0] else counts


def compressed(counts: list[int]) -> str:
    """The same as text: differences from the last but one, in groups of five bits, lowest first."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | 32 if more else bits))
    return text


def test_outlines_of_coco() -> None:
    square = np.zeros((12, 10), bool)
    square[2:7, 3:9] = True
    assert (decode([[3, 2, 8, 2, 8, 6, 3, 6]], 12, 10) == square).all()
    two = decode([[0, 0, 1, 0, 1, 1, 0, 1], [8, 10, 9, 10, 9, 11, 8, 11]], 12, 10)
    assert two.sum() == 8 and two[0, 0] and two[11, 9]
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((12, 10)) < rng.random()
        mask[0, 0] = rng.random() < 0.5
        for counts in (runs(mask), compressed(runs(mask))):
            assert (decode({"size": [12, 10], "counts": counts}, 12, 10) == mask).all()
    long = np.zeros((300, 200), bool)
    long[7:290, 20:180] = True
    assert (decode({"size": [300, 200], "counts": compressed(runs(long))}, 300, 200) == long).all()
    small = {"segmentation": [[4, 3, 5, 3, 5, 4, 4, 4]]}
    large = {"segmentation": {"size": [12, 10], "counts": runs(square)}}
    for order in ([small, large], [large, small]):
        labelled = label_map(order, 12, 10)
        assert (labelled[3:5, 4:6] == 2).all() and (labelled > 0).sum() == square.sum()


@pytest.mark.parametrize(
    "outline",
    [
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a"] * 6],
        {"size": [12, 10], "counts": [5]},
        {"size": [10, 12], "counts": [120]},
        {"size": [12, 10], "counts": [130, -10]},
        {"size": [12, 10], "counts": "~"},
        {"counts": [120]},
        7,
    ],
)
def test_outlines_that_cannot_be_decoded(outline: Any) -> None:
    with pytest.raises(InputError, match="cannot be decoded"):
        decode(outline, 12, 10)


def coco(root: Path) -> Path:
    for number in (9, 25, 30):
        save(root / "val2017" / f"{number:012d}.jpg", number)
    save(root / "train2017" / f"{1:012d}.jpg")
    square = [[3, 2, 8, 2, 8, 6, 3, 6]]
    told = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg", "height": 20, "width": 24} for n in (25, 9, 30)],
        "annotations": [
            {"image_id": 9, "segmentation": square, "iscrowd": 0},
            {"image_id": 25, "segmentation": square, "iscrowd": 0},
            {"image_id": 25, "segmentation": {"size": [20, 24], "counts": [0, 20, 460]}, "iscrowd": 1},
        ],
    }
    write(root / "annotations" / "instances_val2017.json", json.dumps(told))
    return root


def test_coco(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco")
    dataset = open_dataset(f"coco:{tmp_path}")
    assert [(s.id, s.label) for s in dataset] == [(f"{n:012d}.jpg", None) for n in (9, 25, 30)]
    assert (dataset.name, len(open_dataset(f"coco:{root}", split="train"))) == ("coco", 1)
    data = open_segmentation(f"coco:{tmp_path}")
    assert (data.name, [p.id for p in data.pictures]) == ("coco/val", ["000000000009", "000000000025"])
    image, maps = data.pictures[1].read()
    assert (image.size, maps.shape) == ((24, 20), (1, 20, 24))
    assert np.bincount(maps.ravel()).tolist() == [480 - 30 - 20, 30, 20]
    assert (maps[0, :, 0] == 2).all() and maps[0, 2, 3] == 1
    assert len(open_segmentation(f"coco:{root}", limit=1).pictures) == 1
    before = data.fingerprint()
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("[[3, 2,", "[[4, 2,"))
    assert open_segmentation(f"coco:{tmp_path}").fingerprint() != before
    write(path, '{"images": []}')
    for split, expected in (("val", "not a COCO instances file"), ("train", "instances_train2017.json")):
        with pytest.raises(InputError, match=expected):
            open_segmentation(f"coco:{tmp_path}", split)
    with pytest.raises(InputError, match="coco: not there"):
        open_segmentation(f"coco:{tmp_path / 'annotations'}")


def test_an_outline_of_coco_that_does_not_fit_fails_alone(tmp_path: Path) -> None:
    root = coco(tmp_path / "coco")
    save(root / "val2017" / f"{25:012d}.jpg").unlink()
    photo(8, 8).save(root / "val2017" / f"{25:012d}.jpg")
    good, bad = open_segmentation(f"coco:{tmp_path}").pictures
    assert good.read()[1].max() == 1
    with pytest.raises(InputError, match=r"000000000025.jpg: an outline cannot be decoded"):
        bad.read()


def bsds_published(root: Path) -> Path:
    """Two pictures a split in the authors' folders, outlines in Matlab's cells of structs."""
    from scipy.io import savemat

    data = root / "BSR" / "BSDS500" / "data"
    for split in ("train", "val", "test"):
        for number in (1, 2):
            save(data / "images" / split / f"{number}.jpg", number)
            cells = np.empty((1, 2), object)
            for person in range(2):
                parts = np.ones((20, 24), np.uint16)
                parts[:, 8 + person :] = 2
                cells[0, person] = {"Segmentation": parts, "Boundaries": np.zeros((20, 24), np.uint8)}
            (data / "groundTruth" / split).mkdir(parents=True, exist_ok=True)
            savemat(data / "groundTruth" / split / f"{number}.mat", {"groundTruth": cells})
        write(data / "images" / split / "Thumbs.db", "x")
    return root


def test_bsds500_as_published(tmp_path: Path) -> None:
    bsds_published(tmp_path)
    dataset = open_dataset(f"bsds500:{tmp_path}")
    assert [(s.id, s.label) for s in dataset] == [("1.jpg", None), ("2.jpg", None)]
    data = open_segmentation(f"bsds500:{tmp_path}", "test")
    assert (data.name, [p.id for p in data.pictures]) == ("bsds500/test", ["1", "2"])
    _, maps = data.pictures[0].read()
    assert maps.shape == (2, 20, 24) and np.bincount(maps[1].ravel()).tolist() == [0, 180, 300]
    truth = tmp_path / "BSR" / "BSDS500" / "data" / "groundTruth" / "test" / "1.mat"
    truth.write_bytes(b"no matlab file")
    with pytest.raises(InputError, match=r"1.mat: holds no readable cell"):
        data.pictures[0].read()
    with pytest.raises(InputError, match="unknown split of bsds500 'tests'"):
        open_segmentation(f"bsds500:{tmp_path}", "tests")


def test_bsds500_with_arrays(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(tmp_path / "bsds500" / split / "12.jpg")
        np.savez(tmp_path / "bsds500" / split / "12.npz", segmentations=np.ones((3, 20, 24), np.uint16))
    for root in (tmp_path, tmp_path / "bsds500"):
        assert [s.id for s in open_dataset(f"bsds500:{root}", split="train")] == ["12.jpg"]
        assert len(open_dataset(f"bsds500:{root}")) == 1  # no test pictures: the validation ones
        assert open_segmentation(f"bsds500:{root}").pictures[0].read()[1].shape == (3, 20, 24)
    assert (
        open_segmentation(f"bsds500:{tmp_path}").fingerprint() == open_segmentation(tmp_path / "bsds500").fingerprint()
    )
    Image.open(tmp_path / "bsds500" / "val" / "12.jpg").save(tmp_path / "bsds500" / "val" / "13.jpg")
    assert len(open_dataset(f"bsds500:{tmp_path}", split="val")) == 2


# -- prompts ---------------------------------------------------------------------------------------------------------


def test_prompts_are_those_published() -> None:
    published = {"cifar10": 18, "cifar100-c/fog/5": 18, "caltech101": 34, "ucf101": 48, "dtd": 8, "eurosat": 3}
    published |= {"imagenet-a": 80, "sun397": 2, "stl10": 2, "oxford-pets": 1, "fgvc-aircraft": 2}
    for name, count in published.items():
        assert len(set(clip_templates(name))) == len(clip_templates(name)) == count
        assert all(template.count("{}") == 1 for template in clip_templates(name))
    assert "a photo of a big {}." in clip_templates("cifar10") and "a origami {}." in clip_templates("caltech101")
    assert "a demonstration of the person practicing {}." in clip_templates("ucf101")
    assert (coop_prompt("dtd"), coop_prompt("ucf101")) == ("{} texture.", "a photo of a person doing {}.")
    assert coop_prompt("imagenet-c/fog/5:ROOT") == "a photo of a {}."
    with pytest.raises(InputError):
        clip_templates("coco")
