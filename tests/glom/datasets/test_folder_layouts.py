"""Folders as they are unpacked: wrappers, domains, what other programs leave behind; packed arrays of digits."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from glom.datasets import ImageDataset, open_dataset
from glom.errors import InputError
from glom.forward_forward.pictures import read_pictures
from glom.runs.artifacts import read_json
from tests.conftest import in_process
from tests.helpers_images import class_folders, photo


def opened(root: Path, **options: str) -> tuple[str, list[str], tuple[str, ...] | None]:
    dataset = open_dataset(str(root), **options)
    return dataset.name, [sample.id for sample in dataset], dataset.classes


PAIR = ["cat/0.png", "dog/0.png"]


@pytest.mark.parametrize("inner", ["dataset", "archive/images", "a/b/c"])
def test_a_wrapper_folder_is_looked_into(inner: str, tmp_path: Path) -> None:
    class_folders(tmp_path / inner, each=1)
    (tmp_path / "README.txt").write_text("x")
    dataset = open_dataset(str(tmp_path))
    assert opened(tmp_path) == (tmp_path.name, PAIR, ("cat", "dog"))
    assert dataset.notes == (f"all its pictures lie in {inner}, which is read in its place",)
    assert dataset.passed_over == {".txt files": 1}
    assert dataset.fingerprint() == open_dataset(str(tmp_path / inner)).fingerprint()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("images/train", "images/val"),
        ("images/train/pics", "images/test/pics"),
        ("training_set/training_set", "test_set/test_set"),
        ("train2017", "val2017"),
    ],
)
def test_splits_in_and_around_wrappers_are_not_mixed(train: str, test: str, tmp_path: Path) -> None:
    class_folders(tmp_path / train, each=2)
    class_folders(tmp_path / test, each=1)
    assert opened(tmp_path)[1:] == (PAIR, ("cat", "dog"))
    assert len(open_dataset(str(tmp_path), split="train")) == 4


def test_what_lies_beside_the_splits_is_counted(tmp_path: Path) -> None:
    for place in ("train", "val", "extra"):
        class_folders(tmp_path / place, each=1)
    photo().save(tmp_path / "sheet.png")
    dataset = open_dataset(str(tmp_path))
    assert dataset.passed_over == {"pictures beside the splits": 1, "folders beside the splits": 1}


def test_splits_of_flat_pictures_beside_lists(tmp_path: Path) -> None:
    for place in ("train2017", "val2017"):
        (tmp_path / place).mkdir()
        photo().save(tmp_path / place / "0.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("{}")
    assert opened(tmp_path) == (f"{tmp_path.name}/val2017", ["0.png"], None)


def test_one_class_is_always_said(tmp_path: Path) -> None:
    for root in (tmp_path / "one", tmp_path / "wrapped" / "one"):
        class_folders(root, ["cat"])
    (tmp_path / "one" / "m.csv").write_text("path,label\ncat/0.png,cat\n")
    for spec in (tmp_path / "one", tmp_path / "wrapped", tmp_path / "one" / "m.csv"):
        assert "it has one class, 'cat': every answer will be right" in open_dataset(str(spec)).notes


def test_a_table_beside_the_only_folder_is_pointed_at(tmp_path: Path) -> None:
    class_folders(tmp_path, ["images"])
    (tmp_path / "train.csv").write_text("path,label\n")
    assert any("train.csv says what they show" in note for note in open_dataset(str(tmp_path)).notes)


@pytest.mark.parametrize(
    "name", ["__MACOSX", "@eaDir", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN", "System Volume Information"]
)
@pytest.mark.parametrize("place", ["", "cat", "train", "dataset"])
def test_other_programs_folders_are_no_classes(name: str, place: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / (place if place in ("train", "dataset") else ""), each=1)
    beside = root.parent / name if place == "dataset" else root / (place if place == "cat" else "") / name
    beside.mkdir()
    photo().save(beside / "thumb.png")
    dataset = open_dataset(str(tmp_path), split="train")
    assert ([sample.id for sample in dataset], dataset.classes) == (PAIR, ("cat", "dog"))
    kind = "hidden files and folders" if name.startswith(".") else f"{name} folders"
    assert dataset.passed_over == {kind: 1}


def test_formats_that_are_not_read_are_counted_by_ending(tmp_path: Path) -> None:
    root = class_folders(tmp_path, each=1)
    for name in ("cat/a.HEIC", "cat/b.heic", "dog/c.tga", "Makefile"):
        (root / name).write_bytes(b"x")
    photo().save(root / "loose.png")
    assert open_dataset(str(root)).passed_over == {
        "files without an ending": 1,
        ".heic files": 2,
        ".tga files": 1,
        "pictures beside the class folders": 1,
    }
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.HEIC").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no images among its 1 files \(\.heic\)"):
        open_dataset(str(only))


# -- folders of folders ----------------------------------------------------------------------------------------------


def test_domains_are_not_taken_for_classes(tmp_path: Path) -> None:
    for domain in ("photo", "sketch", "art"):
        class_folders(tmp_path / domain, ["cat", "dog", domain], 1)
    with pytest.raises(InputError, match=r"its 3 folders \(art, photo, sketch\) hold only folders") as caught:
        open_dataset(str(tmp_path))
    assert f"give one of them, such as {tmp_path / 'art'}" in str(caught.value)
    assert open_dataset(str(tmp_path / "photo")).classes == ("cat", "dog", "photo")


def test_splits_inside_the_classes_are_not_mixed(tmp_path: Path) -> None:
    for name in ("bottle", "cable"):
        class_folders(tmp_path / name, ["train", "test"], 1)
    with pytest.raises(InputError, match="its splits would be mixed; lay it out as test/bottle"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("cat/images", "dog/images"), False),  # as in Tiny ImageNet
        (("cat/film_a", "cat/film_b", "dog/film_c"), True),
        (("cat/1", "cat/2", "dog/1", "dog/2"), True),
    ],
)
def test_classes_of_films_stay_classes_and_this_is_said(folders: tuple[str, ...], said: bool, tmp_path: Path) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        photo().save(tmp_path / folder / "0.png")
    dataset = open_dataset(str(tmp_path))
    assert dataset.classes == ("cat", "dog")
    assert any("each of the 2 is one class" in note for note in dataset.notes) == said


# -- in a run --------------------------------------------------------------------------------------------------------


def test_a_run_says_what_was_passed_over_and_keeps_it(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from commands.ttt import app

    (image_folder / "cat" / "a.heic").write_bytes(b"x")
    (image_folder / "__MACOSX").mkdir()
    run = in_process(capsys, app, "ttt")
    out = tmp_path / "out"
    code, _, error = run("run", image_folder, "--out", out, "--iterations", 1, "--limit", 2, "--quiet")
    said = "pictures: passed over: __MACOSX folders (1), .heic files (1)"
    assert (code, f"note: {said}" in error) == (0, True)
    assert read_json(out / "manifest.json")["notices"] == [said]


# -- packed arrays ---------------------------------------------------------------------------------------------------


def digits(folder: Path, dot: str = "-", packed: bool = True) -> Path:
    """MNIST's four files in miniature."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("t10k", 3), ("train", 4)):
        for what, array in (("images", rng.integers(0, 256, (count, 28, 28), np.uint8)), ("labels", np.arange(count))):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            data = head + array.astype(np.uint8).tobytes()
            name = f"{part}-{what}{dot}idx{array.ndim}-ubyte"
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def rows(dataset: ImageDataset) -> list[tuple[str, int | None]]:
    return [(sample.id, sample.label) for sample in dataset]


