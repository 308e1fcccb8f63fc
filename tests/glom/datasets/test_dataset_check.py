"""Counting what is there, fetching what is not, and a classifier's rows for a data set's classes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from commands.datasets import app
from glom.datasets import check_dataset, dataset_names, open_dataset
from glom.datasets.classes import imagenet_names, imagenet_wnids
from glom.datasets.named.catalogue import NAMED
from glom.datasets.named.imagenet_sets import subset_layouts, subset_wnids
from glom.datasets.named.layouts import Archive, Download, Layout
from glom.errors import InputError, RunError
from glom.teachers.align import aligned_head, class_rows
from glom.teachers.heads import ZeroShotHead
from tests.conftest import in_process
from tests.glom.datasets.test_dataset_layouts import coco, coop, photo, save, write

WNIDS = imagenet_wnids()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run `apm datasets ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("APM_DATA", raising=False)
    return in_process(capsys, app, "datasets")


def published(monkeypatch: pytest.MonkeyPatch, name: str, **counts: tuple[int, int]) -> None:
    """Let a data set's every layout have been published with so many images and classes."""
    named = NAMED[name]

    def layouts(variant: str) -> tuple[Layout, ...]:
        return tuple(replace(layout, counts=counts) for layout in named.layouts(variant))

    whole = f"{sum(images for images, _ in counts.values()):,}"
    monkeypatch.setitem(NAMED, name, replace(named, layouts=layouts, size=whole))


