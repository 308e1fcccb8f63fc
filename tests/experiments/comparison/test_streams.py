"""Streams: their orders, what is carried over, what a resumed one sees again, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from experiments.comparison import resumable
from experiments.comparison.conditions import Condition
from experiments.comparison.legs import in_turn, legs, visits
from experiments.comparison.run import run as run_benchmark
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.stream import Stream, parse_stream
from experiments.comparison.table import stream_of
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.methods import METHODS, Method
from glom.methods_list import FIXED
from glom.runs.artifacts import read_lines, read_results
from tests.conftest import make_image

CLASSES = ("cat", "dog", "frog", "ship")


class Counting(Method):
    """Its answer to a picture is how many came before it; its state is that number and nothing else."""

    name, what, source, constants, stateful = "counting", "counts", "nobody", FIXED, True
    calls: list[int] = []  # noqa: RUF012  (of the whole test)

    def __init__(self) -> None:
        self.seen = 0
        self.settings = Stream()

    def predict(self, image: Image.Image, seed: int) -> Tensor:
        self.calls.append(seed)
        self.seen += 1
        return torch.tensor([float(self.seen), 0.0, 0.0, 0.0])[: len(self.task.classes)]

    def stream_state(self) -> dict[str, Tensor]:
        return {"seen": torch.tensor(self.seen)}

    def load_stream_state(self, state: dict[str, Tensor]) -> None:
        self.seen = int(state["seen"])


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Counting]]:
    METHODS.register("counting", "it counts")(Counting)
    monkeypatch.setattr(Counting, "calls", [])
    yield Counting
    METHODS.forget("counting")


def folder_of(place: Path, classes: tuple[str, ...] = CLASSES, each: int = 3) -> Path:
    for label, name in enumerate(classes):
        (place / name).mkdir(parents=True)
        for i in range(each):
            make_image(10 * label + i).save(place / name / f"{i}.png")
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "data")


def condition(folder: Path, name: str = "data") -> Condition:
    return Condition(name, str(folder), open_dataset(str(folder)), None)


def settings(folder: Path, **changes: Any) -> BenchmarkSettings:
    values: dict[str, Any] = {"methods": ("zero-shot", "counting"), "data": (str(folder),)}
    return BenchmarkSettings(**{**values, "device": "cpu", **changes})


def table(events: Any) -> dict[str, Any]:
    return list(events)[-1].result


def order_of(out: Path) -> dict[str, int]:
    """{condition/id: how many pictures the method had seen with this one}, from the probability of its answer."""
    found = {}
    for place in out.glob("*/counting"):
        for record in read_results(place):
            if record["status"] == "ok":
                p = torch.tensor([[float(n), 0, 0, 0] for n in range(1, 100)]).softmax(-1)[:, 0]
                found[f"{place.parent.name}/{record['id']}"] = 1 + int((p - record["p"]).abs().argmin())
    return found


def classes_in(leg: Any) -> list[int]:
    return [v.sample.label for v in leg]


# -- orders ------------------------------------------------------------------------------------------------------------


def test_a_shuffled_stream_follows_seed_and_ids_and_a_part_of_it_keeps_its_order(folder: Path) -> None:
    one = condition(folder)
    ids = [v.sample.id for v in visits(Stream(seed=3), one)]
    assert sorted(ids) == [s.id for s in one.dataset] != ids
    assert ids != [v.sample.id for v in visits(Stream(seed=4), one)]
    assert len({v.sample.label for v in visits(Stream(seed=3), one)[:6]}) > 1  # classes are mixed
    assert ids == [v.sample.id for v in visits(parse_stream("3", seed=9), one)]
    part = Condition("part", "", one.dataset.limit(6), None)
    kept = {s.id for s in part.dataset}
    assert [v.sample.id for v in visits(Stream(seed=3), part)] == [i for i in ids if i in kept]
    assert [v.place for v in in_turn(one).visits] == list(range(12))


def test_sorted_is_class_after_class_and_few_are_a_few_at_a_time(folder: Path) -> None:
    one = condition(folder)
    assert classes_in(visits(parse_stream("sorted", 0), one)) == [c for c in range(4) for _ in range(3)]
    pairs = classes_in(visits(parse_stream("few:2", 0), one))
    assert [len(set(pairs[i : i + 6])) for i in (0, 6)] == [2, 2]
    assert set(pairs[:6]).isdisjoint(pairs[6:])
    assert any(len(set(pairs[i : i + 3])) > 1 for i in (0, 3, 6, 9))  # shuffled among themselves
    alone = classes_in(visits(parse_stream("few:1", 5), one))
    assert [len(set(alone[i : i + 3])) for i in (0, 3, 6, 9)] == [1] * 4


def test_a_mixed_stream_has_all_conditions_in_one(folder: Path) -> None:
    both = [condition(folder, "a"), condition(folder, "b")]
    [leg] = legs(parse_stream("mixed", 0), both, lambda c: 0)
    names = [v.condition.name for v in leg.visits]
    assert sorted(names) == ["a"] * 12 + ["b"] * 12 != names
    # The two moments of one picture have nothing to do with each other.
    assert [v.sample.id for v in leg.visits if v.condition.name == "a"] != [
        v.sample.id for v in leg.visits if v.condition.name == "b"
    ]
    carried = legs(Stream(carry=True), both, lambda c: 0)
    assert [v.condition.name for v in carried[0].visits] == ["a"] * 12 + ["b"] * 12
    assert [len(leg.visits) for leg in legs(Stream(), both, lambda c: 0)] == [12, 12]


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (Stream(), "shuffled (seed 0), each method's own batches, reset between conditions"),
        (Stream("few", 2, 3, 8, True), "3 classes at a time (seed 2), batches of 8, carried over between conditions"),
        (Stream("mixed"), "conditions mixed (seed 0), each method's own batches"),
    ],
)
def test_a_stream_says_what_it_is(stream: Stream, said: str) -> None:
    assert stream.words() == said


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_stopped_stream_goes_on_from_its_saved_state_exactly(
    folder: Path, tmp_path: Path, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "EVERY", 4)
    whole = table(run_benchmark(settings(folder), tmp_path / "whole"))
    for stop in (1, 4, 7, 11):  # pictures that are there when it is killed; states are saved after 4 and 8
        out = tmp_path / f"cut-{stop}"
        for event in run_benchmark(settings(folder), out):
            if event.stage == "data: counting" and event.done == stop:
                break
        counting.calls.clear()
        again = table(run_benchmark(settings(folder), out, resume=True))
        saved = (stop - 1) // 4 * 4  # the state after the fourth is written when the fifth is asked for
        assert len(counting.calls) == 12 - saved
        lines = out / "data" / "counting" / "results.jsonl"
        assert lines.read_bytes() == (tmp_path / "whole/data/counting/results.jsonl").read_bytes()
        assert not (lines.parent / resumable.STATE).exists()  # of no use any more
        assert [r["measured"] for r in again["rows"]] == [r["measured"] for r in whole["rows"]]


def test_a_method_that_cannot_tell_its_state_sees_the_stream_again(
    folder: Path, tmp_path: Path, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "EVERY", 2)
    monkeypatch.setattr(counting, "stream_state", lambda self: None)
    for event in run_benchmark(settings(folder), tmp_path / "run"):
        if event.stage == "data: counting" and event.done == 7:
            break
    counting.calls.clear()
    table(run_benchmark(settings(folder), tmp_path / "run", resume=True))
    assert len(counting.calls) == 12
    assert sorted(order_of(tmp_path / "run").values())[:5] == [1, 2, 3, 4, 5]


def test_conditions_are_reset_carried_over_or_mixed(folder: Path, tmp_path: Path, counting: type[Counting]) -> None:
    two = {"corruptions": ("", "contrast:1")}
    numbers = {}
    for name, changes in (("reset", {}), ("carry", {"carry": True}), ("mixed", {"stream": "mixed"})):
        table(run_benchmark(settings(folder, **two, **changes), tmp_path / name))
        lines = [read_lines(p) for p in sorted((tmp_path / name).glob("*/counting/results.jsonl"))]
        assert [len(x) for x in lines] == [12, 12]
        numbers[name] = [[r["p"] for r in x] for x in lines]
        # Episodic methods see no stream: the same lines whatever it is.
        for path in (tmp_path / name).glob("*/zero-shot/results.jsonl"):
            assert path.read_bytes() == (tmp_path / "reset" / path.relative_to(tmp_path / name)).read_bytes()
    first, second = numbers["reset"]
    assert first == second == sorted(first)
    assert numbers["carry"][0] == first
    assert min(numbers["carry"][1]) >= max(first)
    assert numbers["mixed"][0] != first
    place = tmp_path / "mixed" / "data" / "counting" / "manifest.json"
    held = json.loads(place.read_text())["settings"]["stream"]
    assert held["order"] == "mixed" and held["batch"] == 1
    assert [name for name, _ in held["through"]] == ["data", "data-contrast-1"]
    with pytest.raises(InputError, match="another run"):  # another stream is another run
        table(run_benchmark(settings(folder, **two), tmp_path / "mixed", resume=True))


def test_pictures_are_given_in_batches(
    folder: Path, tmp_path: Path, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    own = Method.predict_many
    monkeypatch.setattr(
        counting, "predict_many", lambda self, images, seeds: sizes.append(len(images)) or own(self, images, seeds)
    )
    table(run_benchmark(settings(folder, batch=5), tmp_path / "run"))
    assert sizes == [5, 5, 2]


def test_a_picture_whose_probabilities_are_not_finite_fails_alone(
    folder: Path, tmp_path: Path, counting: type[Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = counting.predict
    monkeypatch.setattr(
        counting, "predict", lambda self, image, seed: own(self, image, seed) * (float("nan") if self.seen == 3 else 1)
    )
    found = table(run_benchmark(settings(folder, batch=4), tmp_path / "run"))
    records = read_results(tmp_path / "run" / "data" / "counting")
    [failed] = [r for r in records if r["status"] != "ok"]
    assert "not finite" in failed["reason"]
    assert [(r["n"], r["skipped"]) for r in found["rows"]] == [(11, 1)] * 2


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stream": "sortd"}, "unknown order of the stream 'sortd'; did you mean sorted"),
        ({"stream": "few"}, "few:K takes K classes"),
        ({"stream": "few:0"}, "few:K takes K classes"),
        ({"batch": -1}, "`batch` must be at least 0"),
        ({"stream": "mixed", "carry": True}, "has them all in one already"),
        ({"methods": ("zero-shot",), "stream": "sorted"}, "none of these is one"),
        ({"methods": ("zero-shot",), "batch": 4}, "none of these is one"),
    ],
)
def test_wrong_streams_are_refused_at_once(
    folder: Path, counting: type[Counting], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        settings(folder, **changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": 1}, "a stream of one picture; online methods need at least two"),
        ({"batch": 13}, "`batch` 13 is larger than the stream of 12 pictures"),
        ({"carry": True}, "`carry` needs two conditions of the same classes"),
        ({"stream": "mixed"}, "the stream mixed needs two conditions of the same classes"),
    ],
)
def test_streams_that_the_pictures_do_not_make_are_refused_before_the_first_answer(
    folder: Path, tmp_path: Path, counting: type[Counting], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        table(run_benchmark(settings(folder, **changes), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_other_classes_cannot_be_mixed(folder: Path, tmp_path: Path, counting: type[Counting]) -> None:
    other = folder_of(tmp_path / "other", ("car", "truck"))
    asked = settings(folder, data=(str(folder), str(other)), stream="mixed")
    with pytest.raises(InputError, match="the stream mixed needs conditions of the same classes; data and other"):
        table(run_benchmark(asked, tmp_path / "run"))


def test_a_row_of_two_steps_that_sees_a_stream_stands_in_the_tables_head() -> None:
    head = stream_of({"methods": ["zero-shot", "ensemble+tda", "ensemble+zero"]})
    assert head is not None and head["methods"] == ["ensemble+tda"]
    assert stream_of({"methods": ["zero-shot", "ensemble+zero"]}) is None
