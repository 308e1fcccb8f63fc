"""Verdicts follow from numbers in files: change the number and the verdict changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from experiments.claims.read import read_claims
from experiments.claims.rules import COUNT, RULES
from experiments.claims.run import (
    HINTON,
    HOME,
    NOT,
    OURS,
    POSTER,
    REPRODUCED,
    UNTESTED,
    Check,
    Claim,
    Evidence,
    Judged,
    Results,
    judge,
    judge_all,
    look_up,
    printed_arithmetic,
)
from experiments.claims.write import as_markdown
from glom.errors import InputError

ROOT = Path(__file__).parents[3]
RECORDS = ROOT / "benchmarks" / "results"


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


# -- claims are data ---------------------------------------------------------------------------------------------------

BLOCK = """
[template.gain]
checks = [["ahead", "{gain,low}"]]
[template.gain.values]
"{gain,low}" = "rows[name=$who]/{gain,ci95/0}"

[[claim]]
place = "panel"
claim = "$who gains."
each = [{ who = "a" }, { who = "b", source = "this project" }]
[[claim.evidence]]
like = "gain"
file = "x.json"
says = "gain {gain:+.1f} from {low:.0f} to {high:.0f}"
values = { high = "rows[name=$who]/ci95/1" }
"""


def test_a_block_is_a_claim_for_every_entry(tmp_path):
    (tmp_path / "own.toml").write_text(BLOCK)
    found = judge_all(read_claims(tmp_path / "own.toml"), write(tmp_path, 0.5))
    assert [(j.claim.claim, j.claim.source, j.verdict) for j in found] == [
        ("a gains.", POSTER, HOME),
        ("b gains.", OURS, HOME),
    ]
    assert (found[0].figures, found[0].checks) == ("gain +1.0 from 0 to 2", "gain > 0; low > 0")


def test_what_a_block_says_of_a_printed_row_is_the_printed_rows_own(tmp_path):
    (tmp_path / "own.toml").write_text(
        '[[claim]]\nplace = "Table $table"\nclaim = "$method: $said, $claimed."\ntable = 2\nmethod = "APM"\n'
        'over = "OpenCLIP ViT-L/14"\n'
    )
    [found] = read_claims(tmp_path / "own.toml")
    said = "APM: average 49.7 (printed 50.3), +5.5 over OpenCLIP ViT-L/14, +5.5."
    assert (found.place, found.claim) == ("Table 2", said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[claim]]", "[[claims]]\n[[claim]]", "unknown section 'claims'; did you mean claim"),
        ('place = "panel"', 'plaice = "panel"', "unknown key 'plaice'; did you mean place"),
        ('place = "panel"', "", "a claim needs 'place'"),
        ('{ who = "b", source = "this project" }', '"b"', "'each' is a list of tables"),
        ("[[claim.evidence]]", "[claim.evidence]", "'evidence' is a list of tables"),
        ('file = "x.json"', "", "evidence needs 'file'"),
        ('like = "gain"', 'like = "gains"', "unknown template 'gains'; did you mean gain?"),
        ("[template.gain]", '[template.gain]\nlike = "gain"', "the template 'gain' is like itself"),
        ('"ahead"', '"ahed"', "unknown rule 'ahed'; did you mean ahead"),
        ('["ahead", "{gain,low}"]', '"ahead gain"', "a check is a list"),
        ('"ahead", "{gain,low}"', '"flat", "gain"', "the rule 'flat' takes end, start, not ['gain']"),
        ('"ahead", "{gain,low}"', '"gains", "low", "high", "much"', "the rule 'gains' takes low, high, claimed"),
        ('"{gain,low}"]', '"{gain,lo}"]', "unknown value 'lo'; did you mean low"),
        ("{high:.0f}", "{hihg:.0f}", "unknown value 'hihg'; did you mean high"),
        ("{high:.0f}", "{high:.0f", "'says' is no format"),
        ("name=$who]/{", "name=$hwo]/{", "unknown $word 'hwo'; did you mean who"),
        ("{gain,ci95/0}", "{gain,ci95/0,n}", "braces of one line name as many each, not 2, 3"),
        ('file = "x.json"', "file = 3", "'file' is text, not 3"),
        ('file = "x.json"', 'file = "x.json"\npublished = "yes"', "'published' is true or false, not 'yes'"),
        (
            'source = "this project"',
            'source = "this projet"',
            "unknown source 'this projet'; did you mean this project",
        ),
        (
            '{ who = "a" }',
            '{ who = "a", table = 2, method = "AMP" }',
            "unknown method of table 2 'AMP'; did you mean APM",
        ),
        ('{ who = "a" }', '{ who = "a", table = 7, method = "APM" }', "there is no published table 7"),
    ],
)
def test_a_bad_block_is_said_in_one_line_with_the_nearest_names(tmp_path, old, new, said):
    assert old in BLOCK
    (tmp_path / "own.toml").write_text(BLOCK.replace(old, new))
    with pytest.raises(InputError) as caught:
        read_claims(tmp_path / "own.toml")
    assert said in str(caught.value) and "own.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_claims_that_is_not_there_or_no_toml_is_said(tmp_path):
    for text in ("[[claim", None):
        if text:
            (tmp_path / "own.toml").write_text(text)
        with pytest.raises(InputError, match=r"own.toml cannot be read as TOML"):
            read_claims(tmp_path / "own.toml")
        (tmp_path / "own.toml").unlink(missing_ok=True)


def test_a_record_misspelt_is_said_with_the_nearest(tmp_path):
    results = write(tmp_path, 0.5)
    (tmp_path / "own.toml").write_text(BLOCK.replace("x.json", "islands-aple.json"))
    (tmp_path / "islands-apple.json").write_text("{}")
    found = judge_all(read_claims(tmp_path / "own.toml"), results)[0]
    assert (found.verdict, found.figures) == (
        UNTESTED,
        "no islands-aple.json among the results; did you mean islands-apple.json?",
    )
    (tmp_path / "own.toml").write_text(BLOCK.replace('"rows[name=$who]/ci95/1"', '"islands-aple.json#n"'))
    with pytest.raises(InputError, match=r"no islands-aple.json among .* did you mean islands-apple.json"):
        judge_all(read_claims(tmp_path / "own.toml"), results)


def test_a_value_that_cannot_be_compared_is_said(tmp_path):
    results = write(tmp_path, 0.5)
    (tmp_path / "own.toml").write_text(BLOCK.replace("/{gain,ci95/0}", "/{name,ci95}"))
    with pytest.raises(InputError, match=r"x.json cannot decide the claim 'a gains.'"):
        judge_all(read_claims(tmp_path / "own.toml"), results)


def test_what_the_text_of_the_claims_repeats_is_what_the_rules_say():
    for rule in (e.rule for c in read_claims() for e in c.evidence if e.rule):
        assert rule.endswith(f"within {100 * COUNT:g} %")


# -- the poster's claims -----------------------------------------------------------------------------------------------


def test_every_row_of_every_table_is_a_claim():
    claims = read_claims()
    for number, rows in ((1, 12), (2, 6), (3, 6)):
        names = [c.claim for c in claims if c.place == f"Table {number}" and ": average" in c.claim]
        assert len(names) == rows
    assert len([c for c in claims if c.place == "Table 4"]) == 2  # its sizes are one claim, its memory another
    assert len({(c.place, c.claim) for c in claims}) == len(claims)
    for c in claims:
        assert c.evidence or c.untested
        for evidence in c.evidence:
            for check in (*evidence.checks, *evidence.against, *evidence.needs):
                assert check.value in evidence.values
                assert not isinstance(check.bound, str) or check.bound in evidence.values


def test_the_rules_are_applied_to_all_alike():
    claims = read_claims()
    assert {c.source for c in claims} == {POSTER, HINTON, OURS}
    assert all(c.source == HINTON for c in claims if "Hinton" in c.claim or "GLOM" in c.place)
    for evidence in (e for c in claims for e in c.evidence):
        if "-poster" in evidence.file:  # in the published setting a printed accuracy is held against the interval
            continue
        lows = [check for check in evidence.checks if "low" in check.value]
        assert all((check.relation, check.bound) == (">", 0) for check in lows), evidence  # no margin of one's own
        if lows and "reproduce-" not in evidence.file and not evidence.file.startswith("few-shot"):
            assert evidence.n, f"{evidence.file}: on how many pictures?"


def evidence(start: str) -> Evidence:
    """What decides the claim that starts like this."""
    [found] = [c for c in read_claims() if c.claim.startswith(start)]
    return found.evidence[0]


@pytest.mark.parametrize(
    ("claim", "baselines"),
    [
        ("Islands of agreement that", ("over_untrained_low", "over_pixels_low", "accuracy")),
        ("The same where only outlines", ("over_untrained_low", "over_pixels_low", "accuracy")),
        ("In photographs, a pre-trained", ("untrained_low", "pixels_low")),
        ("A video transformer that watches", ("untrained_low", "pixels_low")),
        ("Overfit on one picture's token", ("own_low", "position_low", "noise_low")),
        ("The same where a column holds", ("own_low", "position_low", "noise_low")),
        ("The same where the machine has learnt", ("at2_low", "average2_low", "average8_low")),
    ],
)
def test_every_baseline_of_a_kind_must_be_beaten(claim, baselines):
    """One that is not turns the verdict, whatever the others say."""
    found = evidence(claim)
    fine = {check.value: 1.0 for check in found.checks} | {"pictures": 10}
    assert found.verdict(fine)[0] == HOME
    for baseline in baselines:
        assert found.verdict({**fine, baseline: -0.1})[0] == NOT
    assert found.verdict({**fine, "pictures": 9}) == (UNTESTED, "too few pictures: 9 where 10 are needed")


def test_layers_are_chosen_elsewhere_and_outlines_compared_by_the_mean_over_people():
    for claim in ("In photographs, a pre-trained", "A video transformer that watches"):
        found = evidence(claim)
        assert all(path.startswith("held_out/") for name, path in found.values.items() if name.endswith("_low"))
        assert {"edge", "edge_pixels"} <= set(found.values)


def test_what_the_release_does_not_execute_is_no_published_setting():
    found = evidence("Memory does not grow")
    assert [check.value for check in found.checks] == ["last"] and "execution=plain" in found.values["last"]
    assert judge(Claim("p", "c", (found,)), Results(RECORDS)).verdict == NOT


def test_tokens_class_is_said_beside_the_other_read_outs():
    found = evidence("Islands of agreement that")
    assert found.file == "emerge-weave-class.json" and "{dense_untrained" in found.says and "{mean_pixels" in found.says


def test_a_number_in_a_record_turns_its_verdict(tmp_path):
    for name in ("emerge-weave.json", "emerge-weave-mean.json", "emerge-weave-class.json"):
        shutil.copy(RECORDS / name, tmp_path / name)
    first = read_claims()[0]
    assert judge(first, Results(tmp_path)).verdict == HOME
    record = json.loads((tmp_path / name).read_text())
    record["verdict"]["minus_pixels"] = [0.02, -0.01, 0.05]
    (tmp_path / name).write_text(json.dumps(record))
    assert judge(first, Results(tmp_path)).verdict == NOT


def table(scale: str, measured: float, low: float, high: float, gain: list[float], limit: int = 0) -> dict:
    """A record of table 2 with the teacher at 44.2 +- 0.5, as printed, and the APM as given."""
    apm = {"kind": "average", "measured": measured, "ci95": [low, high], "n": 9, "published_method": "APM"}
    base = {**apm, "measured": 44.2, "ci95": [43.7, 44.7], "gain": None, "published_method": "OpenCLIP ViT-L/14"}
    apm["gain"] = {"measured": gain[0], "ci95": gain[1:]}
    rows = [{**row, "difference": None if scale == "home" else 0.0} for row in (base, apm)]
    return {"name": "table2", "scale": scale, "rows": rows, "limit": limit, "command": "apm reproduce table2"}


def judged_rows(tmp_path: Path, *contents: dict) -> dict[str, Judged]:
    """The verdicts on table 2's claims by their beginning, from records of these contents."""
    results = Results(tmp_path)
    for content in contents:
        folder = tmp_path / content["scale"]
        folder.mkdir(exist_ok=True)
        (folder / "table.json").write_text(json.dumps(content))
        results.add_reproduced(folder)
    return {c.claim.partition(":")[0]: judge(c, results) for c in read_claims() if c.place == "Table 2"}


