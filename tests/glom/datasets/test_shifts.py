"""Sets of several domains by name: PACS, shape and texture, Office-Home, VLCS, DomainNet, ImageNet-D, CIFAR-10.1."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glom.datasets.base import ImageDataset, Sample
from glom.datasets.check import check_dataset
from glom.datasets.named.catalogue import NAMED
from glom.datasets.named.shifts import SHIFTS
from glom.datasets.prepare import make_plan
from glom.datasets.registry import check_spec, dataset_names, open_dataset
from glom.errors import InputError


def tree(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 7 % 256, 50, 90)).save(root / name)
    return root


@pytest.mark.parametrize("base", ["pacs/", "PACS/", "PACS/kfold/", ""])
def test_one_domain_or_all_of_them(tmp_path, base):
    names = [f"{base}{d}/{c}/{n}.png" for d in SHIFTS["pacs"].domains for c in ("dog", "house") for n in range(2)]
    tree(tmp_path, *names)
    one, whole = (open_dataset(f"{spec}:{tmp_path}") for spec in ("pacs/sketch", "pacs"))
    assert one.name == "pacs/sketch" and one.classes == ("dog", "house")
    assert [(s.id, s.label) for s in one] == [
        ("dog/0.png", 0),
        ("dog/1.png", 0),
        ("house/0.png", 1),
        ("house/1.png", 1),
    ]
    assert len(whole) == 16 and whole[0].id == "art_painting/dog/0.png" and whole.name == "pacs"
    check_spec(f"pacs/photo:{tmp_path}")
    found = check_dataset("pacs", tmp_path)
    assert found.state == "incomplete" and "photo: 4 images, 1,670 were published" in found.problems[0]


def test_a_wrong_domain_or_none(tmp_path):
    tree(tmp_path, "pacs/photo/dog/1.png", "shape-texture/edges/cat/cat1.png")
    with pytest.raises(InputError, match="domain of pacs 'sketches'; did you mean sketch"):
        open_dataset(f"pacs/sketches:{tmp_path}")
    with pytest.raises(InputError, match="write shape-texture/DOMAIN"):
        open_dataset(f"shape-texture:{tmp_path}")
    with pytest.raises(InputError, match="no folder 'art_painting'"):
        open_dataset(f"pacs:{tmp_path}")
    with pytest.raises(InputError, match="datasets prepare vlcs"):
        open_dataset(f"vlcs/sun09:{tmp_path}")


@pytest.mark.parametrize("folder", ["shape-texture/cue-conflict", "stimuli/style-transfer-preprocessed-512"])
def test_cue_conflict_carries_both_labels_whatever_is_taken_of_it(tmp_path, folder):
    names = ("cat/cat7-truck3.png", "cat/cat1-cat2.png", "dog/dog10-cat1.png", "truck/truck2-dog9.png")
    tree(tmp_path, *(f"{folder}/{name}" for name in names))
    dataset = open_dataset(f"shape-texture/cue-conflict:{tmp_path}")
    texture = dataset.other_labels["texture"]
    said = {s.id: (dataset.classes[s.label], dataset.classes[texture[s.id]]) for s in dataset}
    assert said == {n: tuple(part.rstrip("0123456789") for part in Path(n).stem.split("-")) for n in names}
    few = dataset.limit(2).of_classes([2, 0])
    assert few.classes == ("truck", "cat") and few.other_labels["texture"]["cat/cat7-truck3.png"] == 0
    assert "truck/truck2-dog9.png" not in few.other_labels["texture"]


@pytest.mark.parametrize("name", ["cat/7.png", "cat/dog1-cat2.png", "cat/cat1-cow2.png"])
def test_a_cue_conflict_picture_that_does_not_say_both(tmp_path, name):
    tree(tmp_path, f"shape-texture/cue-conflict/{name}", "shape-texture/cue-conflict/dog/dog1-cat1.png")
    with pytest.raises(InputError, match=f"'{name}' is not called SHAPE-TEXTURE"):
        open_dataset(f"shape-texture/cue-conflict:{tmp_path}")


def test_domainnets_lists_divide_it(tmp_path):
    tree(tmp_path, *(f"domainnet/sketch/{c}/{n}.png" for c in ("bear", "train") for n in range(3)))
    assert len(open_dataset(f"domainnet/sketch:{tmp_path}")) == 6
    for split, taken in (("test", [0]), ("train", [1, 2])):
        lines = [f"sketch/{c}/{n}.png {k}\n" for k, c in enumerate(("bear", "train")) for n in taken]
        (tmp_path / "domainnet" / f"sketch_{split}.txt").write_text("".join(lines))
    assert [s.id for s in open_dataset(f"domainnet/sketch:{tmp_path}")] == ["bear/0.png", "train/0.png"]
    assert [s.label for s in open_dataset(f"domainnet/sketch:{tmp_path}", split="train")] == [0, 0, 1, 1]
    (tmp_path / "domainnet" / "sketch_test.txt").write_text("sketch/bear/9.png 0\n")
    with pytest.raises(InputError, match=r"no sample 'bear/9\.png'"):
        open_dataset(f"domainnet/sketch:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("office-home/real-world", "OfficeHomeDataset_10072016/Real World/Alarm_Clock/00001.png"),
        ("office-home/real-world", "office_home/Real/Alarm_Clock/00001.png"),
        ("vlcs/voc2007", "VLCS/VOC2007/bird/1.png"),
        ("imagenet-d/background", "ImageNet-D/background/alarm_clock/1.png"),
    ],
)
def test_where_others_keep_theirs(tmp_path, spec, file):
    tree(tmp_path, file)
    dataset = open_dataset(f"{spec}:{tmp_path}")
    assert dataset.name == spec and dataset.classes[0].casefold() in ("alarm clock", "bird")


def test_cifar101(tmp_path):
    (tmp_path / "cifar10.1").mkdir()
    pictures = np.arange(4 * 32 * 32 * 3, dtype=np.uint8).reshape(4, 32, 32, 3)
    for version, labels in (("v6", [3, 0, 9, 1]), ("v4", [1, 1, 2, 2])):
        np.save(tmp_path / "cifar10.1" / f"cifar10.1_{version}_data.npy", pictures)
        np.save(tmp_path / "cifar10.1" / f"cifar10.1_{version}_labels.npy", np.array(labels, np.int32))
    dataset = open_dataset(f"cifar10.1:{tmp_path}")
    assert [s.label for s in dataset] == [3, 0, 9, 1] and dataset.classes[3] == "cat"
    assert np.array_equal(np.asarray(dataset[1].image()), pictures[1])
    assert [s.label for s in open_dataset(f"cifar10.1/v4:{tmp_path}")] == [1, 1, 2, 2]
    np.save(tmp_path / "cifar10.1" / "cifar10.1_v6_labels.npy", np.zeros(3, np.int32))
    with pytest.raises(InputError, match="4 pictures need as many whole labels"):
        open_dataset(f"cifar10.1:{tmp_path}")


@pytest.mark.parametrize("name", [*SHIFTS, "cifar10.1"])
def test_the_table_the_plan_and_the_check_know_it(tmp_path, name):
    row = next(row for row in dataset_names() if row.name == name)
    plan = make_plan(name, tmp_path)
    assert row.variant and plan.layout and plan.terms and NAMED[name].variants
    assert check_dataset(name, tmp_path).state == "absent"


def test_other_labels_are_no_part_of_what_a_data_set_is():
    samples = (Sample("a", 0, None), Sample("b", 1, None))  # type: ignore[arg-type]
    plain = ImageDataset("x", samples, ("p", "q"))
    assert plain == ImageDataset("x", samples, ("p", "q"), other_labels={"texture": {"a": 1}})
