"""Class names given by a file: one reader, every form that can be told apart, and the order that numbers mean."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from glom.datasets import ImageDataset, open_dataset
from glom.datasets.class_files import read_class_file, read_class_names
from glom.errors import InputError
from tests.conftest import make_image
from tests.helpers_images import class_folders, photo

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "sofa", "teapot")


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def called(dataset: ImageDataset) -> dict[str, str]:
    """Folder (or file) -> the name its pictures have."""
    assert dataset.classes is not None
    return {s.id.split("/")[0]: dataset.classes[s.label] for s in dataset if s.label is not None}


@pytest.mark.parametrize("width", ["{}", "class_{}", "n{}", "Class {}", "{:02}"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbered_folders_take_names_in_the_order_of_their_numbers(width: str, first: int, tmp_path: Path) -> None:
    folders = [width.format(n) for n in range(first, 12 + first)]
    root = class_folders(tmp_path / "d", folders, 1)
    dataset = open_dataset(str(root), classes_file=write(tmp_path / "names.txt", "\n".join(NAMES)))
    assert called(dataset) == dict(zip(folders, NAMES))
    assert dataset.keys == tuple(folders)
    # As text 10 goes before 2: which order was taken is said where the two differ.
    assert any("order of their numbers" in note for note in dataset.notes) == (folders != sorted(folders))


def test_numbered_folders_and_the_same_pictures_as_a_table_agree(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", map(str, range(12)), 1)
    table = write(root / "m.csv", "path,label\n" + "".join(f"{n}/0.png,{n}\n" for n in range(12)))
    names = write(tmp_path / "names.txt", "\n".join(NAMES))
    assert called(open_dataset(str(root), classes_file=names)) == called(open_dataset(str(table), classes_file=names))


def test_some_numbered_folders_of_a_longer_list(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["2", "10"], 1)
    dataset = open_dataset(str(root), classes_file=write(tmp_path / "names.txt", "\n".join(NAMES)))
    assert (called(dataset), dataset.classes) == ({"2": "bird", "10": "sofa"}, NAMES)
    assert "counted from 0" in dataset.notes[0]
    tabbed = write(tmp_path / "n.tsv", "".join(f"{n}\t{name}\n" for n, name in enumerate(NAMES, 1)))
    from_one = open_dataset(str(root), classes_file=tabbed)
    assert called(from_one) == {"2": "automobile", "10": "truck"}
    assert "begins at 1" in from_one.notes[0]
    with pytest.raises(InputError, match="no line has the index 2"):
        open_dataset(str(root), classes_file=write(tmp_path / "n.tsv", "10\tsofa\n3\tcat\n"))


def test_an_empty_folder_keeps_its_place_among_numbers(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["class_1", "class_3"], 1)
    (root / "class_2").mkdir()
    all_three = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", "a\nb\nc\n"))
    assert (called(all_three), all_three.passed_over) == ({"class_1": "a", "class_3": "c"}, {})
    two = open_dataset(str(root), classes_file=write(tmp_path / "n.txt", "a\nb\n"))
    assert (called(two), two.passed_over) == ({"class_1": "a", "class_3": "b"}, {"empty folders": 1})


WNIDS = ("n00000003", "n00000001", "n00000002")
CELLS = (("2", "0", "1"), WNIDS, ("ship", "cat", "a dog, big"))


@pytest.mark.parametrize("order", [*itertools.permutations((0, 1, 2)), (0, 2), (2, 0), (1, 2), (2, 1)])
@pytest.mark.parametrize("header", ["", "index wnid name"])
def test_columns_in_any_order_and_lines_in_any_order(order: tuple[int, ...], header: str, tmp_path: Path) -> None:
    lines = ["\t".join(CELLS[column][row] for column in order) for row in range(3)]
    if header:
        lines.insert(0, "\t".join(header.split()[column] for column in order))
    found = read_class_file(write(tmp_path / "n.tsv", "\n".join(lines)))
    by_index = [1, 2, 0] if 0 in order else [0, 1, 2]
    assert found.names == tuple(CELLS[2][n] for n in by_index)
    assert found.indices == ((0, 1, 2) if 0 in order else None)
    assert found.wnids == (tuple(WNIDS[n] for n in by_index) if 1 in order else None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.txt", "1\tdog\n0\tcat\n2\tox\n"),
        ("n.txt", "1 dog\n0 cat\n2 ox\n"),
        ("n.txt", "2: dog\n1: cat\n3: ox\n"),
        ("n.txt", "0,cat\n1,dog\n2,ox\n"),
        ("n.csv", "name,index\ndog,1\ncat,0\nox,2\n"),
        ("n.csv", "1;dog\n0;cat\n2;ox\n"),
        ("n.csv", "cat\ndog\nox\n"),
        ("n.txt", "\ufeff0\tcat\r\n1\tdog\r\n2\tox\r\n"),
        ("n.tsv", "n00000001 cat\nn00000002 dog\nn00000003 ox\n"),
    ],
)
def test_forms_that_can_be_told_apart(name: str, text: str, tmp_path: Path) -> None:
    assert read_class_names(write(tmp_path / name, text)) == ("cat", "dog", "ox")


def test_numbers_that_belong_to_names_are_left_there(tmp_path: Path) -> None:
    assert read_class_names(write(tmp_path / "n.txt", "7 up\n3 musketeers\n")) == ("7 up", "3 musketeers")
    digits = read_class_file(write(tmp_path / "n.txt", "1\t1\n0\t0\n"))
    assert (digits.names, digits.indices) == (("0", "1"), (0, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0\tcat\n0\tdog\n", "index '0' comes twice"),
        ("0\tcat\n1\t\t\n", "line 2 has"),
        ("0\tn1\tcat\tx\n", "4 columns"),
        ("a\tb\tc\n", "cannot be told"),
    ],
)
def test_files_that_say_two_things(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        read_class_file(write(tmp_path / "n.tsv", text))


def test_an_index_out_of_order_reaches_folders_tables_and_flat_pictures(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", ["0", "1", "2"], 1)
    names = write(tmp_path / "n.tsv", "2\tox\n0\tcat\n1\tdog\n")
    expected = {"0": "cat", "1": "dog", "2": "ox"}
    assert called(open_dataset(str(root), classes_file=names)) == expected
    table = write(root / "m.csv", "path,label\n0/0.png,0\n1/0.png,1\n2/0.png,2\n")
    assert called(open_dataset(str(table), classes_file=names)) == expected
    words = class_folders(tmp_path / "words", ["ox", "cat", "dog"], 1)
    assert open_dataset(str(words), classes_file=names).classes == ("cat", "dog", "ox")
    flat = tmp_path / "flat"
    flat.mkdir()
    photo().save(flat / "a.png")
    assert open_dataset(str(flat), classes_file=names).classes == ("cat", "dog", "ox")
    with pytest.raises(InputError, match="names, but the labels of m need 4"):
        open_dataset(
            str(write(root / "m.csv", "path,label\n0/0.png,1\n1/0.png,3\n")),
            classes_file=write(tmp_path / "n.txt", "cat\ndog\nox"),
        )


def test_a_classifiers_whole_list_serves_folders_of_some_of_its_classes(tmp_path):
    for name in ("ship", "cat"):
        (tmp_path / "d" / name).mkdir(parents=True)
        make_image().save(tmp_path / "d" / name / "0.png")
    (tmp_path / "names.txt").write_text("dog\nship\ncat\nfrog\n")
    found = open_dataset(str(tmp_path / "d"), classes_file=tmp_path / "names.txt")
    assert found.classes == ("dog", "ship", "cat", "frog")
    assert {s.id.split("/")[0]: s.label for s in found.samples} == {"cat": 2, "ship": 1}
    assert any("2 of the 4 names" in note for note in found.notes)
    (tmp_path / "names.txt").write_text("dog\nship\ncat\nship\n")
    with pytest.raises(InputError, match="4 names, but d has 2 classes"):
        open_dataset(str(tmp_path / "d"), classes_file=tmp_path / "names.txt")
