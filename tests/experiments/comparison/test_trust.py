"""Trust and cost of a benchmark's methods, from lines alone, and as the command line shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.comparison.conditions import Condition, open_out_set
from experiments.comparison.settings import BenchmarkSettings
from experiments.comparison.table import make_table
from experiments.comparison.trust import Given, Measured, fits
from glom.datasets.registry import open_dataset
from glom.errors import InputError
from glom.runs.calibration import resampled_p
from glom.runs.statistics import holm
from glom.teachers.superclasses import Superclasses, read_superclasses
from tests.conftest import make_image
from tests.experiments.comparison.test_tables_say import write_lines

RNG = np.random.default_rng(0)
SETTINGS = {"data": ["d"], "train": "", "mae": "mae-tiny"}


def lines(n: int, **more: Any) -> list[dict[str, Any]]:
    """Answers among two classes; the answer is surer where it is right."""
    found = []
    for i in range(n):
        label = i % 2
        hit = RNG.random() < 0.7
        p = 0.5 + 0.5 * RNG.random() ** (0.5 if hit else 2)
        answer = {"label": label, "class": label if hit else 1 - label, "p": p, "p_label": p if hit else 1 - p}
        found.append({**answer, "squares": p**2 + (1 - p) ** 2, "entropy": 0.0, **more})
    return found


def given(**runs: list[dict[str, Any]]) -> Given:
    return Given("c", "d", {m: [{"id": str(i), **r} for i, r in enumerate(run)] for m, run in runs.items()})


def test_a_row_has_its_known_measures(tmp_path: Path) -> None:
    runs = {"zero-shot": lines(60), "zero": lines(60)}
    for method, records in runs.items():
        write_lines(tmp_path / "c" / method, {}, "benchmark", records)
    table = make_table(tmp_path, {"methods": list(runs), **SETTINGS}, ["c"])
    first, second = table["rows"]
    for row in (first, second):
        run = runs[row["method"]]
        right = np.array([r["class"] == r["label"] for r in run])
        p = np.array([r["p"] for r in run])
        assert row["top1"] == row["measured"] == pytest.approx(100 * right.mean(), abs=1e-3)
        assert row["auroc_wrong"] == pytest.approx(roc_auc_score(right, p), abs=1e-4)
        assert row["brier"] == pytest.approx(np.mean(2 * (1 - np.where(right, p, 1 - p)) ** 2), abs=1e-4)
        low, high = row["intervals"]["brier"]["ci95"]
        assert low < row["brier"] < high
        assert row["auroc_unknown"] is row["seconds"] is row["clean"] is None
        assert row["constants"] == "published and fixed"
    assert first["intervals"]["ece"]["difference"] is None
    cell = second["intervals"]["ece"]
    assert cell["difference"] == pytest.approx(second["ece"] - first["ece"], abs=2e-4)
    assert cell["difference_ci95"][0] < cell["difference"] < cell["difference_ci95"][1]
    assert table["conditions"] == ["c"] and table["stream"] is None


def test_old_lines_are_read_and_have_no_measure(tmp_path: Path) -> None:
    old = [{"label": 0, "class": 0} for _ in range(30)]
    newer = [{**r, "p": 0.9} for r in old]
    for n, records in enumerate((old, newer)):
        write_lines(tmp_path / str(n) / "zero-shot", {}, "benchmark", records)
    rows = make_table(tmp_path, {"methods": ["zero-shot"], **SETTINGS}, ["0", "1"])["rows"]
    assert [rows[0][k] for k in ("top1", "ece", "brier", "auroc_wrong", "within_budget")] == [
        100,
        None,
        None,
        None,
        None,
    ]
    assert rows[1]["ece"] == pytest.approx(0.1)
    assert rows[1]["auroc_wrong"] is None  # nothing is wrong


def test_pictures_are_drawn_again_with_all_their_answers() -> None:
    """A picture under ten conditions is one picture: ten copies of a condition tell no more than one."""
    run = [{"id": str(i), **r} for i, r in enumerate(lines(100))]
    copies = [Given(str(n), "same", {"a": run}) for n in range(10)]
    names = [str(n) for n in range(10)]
    one = Measured(copies[:1], 10).cell(["0"], "a", "top1")["ci95"]
    together = Measured(copies, 10).cell(names, "a", "top1")["ci95"]
    assert together == one
    assert one[1] - one[0] == pytest.approx(2 * 1.96 * 100 * (0.7 * 0.3 / 100) ** 0.5, rel=0.2)


def test_within_a_budget_the_pictures_that_fit_are_answered() -> None:
    assert [fits(2, 1, 2), fits(3, 1, 2), fits(1, 1, 1), fits(11, 1, 6)] == [1, 0.5, 1, 0.5]
    base = [{"label": 0, "class": 1}] * 40
    good = [{"label": 0, "class": 0}] * 40
    g = given(base=base, good=good)
    g.seconds = {"base": 1.0, "good": 3.0}
    assert Measured([g], 2.0).cell(["c"], "good", "within_budget")["value"] == 50
    assert Measured([g], 3.0).cell(["c"], "good", "within_budget")["value"] == 100
    assert Measured([g], 1.0).cell(["c"], "good", "within_budget")["value"] == 0


def test_unknown_classes_are_told_apart_by_how_sure_an_answer_is() -> None:
    g = given(a=[{"label": 0, "class": 0, "p": p} for p in np.linspace(0.5, 1, 40)])
    strange = np.linspace(0.3, 0.8, 30)
    g.unknown = {"a": [{"id": f"u{i}", "label": None, "class": 0, "p": p} for i, p in enumerate(strange)]}
    cell = Measured([g], 10).cell(["c"], "a", "auroc_unknown")
    expected = roc_auc_score([1] * 40 + [0] * 30, [*np.linspace(0.5, 1, 40), *strange])
    assert cell["value"] == pytest.approx(expected, abs=1e-4)
    assert cell["ci95"][0] < expected < cell["ci95"][1]


def test_cue_conflict_counts_answers_by_shape_and_by_texture() -> None:
    shapes = [0] * 10 + [1] * 20 + [2] * 10 + [0] * 10  # of texture 1, label 0; the last ten have no conflict
    run = [{"label": 0, "texture": 1, "class": c} for c in shapes[:40]] + [{"label": 0, "texture": 0, "class": 0}] * 10
    measured = Measured([given(a=run)], 10)
    found = {k: measured.cell(["c"], "a", k)["value"] for k in ("shape", "texture", "shape_bias")}
    assert found == {"shape": 25.0, "texture": 50.0, "shape_bias": pytest.approx(1 / 3, abs=1e-4)}


def test_each_measure_is_a_family_that_is_corrected_by_itself(tmp_path: Path) -> None:
    base = lines(60)
    wrong = [{**r, "class": 1 - r["label"], "p": 0.9, "p_label": 0.1, "squares": 0.82} for r in base[:40]]
    runs = {"zero-shot": base, "zero": base, "views": [*wrong, *base[40:]]}
    for method, records in runs.items():
        write_lines(tmp_path / "c" / method, {}, "benchmark", records)
    rows = make_table(tmp_path, {"methods": list(runs), **SETTINGS}, ["c"])["rows"]
    for measure in ("ece", "brier", "auroc_wrong"):
        first, *cells = (row["intervals"][measure] for row in rows)
        assert first["p"] is None and "p_holm" not in first
        assert [c["p_holm"] for c in cells] == holm([c["p"] for c in cells])
    assert rows[2]["intervals"]["brier"]["p_holm"] < 0.05 and rows[1]["intervals"]["brier"]["p_holm"] == 1
    assert [row["p_holm"] for row in rows][1:] == holm([row["p"] for row in rows[1:]])
    assert "p_holm" not in rows[2]["intervals"]["auroc_unknown"]


def test_a_resampled_p_is_that_of_the_normal_distribution() -> None:
    drawn = np.random.default_rng(1).normal(3.0, 2.0, 200_000)
    assert resampled_p(3.92, drawn, 60) == pytest.approx(0.05, abs=1e-3)
    assert resampled_p(0.0, np.zeros(50), 60) == 1 and resampled_p(1.0, np.ones(50), 60) == 0
    assert resampled_p(3.92, drawn, 19) is None


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = []
    for name, classes in (("known", ("cat", "ship")), ("strange", ("piano", "Cactus")), ("same", ("Cat", "piano"))):
        for label, kind in enumerate(classes):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(10):
                make_image(20 * label + i).save(tmp_path / name / kind / f"{i}.png")
        found.append(tmp_path / name)
    return found


def test_an_out_set_shares_no_class_with_the_in_set(folders: list[Path]) -> None:
    known, strange, same = map(str, folders)
    condition = Condition("known", known, open_dataset(known), None)
    [opened] = open_out_set(BenchmarkSettings(methods=("zero-shot",), data=(known,), out_set=strange), [condition])
    assert (opened.name, opened.out_of, opened.dataset.classes) == ("known-unknown", "known", ("cat", "ship"))
    assert {s.label for s in opened.dataset} == {None}
    with pytest.raises(InputError, match=r"the out-set same shares classes with known \(cat\)"):
        open_out_set(BenchmarkSettings(methods=("zero-shot",), data=(known,), out_set=same), [condition])


def test_an_out_set_that_is_a_kind_of_the_in_sets_classes_is_refused(tmp_path: Path) -> None:
    """PACS's dog has collies among its members, whatever ImageNet calls them."""
    sets = {
        "known": ("dog", "horse"),
        "kinds": ("n02106030", "n07753592"),
        "named": ("collie", "banana"),
        "fruit": ("banana",),
    }
    for name, classes in sets.items():
        for kind in classes:
            (tmp_path / name / kind).mkdir(parents=True)
            make_image(1).save(tmp_path / name / kind / "0.png")
    known = str(tmp_path / "known")
    conditions = [Condition("known", known, open_dataset(known), None)]

    def opened(name: str, table: Superclasses | None) -> list[Condition]:
        asked = BenchmarkSettings(methods=("zero-shot",), data=(known,), out_set=str(tmp_path / name))
        return open_out_set(asked, conditions, table)

    for name in ("kinds", "named"):
        assert opened(name, None)
        with pytest.raises(InputError, match=rf"the out-set {name} shares classes with known \(collie is a dog\)"):
            opened(name, read_superclasses("pacs"))
    assert opened("fruit", read_superclasses("pacs"))


