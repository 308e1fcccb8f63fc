"""Manifests as people's tools write them: what a label is, which column is used, where the pictures are."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glom.datasets import ImageDataset, open_dataset
from glom.datasets.label_maps import read_npz
from glom.datasets.labels import parse_labels
from glom.errors import InputError
from tests.helpers_images import class_folders, encoded, photo

ROWS = (("cat/0.png", 1, "tabby_cat"), ("cat/1.png", 1, "tabby_cat"), ("dog/0.png", 0, "dog"))


def table(root: Path, header: str, *rows: object, name: str = "m.csv") -> ImageDataset:
    class_folders(root)
    (root / name).write_text("\n".join([header, *map(str, rows)]), encoding="utf-8")
    return open_dataset(str(root / name))


def labels(dataset: ImageDataset) -> dict[str, int | None]:
    return {sample.id: sample.label for sample in dataset}


@given(st.lists(st.none() | st.integers(0, 2000), min_size=1), st.randoms())
def test_a_number_is_the_same_label_however_it_is_written(numbers: list[int | None], random) -> None:
    def cell(number: int | None) -> str:
        if number is None:
            return random.choice(["", "-1", "-1.0", "nan", "NaN", " "])
        return random.choice([f"{number}", f"{number}.0", f"{number}.", f" {number}", f"{number:04}", f"+{number}"])

    found = parse_labels([cell(number) for number in numbers])
    assert found.values == tuple(numbers)


def test_words_stay_words() -> None:
    assert parse_labels(["None", "1", "cat"]).names == ("None", "1", "cat")
    assert parse_labels(["cat", "-1", "", "nan"]).names == ("cat", None, None, None)
    assert parse_labels(["1", "None", "NA"]).numbers == (1, None, None)
    assert parse_labels(["1_000", "infinity"]).names == ("1_000", "infinity")


@pytest.mark.parametrize("cell", ["0.5", "-2", "1e999", "-0.1"])
def test_numbers_that_are_no_labels(cell: str) -> None:
    with pytest.raises(InputError, match="is no label"):
        parse_labels(["1", cell])


@pytest.mark.parametrize("nothing", ["", "-1", "nan", "-1.0"])
def test_rows_without_a_label_are_counted_and_said(nothing: str, tmp_path: Path) -> None:
    for first, classes in (("1.0", None), ("cat", ("cat",))):
        dataset = table(tmp_path, "path,label", f"cat/0.png,{first}", f"dog/0.png,{nothing}")
        assert (dataset.classes, labels(dataset)["dog/0.png"], dataset.labelled) == (classes, None, False)
        assert "1 of its 2 pictures has no label" in dataset.remarks


def test_whole_floats_in_arrays_are_integers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", segmentations=np.array([[[0.0, 3.0]]]))
    assert read_npz(tmp_path / "a.npz").tolist() == [[[0, 3]]]
    np.savez(tmp_path / "c.npz", segmentations=np.array([[[True, False]]]))
    assert read_npz(tmp_path / "c.npz").tolist() == [[[1, 0]]]
    np.savez(tmp_path / "b.npz", segmentations=np.array([[[0.0, 0.5]]]))
    with pytest.raises(InputError, match="integers"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("number", ["class", "class_id", "label", "Label ID", "target", "labels"])
@pytest.mark.parametrize("name", ["class_name", "category", "Label-Name"])
def test_a_column_of_names_beside_one_of_numbers(number: str, name: str, tmp_path: Path) -> None:
    dataset = table(tmp_path, f"{number},path,{name}", *(f"{n}.0,{path},{text}" for path, n, text in ROWS))
    assert (dataset.classes, dataset.keys) == (("dog", "tabby cat"), ("dog", "tabby_cat"))
    assert labels(dataset) == {path: n for path, n, _ in ROWS}
    assert dataset.remarks == ()


def test_numbers_that_are_not_the_names_are_left_and_said(tmp_path: Path) -> None:
    dataset = table(tmp_path, "path,target,class", "cat/0.png,1,cat", "cat/1.png,2,cat", "dog/0.png,2,dog")
    assert (dataset.classes, list(labels(dataset).values())) == (("cat", "dog"), [0, 0, 1])
    assert dataset.notes == ("its labels are those of column 'class', not of 'target'",)


@pytest.mark.parametrize("head", ["labels", "Class Name", "categoryname", "class-id", "TARGETS"])
def test_columns_of_labels_are_known_however_they_are_spelled(head: str, tmp_path: Path) -> None:
    assert table(tmp_path, f"filename;{head}", "cat/0.png;cat", "dog/0.png;dog").classes == ("cat", "dog")


def test_a_table_without_labels_says_so_where_it_has_other_columns(tmp_path: Path) -> None:
    dataset = table(tmp_path, "path,species", "cat/0.png,cat")
    assert (dataset.labelled, dataset.classes) == (False, None)
    assert "none of its columns (species)" in dataset.notes[0]
    assert table(tmp_path, "path", "cat/0.png").notes == ()


def test_a_table_may_hold_the_pictures_themselves(tmp_path: Path) -> None:
    files = [encoded(photo(seed=n), form) for n, form in enumerate(("PNG", "JPEG", "WEBP"))]
    large = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)), "PNG")
    assert len(large) > 2**17  # more than a cell usually may hold
    cells = [base64.b64encode(data).decode() for data in (*files, large)]
    rows = [f'"{cell}",{name}' for cell, name in zip(cells, ("cat", "dog", "", "cat"), strict=True)]
    found = table(tmp_path, "image,label", *rows)
    assert labels(found) == {"000000": 0, "000001": 1, "000002": None, "000003": 0} and found.classes == ("cat", "dog")
    assert found[0].image().tobytes() == photo(seed=0).tobytes() and found[3].image().size == (300, 300)
    named = table(tmp_path, "image_bytes,label", f'"data:image/png;base64,{cells[0]}",3')
    assert named[0].image().tobytes() == found[0].image().tobytes()
    cut = table(tmp_path, "image,label", rows[0], f'"{cells[1][:100]}",cat')
    with pytest.raises(InputError, match=r"m\.csv: line 3"):  # read as late as any file
        cut[1].image()
    for cell, says in (
        (repr(files[0]).replace('"', "'"), "write them in base64"),
        ("cat/0.png", "line 3 holds no pic"),
    ):
        with pytest.raises(InputError, match=says):
            table(tmp_path, "image,label", *([f'"{cell}",cat'] if "base64" in says else [rows[0], f"{cell},cat"]))


def test_blanks_after_commas(tmp_path: Path) -> None:
    dataset = table(tmp_path, '"path", "label"', '"cat/0.png", "cat"', 'dog/0.png,  "dog"')
    assert (dataset.classes, list(labels(dataset))) == (("cat", "dog"), ["cat/0.png", "dog/0.png"])


@pytest.mark.parametrize(("prefix", "place"), [("data/", "work"), ("work/data/", "."), ("", "work/data/inner")])
def test_paths_from_another_folder_are_refused_with_that_folder(
    prefix: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "work" / "data"
    class_folders(root / "inner" if place.endswith("inner") else root)
    (root / "m.csv").write_text(f"path\n{prefix}cat/0.png\n{prefix}dog/1.png\n")
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(InputError, match=r"none of its 2 pictures .* are there from") as caught:
        open_dataset(str(root / "m.csv"))
    assert f"from {(tmp_path / place).resolve()}," in str(caught.value)


def test_windows_paths_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with / for"):
        table(tmp_path, "path,label", r"cat\0.png,cat")


def test_pictures_that_are_nowhere_are_said_and_some_missing_are_left_to_the_run(tmp_path: Path) -> None:
    nowhere = table(tmp_path, "path,label", "a.png,cat", "b.png,dog")
    assert nowhere.notes[0].startswith("none of its 2 pictures is where it says, the first of them a.png")
    some = table(tmp_path, "path,label", "a.png,dog", "cat/0.png,cat")
    assert (len(some), some.notes) == (2, ())