def apm_row(tmp_path: Path, *contents: dict) -> tuple[str, str]:
    found = judged_rows(tmp_path, *contents)
    return found["APM"].verdict, found["OpenCLIP ViT-L/14"].verdict


def test_a_reproduced_table_decides_its_rows(tmp_path):
    # At home scale other data: a gain over the teacher decides, a number alone nothing. The printed gain is 5.5.
    assert apm_row(tmp_path, table("home", 45, 43, 47, [5.0, 3.0, 7.0])) == (HOME, UNTESTED)
    assert apm_row(tmp_path, table("home", 45, 43, 47, [1.0, 0.5, 1.5])) == (HOME, UNTESTED)
    # In the published setting the number itself does: 49.7 by the printed row's own columns, 44.2 for the teacher.
    assert apm_row(tmp_path, table("poster", 49.9, 49.4, 50.4, [5.7, 5.2, 6.2])) == (REPRODUCED, REPRODUCED)
    assert apm_row(tmp_path, table("poster", 46.0, 45.5, 46.5, [2, 1, 3])) == (NOT, REPRODUCED)


def test_an_interval_that_holds_nothing_and_the_published_gain_decides_nothing(tmp_path):
    for gain, verdict in (
        ([0.0, -1.0, 1.0], NOT),  # below the published 5.5, as sure as the pictures make it
        ([-3.0, -12.0, 0.0], NOT),  # no gain at all
        ([2.0, -3.0, 7.0], UNTESTED),
        ([2.0, -3.0, 5.6], UNTESTED),
        ([2.0, -3.0, 5.4], NOT),
    ):
        found = judged_rows(tmp_path, table("home", 45, 43, 47, gain))["APM"]
        assert found.verdict == verdict, gain
        assert ("too few pictures" in found.figures) == (verdict == UNTESTED)
    assert (
        "undecided: the interval holds both no gain and the published +5.5"
        in judged_rows(tmp_path, table("home", 45, 43, 47, [2.0, -3.0, 7.0]))["APM"].figures
    )