def test_the_command_line_shows_trust_and_cost(
    folders: list[Path], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    from cli import app
    from commands.ending import guard

    monkeypatch.setenv("COLUMNS", "80")
    known, strange, same = map(str, folders)
    base = ["benchmark", known, "-m", "zero-shot,ensemble,tda", "--out", str(tmp_path / "run"), "--quiet"]
    base += ["--out-set", strange, "--corruptions", "clean,contrast:2", "--stream", "sorted"]
    assert guard(app, [*base, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    wanted = {"method", "condition", "n", "top1", "difference", "ci95", "p_holm", "ece", "brier", "auroc_wrong"}
    wanted |= {"seconds", "constants", "auroc_unknown", "clean", "within_budget"}
    assert len(result["rows"]) == 6 and all(wanted <= set(row) for row in result["rows"])
    assert result["stream"]["order"] == "sorted" and result["stream"]["methods"] == ["tda"]
    assert all(row["auroc_unknown"] is not None and row["seconds"] > 0 for row in result["rows"])
    assert guard(app, [*base, "--resume", "--table", "all"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for words in ("stream of tda: sorted (seed 0)", "ECE", "unknown", "within 10x", "p (Holm)", "clean"):
        assert words in shown, words
    for more, said in (
        (["--table", "costs"], "unknown table 'costs'; did you mean cost"),
        (["--budget", "0.5"], "must be at least 1"),
        (["--out-set", same], "shares classes with known"),
    ):
        assert guard(app, [*base, "--resume", *more]) == 2
        error = capsys.readouterr().err
        assert error.count("error:") == 1 and said in error
