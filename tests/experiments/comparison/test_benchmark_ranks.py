"""`apm benchmark` over two processes: the table of one, a method that depends on the stream among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.comparison.run import run as run_benchmark
from experiments.comparison.settings import BenchmarkSettings
from glom.execution import Ranks
from glom.methods.prompts import PRESETS
from glom.runs.artifacts import read_manifest, read_results
from tests.conftest import make_image, untimed
from tests.helpers_ranks import ForkedRanks

METHODS = ("zero-shot", "tda", "apm", "coop")
SHORT = """
from glom.methods.prompts import PRESETS, PromptSettings
PRESETS["coop"]["glom-tiny"] = PromptSettings(16, epochs=3, lr=3e-3, augment=False, optimiser="adam")
"""


@pytest.fixture
def folders(image_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Twenty-two pictures, two blocks of those that are answered together; and labelled ones."""
    train = tmp_path / "train"
    for c, name in enumerate(("cat", "ship")):
        (train / name).mkdir(parents=True)
        for i in range(3, 11):
            make_image(50 * (c + 1) + i).save(image_folder / name / f"{i}.png")
        make_image(500 + c).save(train / name / "0.png")
    return image_folder, train


def test_two_processes_give_the_table_of_one(
    call, ranks: ForkedRanks, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, train = folders
    monkeypatch.setitem(PRESETS["coop"], "glom-tiny", PRESETS["coop"]["glom-tiny"])  # as it was, afterwards
    exec(SHORT, {})
    (data / "cat" / "broken.png").write_bytes(b"no picture")
    base = ["benchmark", "--methods", ",".join(METHODS), "--data", data, "--train", train, "--shots", "1"]
    base += ["--corruptions", "contrast:2", "--json", "--quiet"]
    two = ranks(2, *base, "--out", tmp_path / "two", first=SHORT)
    assert two.returncode == 0, two.stderr
    code, out, error = call(*base, "--out", tmp_path / "one")
    assert code == 0, error
    expected, found = json.loads(out), json.loads(two.stdout)
    assert untimed(found) == untimed(expected)
    assert {(r["n"], r["skipped"]) for r in found["rows"]} == {(22, 1)}
    [condition] = [p for p in (tmp_path / "two").iterdir() if p.is_dir()]
    for method in METHODS:
        assert read_results(condition / method) == read_results(tmp_path / "one" / condition.name / method), method
        parts = {p.name for p in (condition / method).glob("results*.jsonl")}
        assert len(parts) == (1 if method == "tda" else 2), method
    cut = condition / "apm" / "results-1-of-2.jsonl"
    lines = cut.read_text().splitlines(keepends=True)
    cut.write_text(lines[0] + lines[1][:9])
    code, out, error = call(*base, "--out", tmp_path / "two", "--resume")
    assert code == 0, error
    assert untimed(json.loads(out)) == untimed(expected)


def test_a_condition_is_complete_whichever_rank_ends_last(folders, tmp_path, monkeypatch) -> None:
    """The second rank does its share while the first waits for it at the end."""
    rank, out, waits = 0, tmp_path / "run", 0
    settings = BenchmarkSettings(methods=("zero-shot",), data=(str(folders[0]),), device="cpu")

    def wait(group: Ranks) -> None:
        nonlocal rank, waits
        waits += not group.rank
        if waits == 2 and not rank:
            [place] = out.glob("*/zero-shot")
            assert read_manifest(place)["status"] == "running"
            rank = 1
            assert list(run_benchmark(settings, out))[-1].result is None

    monkeypatch.setattr(Ranks, "join", classmethod(lambda own: own(rank, 2)))
    monkeypatch.setattr(Ranks, "wait", wait)
    table = list(run_benchmark(settings, out))[-1].result
    assert table is not None and table["rows"][0]["n"] == 22
    [place] = out.glob("*/zero-shot")
    assert read_manifest(place)["status"] == "complete"


def test_a_rank_refuses_a_folder_that_holds_a_run(call, image_folder, tmp_path, monkeypatch) -> None:
    base = ["benchmark", "--methods", "zero-shot", "--data", image_folder, "--out", tmp_path / "run", "--quiet"]
    assert call(*base)[0] == 0
    import experiments.comparison.run as benchmark

    monkeypatch.setattr(benchmark.Ranks, "join", classmethod(lambda own: own(0, 2)))
    code, _, error = call(*base)
    assert code == 2
    assert "already holds a run; add --resume" in error


def test_views_are_encoded_once_for_all_methods_and_change_no_answer(monkeypatch) -> None:
    import torch

    from glom.methods import Task, make_method
    from glom.methods.views import ViewCache
    from glom.teachers.registry import load_teacher

    teacher = load_teacher("glom-tiny", "cpu")
    calls = []
    token = type(teacher).token
    monkeypatch.setattr(type(teacher), "token", lambda self, images: calls.append(len(images)) or token(self, images))
    names, pictures = ("tpt", "zero", "views"), [make_image(1), make_image(2)]
    shared = Task(teacher, ("cat", "ship"), torch.device("cpu"))
    apart = {n: make_method(n, Task(teacher, ("cat", "ship"), torch.device("cpu")), False) for n in names}
    together = {n: make_method(n, shared, False) for n in names}
    expected = {n: [m.predict(p, 5) for p in pictures] for n, m in apart.items()}
    assert calls == [64] * 6
    calls.clear()
    # Two pictures of one seed, as one sample has under two corruptions, are two entries.
    for name, method in together.items():
        for picture, answer in zip(pictures, expected[name], strict=True):
            assert torch.equal(method.predict(picture, 5), answer)
    assert calls == [64] * 2
    small = ViewCache(most=10)
    made = [int(small.get(k, lambda k=k: torch.full((6,), k))[0]) for k in (1, 2, 1, 1)]
    assert made == [1, 2, 1, 1]
    assert small.get(1, lambda: torch.zeros(6))[0] == 1
    assert small.get(2, lambda: torch.zeros(6))[0] == 0  # forgotten, and made anew
    small.clear()
    assert small.get(1, lambda: torch.ones(6))[0] == 1  # what was held is gone