def test_a_claimed_loss_is_judged_as_its_mirror():
    def verdict(low: float, high: float) -> str:
        shows, against = (RULES[name]("low", "high", -2.0) for name in ("gains", "misses"))
        evidence = Evidence("x.json", {}, shows, "", against=against)
        return evidence.verdict({"low": low, "high": high})[0]

    assert verdict(-3.0, -0.5) == HOME
    assert [verdict(-1.0, 1.0), verdict(0.0, 4.0)] == [NOT, NOT]
    assert [verdict(-3.0, 1.0), verdict(-9.0, 0.0)] == [UNTESTED, UNTESTED]


def test_in_the_published_setting_the_gain_counts_beside_the_average(tmp_path):
    fine = (49.7, 49.2, 50.2)
    for gain, verdict in (
        ([5.5, 5.0, 6.0], REPRODUCED),
        ([2.0, 1.5, 2.5], NOT),  # the average by a better teacher, not by a gain of 5.5
        ([0.0, -0.5, 0.5], NOT),
        ([3.0, -1.0, 7.0], UNTESTED),
    ):
        assert apm_row(tmp_path, table("poster", *fine, gain))[0] == verdict, gain


def test_a_part_of_the_published_data_decides_nothing(tmp_path):
    part = table("poster", 30.0, 29.0, 31.0, [-9.0, -10.0, -8.0], limit=100)
    found = judged_rows(tmp_path, part)["APM"]
    assert found.verdict == UNTESTED
    assert "measured 30.0" in found.figures and "--limit" in found.figures
    # What is there at home scale is judged all the same.
    home = table("home", 45, 43, 47, [5.0, 3.0, 7.0])
    assert apm_row(tmp_path, part, home)[0] == HOME
    # Nor do averages over other splits, from which nothing is subtracted.
    other = table("poster", 30.0, 29.0, 31.0, [-9.0, -10.0, -8.0])
    other["rows"][1]["difference"] = None
    found = judged_rows(tmp_path, other)["APM"]
    assert (found.verdict, found.file) == (UNTESTED, "reproduce-table2-poster.json")
    assert found.figures == "reproduce-table2-poster.json has no average of APM on all of the published data"