def listing(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*"))


# -- check -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def textures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of three classes, complete; the class `Ox` has test pictures alone."""
    coop(tmp_path / "data" / "dtd", "split_zhou_DescribableTextures.json", "images")
    published(monkeypatch, "dtd", test=(2, 3), train=(2, 3), val=(1, 3))
    return tmp_path / "data"


def test_a_complete_set(textures: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = listing(textures)
    code, out, _ = call("check", "dtd", "--root", textures, "--split", "test", "--read", "--json", "--quiet")
    [found] = json.loads(out)["datasets"]
    assert (found["state"], found["layout"]) == ("incomplete", "CoOp")
    [row] = found["splits"]
    assert (row["images"], row["classes"], row["expected_images"], row["unreadable"]) == (2, 2, 2, 0)
    assert found["problems"] == ["test: 1 class has no image: cat"] and code == 1

    whole = {"train": [["a.jpg", 0, "x"]], "val": [["b.jpg", 0, "x"]], "test": [["c.jpg", 0, "x"]]}
    coop(textures / "dtd", "split_zhou_DescribableTextures.json", "images", whole)
    published(monkeypatch, "dtd", test=(1, 1), train=(1, 1), val=(1, 1))
    before = listing(textures)
    code, out, err = call("check", "dtd", "--root", textures, "--read", "--quiet")
    assert (code, err) == (0, "") and out.rstrip().endswith("dtd: complete")
    assert check_dataset("dtd", textures, read=True).complete
    assert check_dataset(f"dtd:{textures}", splits=["val"]).splits[0].split == "val"
    by_file = check_dataset(f"dtd:{textures / 'dtd' / 'split_zhou_DescribableTextures.json'}")
    assert (by_file.complete, [row.expected_images for row in by_file.splits]) == (True, [1, 1, 1])
    assert check_dataset(f"cifar10:{textures / 'dtd' / 'split_zhou_DescribableTextures.json'}").state == "absent"
    assert listing(textures) == before


def test_what_is_missing_is_named(textures: Path, call: Any) -> None:
    (textures / "dtd" / "images" / "a" / "3.jpg").unlink()
    (textures / "dtd" / "images" / "a" / "2.jpg").write_bytes(b"\xff\xd8 half a picture")
    code, out, _ = call("check", "dtd", "--root", textures, "--read", "--quiet")
    assert code == 1
    said = " ".join(out.split())
    assert "1 of the 2 pictures that split_zhou_DescribableTextures.json lists for 'test'" in said
    assert "the first of them a/3.jpg" in said
    assert "val: 1 picture cannot be read, the first:" in said
    assert "train: 1 class has no image: Ox" in said
    assert said.endswith("dtd: incomplete")


def test_other_numbers_than_published(tmp_path: Path) -> None:
    for index in (0, 1, 5):
        save(tmp_path / "imagenet-a" / subset_wnids("a")[index] / "x.jpg", index)
    found = check_dataset("imagenet-a", tmp_path)
    assert found.state == "incomplete"
    assert found.problems[0] == "test: 3 images, 7,500 were published"
    assert found.problems[1].startswith(f"test: 197 classes have no image: {subset_wnids('a')[2]}, ")
    assert found.splits[0].classes == 3


def test_files_that_lists_name(tmp_path: Path) -> None:
    """torchvision's classes read a list and never look whether its files are there."""
    write(tmp_path / "dtd" / "dtd" / "labels" / "test1.txt", "dotted/a.jpg\ndotted/b.jpg\n")
    save(tmp_path / "dtd" / "dtd" / "images" / "dotted" / "a.jpg")
    found = check_dataset("dtd", tmp_path, splits=["test"])
    assert any(p.startswith("test: 1 listed file is not there") and p.endswith("b.jpg") for p in found.problems)
    every = check_dataset("dtd", tmp_path)
    assert [row.images for row in every.splits] == [2, None, None]
    assert "incomplete or damaged" in every.splits[1].problems[0]


def test_a_validation_set_that_serves_as_the_test_set_is_counted_once(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    found = check_dataset("coco", tmp_path, read=True)
    assert [(row.split, row.images, row.unreadable) for row in found.splits] == [("test", 3, 0), ("train", 1, 0)]
    save(tmp_path / "imagenet" / "train" / WNIDS[0] / "a.JPEG")
    found = check_dataset("imagenet", tmp_path)
    assert [(row.split, row.images) for row in found.splits] == [("test", None), ("train", 1)]


def test_variants_are_counted_one_by_one(tmp_path: Path, call: Any) -> None:
    save(tmp_path / "imagenet-c" / "fog" / "5" / WNIDS[0] / "a.JPEG")
    found = check_dataset("imagenet-c", tmp_path)
    assert (len(found.splits), found.state) == (75, "incomplete")
    assert "gaussian_noise/1 is not there" in found.problems
    assert [row.images for row in found.splits if row.split == "fog/5"] == [1]
    assert len(check_dataset("imagenet-c/fog/5", tmp_path).splits) == 1
    code, out, _ = call("check", "imagenet-c", "--root", tmp_path)
    assert code == 1 and "- and 56 more; --json lists all" in out
    assert call("check", "imagenet-c/fog/4", "--root", tmp_path)[0] == 2


def test_all_that_is_there(textures: Path, tmp_path: Path, call: Any) -> None:
    code, out, _ = call("check", "all", "--root", textures)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[3:] if line[:1].isalpha()}
    assert code == 1
    assert rows["dtd"][0] == "INCOMPLETE" and rows["imagenet"] == ["-", "-"]
    assert len(rows) >= 25
    (tmp_path / "nothing").mkdir()
    code, _, err = call("check", "all", "--root", tmp_path / "nothing")
    assert code == 2 and "none of them is in" in err


def test_checking_what_is_not_there(tmp_path: Path, call: Any) -> None:
    assert check_dataset("dtd", tmp_path).state == "absent"
    code, out, err = call("check", "dtd", "--root", tmp_path)
    assert (code, out) == (2, "") and err.startswith("error: dtd: not there, looked for")
    assert len(err.splitlines()) == 1
    code, out, _ = call("check", "dtd", "--root", tmp_path, "--json")
    assert code == 2 and json.loads(out)["datasets"][0]["state"] == "absent"
    for arguments, said in (
        (("dtdd",), "unknown data set 'dtdd'; did you mean dtd"),
        (("dtd", "--root", tmp_path / "no"), "no such folder"),
        (("all", "--split", "test"), "--split goes with one data set"),
        (("imagenet-c/fgo/1", "--root", tmp_path), "did you mean fog"),
        ((str(tmp_path),), "opened, not checked"),
    ):
        code, out, err = call("check", *arguments)
        assert (code, out) == (2, "") and said in err
    save(tmp_path / "coco" / "val2017" / "1.jpg")
    code, _, err = call("check", "coco", "--root", tmp_path, "--split", "tset")
    assert code == 2 and "unknown split of coco 'tset'; did you mean test" in err


def test_a_layout_that_holds_a_part_says_which(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, count in (("val", 1), ("train", 2)):
        for number in range(count):
            save(tmp_path / "bsds500" / split / f"{number}.jpg", number)
            write(tmp_path / "bsds500" / split / f"{number}.npz", "outlines")
    published(monkeypatch, "bsds500", val=(1, 0), train=(2, 0), test=(1, 0))
    monkeypatch.setitem(NAMED, "bsds500", replace(NAMED["bsds500"], size="1,500"))
    code, out, _ = call("check", "bsds500", "--root", tmp_path)
    assert code == 0
    assert " ".join(out.split()).endswith(
        "bsds500: complete in this layout: 3 of the 1,500 images published (val, train)"
    )
    code, out, _ = call("check", "bsds500", "--root", tmp_path, "--json")
    assert json.loads(out)["datasets"][0]["part"] == "3 of the 1,500 images published (val, train)"
    assert check_dataset("bsds500", tmp_path, splits=["val"]).part == ""  # no more was asked for
    monkeypatch.setitem(NAMED, "bsds500", replace(NAMED["bsds500"], size="3"))
    assert check_dataset("bsds500", tmp_path).part == ""
    assert [row.outlines for row in check_dataset("bsds500", tmp_path).splits] == [1, 2] and "outlines" in out
    found = check_dataset("bsds500", tmp_path, ["val"], read=True)
    assert (found.state, found.splits[0].unreadable) == ("incomplete", 0)
    assert "outlines cannot be read" in found.problems[0]
    (tmp_path / "bsds500" / "train" / "0.npz").unlink()
    found = check_dataset("bsds500", tmp_path)
    assert found.state == "incomplete" and found.problems == (
        "train: 1 picture has no outlines, the first of them 0.jpg",
    )


def test_a_folder_of_pictures_in_its_place_is_told(tmp_path: Path, call: Any) -> None:
    for name in ("cat", "ship"):
        save(tmp_path / "cifar10" / "test" / name / "1.png")
        save(tmp_path / "cifar10" / "train" / name / "2.png")
    code, _, err = call("check", "cifar10", "--root", tmp_path)
    assert code == 2 and len(err.splitlines()) == 1
    assert f"{tmp_path / 'cifar10'} is a folder of pictures (2 to test on), not checked" in err
    (tmp_path / "mnist").mkdir()
    assert "folder of pictures" not in call("check", "mnist", "--root", tmp_path)[2]


def test_what_ships_is_complete(call: Any) -> None:
    found = check_dataset("cifar10-sample", read=True)
    assert (found.state, found.splits[0].images, found.splits[0].unreadable) == ("complete", 200, 0)
    assert call("check", "cifar10-sample")[0] == 0


# -- list and prepare ------------------------------------------------------------------------------------------------


def test_the_list(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call("list")
    assert code == 0 and all(len(line) <= 80 for line in out.splitlines())
    assert call()[1] == out
    for info in dataset_names():
        assert f"\n{info.name} " in out
    told = json.loads(call("list", "--json")[1])
    assert len(told["corruptions"]) == 15 + 4 + 10
    assert {row["name"]: row["tables"] for row in told["datasets"]}["imagenet-c"] == [2]
    of_table = [[row["name"] for row in told["datasets"] if table in row["tables"]] for table in (1, 2, 3)]
    assert [len(names) for names in of_table] == [5, 1, 9]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """A tar file of one ImageNet-A picture, served by this machine to itself."""
    save(tmp_path / "made" / "imagenet-a" / subset_wnids("a")[3] / "x.jpg")
    path = tmp_path / "made" / "imagenet-a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "made" / "imagenet-a", "imagenet-a")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(SimpleHTTPRequestHandler, directory=str(path.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/imagenet-a.tar"
        yield Archive(url, 10_000, md5=hashlib.md5(path.read_bytes()).hexdigest())
        server.shutdown()


def test_preparing_what_may_be_fetched(
    tmp_path: Path, archive: Archive, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMED, "imagenet-a", replace(NAMED["imagenet-a"], download=Download((archive,))))
    root = tmp_path / "data"
    code, out, _ = call("prepare", "imagenet-a", "--root", root, "--dry-run")
    assert code == 0 and archive.url in out and "1 MB into" in out and not root.exists()
    code, out, err = call("prepare", "imagenet-a", "--root", root, "--json")
    told = json.loads(out)
    assert (told["there"], told["check"]["splits"][0]["images"]) == ("", 1)
    assert code == 1 and "imagenet-a is incomplete: test: 1 image, 7,500 were published" in err
    assert all(stage in err for stage in ("downloading", "unpacking", "counting")) and "B/s" not in err
    assert open_dataset(f"imagenet-a:{root}")[0].label == 3

    counts = subset_layouts("imagenet-a", "a", "imagenet-adversarial", {"test": (1, 200)})
    monkeypatch.setitem(NAMED, "imagenet-a", replace(NAMED["imagenet-a"], layouts=lambda variant: counts))
    code, out, err = call("prepare", "imagenet-a", "--root", root, "--quiet")
    assert "counting" not in err
    assert code == 1 and f"{root / 'imagenet-a'}: nothing to download" in out
    assert f"remove {root / 'imagenet-a'} to fetch it again" in err


def test_of_several_archives_only_the_missing_are_fetched(tmp_path: Path, call: Any) -> None:
    whole = json.loads(call("prepare", "coco", "--root", tmp_path, "--dry-run", "--json")[1])
    assert [url.rsplit("/")[-1] for url in whole["addresses"]] == [
        "annotations_trainval2017.zip",
        "val2017.zip",
        "train2017.zip",
    ]
    coco(tmp_path / "coco")
    told = json.loads(call("prepare", "coco", "--root", tmp_path, "--dry-run", "--json")[1])
    assert (told["addresses"], told["download"]) == ([], "")
    save(tmp_path / "c" / "imagenet-c" / "noise" / "gaussian_noise" / "1" / WNIDS[0] / "a.JPEG")
    save(tmp_path / "c" / "imagenet-c" / "contrast" / "1" / WNIDS[0] / "a.JPEG")
    told = json.loads(call("prepare", "imagenet-c", "--root", tmp_path / "c", "--dry-run", "--json")[1])
    assert [url.rsplit("/")[-1] for url in told["addresses"]] == ["blur.tar", "weather.tar"]
    assert told["download"] == "19.1 GB"


def test_a_download_that_is_not_what_was_published(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(archive, md5="0" * 32)
    monkeypatch.setitem(NAMED, "imagenet-a", replace(NAMED["imagenet-a"], download=Download((wrong,))))
    with pytest.raises(RunError, match=r"imagenet-a: the download into .* failed"):
        open_dataset(f"imagenet-a:{tmp_path / 'data'}", download=True)


def test_preparing_what_has_to_be_asked_for(tmp_path: Path, call: Any) -> None:
    for name, page in (("imagenet", "image-net.org"), ("ucf101", "github.com/KaiyangZhou/CoOp")):
        code, out, err = call("prepare", name, "--root", tmp_path)
        assert code == 1 and page in out and "ROOT/" in out
        assert "cannot be downloaded from here" in err and len(err.splitlines()) == 1
        assert call("prepare", name, "--root", tmp_path, "--dry-run")[0] == 0
        with pytest.raises(InputError, match="cannot be downloaded from here"):
            open_dataset(f"{name}:{tmp_path}", download=True)
    for name in ("cifar10-sample", "cifar11"):
        code, out, err = call("prepare", name, "--root", tmp_path)
        assert (code, out) == (2, "") and "unknown data set to prepare" in err
    assert list(tmp_path.iterdir()) == []


def test_no_network_and_no_room(tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error
    import urllib.request

    def offline(*arguments: object, **options: object) -> None:
        raise urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    code, _, err = call("prepare", "cifar10-c", "--root", tmp_path)
    assert code == 1 and err.count("error:") == 1
    assert "the network could not be reached: [Errno -2] Name or service not known" in err
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=3_000_000_000))
    code, _, err = call("prepare", "cifar10-c", "--root", tmp_path)
    assert code == 1 and "needs about 5.8 GB" in err and "3.0 GB are free" in err


# -- a classifier's rows ---------------------------------------------------------------------------------------------


class Classifier:
    """A teacher without a text encoder: row c of its head is c everywhere, its bias c too."""

    has_text, name = False, "a classifier"

    def __init__(self, classes: tuple[str, ...] | None) -> None:
        self.classes = classes

    def zero_shot_head(self, classes: tuple[str, ...], templates: object = ()) -> ZeroShotHead:
        rows = torch.arange(len(classes)).float()
        return ZeroShotHead(tuple(classes), rows[:, None].expand(-1, 4), 1.0, rows, normalize=False)


def rendition(root: Path, *wnids: str) -> Any:
    for wnid in wnids:
        save(root / "imagenet-r" / wnid / "x.jpg")
    return open_dataset(f"imagenet-r:{root}")


def test_a_subset_takes_its_own_rows_of_a_thousand(tmp_path: Path) -> None:
    dataset = rendition(tmp_path, subset_wnids("r")[0], subset_wnids("r")[199])
    rows = class_rows(dataset, imagenet_names())
    assert [WNIDS[row] for row in rows] == list(subset_wnids("r"))
    # "missile" is two classes of ImageNet's; only the wnid says which one is in ImageNet-R.
    assert imagenet_names().count("missile") == 2
    assert rows[(dataset.classes or ()).index("missile")] == 657
    head = aligned_head(Classifier(imagenet_names()), dataset)  # type: ignore[arg-type]
    assert head.weights.shape == (200, 4) and head.bias is not None
    assert head.weights[:, 0].tolist() == head.bias.tolist() == [float(row) for row in rows]
    assert head.classes == dataset.classes
    [first, last] = (s.label for s in dataset)
    assert head.bias[[first, last]].tolist() == [1.0, float(WNIDS.index(subset_wnids("r")[199]))]


def test_a_thousand_rows_in_another_order(tmp_path: Path) -> None:
    dataset = rendition(tmp_path, subset_wnids("r")[0])
    distinct = tuple(f"{name}, {wnid}" for name, wnid in zip(imagenet_names(), WNIDS))
    with pytest.raises(InputError, match="only 0 of the 1,000 class names are among the classifier's"):
        class_rows(dataset, distinct)
    with pytest.raises(InputError, match="not in ImageNet's standard order"):
        class_rows(dataset, imagenet_names()[::-1])


def test_rows_by_name_without_wnids(tmp_path: Path) -> None:
    coop(tmp_path / "dtd", "split_zhou_DescribableTextures.json", "images")
    dataset = open_dataset(f"dtd:{tmp_path}")
    assert class_rows(dataset, ("ox", "owl", "Big_Dog", "cat")) == [3, 2, 0]
    with pytest.raises(InputError, match=r"unknown class 'Ox'"):
        class_rows(dataset, ("cat", "big dog", "owl"))
    with pytest.raises(InputError, match="ambiguous"):
        class_rows(dataset, ("cat", "big dog", "ox", "OX"))
    aligned = aligned_head(Classifier(("ox", "owl", "Big_Dog", "cat")), dataset)  # type: ignore[arg-type]
    assert aligned.weights[:, 0].tolist() == [3.0, 2.0, 0.0]


def test_data_without_class_names_has_the_classifiers(tmp_path: Path) -> None:
    photo().save(tmp_path / "a.png")
    manifest = write(tmp_path / "m.csv", "path,label\na.png,2\n")
    dataset = open_dataset(str(manifest))
    assert class_rows(dataset, ("a", "b", "c")) == [0, 1, 2]
    assert aligned_head(Classifier(("a", "b", "c")), dataset).classes == ("a", "b", "c")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels up to 2, the classifier only 2 classes"):
        class_rows(dataset, ("a", "b"))
    with pytest.raises(InputError, match="no class names"):
        aligned_head(Classifier(None), dataset)  # type: ignore[arg-type]


# -- as a person meets it --------------------------------------------------------------------------------------------


def test_the_page_says_what_the_registry_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(" `"): cells for line in page.splitlines() if len(cells := line.split("|")) == 8}
    for info in dataset_names():
        _, _, _, images, tables, licence, get, _ = (cell.strip() for cell in rows[info.name])
        assert (images, licence) == (info.size, info.licence)
        assert tables == ", ".join(map(str, info.tables))
        assert (f"by itself, {info.download}" in get) if info.download else ("by itself" not in get)


def test_as_a_process(tmp_path: Path) -> None:
    save(tmp_path / "coco" / "val2017" / "1.jpg")
    command = [sys.executable, "-m", "cli", "datasets", "check", "coco", "--root", str(tmp_path), "--json", "--read"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    [found] = json.loads(done.stdout)["datasets"]
    assert [row["images"] for row in found["splits"]] == [1, None]
    assert "no folder 'train2017'" in found["problems"][-1]
