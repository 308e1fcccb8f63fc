"""Data where people have it: Hugging Face's data sets, parquet, WebDataset shards, zip and tar."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from glom.datasets.registry import check_spec, open_dataset
from glom.datasets.rows import parse_rows
from glom.datasets.shards import shard_paths
from glom.errors import InputError
from tests.conftest import make_image

COUNT = 6


@pytest.fixture(autouse=True)
def _own_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def data(number: int) -> bytes:
    held = io.BytesIO()
    make_image(number).save(held, "PNG")
    return held.getvalue()


def labels(dataset) -> list[int | None]:
    return [sample.label for sample in dataset]


# -- datasets, parquet ----------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch) -> Path:
    """A folder of parquet files as the Hub has them, with a test and a train split."""
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    kinds = {"fine_label": datasets.ClassLabel(names=["cat", "big_ship"]), "img": datasets.Image(), "coarse": None}
    kinds["coarse"] = datasets.Value("string")
    cells = {
        "fine_label": [0, 1, 0, 1, -1, 0],
        "img": [{"bytes": data(n), "path": None} for n in range(COUNT)],
        "coarse": ["animal", "thing", "animal", "thing", None, "animal"],
    }
    rows = datasets.Dataset.from_dict(cells, features=datasets.Features(kinds))
    folder = tmp_path / "own-set"
    folder.mkdir()
    for split in ("test", "train"):
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    datasets.DatasetDict({"validation": rows}).save_to_disk(tmp_path / "saved")
    return folder


def test_a_set_of_the_hubs_is_opened_with_its_names(hub):
    check_spec(f"hf:{hub}")
    found = open_dataset(f"hf:{hub}")
    assert (found.name, found.classes, found.keys) == ("own-set", ("cat", "big ship"), ("cat", "big_ship"))
    assert labels(found) == [0, 1, 0, 1, None, 0] and "no label" in found.remarks[0]
    assert [s.image().tobytes() for s in found] == [make_image(n).tobytes() for n in range(COUNT)]
    saved = open_dataset(f"hf:{hub.parent / 'saved'}")
    assert saved.fingerprint() == found.fingerprint() and "validation" in saved.remarks[0]
    assert len(open_dataset(f"hf:{hub}@train[:2]")) == 2
    streamed = open_dataset(f"hf:{hub}@train?stream=2")
    assert len(streamed) == 2 and streamed.fingerprint() == open_dataset(f"hf:{hub}@train[:2]").fingerprint()
    other = open_dataset(f"hf:{hub}?label=coarse&image=img")
    assert other.classes == ("animal", "thing") and labels(other) == labels(found)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("@val", "unknown split .*own-set 'val'; valid: train, test"),
        ("?image=fine_label", "column 'fine_label' holds int64, not pictures"),
        ("?image=img2", "no column 'img2'; it has"),
        ("?image=coarse", "column 'coarse' holds no pictures"),
        ("?labels=x", "did you mean label"),
        ("?stream=x", "stream is a number"),
    ],
)
def test_what_a_set_of_the_hubs_has_not_is_said(hub, asked, says):
    with pytest.raises(InputError, match=says):
        open_dataset(f"hf:{hub}{asked}")


def test_without_a_network_a_name_on_the_hub_is_one_line(monkeypatch):
    pytest.importorskip("datasets", reason="needs the extra hub")
    monkeypatch.setattr("glom.hubs.reachable", lambda *_, **__: False)
    check_spec("hf:nobody/nothing")
    with pytest.raises(InputError, match=r"^hf:nobody/nothing: not in the local cache, and .* cannot be reached; .*"):
        open_dataset("hf:nobody/nothing")


def test_a_name_that_is_none_is_said_before_anything_is_loaded():
    for text in ("./gone", "gone.parquet", "a b"):
        with pytest.raises(InputError, match=r"no such file|names no data set"):
            check_spec(f"hf:{text}")
    spec = parse_rows("owner/name:plain@test[:5]?label=fine_label")
    assert (spec.place, spec.config, spec.split, spec.label) == ("owner/name", "plain", "test[:5]", "fine_label")


def parquet(file: Path, /, **columns: list) -> str:
    pa = pytest.importorskip("pyarrow", reason="needs the extra hub")
    from pyarrow.parquet import write_table

    write_table(pa.table(columns), file)
    return str(file)


def test_a_parquet_file_holds_bytes_or_paths_and_any_labels(hub, tmp_path):
    pictures = [data(n) for n in range(4)]
    words = open_dataset(parquet(tmp_path / "words.parquet", image_bytes=pictures, label=["cat", "dog", None, "cat"]))
    assert (words.name, words.classes, labels(words)) == ("words", ("cat", "dog"), [0, 1, None, 0])
    gaps = open_dataset(parquet(tmp_path / "gaps.parquet", image=pictures, label=[3, 7, -1, 3]))
    assert gaps.classes is None and labels(gaps) == [3, 7, None, 3]
    make_image(1).save(tmp_path / "one.png")
    paths = open_dataset(parquet(tmp_path / "paths.parquet", path=["one.png", "gone.png"]))
    assert paths[0].image().tobytes() == make_image(1).tobytes() and "no labels" in paths.remarks[0]
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        paths[1].image()
    for number, (columns, says) in enumerate(
        (
            ({"image": pictures, "label": [0.5, 1.0, 2.0, 3.0]}, "column 'label': '0.5' is no label"),
            ({"image": [b"no"] * 4, "label": [0] * 4}, "holds no pictures"),
            ({"width": [1], "label": [0]}, "none of its columns .* is known to hold pictures"),
        )
    ):
        with pytest.raises(InputError, match=says):
            open_dataset(parquet(tmp_path / f"{number}.parquet", **columns))
    (tmp_path / "none.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"none\.parquet could not be loaded"):
        open_dataset(str(tmp_path / "none.parquet"))


# -- shards ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards as clip-benchmark lays them out."""
    writer = pytest.importorskip("webdataset", reason="needs the extra wds").TarWriter
    root = tmp_path / "wds_own"
    (root / "test").mkdir(parents=True)
    (root / "classnames.txt").write_text("cat\nbig ship\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    for shard in range(2):
        with writer(str(root / "test" / f"{shard}.tar")) as tar:
            for n in range(3 * shard, 3 * shard + 3):
                tar.write({"__key__": f"s{n:07d}", "png": data(n), "cls": n % 2})
    return root


def test_shards_are_read_where_they_lie(shards):
    whole = open_dataset(f"wds:{shards}")
    assert (whole.name, whole.classes, whole.templates) == ("wds_own", ("cat", "big ship"), ("a photo of a {}.",))
    assert labels(whole) == [0, 1, 0, 1, 0, 1] and whole[4].id == "1/s0000004"
    assert [s.image().tobytes() for s in whole] == [make_image(n).tobytes() for n in range(COUNT)]
    for pattern in ("test/{0..1}.tar", "test/*.tar"):
        check_spec(f"wds:{shards}/{pattern}")
        assert open_dataset(f"wds:{shards}/{pattern}").fingerprint() == whole.fingerprint()
    assert len(open_dataset("wds:test/1.tar", root=shards)) == 3


def test_shards_that_are_missing_or_cut_are_said(shards, tmp_path):
    for spec, says in (
        (f"{shards}/test/{{0..2}}.tar", r"2\.tar: no such shard; 2 of 3 are there"),
        (f"{shards}/none*.tar", "no such shard"),
        (str(tmp_path), "no shards in it"),
        ("https://example.org/0.tar", "fetch them first"),
    ):
        with pytest.raises(InputError, match=says):
            shard_paths(spec)
    whole, cut = (shards / "test" / "0.tar").read_bytes(), tmp_path / "cut.tar"
    for length in (100, 512, 700, 1024, len(whole) // 2, len(whole) - 9000, len(whole) - 10240 + 512):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"the shard is (cut|no tar file)"):
            open_dataset(f"wds:{cut}")
    cut.write_bytes(whole)
    found = open_dataset(f"wds:{cut}")
    cut.write_bytes(whole[: found[0].source.offset + 5])
    with pytest.raises(InputError, match=r"it is cut within s0000000\.png"):
        found[0].image()
    with pytest.raises(InputError, match="cannot be read at"):
        found[1].image()
    assert found[0].source.digest() == "unreadable"


@pytest.mark.parametrize(
    ("member", "says"),
    [({"cls": "0.5"}, "'0.5' is no label"), ({"cls": 7}, "beyond the 2 names"), ({"txt": "a cat"}, "no images")],
)
def test_labels_that_are_none_and_samples_without_pictures_are_said(shards, member, says):
    from webdataset import TarWriter

    with TarWriter(str(shards / "test" / "0.tar")) as tar:
        tar.write({"__key__": "s0", **({"png": data(0)} if "cls" in member else {}), **member})
    with pytest.raises(InputError, match=says):
        open_dataset(f"wds:{shards}/test/0.tar")


# -- archives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_is_the_folder_that_it_unpacks_to(image_folder, tmp_path, kind):
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, image_folder)
    found, plain = open_dataset(packed), open_dataset(str(image_folder))
    assert found.name == "packed" and found.classes == ("cat", "ship")
    assert found.fingerprint() == plain.fingerprint() and open_dataset(packed).fingerprint() == plain.fingerprint()
    Path(packed).write_bytes(Path(packed).read_bytes()[:300])
    with pytest.raises(InputError, match=r"the archive cannot be unpacked|no images"):
        open_dataset(packed)


@pytest.mark.parametrize("filtered", [True, False])
def test_an_archive_that_reaches_outside_itself_is_refused(tmp_path, filtered, monkeypatch):
    """By Python's own filter, and where it has none yet."""
    import tarfile

    if not filtered:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("Python 3.11.4 and newer")
    with tarfile.open(tmp_path / "out.tar", "w") as tar:
        member = tarfile.TarInfo("../escaped.png")
        member.size = len(data(0))
        tar.addfile(member, io.BytesIO(data(0)))
    with pytest.raises(InputError, match="cannot be unpacked"):
        open_dataset(str(tmp_path / "out.tar"))
    assert not list(tmp_path.rglob("escaped.png"))
