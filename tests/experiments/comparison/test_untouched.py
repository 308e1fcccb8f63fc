"""Pictures that studies used are known by their looks, and a table can be drawn from the others."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.comparison.conditions import open_conditions
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.untouched import shares_pictures_with, studied, studies_of, untouched
from glom.datasets.base import ImageDataset, Sample
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.seeds import CONFIRM, half_of
from tests.conftest import make_image
from tests.helpers_images import photo


class Held:
    """A picture in memory."""

    def __init__(self, image: Image.Image) -> None:
        self.held = image

    def image(self, max_pixels: int) -> Image.Image:
        del max_pixels
        return self.held

    def digest(self) -> str:
        return str(hash(self.held.tobytes()))


def fresh(count: int) -> list[Sample]:
    return [Sample(f"new/{i}.png", i % 2, Held(photo(32, 32, seed=i))) for i in range(count)]  # type: ignore[arg-type]


def mixed() -> ImageDataset:
    """Four pictures of the sample that ships, and six that no one has seen."""
    sample = open_dataset("cifar10-sample")
    old = [replace(s, label=i % 2) for i, s in enumerate(sample.samples[:4])]
    return ImageDataset("mixed", (*old, *fresh(6)), ("a", "b"))


def test_every_picture_that_ships_was_used_and_its_half_is_known() -> None:
    sample = open_dataset("cifar10-sample")
    found = studies_of(sample)
    assert set(found) == {s.id for s in sample}
    for name, studies in found.items():
        assert f"objective-{half_of(name)}" in studies
        assert "tables" in studies
    assert {name: len(looks) for name, looks in studied().items()} == {
        "objective-select": 260,
        "objective-confirm": 520,
        "tables": 300,
    }


def test_a_picture_is_known_under_another_name_and_after_jpeg() -> None:
    old = open_dataset("cifar10-sample")[7].image()
    data = io.BytesIO()
    old.save(data, "JPEG", quality=90)
    again = Image.open(data).convert("RGB")
    assert np.any(np.asarray(again) != np.asarray(old))
    dataset = ImageDataset("renamed", (Sample("x.png", 0, Held(again)), *fresh(1)), ("a", "b"))  # type: ignore[arg-type]
    assert set(studies_of(dataset)) == {"x.png"}


def test_only_the_others_are_drawn() -> None:
    dataset = mixed()
    assert {s.id for s in untouched(dataset)} == {f"new/{i}.png" for i in range(6)}
    assert shares_pictures_with([untouched(dataset)]) == []
    assert "tables" in shares_pictures_with([dataset])


def test_where_none_is_left_that_is_said() -> None:
    with pytest.raises(InputError, match="every picture of cifar10-sample was used by a study"):
        open_conditions(BenchmarkSettings(methods=("zero-shot",), data=("cifar10-sample",), pictures="untouched"))
    with pytest.raises(InputError, match="did you mean untouched"):
        BenchmarkSettings(methods=("zero-shot",), data=("cifar10-sample",), pictures="untuched")


def test_pictures_of_another_size_are_none_of_them() -> None:
    large = [replace(s, source=Held(s.image().resize((64, 64)))) for s in open_dataset("cifar10-sample").samples[:3]]
    assert studies_of(ImageDataset("large", tuple(large))) == {}


def test_of_pacs_the_half_that_choices_are_made_on_is_left_out(tmp_path: Path) -> None:
    for domain in ("photo", "art_painting", "cartoon", "sketch"):
        for kind in ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"):
            (tmp_path / "pacs" / domain / kind).mkdir(parents=True)
            for i in range(4):
                make_image(i).save(tmp_path / "pacs" / domain / kind / f"{i}.png")
    photos = open_dataset(f"pacs/photo:{tmp_path / 'pacs'}")
    left = untouched(photos)
    assert [s.id for s in left] == [s.id for s in photos if half_of(s.id) == CONFIRM]
    assert 0 < len(left) < len(photos)
    assert (shares_pictures_with([photos]), shares_pictures_with([left])) == (["pacs-select"], [])
    sketch = open_dataset(f"pacs/sketch:{tmp_path / 'pacs'}")
    assert len(untouched(sketch)) == len(sketch)
    whole = {s.id for s in untouched(open_dataset(f"pacs:{tmp_path / 'pacs'}"))}  # a picture's half is its own
    assert {i.removeprefix("photo/") for i in whole if i.startswith("photo/")} == {s.id for s in left}