@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", "mnist", ""])
@pytest.mark.parametrize(("dot", "packed"), [("-", True), (".", True), (".", False)])
def test_digits_as_they_are_published(place: str, dot: str, packed: bool, tmp_path: Path) -> None:
    folder = digits(tmp_path / "root" / place, dot, packed)
    for root in {tmp_path / "root", folder}:
        dataset = open_dataset(f"mnist:{root}")
        assert rows(dataset) == [(f"test/{n:06d}", n) for n in range(3)]
        pictures = read_pictures("mnist", "train", root)
        assert (tuple(pictures.images.shape), pictures.labels.tolist()) == ((4, 1, 28, 28), [0, 1, 2, 3])


def test_a_folder_of_digits_given_as_pictures_says_how_to_name_it(tmp_path: Path) -> None:
    folder = digits(tmp_path / "MNIST" / "raw")
    with pytest.raises(InputError, match="give mnist:") as caught:
        open_dataset(str(tmp_path))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "empty", "swapped", "missing"])
def test_damaged_digits(damage: str, tmp_path: Path) -> None:
    file = digits(tmp_path / "d") / "t10k-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        labels = (file.parent / "t10k-labels-idx1-ubyte.gz").read_bytes()
        file.write_bytes({"cut": whole[:-30], "empty": b"", "swapped": labels}[damage])
    with pytest.raises(InputError, match=r"mnist: .*(damaged|should hold|no t10k-images)") as caught:
        open_dataset(f"mnist:{tmp_path / 'd'}")
    assert "download=True" not in str(caught.value)
