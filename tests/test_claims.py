"""Verdicts follow from numbers in files: change the number and the verdict changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.claims import (
    HOME,
    NOT,
    REPRODUCED,
    UNTESTED,
    Check,
    Claim,
    Evidence,
    Results,
    judge,
    judge_all,
    look_up,
    printed_arithmetic,
)
from experiments.claims_list import all_claims
from experiments.claims_write import as_markdown
from glom.errors import InputError

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "results"


@pytest.fixture
def call(capsys):
    """Run the program in this process: (exit code, standard output, standard error)."""
    from cli import app
    from commands.common import guard

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def claim(published: bool = False, *checks: Check) -> Claim:
    values = {"gain": "rows[name=a]/gain", "low": "rows[name=a]/ci95/0"}
    held = checks or (Check("low", ">", 0),)
    return Claim("panel", "it gains", (Evidence("x.json", values, held, "gain {gain:+.1f}", published),))


def write(folder: Path, low: float) -> Results:
    rows = [{"name": "b", "gain": 9, "ci95": [9, 9]}, {"name": "a", "gain": 1.0, "ci95": [low, 2.0]}]
    (folder / "x.json").write_text(json.dumps({"rows": rows, "command": "python cli.py x"}))
    return Results(folder)


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_the_number_decides_and_the_setting_names_it(tmp_path):
    assert judge(claim(), write(tmp_path, 0.5)).verdict == HOME
    assert judge(claim(True), write(tmp_path, 0.5)).verdict == REPRODUCED
    found = judge(claim(), write(tmp_path, -0.5))
    assert (found.verdict, found.figures, found.checks, found.command) == (NOT, "gain +1.0", "low > 0", "apm x")
    assert "at home scale" in as_markdown([found])
    assert "**not reproduced** |" in as_markdown([judge(claim(True), write(tmp_path, -0.5))])


def test_what_is_not_there_is_not_refuted(tmp_path):
    found = judge(claim(), Results(tmp_path))
    assert found.verdict == UNTESTED
    assert "no x.json" in found.figures
    assert judge(Claim("p", "c", untested="no weights"), Results(tmp_path)).figures == "no weights"
    shown = Claim("p", "c", (Evidence("x.json", {"gain": "rows/0/gain"}, (), "{gain}"),), "decides nothing")
    assert judge(shown, write(tmp_path, 1)).verdict == UNTESTED


def test_a_damaged_file_or_a_missing_number_is_said(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        judge(claim(), Results(tmp_path))
    (tmp_path / "x.json").write_text('{"rows": []}')
    with pytest.raises(InputError, match=r"x.json has no .*rows\[name=a\]/gain"):
        judge(claim(), Results(tmp_path))
    with pytest.raises(InputError, match="unknown relation"):
        Check("a", "==", 1)


def test_checks_compare_values_with_values(tmp_path):
    results = write(tmp_path, 0.5)
    assert judge(claim(False, Check("gain", ">=", "low", 2.0)), results).verdict == HOME
    assert judge(claim(False, Check("gain", ">", "low", 2.0)), results).verdict == NOT


def test_paths_pick_entries_and_say_when_there_is_nothing():
    data = {"rows": [{"m": "a/b", "k": 1, "x": 5}, {"m": "a/b", "k": 2, "x": [6, 7]}], "none": None}
    assert look_up(data, "rows[m=a/b][k=2]/x/-1") == 7
    assert [look_up(data, f"rows[m={m}]/*") for m in ("a/b", "c")] == [2, 0]
    for path in ("rows[m=c]/x", "rows/3/x", "none", "rows[m=a/b]/y"):
        with pytest.raises(KeyError):
            look_up(data, path)


def test_printed_averages_are_recomputed_from_their_rows():
    two = {r["method"]: r for r in printed_arithmetic(2)["rows"]}
    assert two["APM"]["recomputed"] == pytest.approx(49.7, abs=0.05)
    assert two["OpenCLIP ViT-L/14"]["recomputed"] == pytest.approx(44.2, abs=0.05)
    assert two["Joint Train"]["off"] == pytest.approx(-2.1, abs=0.05)
    assert printed_arithmetic(1)["largest_off"] <= 0.1 + 1e-6
    assert 0.15 < printed_arithmetic(3)["largest_off"] < 0.25


# -- the poster's claims -----------------------------------------------------------------------------------------------


def test_every_row_of_every_table_is_a_claim():
    claims = all_claims()
    for number, rows in ((1, 12), (2, 6), (3, 6)):
        names = [c.claim for c in claims if c.place == f"Table {number}" and ": average" in c.claim]
        assert len(names) == rows
    assert len([c for c in claims if c.place == "Table 4"]) == 3 * 7
    assert len({(c.place, c.claim) for c in claims}) == len(claims)
    for c in claims:
        assert c.evidence or c.untested
        for evidence in c.evidence:
            for check in evidence.checks:
                assert check.value in evidence.values
                assert not isinstance(check.bound, str) or check.bound in evidence.values


def test_a_number_in_a_record_turns_its_verdict(tmp_path):
    name = "emerge-weave.json"
    shutil.copy(RECORDS / name, tmp_path / name)
    first = all_claims()[0]
    assert judge(first, Results(tmp_path)).verdict == HOME
    record = json.loads((tmp_path / name).read_text())
    record["verdict"]["minus_pixels"] = [0.02, -0.01, 0.05]
    (tmp_path / name).write_text(json.dumps(record))
    assert judge(first, Results(tmp_path)).verdict == NOT


def table(scale: str, measured: float, low: float, high: float, gain: list[float]) -> dict:
    base = {"kind": "average", "measured": 40.0, "ci95": [39.0, 41.0], "n": 9, "gain": None}
    apm = {"kind": "average", "measured": measured, "ci95": [low, high], "n": 9}
    apm["gain"] = {"measured": gain[0], "ci95": gain[1:]}
    rows = [{**base, "published_method": "OpenCLIP ViT-L/14"}, {**apm, "published_method": "APM"}]
    return {"name": "table2", "scale": scale, "rows": rows, "command": "apm reproduce table2"}


def apm_row(tmp_path: Path, content: dict) -> tuple[str, str]:
    folder = tmp_path / content["scale"]
    folder.mkdir(exist_ok=True)
    (folder / "table.json").write_text(json.dumps(content))
    results = Results(tmp_path)
    results.add_reproduced(folder)
    claims = [c for c in all_claims() if c.place == "Table 2" and ": average" in c.claim]
    by = {c.claim.partition(":")[0]: judge(c, results) for c in claims}
    return by["APM"].verdict, by["OpenCLIP ViT-L/14"].verdict


def test_a_reproduced_table_decides_its_rows(tmp_path):
    # At home scale other data: a gain over the teacher decides, a number alone nothing.
    assert apm_row(tmp_path, table("home", 45, 43, 47, [5.0, 3.0, 7.0])) == (HOME, UNTESTED)
    assert apm_row(tmp_path, table("home", 40, 39, 41, [0.0, -1.0, 1.0])) == (NOT, UNTESTED)
    # In the published setting the number itself does: 49.7 by the printed row's own columns, 44.2 for the teacher.
    assert apm_row(tmp_path, table("poster", 49.9, 49.4, 50.4, [5, 4, 6])) == (REPRODUCED, NOT)
    assert apm_row(tmp_path, table("poster", 46.0, 45.5, 46.5, [2, 1, 3])) == (NOT, NOT)


def test_the_page_is_what_the_records_give(call, tmp_path):
    code, _, error = call("claims", "--results", RECORDS, "--check", "--out", ROOT / "docs" / "claims.md")
    assert code == 0, error
    copy = tmp_path / "claims.md"
    copy.write_text((ROOT / "docs" / "claims.md").read_text().replace("**reproduced**", "**refuted**", 1))
    code, _, error = call("claims", "--results", RECORDS, "--check", "--out", copy)
    assert (code, error.count("error:")) == (1, 1)
    assert "stale" in error


def test_the_command_line(call, tmp_path):
    code, text, _ = call("claims", "--results", RECORDS, "--json", "--out", tmp_path / "c.md")
    assert code == 0
    result = json.loads(text)
    judged = judge_all(all_claims(), Results(RECORDS))
    assert [c["verdict"] for c in result["claims"]] == [j.verdict for j in judged]
    assert sum(result["counts"].values()) == len(judged)
    assert (tmp_path / "c.md").read_text() == as_markdown(judged)
    code, text, _ = call("claims", "--results", RECORDS)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 100
    code, _, error = call("claims", "--results", tmp_path / "nothing")
    assert code == 2
    assert "not a folder" in error
    code, _, error = call("claims", "--results", RECORDS, "--reproduced", tmp_path)
    assert code == 2
    (tmp_path / "table.json").write_text("{}")
    code, _, error = call("claims", "--results", RECORDS, "--reproduced", tmp_path)
    assert code == 2
    assert "no folder of `apm reproduce`" in error
