"""Folders, manifests, named data sets, class names: what opens, what is refused, and what stays the same."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glom.datasets import DatasetInfo, ImageDataset, Sample, dataset_names, open_dataset, register_dataset
from glom.datasets.named.catalogue import NAMED
from glom.datasets.registry import DATASETS, check_spec
from glom.datasets.samples_build import build_sample
from glom.datasets.sources import BytesSource, FileSource
from glom.errors import InputError, RunError
from tests.helpers_images import class_folders, encoded, photo


def ids(dataset: ImageDataset) -> list[str]:
    return [sample.id for sample in dataset]


def labels(dataset: ImageDataset) -> list[int | None]:
    return [sample.label for sample in dataset]


def refused(spec: str | Path, *expected: str, **options: object) -> None:
    with pytest.raises(InputError) as caught:
        open_dataset(str(spec), **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    for part in expected:
        assert part in text


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# -- folders ---------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    dataset = open_dataset(str(class_folders(tmp_path / "pets", ["dog", "big_cat"], 2)))
    assert (dataset.name, dataset.classes, dataset.keys) == ("pets", ("big cat", "dog"), ("big_cat", "dog"))
    assert ids(dataset) == ["big_cat/0.png", "big_cat/1.png", "dog/0.png", "dog/1.png"]
    assert labels(dataset) == [0, 0, 1, 1]
    assert dataset.labelled
    assert dataset[0].image().size == (34, 34)
    assert [sample.id for sample in dataset] == ids(dataset)
    assert "source" not in repr(dataset[0])


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg"):
        photo().save(tmp_path / name)
    write(tmp_path / "notes.txt", "x")
    dataset = open_dataset(str(tmp_path))
    assert (ids(dataset), labels(dataset), dataset.classes) == (["a.jpeg", "b.PNG"], [None, None], None)
    assert not dataset.labelled
    assert dataset.passed_over == {".txt files": 1}


def test_nested_hidden_and_other_files(tmp_path: Path) -> None:
    root = class_folders(tmp_path, each=1)
    (root / "cat" / "deep" / "er").mkdir(parents=True)
    photo().save(root / "cat" / "deep" / "er" / "x.png")
    photo().save(root / "cat" / "._0.png", "PNG")
    photo().save(root / "preview.png")
    (root / ".cache").mkdir()
    (root / "lists").mkdir()
    write(root / "lists" / "all.txt", "x")
    (root / "bird").mkdir()
    dataset = open_dataset(str(root))
    assert ids(dataset) == ["cat/0.png", "cat/deep/er/x.png", "dog/0.png"]
    assert dataset.classes == ("cat", "dog")  # neither an empty folder nor one of lists is a class
    assert dataset.passed_over == {
        "hidden files and folders": 2,
        "empty folders": 1,
        "folders without pictures": 1,
        ".txt files": 1,
        "pictures beside the class folders": 1,
    }


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "real", each=1)
    (root / "cat" / "loop").symlink_to(root / "cat")
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "cat").symlink_to(root / "cat")
    assert ids(open_dataset(str(root))) == ["cat/0.png", "dog/0.png"]
    assert ids(open_dataset(str(linked))) == ["cat/0.png"]


def test_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", each=2)
    class_folders(tmp_path / "val", each=1)
    assert len(open_dataset(str(tmp_path), split="train")) == 4
    fallen_back = open_dataset(str(tmp_path))
    assert fallen_back.name == f"{tmp_path.name}/val"
    class_folders(tmp_path / "test", each=3)
    test = open_dataset(str(tmp_path))
    assert (len(test), test.name) == (6, f"{tmp_path.name}/test")
    assert test.fingerprint() == open_dataset(str(tmp_path / "test")).fingerprint()
    (tmp_path / "lists").mkdir()
    assert len(open_dataset(str(tmp_path))) == 6
    refused(tmp_path, "no 'tset' split", "test, train, val", split="tset")
    shutil.rmtree(tmp_path / "val")
    refused(tmp_path, "no 'val' split", split="val")


def test_a_class_of_trains_is_no_split(tmp_path: Path) -> None:
    dataset = open_dataset(str(class_folders(tmp_path, ["bus", "train"], 1)))
    assert dataset.classes == ("bus", "train")


def test_bad_files_among_good_ones_fail_one_by_one(tmp_path: Path) -> None:
    root = class_folders(tmp_path, each=1)
    (root / "cat" / "empty.jpg").touch()
    (root / "cat" / "cut.png").write_bytes(encoded(photo())[:200])
    write(root / "cat" / "text.png", "hello")
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    dataset = open_dataset(str(root))
    reasons = {}
    for sample in dataset:
        try:
            sample.image()
        except InputError as error:
            reasons[sample.id] = str(error)
    assert sorted(reasons) == ["cat/cut.png", "cat/empty.jpg", "cat/gone.png", "cat/text.png"]
    assert "truncated" in reasons["cat/cut.png"]
    assert "empty" in reasons["cat/empty.jpg"]
    assert "not an image" in reasons["cat/text.png"]
    assert "no such file" in reasons["cat/gone.png"]
    assert len(dataset.fingerprint()) == 64


def test_nothing_to_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts" / "a.txt", "x")
    photo().save(tmp_path / "one.png")
    write(tmp_path / "model.bin", "x")
    refused("empty", "empty: the folder is empty")
    refused("hollow", "the folder is empty")
    refused("texts", "no images among its 1 files")
    refused("missing/folder", "no such file or folder")
    refused("./missing", "no such file or folder")
    refused("", "no data set named")
    refused("one.png", "one image; give its folder")
    refused("model.bin", "not a manifest")
    refused("a\0b", "no such file")
    refused("x" * 400 + "/y", "no such file")


# -- names -----------------------------------------------------------------------------------------------


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("cifar11", "unknown data set 'cifar11'; did you mean cifar10", "no file or folder of that name")
    refused("imagenete:/data", "unknown data set 'imagenete'; did you mean imagenette")
    refused("cifar10-sample", "unknown split of cifar10-sample 'train'", split="train")
    refused("dtd", "unknown split of dtd 'tets'; did you mean test", split="tets")


def test_whatever_lies_where_named_sets_do_is_found_by_its_path_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "both").mkdir(parents=True)
    for name, number in (("own/a", 1), ("both/b", 2), ("both/c", 3)):
        (tmp_path / "data" / name).mkdir(parents=True)
        photo(seed=number).save(tmp_path / "data" / name / "0.png")
    photo().save(tmp_path / "here" / "both" / "0.png")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("APM_DATA", str(tmp_path / "data"))
    check_spec("own")
    assert open_dataset("own").classes == ("a",) and open_dataset("both/c").classes is None
    assert len(open_dataset("both")) == 1  # what lies here goes before it
    refused("gone", "no file or folder of that name", str(tmp_path / "data"))


def test_a_named_set_that_is_not_there_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for info in dataset_names():
        if not info.offline:
            spec = NAMED[info.name].example
            refused(f"{spec}:{tmp_path}", info.name, "not there, looked for", str(tmp_path), f"'{spec}:ROOT'")
    refused("cifar10", str(tmp_path / "here"), root=tmp_path / "here")
    monkeypatch.setenv("APM_DATA", str(tmp_path / "there"))
    refused("cifar10", str(tmp_path / "there"))
    monkeypatch.delenv("APM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    refused("cifar10", str(tmp_path / "cache" / "glom-apm" / "data"))
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_names() -> None:
    rows = dataset_names()
    names = [row.name for row in rows]
    expected = (
        "cifar10-sample cifar10 cifar100 imagenette mnist fashion-mnist flowers102 dtd oxford-pets food101 eurosat"
    )
    assert {*expected.split(), "stl10"} <= set(names)
    assert [row.name for row in rows if row.offline] == ["cifar10-sample"]
    for row in rows:
        assert all([row.what, row.size, row.licence, row.source])


@pytest.fixture
def one_cat() -> Iterator[None]:
    yield
    DATASETS.forget("one-cat")


@pytest.mark.usefixtures("one_cat")
def test_registering(tmp_path: Path) -> None:
    @register_dataset("one-cat", "a cat", "1", "MIT", "a test", offline=True)
    def build(root: Path, split: str, download: bool) -> ImageDataset:
        sample = Sample(f"{split}/0", 0, BytesSource(encoded(photo()), f"{root}-{download}"))
        return ImageDataset("one-cat", (sample,), ("cat",))

    dataset = open_dataset(f"one-cat:{tmp_path}", split="val", download=True)
    assert (ids(dataset), dataset[0].source.name) == (["val/0"], f"{tmp_path}-True")  # type: ignore[attr-defined]
    assert DatasetInfo("one-cat", "a cat", "1", "MIT", "a test", True) in dataset_names()
    for name in ("one-cat", "One Cat", "a:b", ""):
        with pytest.raises(InputError):
            register_dataset(name, "", "", "", "")(build)


def test_the_registry_needs_no_torch() -> None:
    code = (
        "import sys; from glom.datasets import open_dataset, dataset_names; dataset_names(); "
        "import glom.datasets.corruptions; open_dataset('cifar10-sample')[0].image(); "
        "sys.exit(bool({'torch', 'torchvision', 'open_clip', 'imagecorruptions'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0


def test_the_shipped_sample() -> None:
    dataset = open_dataset("cifar10-sample")
    assert len(dataset) == 200
    assert Counter(labels(dataset)) == dict.fromkeys(range(10), 20)
    assert dataset.classes is not None
    assert dataset.classes[3] == "cat"
    assert all("{}" in template for template in dataset.templates or ())
    assert {sample.image().size for sample in dataset} == {(32, 32)}
    assert dataset[0].id == "airplane/0000.jpg"


def test_building_the_sample_is_reproducible(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a", each=3)
    one = build_sample(root, tmp_path / "one.zip", each=2).read_bytes()
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))
    two = build_sample(shutil.copytree(root, tmp_path / "b"), tmp_path / "two.zip", each=2).read_bytes()
    assert one == two
    with pytest.raises(InputError, match="has 3 images, 4 are needed"):
        build_sample(root, tmp_path / "three.zip", each=4)


# -- the data set itself ---------------------------------------------------------------------------------


def test_fingerprint_depends_on_content_and_not_on_place_or_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders(tmp_path / "here")
    dataset = open_dataset(str(root))
    original = dataset.fingerprint()
    moved = shutil.copytree(root, tmp_path / "else" / "where")
    assert open_dataset(str(moved)).fingerprint() == original
    shuffled = list(dataset.samples)
    random.Random(1).shuffle(shuffled)
    assert replace(dataset, samples=tuple(shuffled)).fingerprint() == original
    assert ids(replace(dataset, samples=tuple(shuffled))) == ids(dataset)
    monkeypatch.chdir(root)
    assert open_dataset(".").fingerprint() == original

    assert replace(dataset, classes=("cat", "wolf")).fingerprint() != original
    assert replace(dataset, samples=dataset.samples[1:]).fingerprint() != original
    relabelled = (replace(dataset[0], label=1), *dataset.samples[1:])
    assert replace(dataset, samples=relabelled).fingerprint() != original
    photo(34, 34, seed=999).save(moved / "cat" / "1.png")
    assert open_dataset(str(moved)).fingerprint() != original


def test_fingerprint_of_a_large_file(tmp_path: Path) -> None:
    data = bytearray(np.random.default_rng(0).integers(0, 256, 5 << 20, np.uint8).tobytes())
    path = tmp_path / "large.jpg"
    path.write_bytes(data)
    original = FileSource(path).digest()
    assert BytesSource(bytes(data), "large").digest() == original
    for change in (0, len(data) - 1):
        changed = bytearray(data)
        changed[change] ^= 1
        path.write_bytes(changed)
        assert FileSource(path).digest() != original
    path.write_bytes(data + b"x")
    assert FileSource(path).digest() != original


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_does_not_stop_the_fingerprint(tmp_path: Path) -> None:
    root = class_folders(tmp_path, each=1)
    os.mkfifo(root / "cat" / "pipe.jpg")
    dataset = open_dataset(str(root))
    assert len(dataset.fingerprint()) == 64


def toy(counts: list[int | None]) -> ImageDataset:
    samples = [
        Sample(f"{label}/{i}", label, BytesSource(b"x", "x"))
        for label, count in enumerate(counts)
        for i in range(count or 0)
    ]
    return ImageDataset("toy", tuple(samples), tuple(f"class {i}" for i in range(len(counts))))


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any), st.integers(1, 40), st.none() | st.integers())
def test_limit_is_balanced_nested_and_independent_of_order(counts: list[int], n: int, seed: int | None) -> None:
    dataset = toy(list(counts))
    limited = dataset.limit(n, seed)
    assert len(limited) == min(n, len(dataset))
    taken = Counter(labels(limited))
    most = max(taken.values())
    for label, count in enumerate(counts):
        assert taken[label] >= min(count, most - 1)
    assert set(ids(dataset.limit(max(1, n - 1), seed))) <= set(ids(limited))
    backwards = replace(dataset, samples=dataset.samples[::-1])
    assert ids(backwards.limit(n, seed)) == ids(limited)
    if seed is None:
        assert all(int(name.split("/")[1]) < most for name in ids(limited))


def test_limit_spreads_over_many_classes() -> None:
    chosen = sorted(label for label in labels(toy([2] * 1000).limit(100)) if label is not None)
    gaps = np.diff([*chosen, 1000])
    assert len(set(chosen)) == 100
    assert gaps.max() <= 16
    assert ids(toy([9, 9]).limit(4, seed=1)) != ids(toy([9, 9]).limit(4, seed=2))


def test_limit_and_select_at_the_edges() -> None:
    dataset = toy([2, 1])
    assert dataset.limit(None) is dataset
    assert dataset.limit(99) is dataset
    assert ids(dataset.select(["1/0", "0/1"])) == ["0/1", "1/0"]
    for n in (0, -1):
        with pytest.raises(InputError, match="at least 1"):
            dataset.limit(n)
    with pytest.raises(InputError, match="no sample '9/9'"):
        dataset.select(["9/9"])
    with pytest.raises(InputError, match="no images"):
        dataset.select([])


def test_a_data_set_checks_itself() -> None:
    sample = Sample("a", 0, BytesSource(b"x", "x"))
    with pytest.raises(InputError, match="'a' is listed twice"):
        ImageDataset("toy", (sample, sample))
    with pytest.raises(InputError, match="label 2, but there are 2 classes"):
        ImageDataset("toy", (replace(sample, label=2),), ("cat", "dog"))


def test_samples_travel_to_worker_processes(tmp_path: Path) -> None:
    dataset = open_dataset(str(class_folders(tmp_path, each=1)))
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint() == dataset.fingerprint()
    assert again[0].image().tobytes() == dataset[0].image().tobytes()


# -- manifests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "path,label\ncat/0.png,cat\ndog/0.png,dog\n"),
        ("m.tsv", "label\tpath\ncat\tcat/0.png\ndog\tdog/0.png\n"),
        ("m.csv", "\ufeffFile , Class\r\n./cat/0.png,cat\r\n\r\ncat/../dog/0.png,dog"),
        ("m.CSV", 'image,source,class_name\n"cat/0.png","a, b",cat\ndog/0.png,,dog\n'),
        ("m.csv", "path,label,class\ncat/0.png,7,cat\ndog/0.png,9,dog\n"),
    ],
)
def test_manifest(name: str, text: str, tmp_path: Path) -> None:
    dataset = open_dataset(str(write(class_folders(tmp_path) / name, text)))
    assert (ids(dataset), labels(dataset)) == (["cat/0.png", "dog/0.png"], [0, 1])
    assert (dataset.name, dataset.classes) == ("m", ("cat", "dog"))
    assert dataset[1].image().tobytes() == photo(34, 34, seed=100).tobytes()


def test_manifest_with_numbers_absolute_paths_and_a_missing_picture(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data")
    text = f"path,label\n{root / 'cat' / '0.png'},3\n{tmp_path / 'gone.png'},12\n"
    dataset = open_dataset(str(write(root / "m.csv", text)))
    assert ids(dataset) == sorted(["cat/0.png", (tmp_path / "gone.png").as_posix()])
    assert {sample.id: sample.label for sample in dataset}["cat/0.png"] == 3
    assert dataset.classes is None
    with pytest.raises(InputError, match="no such file"):
        next(sample for sample in dataset if "gone" in sample.id).image()


def test_manifest_without_labels(tmp_path: Path) -> None:
    dataset = open_dataset("m.csv", root=write(class_folders(tmp_path) / "m.csv", "file\ncat/0.png\n").parent)
    assert (labels(dataset), dataset.classes) == ([None], None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "first row must name the columns"),
        ("cat/0.png,cat\n", "it has cat/0.png, cat"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png\n", "line 2 has 1 columns, the first row 2"),
        ("path,label\na.png,cat\nb.png,cat,x\n", "line 3 has 3 columns"),
        ("path,label\n ,cat\n", "line 2 has no path"),
        ("path,label\na.png,0.5\n", "column 'label': '0.5' is no label"),
        ("path,label\na.png,1\nb.png,-2\n", "'-2' is no label"),
        ("path,label\na.png,0\n./a.png,1\n", "'a.png' is listed twice"),
        ('path,label\n"a.png,0\n', "not a manifest"),
    ],
)
def test_bad_manifests(text: str, expected: str, tmp_path: Path) -> None:
    refused(write(tmp_path / "m.csv", text), expected, "m")


def test_a_picture_called_csv(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(encoded(photo()))
    refused(tmp_path / "m.csv", "not UTF-8 text")


# -- class names -----------------------------------------------------------------------------------------


def test_a_class_file_orders_classes_by_name(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["big_cat", "dog", "ox"], 1)
    file = write(tmp_path / "names.txt", "Ox\n\ndog\nbig cat\n")
    dataset = open_dataset(str(root), classes_file=file)
    assert dataset.classes == ("Ox", "dog", "big cat")
    assert {sample.id: sample.label for sample in dataset} == {"big_cat/0.png": 2, "dog/0.png": 1, "ox/0.png": 0}
    assert dataset.keys == ("ox", "dog", "big_cat")


def test_a_class_file_names_numbered_folders_in_order(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["00", "01", "02"], 1)
    dataset = open_dataset(str(root), classes_file=write(tmp_path / "names.txt", "cat\ndog\nox\n"))
    assert (dataset.classes, labels(dataset)) == (("cat", "dog", "ox"), [0, 1, 2])


def test_a_class_file_of_pairs_gives_any_name(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["cat", "dog"], 1)
    dataset = open_dataset(str(root), classes_file=write(tmp_path / "n.tsv", "dog\ta good dog\ncat\ta cat\n"))
    assert (dataset.classes, labels(dataset)) == (("a good dog", "a cat"), [1, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\n", "1 names, but d has 2 classes"),
        ("cat\ncow\nox\n", "3 names, but d has 2 classes"),
        ("cat\ndgo\n", "'dgo' is no class of d (1 of 2 names are not); did you mean dog?"),
        ("xxxx\nyyyy\n", "'xxxx' is no class of d (2 of 2 names are not); valid: cat, dog"),
        ("cat\ncat\n", "'cat' is listed twice"),
        ("cat\tx\ndgo\ty\n", "did you mean dog?"),
        ("cat\tx\ndog\n", "every line should be a name"),
        ("a\tn1\tcat\nb\tn2\tdog\n", "every line should be a name"),
        ("\n \n", "no names in it"),
    ],
)
def test_class_files_that_do_not_fit(text: str, expected: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", each=1)
    refused(root, expected, str(tmp_path / "n.txt"), classes_file=write(tmp_path / "n.txt", text))


def test_class_files_that_cannot_be_read(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", each=1)
    (tmp_path / "n.bin").write_bytes(encoded(photo()))
    refused(root, "not UTF-8", classes_file=tmp_path / "n.bin")
    refused(root, "no such file", classes_file=tmp_path / "missing.txt")
    refused(root, "cannot be read", classes_file=tmp_path)


def test_class_file_for_numbers_and_for_none(tmp_path: Path) -> None:
    root = class_folders(tmp_path)
    three = write(tmp_path / "n.txt", "a\nb\nc\n")
    manifest = write(root / "m.csv", "path,label\ncat/0.png,0\ndog/0.png,2\n")
    dataset = open_dataset(str(manifest), classes_file=three)
    assert (dataset.classes, labels(dataset)) == (("a", "b", "c"), [0, 2])
    refused(manifest, "2 names, but the labels of m need 3", classes_file=write(tmp_path / "o.txt", "a\nb\n"))
    assert open_dataset(str(root / "cat"), classes_file=three).classes == ("a", "b", "c")


def test_class_file_for_a_named_set(tmp_path: Path) -> None:
    names = list(open_dataset("cifar10-sample").classes or ())[::-1]
    dataset = open_dataset("cifar10-sample", classes_file=write(tmp_path / "n.txt", "\n".join(names)))
    assert dataset.classes == tuple(names)
    assert {sample.label for sample in dataset if sample.id.startswith("truck/")} == {0}


# -- wnids -----------------------------------------------------------------------------------------------

FISH, SHARK = "n01440764", "n01484850"  # classes 0 and 2


def test_wnids_without_a_table(tmp_path: Path) -> None:
    dataset = open_dataset(str(class_folders(tmp_path, [SHARK, FISH], 1)))
    assert dataset.classes is not None
    assert len(dataset.classes) == 1000
    assert (labels(dataset), dataset.classes[2], dataset.classes[999]) == ([0, 2], "great white shark", "toilet paper")


def test_wnids_with_a_table(tmp_path: Path) -> None:
    class_folders(tmp_path / "val", [SHARK, FISH], 1)
    write(tmp_path / "classes.tsv", f"0\tn99999999\tother\n1\t{SHARK}\tbig fish\n2\t{FISH}\tfish\n")
    for spec in (tmp_path, tmp_path / "val"):
        dataset = open_dataset(str(spec))
        assert dataset.classes == ("other", "big fish", "fish")
        assert {sample.id[:9]: sample.label for sample in dataset} == {SHARK: 1, FISH: 2}
    write(tmp_path / "classes.tsv", f"{FISH} fish")
    refused(tmp_path, "classes.tsv: every line should be 'INDEX<TAB>WNID<TAB>NAME'")
    write(tmp_path / "classes.tsv", f"0\t{FISH}\tfish\n1\t{FISH}\tfish\n")
    refused(tmp_path, f"'{FISH}' comes twice")
    write(tmp_path / "classes.tsv", f"0\t{FISH}\tfish\n")
    refused(tmp_path, f"'{SHARK}' is not among the 1 wnids", "classes.tsv")


def test_a_table_beside_class_folders_is_not_counted_as_ignored(tmp_path: Path) -> None:
    write(class_folders(tmp_path, [FISH], 1) / "classes.tsv", f"0\t{FISH}\tfish\n")
    assert open_dataset(str(tmp_path)).passed_over == {}


def test_wnids_in_a_manifest(tmp_path: Path) -> None:
    manifest = write(class_folders(tmp_path, [SHARK], 1) / "m.csv", f"path,class\n{SHARK}/0.png,{SHARK}\n")
    assert labels(open_dataset(str(manifest))) == [2]


def test_wnids_that_imagenet_does_not_have(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", [FISH, "n99999999"], 1)
    refused(root, "'n99999999' is not among the 1000 wnids of ImageNet's 1,000", "classes.tsv")
    named = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", "fish\nnovelty\n"))
    assert (named.classes, labels(named)) == (("fish", "novelty"), [0, 1])


def test_class_files_for_wnids(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", [FISH, SHARK], 1)
    for text in ("great white shark\ntench\n", f"{SHARK}\n{FISH}\n"):
        chosen = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", text))
        assert {sample.id[:9]: sample.label for sample in chosen} == {SHARK: 0, FISH: 1}
    in_order = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", "a fish\na shark\n"))
    assert (in_order.classes, labels(in_order)) == (("a fish", "a shark"), [0, 1])
    every = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", "".join(f"c {i}\n" for i in range(1000))))
    assert (labels(every), (every.classes or ())[2]) == ([0, 2], "c 2")
    refused(
        root,
        "3 names, but d has 1000 classes (2 of them with images)",
        classes_file=write(tmp_path / "n.txt", "a\nb\nc"),
    )


# -- torchvision's data sets, in miniature and in their own formats --------------------------------------


def idx(array: np.ndarray) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist(name: str, folder: str, tmp_path: Path) -> None:
    root = tmp_path / "here"
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    for part, count in (("t10k", 3), ("train", 4)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pictures[:count]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([7, 0, 9, 1][:count], np.uint8)))
    dataset = open_dataset(f"{name}:{root}")
    assert (ids(dataset), labels(dataset)) == (["test/000000", "test/000001", "test/000002"], [7, 0, 9])
    assert (np.asarray(dataset[1].image()) == pictures[1][..., None]).all()
    assert (dataset.classes or ())[1] == ("1" if name == "mnist" else "Trouser")
    assert len(open_dataset(name, root=root, split="train")) == 4
    again = open_dataset(f"{name}:{shutil.copytree(root, tmp_path / 'copy')}")
    assert again.fingerprint() == dataset.fingerprint()
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"nonsense")
    refused(f"{name}:{root}", f"{name}: ", "t10k-images-idx3-ubyte: incomplete or damaged")


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as tv

    monkeypatch.setattr(tv.CIFAR10, "train_list", [])
    monkeypatch.setattr(tv.CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(tv.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    refused(f"cifar10:{tmp_path}", "incomplete or damaged")
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": rows.reshape(2, -1), "labels": [1, 0]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))
    dataset = open_dataset(f"cifar10:{tmp_path}")
    assert (dataset.classes, labels(dataset)) == (("airplane", "automobile"), [1, 0])
    assert (np.asarray(dataset[0].image()) == rows[0].transpose(1, 2, 0)).all()


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as tv

    monkeypatch.setattr(tv.STL10, "_check_integrity", lambda self: True)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96), np.uint8)
    (folder / "test_X.bin").write_bytes(rows.transpose(0, 1, 3, 2).tobytes())  # stored column by column
    (folder / "test_y.bin").write_bytes(bytes([2, 1]))
    write(folder / "class_names.txt", "airplane\nbird\n")
    dataset = open_dataset(f"stl10:{tmp_path}")
    assert (dataset.classes, labels(dataset)) == (("airplane", "bird"), [1, 0])
    assert (np.asarray(dataset[1].image()) == rows[1].transpose(1, 2, 0)).all()


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo().save(path)


def test_sets_of_files(tmp_path: Path) -> None:
    for folder in ("n01440764", "n02102040"):
        save(tmp_path / "imagenette2" / "val" / folder / "a.JPEG")
    save(tmp_path / "dtd" / "dtd" / "images" / "polka-dotted" / "p.jpg")
    (tmp_path / "dtd" / "dtd" / "labels").mkdir()
    write(tmp_path / "dtd" / "dtd" / "labels" / "test1.txt", "polka-dotted/p.jpg\n")
    pets = tmp_path / "oxford-iiit-pet"
    save(pets / "images" / "great_dane_1.jpg")
    (pets / "annotations").mkdir()
    write(pets / "annotations" / "test.txt", "great_dane_1 1 2 1\n")
    save(tmp_path / "food-101" / "images" / "apple_pie" / "1.jpg")
    (tmp_path / "food-101" / "meta").mkdir()
    write(tmp_path / "food-101" / "meta" / "test.json", '{"apple_pie": ["apple_pie/1"]}')
    save(tmp_path / "eurosat" / "2750" / "AnnualCrop" / "AnnualCrop_1.jpg")
    expected = {
        "imagenette": (("tench", "English springer"), "imagenette2/val/n01440764/a.JPEG"),
        "dtd": (("polka-dotted",), "dtd/dtd/images/polka-dotted/p.jpg"),
        "oxford-pets": (("great dane",), "oxford-iiit-pet/images/great_dane_1.jpg"),
        "food101": (("apple pie",), "food-101/images/apple_pie/1.jpg"),
        "eurosat": (("annual crop land",), "eurosat/2750/AnnualCrop/AnnualCrop_1.jpg"),
    }
    for name, (classes, first) in expected.items():
        dataset = open_dataset(f"{name}:{tmp_path}")
        assert (dataset.classes, dataset[0].id, dataset[0].label) == (classes, first, 0)
        assert dataset[0].image().size == photo().size
        assert all(template.count("{}") == 1 for template in dataset.templates or ())


def test_flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as tv
    from scipy.io import savemat

    monkeypatch.setattr(tv.Flowers102, "_check_integrity", lambda self: True)
    folder = tmp_path / "flowers-102"
    save(folder / "jpg" / "image_00001.jpg")
    save(folder / "jpg" / "image_00002.jpg")
    savemat(folder / "setid.mat", {"trnid": [[1, 2]], "valid": [[1, 2]], "tstid": [[2, 1]]})
    savemat(folder / "imagelabels.mat", {"labels": [[3, 102]]})
    dataset = open_dataset(f"flowers102:{tmp_path}")
    assert (ids(dataset)[1], labels(dataset)) == ("flowers-102/jpg/image_00002.jpg", [2, 101])
    assert (dataset.classes or ())[0] == "pink primrose"


def test_a_download_that_fails_is_the_runs_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as tv

    def offline(self: object, *args: object, **options: object) -> None:
        print("Downloading")
        raise OSError("no route\nto host")

    monkeypatch.setattr(tv.DTD, "__init__", offline)
    with pytest.raises(RunError, match=r"dtd: the download into .* failed \(no route to host\)"):
        open_dataset(f"dtd:{tmp_path / 'new'}", download=True)


# -- the real thing, where it lies beside the checkout ---------------------------------------------------


@pytest.mark.shared
def test_real_fashion_mnist(tmp_path: Path, shared: Path) -> None:
    raw = shared / "FashionMNIST" / "raw"
    target = tmp_path / "FashionMNIST" / "raw"
    target.mkdir(parents=True)
    for archive in raw.glob("*.gz"):
        (target / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    dataset = open_dataset(f"fashion-mnist:{tmp_path}")
    assert len(dataset) == 10_000
    assert Counter(labels(dataset.limit(50))) == dict.fromkeys(range(10), 5)
