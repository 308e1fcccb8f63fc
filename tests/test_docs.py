"""Figures of the pages are those of their records; what is not is found, and rewritten where a record is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.claims import page_networks
from experiments.claims.page_figures import alike, rewrite, unbound
from experiments.claims.page_tables import TABLES
from experiments.claims.run import Results
from experiments.records import ROOT
from glom.errors import InputError

BOUND = (
    "APM 44.5: +14.9 [+11.9, 17.9]<!-- = x.json rows[name=a b]/top1 d/0 d/1 d/2 --> over it, "
    "12 %<!-- = x.json 100*share -->."
)


@pytest.fixture
def results(tmp_path) -> Results:
    (tmp_path / "x.json").write_text(
        json.dumps({"rows": [{"name": "a b", "top1": 44.46}], "d": [14.9333, 11.9, 17.9], "share": 0.12})
    )
    return Results(tmp_path)


def test_bound_figures_are_compared_and_rewritten_in_their_own_form(results):
    assert rewrite(BOUND, results, {}).stale == []
    page = rewrite(BOUND.replace("+14.9", "-1.62").replace("12 %", "15 %"), results, {})
    assert page.text == BOUND.replace("+14.9", "+14.93").replace("17.9]", "17.9]")
    assert len(page.stale) == 2 and "gives +14.93" in page.stale[0] and page.bound == 5


def test_a_path_may_count_and_a_factor_may_stand_before_it(results):
    assert rewrite("7 of them<!-- = x.json d/* -->, 9 %<!-- = x.json 100*share -->", results, {}).text.startswith(
        "3 of them<!-- = x.json d/* -->, 12 %"
    )


@pytest.mark.parametrize(
    ("value", "written", "wanted"),
    [
        (0.4296, "0.5", "0.4"),
        (-0.02, "+0.01", "-0.02"),
        (0.02, "-0.01", "+0.02"),
        (12379.4, "1,000", "12,379"),
        (7.7e-7, "1.0e-6", "7.7e-7"),
        (99.95, "1.0", "100.0"),
    ],
)
def test_a_figure_keeps_its_form(value, written, wanted):
    assert alike(value, written) == wanted


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("y.json top1", "is no record"),
        ("x.json", "0 paths"),
        ("x.json d/7", "no number"),
        ("x.json d/0 d/1", "2 paths"),
    ],
)
def test_a_binding_that_cannot_be_kept_is_refused(results, comment, says):
    with pytest.raises(InputError, match=says):
        rewrite(f"it has 4.5<!-- = {comment} -->", results, {})
    with pytest.raises(InputError, match="no table 'mine'"):
        rewrite("<!-- table mine -->\n<!-- end -->", results, {})


def test_tables_are_made_from_records(results):
    tables = {"t": lambda found: f"| {found.get('x.json')['share']} |\n"}
    page = rewrite("before\n<!-- table t -->\n| 0.11 |\n<!-- end -->\nafter", results, tables)
    assert page.text == "before\n<!-- table t -->\n| 0.12 |\n<!-- end -->\nafter" and page.stale == ["table t"]


def test_figures_of_which_nothing_is_said_are_found():
    text = "Bound 4.5<!-- = x.json d/0 --> and loose 3.25 and 7 %; 95 % intervals; `--lr 0.1`; Python 3.11.2"
    assert [found for found in unbound(text) if "3.25" in found or "7 %" in found] == unbound(text)
    assert len(unbound(text)) == 2
    assert unbound("It took 3.5 s (not recorded).") == [] == unbound("At 0.1. <!-- settings -->")
    assert len(unbound("- It took 3.5 s (not recorded).\n- And 0.2 more.")) == 1


def test_numbers_that_are_names_are_no_figures():
    assert unbound("Hinton (2021, arXiv 2102.12627), section 3.2; sections 3.2 to 3.4; Python 3.11") == []
    assert len(unbound("In section 3.2 it has 4.5 and 6 %.")) == 2


def test_the_pages_are_what_the_records_give(call):
    code, _, error = call("docs", "--check")
    assert code == 0, error


def test_no_page_is_left_out(call, tmp_path):
    own = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    names = {page.relative_to(ROOT).as_posix() for page in own} - {"docs/claims.md"}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Nobody knows 3.5 of it.\n")
    code, out, _ = call("docs", "--root", tmp_path, "--check", "--json")
    found = {fault.partition(":")[0] for fault in json.loads(out)["faults"]}
    assert code == 1 and found - {"docs/claims.md"} == names >= {"docs/fields.md", "docs/how-to/gpus.md"}


def test_a_stale_page_is_found_and_written_anew(call, tmp_path):
    for folder in ("docs", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
    for record in (ROOT / "benchmarks" / "results").glob("*.json"):
        (tmp_path / "benchmarks" / "results" / record.name).write_bytes(record.read_bytes())
    (tmp_path / "README.md").write_text("# Mine\n")
    page = tmp_path / "docs" / "compute.md"
    page.write_text("It takes 7.7 GB<!-- = compute.json rows/0/memory_gb -->.\n")
    assert call("docs", "--root", tmp_path, "--write")[0] == 0
    assert "7.7" not in page.read_text() and (tmp_path / "docs" / "claims.md").is_file()
    assert call("docs", "--root", tmp_path, "--check")[0] == 0
    page.write_text(page.read_text().replace("takes ", "takes 1"))
    code, _, error = call("docs", "--root", tmp_path, "--check")
    assert code == 1 and "docs/compute.md" in error and "1 figures or tables" in error
    page.write_text("Nobody knows 3.5 of it.\n")
    assert call("docs", "--root", tmp_path, "--check")[0] == 1
    assert call("docs", "--root", Path(tmp_path) / "docs", "--check")[0] == 2


def test_every_table_can_be_made():
    found = Results(ROOT / "benchmarks" / "results")
    for name, make in TABLES.items():
        assert make(found).startswith(("| ", "Not recorded yet")), name


def ff_run(test_error: float, twin: float | None, **settings) -> dict:
    own = {"test_error": test_error, "test_pictures": 10_000, "readouts": {"goodness": test_error, "softmax": 3.0}}
    base = {"mode": "supervised", "widths": [9, 9], "epochs": 7, "jitter": 0, "precision": "bf16", "sign": "max"}
    base |= {"peer": 0.03, "decay": 0.001, "iterations": 8, "seed": 0}
    found = {**own, "baseline_test_error": twin, "baseline_epochs": 20}
    return {"result": found, "settings": {**base, **settings}, "machine": {"threads": 1}}


def test_a_run_stands_beside_its_twin_of_another_record(tmp_path, monkeypatch):
    monkeypatch.setattr(page_networks, "FF_RUNS", (("a", "b", "1.31"), ("c", None, "")))
    runs = {"a": ff_run(1.37, None), "b": ff_run(6.0, 1.5), "c": ff_run(2.0, None, mode="local", precision="fp32")}
    for name, run in runs.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    first, second = page_networks.forward_forward(Results(tmp_path)).splitlines()[2:]
    assert "| supervised, 2 x 9, 7 epochs | 1.31 | 1.37 [1.16, 1.62] | 3.00 | 1.50 (20 epochs) | -0.13 |" in first
    assert "local, 2 x 9216" in second and "fp32" in second and "epochs)" not in second


def test_levels_that_do_not_fall_are_not_said_to(tmp_path, monkeypatch):
    monkeypatch.setattr(page_networks, "GLOM_RUNS", ("mask",))
    found = {
        "steps": 5,
        "thresholds": {"0.8": {"trained": [3, 2, 2]}, "0.9": {"trained": [3, 2, 1]}},
        "levels": [{"islands_raw": n} for n in (1, 2, 3)],
        "differences": {"fall": [{"islands": [1.0, 0.5, 1.5]}, {"islands": [1.0, -0.5, 2.5]}]},
    }
    (tmp_path / "glom-mask.json").write_text(json.dumps(found))
    last = page_networks.glom_falls(Results(tmp_path)).splitlines()[-1]
    assert last == "| `mask` (5) | +1.0 [+0.5, +1.5] | +1.0 [-0.5, +2.5] | 0.9 | no |"