def test_a_record_without_the_method_is_told_from_no_record(tmp_path):
    home = table("home", 45, 43, 47, [5.0, 3.0, 7.0])
    above = "The machine, without training on the task, is above TTT-MAE, which has it."
    found = judged_rows(tmp_path, home)
    assert found["TTT-MAE"].figures == "reproduce-table2.json has no measured average of TTT-MAE"
    assert found[above].figures == "reproduce-table2.json has no paired difference of APM and TTT-MAE"
    assert "could not be had" in judged_rows(tmp_path)["TTT-MAE"].figures
    versus = [{"published_method": "TTT-MAE", "difference": 3.0, "ci95": [1.0, 5.0]}]
    home["rows"][1]["versus"] = versus
    home["rows"].append({**home["rows"][1], "published_method": "TTT-MAE", "measured": 42.0, "versus": []})
    assert judged_rows(tmp_path, home)[above].verdict == HOME
    versus[0]["ci95"] = [-5.0, 7.0]  # the printed rows differ by 6.4
    assert judged_rows(tmp_path, home)[above].verdict == UNTESTED
    versus[0]["ci95"] = [-5.0, 5.0]
    assert judged_rows(tmp_path, home)[above].verdict == NOT


def test_prompts_learned_here_are_evidence_for_those_of_table_1(tmp_path):
    for name in ("few-shot-glom-tiny.json", "few-shot-glom-tiny-cifar10.json"):
        shutil.copy(RECORDS / name, tmp_path / name)

    def verdict() -> Judged:
        claims = [c for c in read_claims() if c.place == "Table 1" and c.claim.startswith("CoOp: average")]
        return judge(claims[0], Results(tmp_path))

    found = verdict()
    assert (found.verdict, found.file) == (HOME, "few-shot-glom-tiny.json")
    record = json.loads((tmp_path / "few-shot-glom-tiny.json").read_text())
    coop = next(r for r in record["rows"] if r["method"] == "coop")
    assert f"{coop['difference']:+.1f}" in found.figures and "on CIFAR-10, which it was trained on, " in found.figures
    coop["difference_ci95"] = [-1.0, 1.0]
    (tmp_path / "few-shot-glom-tiny.json").write_text(json.dumps(record))
    assert verdict().verdict == NOT


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
    judged = judge_all(read_claims(), Results(RECORDS))
    assert [c["verdict"] for c in result["claims"]] == [j.verdict for j in judged]
    assert sum(sum(found.values()) for found in result["counts"].values()) == len(judged)
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
