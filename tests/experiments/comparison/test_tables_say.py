"""What a table says beside its numbers: no interval of a handful, who did nothing, and what the pictures are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli import app
from commands.ending import guard
from experiments.adaptation.summary import summary
from experiments.comparison.table import action, cannot_act, make_table
from experiments.reproduce.write import average_rows, notes
from glom.datasets.registry import open_dataset
from glom.datasets.remarks import remark
from glom.runs.notices import heard, listening
from glom.runs.statistics import FEWEST, bootstrap_ci, interval
from tests.conftest import make_image


def write_lines(place: Path, settings: dict[str, Any], kind: str, records: list[dict[str, Any]]) -> None:
    place.mkdir(parents=True)
    (place / "manifest.json").write_text(json.dumps({"format": 1, "kind": kind, "settings": settings}))
    lines = [json.dumps({"id": str(i), "index": i, "status": "ok", **r}) for i, r in enumerate(records)]
    (place / "results.jsonl").write_text("\n".join(lines) + "\n")


def ttt_run(place: Path, count: int) -> dict[str, Any]:
    record = {"label": 0, "iterations": 3, "oracle": True}
    records = [{**record, "teacher": int(i % 4 == 0), "apm": int(i % 4 < 2)} for i in range(count)]
    write_lines(place, {"corruption": None}, "ttt", records)
    return summary(place)


def test_no_interval_below_the_fewest() -> None:
    values = [0.0, 100.0] * (FEWEST // 2)
    assert interval(values) == [round(x, 4) for x in bootstrap_ci(values)]
    assert interval(values[:-1]) is None
    assert interval([]) is None


def test_a_run_gives_an_interval_for_each_accuracy_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = ttt_run(tmp_path / "many", 40)
    for name, top1 in (("teacher", 75.0), ("apm", 50.0)):
        low, high = result[f"{name}_ci95"]
        assert result[f"{name}_top1"] == top1
        assert low < top1 < high
        assert high - low == pytest.approx(2 * 1.96 * 100 * (top1 / 100 * (1 - top1 / 100) / 40) ** 0.5, rel=0.15)
    assert guard(app, ["ttt", "report", str(tmp_path / "many")]) == 0
    assert "75.0 [" in capsys.readouterr().out
    few = ttt_run(tmp_path / "few", FEWEST - 1)
    assert [few[k] for k in ("ci95", "teacher_ci95", "apm_ci95")] == [None, None, None]
    assert guard(app, ["ttt", "report", str(tmp_path / "few")]) == 0
    assert "[0" not in capsys.readouterr().out


def answers(classes: list[int], p: float) -> list[dict[str, Any]]:
    return [{"label": i % 2, "class": c, "p": p} for i, c in enumerate(classes)]


def test_what_a_method_changes_is_measured_against_the_first(tmp_path: Path) -> None:
    base = [i % 2 for i in range(40)]
    runs = {"zero-shot": answers(base, 0.6), "tpt": answers(base, 0.6005), "zero": answers([0] * 40, 0.9)}
    for method, records in runs.items():
        write_lines(tmp_path / "c" / method, {}, "benchmark", records)
    settings = {"methods": list(runs), "data": ["d"], "train": "", "mae": "mae-tiny"}
    rows = {r["method"]: r for r in make_table(tmp_path, settings, ["c"])["rows"]}
    assert (rows["tpt"]["changed"], rows["tpt"]["moved"]) == (0.0, pytest.approx(0.0005))
    assert (rows["zero"]["changed"], rows["zero"]["moved"]) == (50.0, pytest.approx(0.3))
    assert cannot_act(rows["tpt"]["changed"], rows["tpt"]["moved"])
    assert not cannot_act(rows["zero"]["changed"], rows["zero"]["moved"])


@pytest.mark.parametrize(("changed", "moved"), [(0.0, 0.05), (5.0, 0.0), (None, None)])
def test_a_method_that_does_something_is_not_marked(changed: float | None, moved: float | None) -> None:
    assert not cannot_act(changed, moved)


def test_lines_without_probabilities_have_no_measure() -> None:
    assert action([{"class": 0}], [{"class": 0}]) == {"changed": None, "moved": None}


def test_the_page_marks_it_and_names_the_rule() -> None:
    unpublished = {"published": None, "published_recomputed": None}
    gain = {**unpublished, "over": "zero-shot", "measured": 0.0, "ci95": None, "p_holm": 1}
    row = {
        **unpublished, "method": "tpt", "network": "glom-tiny", "dataset": "d", "kind": "average",
        "published_method": "TPT", "measured": 40.0, "ci95": None, "n": 30, "changed": 0.0, "moved": 0.0005,
        "cannot_act": True, "gain": gain, "scale": ["cifar10-c"],
    }  # fmt: skip
    result = {"rows": [row], "missing": [], "warnings": [], "shares pictures with": []}
    result |= {"corruptions": {"scale": ["cifar10-c"], "corrupt": "crop"}}
    [cells] = average_rows(result)[1]
    assert cells[0] == "tpt (glom-tiny)"
    assert cells[-1].endswith("cannot act here")
    told = "\n".join(notes(result))
    assert "strengths of cifar10-c" in told
    assert "used some of these pictures: none" in told
    assert "0.5 %" in told


def test_the_imagenet_sample_is_said_to_be_no_test_set_wherever_it_lies() -> None:
    for spec in ("imagenet-sample", "/some/where/imagenet-sample", "imagenet-sample:/some/where"):
        assert "75.1 %" in remark(spec)
        assert "88.8 %" in remark(spec)
    assert remark("/some/where/imagenet") == remark("cifar10:/data") == ""


def test_whoever_opens_it_is_told_and_a_run_keeps_it(tmp_path) -> None:
    folder = tmp_path / "imagenet-sample" / "n01440764"
    folder.mkdir(parents=True)
    make_image(0).save(folder / "a.png")
    told: list[str] = []
    with listening(told.append):
        open_dataset(str(tmp_path / "imagenet-sample"))
        assert [text for text in heard() if "not a test set" in text] == [text for text in told if "75.1 %" in text]
    assert len([text for text in told if "not a test set" in text]) == 1
