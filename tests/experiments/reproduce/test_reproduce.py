"""`apm reproduce`: published beside measured, subtracted only where both are of the same data."""

from __future__ import annotations

import csv
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.comparison.run import run as run_benchmark
from experiments.comparison.untouched import studies_of
from experiments.published import gigabytes
from experiments.reproduce import compute as reproduce_compute
from experiments.reproduce import poster as reproduce_poster
from experiments.reproduce.averages import sign_flip, stratified
from experiments.reproduce.cost import madds
from experiments.reproduce.home import HOME, table2
from experiments.reproduce.plan import Block, Column, Line, Mean, Plan
from experiments.reproduce.rows import make_rows
from experiments.reproduce.run import NAMES, describe
from experiments.reproduce.run import run as run_reproduce
from experiments.reproduce.settings import Request
from experiments.reproduce.write import as_latex, escape, matrices, quantity, shown
from glom.datasets.named.catalogue import NAMED
from glom.datasets.registry import open_dataset
from glom.errors import InputError, RunError
from glom.runs.artifacts import read_json, write_json
from glom.runs.seeds import SELECT, half_of
from glom.runs.statistics import bootstrap_ci, holm, mcnemar_exact
from glom.teachers.superclasses import read_superclasses
from glom.teachers.zero_shot import plain_name
from tests.conftest import make_image, start
from tests.glom.datasets.test_dataset_check import published
from tests.glom.datasets.test_dataset_layouts import save

ROOT = Path(__file__).parents[3]
RECORDS = ROOT / "benchmarks" / "results"
KEYS = {"method", "dataset", "published", "measured", "ci95", "n", "skipped"}


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run the program in this process: (exit code, standard output, standard error). No data but what ships."""
    from cli import app
    from commands.ending import guard

    monkeypatch.setenv("APM_DATA", str(tmp_path / "no-data"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(app, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# -- home --------------------------------------------------------------------------------------------------------


def test_home_is_resumable_and_subtracts_nothing(call, tmp_path):
    out = tmp_path / "run"
    base = ["reproduce", "table2", "--methods", "zero-shot,tda", "--limit", "2", "--out", out, "--quiet", "--json"]
    code, text, error = call(*base, "--record", tmp_path / "r.json")
    assert code == 0, error
    result = json.loads(text)
    assert result["scale"] == "home"
    assert len(result["rows"]) == 2 * 16
    for row in result["rows"]:
        assert set(row) >= KEYS
        assert row["difference"] is None
        assert row["dataset"].startswith("CIFAR-10")
        assert (row["note"] == "other data") == (row["published"] is not None)
        assert row["ci95"] is None  # of two pictures there is none to speak of
        assert row["scale"] == ["cifar10-c"]
    assert result["corruptions"] == {"scale": ["cifar10-c"], "corrupt": "crop"}
    assert result["shares pictures with"]  # of the pictures that ship all were used
    first, second = (r for r in result["rows"] if r["kind"] == "average")
    assert (first["method"], first["published"], first["n"]) == ("zero-shot", 42.1, 30)
    assert first["published_recomputed"] == pytest.approx(44.2, abs=0.05)
    assert (second["method"], second["published"]) == ("tda", None)
    assert second["gain"]["over"] == "zero-shot"
    assert second["gain"]["measured"] == pytest.approx(second["measured"] - first["measured"], abs=1e-3)
    [against] = second["versus"]
    assert (against["method"], against["published_method"]) == ("zero-shot", "OpenCLIP ViT-L/14")
    assert [against["difference"], against["ci95"]] == [second["gain"]["measured"], second["gain"]["ci95"]]
    assert first["versus"][0]["difference"] == -against["difference"]
    cells = [r["measured"] for r in result["rows"] if r["kind"] == "cell" and r["method"] == "tda"]
    assert second["measured"] == pytest.approx(np.mean(cells), abs=1e-3)
    assert read_json(tmp_path / "r.json")["rows"] == result["rows"]
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()
    with (out / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(x["measured"]) for x in lines] == [r["measured"] for r in result["rows"]]
    html = (out / "table.html").read_text()
    assert "never to be subtracted" in html
    assert "ImageNet-C, level 5: fog" in html
    assert (
        (out / "table.tex").read_text().count(r"\begin{longtable}")
        == (out / "table.tex").read_text().count(r"\end{longtable}")
        == 2
    )
    # The row is of what ran; the published one is named beside its number alone.
    text = (out / "table.md").read_text()
    assert "| zero-shot (glom-tiny) | CIFAR-10, fog 5 | 58.3 (OpenCLIP ViT-L/14, ImageNet-C" in text

    # Killed in the midst of a line, under other package versions: the same rows, and the change is said and kept.
    assert call(*base)[0] == 2
    [place] = (out / "runs").glob("*/cifar10-sample-fog-5/tda")
    lines_file = place / "results.jsonl"
    kept = lines_file.read_text().splitlines(keepends=True)
    lines_file.write_text(kept[0] + kept[1][:30])
    manifest = read_json(place / "manifest.json")
    manifest["versions"]["torch"] = "0.1"
    write_json(place / "manifest.json", manifest)
    code, text, error = call(*(a for a in base if a != "--quiet"), "--resume")
    assert code == 0
    again = json.loads(text)
    assert again["rows"] == result["rows"]
    assert "package versions changed since this run began: torch: '0.1'" in " ".join(error.split())
    assert any("torch: '0.1'" in w for w in again["warnings"])
    assert "package versions changed" in (out / "table.md").read_text()
    assert call(*base, "--resume", "--seed", "1")[0] == 2  # another run


def test_stopped_by_hand_it_keeps_its_answers_and_goes_on(call, tmp_path):
    base = ["reproduce", "table2", "--methods", "zero-shot,tda", "--limit", "2", "--quiet", "--json", "--out"]
    command = [sys.executable, str(ROOT / "cli.py"), *base, str(tmp_path / "stopped")]
    process = start(command, APM_DATA=str(tmp_path / "no-data"))
    deadline = time.monotonic() + 120
    while not any((tmp_path / "stopped").rglob("results.jsonl")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "everything computed is kept" in error
    assert "--resume" in error
    before = {p: p.read_text() for p in (tmp_path / "stopped").rglob("results.jsonl")}
    code, text, error = call(*base, tmp_path / "stopped", "--resume")
    assert code == 0, error
    assert before
    assert all(p.read_text().startswith(lines) for p, lines in before.items())
    rows = json.loads(text)["rows"]
    assert {(r["kind"], r["n"]) for r in rows} == {("cell", 2), ("average", 30)}


def test_a_damaged_data_set_is_said_and_not_replaced(call, tmp_path):
    (tmp_path / "cifar10" / "test" / "cat").mkdir(parents=True)
    code, _, error = call("reproduce", "table2", "--data-root", tmp_path, "--out", tmp_path / "run", "--quiet")
    assert (code, error.count("error:")) == (2, 1)
    assert "cifar10" in error


def test_severities_have_averages_of_their_own_and_only_five_is_printed():
    plan = table2(Request(name="table2", severities=(5, 3), root="nowhere"))
    [block] = plan.blocks
    assert len(block.columns) == 30
    assert [(m.published, len(m.columns)) for m in block.means] == [("Average", 15), ("", 15)]
    assert {c.published for c in block.columns if c.corruption.endswith(":3")} == {""}
    assert not any(c.same for c in block.columns)


@pytest.mark.parametrize("name", ["table1", "table2", "table3"])
def test_every_published_row_has_a_line_at_both_scales(name):
    for scale, make in (("home", HOME[name]), ("poster", reproduce_poster.POSTER[name])):
        plan = make(Request(name=name, scale=scale, root="nowhere"))
        assert {line.published for block in plan.blocks for line in block.lines} >= set(plan.published)
        if scale == "poster":
            columns = {c.published for block in plan.blocks for c in block.columns}
            printed = {k for k, v in next(iter(plan.published.values())).items() if isinstance(v, float)}
            assert columns == {k for k in printed if "Average" not in k}


def test_few_shot_lines_say_what_they_need(call, tmp_path):
    plan = describe(Request(name="table3", methods=("zero-shot", "coop"), root=str(tmp_path)), tmp_path, timed=False)
    block = plan["blocks"][0]  # the text teacher's; a classifier learns no prompts
    assert block["methods"] == ["zero-shot"]
    assert "needs labelled pictures" in block["left_out"][0]


# -- poster --------------------------------------------------------------------------------------------------------


def test_poster_says_what_is_missing_and_how_long_it_would_take(call, tmp_path):
    base = ["reproduce", "table2", "--scale", "poster", "--data-root", tmp_path, "--methods", "zero-shot,apm"]
    code, text, _ = call(*base, "--dry-run", "--json")
    assert code == 0
    plan = json.loads(text)
    assert not plan["runnable"]
    said = " ".join(plan["missing"])
    assert "data not under --data-root: imagenet-c (" in said
    assert "open_clip:ViT-L-14@laion2b_s32b_b82k" in said
    zero, apm = plan["costs"]
    assert (zero["pictures"], apm["pictures"]) == (15 * 50_000, 15 * 50_000)
    assert "from FLOPs" in zero["how"]
    assert apm["minutes"] > 100 * zero["minutes"] > 0
    code, _, error = call(*base, "--out", tmp_path / "run", "--quiet")
    assert (code, error.count("error:")) == (1, 1)
    assert "nothing of table2 can be run at poster scale here" in error
    assert "GPU" not in error and "processor" not in error  # slow is no reason
    assert not (tmp_path / "run").exists()


def test_on_the_published_data_the_difference_is_taken(tmp_path, monkeypatch):
    """A data set and a teacher stand in for the published ones: what is there runs, the rest says why."""
    for c, name in enumerate(("Forest", "River")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(2):
            make_image(10 * c + i, (64, 64)).save(tmp_path / "data" / name / f"{i}.png")
    (tmp_path / "data" / "River" / "broken.png").write_bytes(b"half")
    monkeypatch.setattr(reproduce_poster, "NINE", {"EuroSAT": "eurosat", "DTD": "dtd"})
    monkeypatch.setattr(reproduce_poster, "B16", "glom-tiny")
    monkeypatch.setattr(reproduce_poster, "missing_weights", lambda teacher: "")
    own = reproduce_poster.column

    def column(title, name, request):
        there = Column(str(tmp_path / "data"), title, published=title, same=True)
        return there if title == "EuroSAT" else own(title, name, request)

    monkeypatch.setattr(reproduce_poster, "column", column)
    request = Request(name="table3", scale="poster", methods=("zero-shot", "views"), root=str(tmp_path), device="cpu")
    events = list(run_reproduce(request, tmp_path / "run"))
    rows = events[-1].result["rows"]
    zero = next(r for r in rows if (r["method"], r["dataset"]) == ("zero-shot", "EuroSAT"))
    assert (zero["published"], zero["n"], zero["skipped"], zero["note"]) == (42.0, 4, 1, "")
    assert zero["difference"] == pytest.approx(zero["measured"] - 42.0)
    missing = next(r for r in rows if (r["method"], r["dataset"]) == ("views", "DTD"))
    assert (missing["measured"], missing["n"], missing["note"]) == (None, 0, "dtd: not there")
    average = next(r for r in rows if r["kind"] == "average")
    assert (average["measured"], average["note"]) == (None, "some columns are missing")
    assert any("broken.png" in e.message for e in events)


def test_published_numbers_are_subtracted_on_coops_split_alone(tmp_path, monkeypatch):
    """EuroSAT as torchvision has it is all pictures; the published numbers are of 8,100 that CoOp's authors drew."""
    for name in ("Forest", "River"):
        for i in range(2):
            save(tmp_path / "eurosat" / "2750" / name / f"{i}.jpg", i)
    published(monkeypatch, "eurosat", test=(4, 2))
    monkeypatch.setattr(reproduce_poster, "NINE", {"EuroSAT": "eurosat"})
    monkeypatch.setattr(reproduce_poster, "B16", "glom-tiny")
    monkeypatch.setattr(reproduce_poster, "missing_weights", lambda teacher: "")
    request = Request(name="table3", scale="poster", methods=("zero-shot", "views"), root=str(tmp_path), device="cpu")
    plan = reproduce_poster.POSTER["table3"](request)
    [remark] = [r for r in plan.remarks if r.startswith("EuroSAT")]
    assert "torchvision's test pictures (4)" in remark and "CoOp's split (8,100)" in remark
    assert "eurosat/split_zhou_EuroSAT.json" in remark
    assert not any("EuroSAT" in note for note in plan.notes)  # it runs
    result = list(run_reproduce(request, tmp_path / "run"))[-1].result
    for row in result["rows"]:
        assert (row["n"], row["difference"]) == (4, None)
        assert "CoOp's split (8,100)" in row["note"] or row["published"] is None
    assert any("CoOp's split" in note for note in result["missing"])

    split = {p: [[f"{c}/{i}.jpg", y, c]] for p, c, y, i in (("train", "Forest", 0, 0), ("val", "River", 1, 0))}
    split["test"] = [["Forest/1.jpg", 0, "Forest"], ["River/1.jpg", 1, "River"]]
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    published(monkeypatch, "eurosat", test=(2, 2))
    result = list(run_reproduce(request, tmp_path / "coop"))[-1].result
    zero = next(r for r in result["rows"] if (r["method"], r["kind"]) == ("zero-shot", "cell"))
    assert zero["difference"] == pytest.approx(zero["measured"] - 42.0)
    assert zero["note"] == ""


@pytest.mark.parametrize("name", ["oxford-pets", "ucf101", "fgvc-aircraft"])
def test_where_coop_took_the_authors_own_list_any_layout_will_do(name, tmp_path):
    layout = NAMED[name].layouts("")[-1]
    (tmp_path / layout.places[0]).mkdir(parents=True)
    assert NAMED[name].find(tmp_path)[0].title == layout.title
    assert reproduce_poster.other_split(f"{name}:{tmp_path}") == ""
    assert reproduce_poster.other_split(f"imagenet:{tmp_path}") == ""


def test_methods_fitted_to_a_few_pictures_are_not_subtracted(tmp_path, monkeypatch):
    """Table 2's masked autoencoders learn from 16 pictures a class here, the published ones from all of ImageNet."""
    monkeypatch.setattr(reproduce_poster, "absent", lambda where, split: "")
    monkeypatch.setattr(reproduce_poster, "missing_weights", lambda teacher: "")
    plan = reproduce_poster.POSTER["table2"](Request(name="table2", scale="poster", root=str(tmp_path)))
    [block] = plan.blocks
    assert {c.same for c in block.columns} == {True}
    assert "fitted to 16 pictures a class of ImageNet, the published to all of it" in plan.caption
    told = {line.method: line.other for line in block.lines}
    assert {m for m, other in told.items() if other} == {"joint-train", "fine-tune", "vit-probe", "ttt-mae"}
    # On answers: a difference for the teacher, none for what was fitted; its gain over the teacher all the same.
    column = Column("cifar10-sample", "fog", "fog:5", "fog", same=True)
    lines = tuple(line for line in block.lines if line.method in ("zero-shot", "vit-probe"))
    mean = Mean("Average", ("fog",), "Average")
    small = replace(block, teacher="glom-tiny", lines=lines, columns=(column,), means=(mean,), train="", mae="mae-tiny")
    request = Request(name="table2", scale="poster", limit=4)
    monkeypatch.setitem(reproduce_poster.POSTER, "table2", lambda r: replace(plan, blocks=(small,), limit=4))
    rows = list(run_reproduce(request, tmp_path / "run"))[-1].result["rows"]
    assert [r["difference"] is None for r in rows] == [False, False, True, True]
    assert {r["note"] for r in rows if r["method"] == "vit-probe"} == {told["vit-probe"]}
    assert all(r["gain"]["measured"] is not None for r in rows if r["method"] == "vit-probe")


def test_prompts_learned_from_another_number_of_pictures_are_not_subtracted():
    for shots, other in ((16, ""), (4, "learned from 4 pictures a class, the published from 16")):
        for name in ("table1", "table3"):
            block = reproduce_poster.POSTER[name](
                Request(name=name, scale="poster", root="nowhere", shots=shots)
            ).blocks[0]
            assert {line.other for line in block.lines if "coop" in line.method} == {other}
            assert {line.other for line in block.lines if "coop" not in line.method} == {""}


def test_a_block_that_fails_leaves_the_others(tmp_path, monkeypatch):
    from experiments.reproduce import run as reproduce

    def plan(request):
        good, bad = (
            Block(n, t, (Line("zero-shot"),), (Column("cifar10-sample", "here"),), (Mean("all", ("here",)),))
            for n, t in (("good", "glom-tiny"), ("bad", "open_clip:ViT-B-32@nowhere.safetensors"))
        )
        return Plan(2, "t", "c", "d", (bad, good), 2)

    monkeypatch.setitem(reproduce.HOME, "table2", plan)
    result = list(run_reproduce(Request(name="table2"), tmp_path / "run"))[-1].result
    assert [r["n"] for r in result["rows"]] == [0, 0, 2, 2]
    assert "nowhere.safetensors" in result["rows"][0]["note"]
    monkeypatch.setitem(reproduce.HOME, "table2", lambda r: replace(plan(r), blocks=plan(r).blocks[:1]))
    with pytest.raises(RunError, match="nothing of table2 could be run"):
        list(run_reproduce(Request(name="table2"), tmp_path / "other"))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def test_conditions_of_the_same_pictures_are_resampled_together():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, 50).astype(float), rng.integers(0, 2, 50).astype(float)
    value, interval = stratified({"a": a, "b": b}, {"a": ("x",), "b": ("x",)})
    assert value == pytest.approx(100 * (a.mean() + b.mean()) / 2, abs=1e-3)
    assert interval == pytest.approx(bootstrap_ci(50 * (a + b)), abs=1e-3)
    # The same answers under two corruptions are no more evidence than once; of other pictures they are.
    together = stratified({"a": a, "b": a}, {"a": ("x",), "b": ("x",)})[1]
    apart = stratified({"a": a, "b": a}, {"a": ("x",), "b": ("y",)})[1]
    assert together[1] - together[0] > 1.25 * (apart[1] - apart[0])
    assert stratified({"a": np.ones(20)}, {"a": ("x",)}) == (100.0, [100.0, 100.0])
    assert stratified({"a": np.ones(19)}, {"a": ("x",)}) == (100.0, None)  # too few to speak of an interval


def test_signs_are_flipped_picture_by_picture():
    ones = np.ones(6)
    # All six differences of one sign: two of the 2^6 assignments of signs are as large.
    assert sign_flip({"a": ones}, {"a": ("x",)}) == pytest.approx(2 / 64, rel=0.1)
    # The same answers under a second corruption are no more evidence; those of other pictures are.
    assert sign_flip({"a": ones, "b": ones}, {"a": ("x",), "b": ("x",)}) == pytest.approx(2 / 64, rel=0.1)
    apart = sign_flip({"a": ones, "b": ones}, {"a": ("x",), "b": ("y",)})
    assert apart == pytest.approx(2 / 4096, rel=0.5)
    assert sign_flip({"a": np.zeros(5)}, {"a": ("x",)}) == 1.0
    assert sign_flip({"a": np.array([1.0, -1, 0])}, {"a": ("x",)}) == 1.0
    # Of one condition it is McNemar's exact test.
    first, second = np.array([1.0] * 9 + [0] * 3 + [1] * 20), np.array([0.0] * 9 + [1] * 3 + [1] * 20)
    assert sign_flip({"a": first - second}, {"a": ("x",)}) == pytest.approx(mcnemar_exact(first, second), rel=0.05)


def test_averages_are_corrected_for_the_number_of_methods(tmp_path):
    request = Request(name="table2", methods=("zero-shot", "ensemble", "tda"), limit=20)
    plan = table2(request)
    [block] = plan.blocks
    column, mean = block.columns[0], Mean("both", ("clean", "contrast"), "Average")
    there = (("clean", "", "of another split"), ("contrast", "contrast:5", ""))
    columns = tuple(replace(column, title=t, corruption=c, other=o, same=not o) for t, c, o in there)
    plan = replace(plan, blocks=(replace(block, columns=columns, means=(mean,)),))
    for event in run_benchmark(plan.blocks[0].settings(request, 20), tmp_path / "runs" / block.name):
        assert event
    averages = [r for r in make_rows(plan, request, tmp_path) if r["kind"] == "average"]
    assert averages[0]["note"] == "of other splits than the published: clean"
    gains = [r["gain"] for r in averages if r["gain"]]
    assert len(gains) == 2
    assert [g["p_holm"] for g in gains] == holm([g["p"] for g in gains])
    assert all(0 < g["p"] <= g["p_holm"] <= 1 for g in gains)
    result = {"title": "T", "source": "S", "rows": make_rows(plan, request, tmp_path)}
    assert f"p {gains[1]['p_holm']:.2g} (Holm)" in as_latex(result)


def test_more_views_and_steps_cost_more():
    image, text = 20.0, 3.0
    assert madds("zero-shot", image, text, 10) == image
    assert madds("tpt", image, text, 10) == 64 * image + 3 * 10 * text
    assert madds("apm", image, text, 10) > madds("apm", image, text, 10) - image > 1e12
    assert madds("ttt-mae", image, text, 10) > 1000 * madds("vit-probe", image, text, 10)


def test_table4_subtracts_what_is_counted(monkeypatch, tmp_path):
    record = read_json(RECORDS / "compute.json")

    def computed(*args: object):
        yield {"stage": "counting", "done": 1, "total": 1}
        return record

    monkeypatch.setattr(reproduce_compute, "computed", computed)
    table = reproduce_compute.table4(Request(name="table4", device="cpu"), tmp_path)
    assert next(table)["stage"] == "counting"
    with pytest.raises(StopIteration) as end:
        next(table)
    rows, [(_, picture)] = end.value.value
    assert len(rows) == 7 * 5 and picture.name == "compute.png"
    by = {(r["method"], r["dataset"]): r for r in rows}
    swin = by["Swin-B, t = 1-20", "G, ideal"]
    assert (swin["published"], swin["measured"], swin["difference"]) == (308.0, 308.6189, 0.6189)
    apm = by["APM (s), t = 1", "memory, ideal, GB"]
    assert apm["published"] == gigabytes("1.8 + 0.6") == pytest.approx(2.4)


def test_nothing_is_measured_where_nothing_ran(tmp_path):
    plan = table2(Request(name="table2", methods=("zero-shot",)))
    plan = replace(plan, blocks=tuple(replace(b, why="no reason") for b in plan.blocks))
    rows = make_rows(plan, Request(name="table2"), tmp_path)
    assert {(r["measured"], r["n"], r["note"]) for r in rows} == {(None, 0, "no reason")}


def test_latex_and_numbers_are_written_for_their_readers():
    assert escape("a_b & 5 % of R²") == r"a\_b \& 5 \% of R$^2$"
    assert [shown(x) for x in (None, 0.0, 12.34, -0.0123, 143129.4)] == ["-", "0.0", "12.3", "-0.012", "143,129"]
    assert [quantity(x) for x in (None, 0.635, 1.714, 308.61, -1.0)] == ["-", "0.635", "1.71", "308.6", "-1.00"]
    row = {"method": "x_1", "dataset": "d", "unit": "u", "published": 2.0, "measured": 1.0, "ci95": None, "n": 1}
    row |= {"skipped": 0, "difference": -1.0, "note": ""}
    text = as_latex({"title": "T", "source": "S", "rows": [row]})
    assert r"x\_1 & d & 2.00 & 1.00 &  & -1.00 & 1 & 0 & u \\" in text


# -- the command line ------------------------------------------------------------------------------------------


def test_what_there_is_and_bad_requests(call, tmp_path):
    code, text, _ = call("reproduce", "--json")
    assert code == 0
    assert json.loads(text)["names"] == NAMES
    code, text, _ = call("reproduce", "--list")
    assert code == 0
    assert all(name in text for name in NAMES)
    out = ["--out", tmp_path / "run"]
    for arguments, said in (
        (["tabel2", *out], "did you mean table2"),
        (["table2"], "--out DIR is needed"),
        (["table2", *out, "--scale", "house"], "unknown --scale 'house'"),
        (["table2", *out, "--methods", "zerro"], "did you mean zero"),
        (["table2", *out, "--methods", "zero,zero"], "each method once"),
        (["table2", *out, "--severities", "7"], "at most 5"),
        (["table2", *out, "--severities", "five"], "takes whole numbers"),
        (["table1", *out, "--severities", "3"], "belongs to table2"),
        (["table4", *out, "--methods", "zero"], "has its own"),
        (["table2", *out, "--checkpoint", "x"], "belongs to the figures"),
        (["table2", *out, "--data-root", tmp_path / "nowhere"], "no such folder; --data-root names"),
        (["table1", *out, "--scale", "poster", "--data-root", tmp_path / "nowhere"], "no such folder"),
        (["figure-order", *out, "--data-root", tmp_path / "nowhere"], "no such folder"),
        (["table2", "--dry-run", "--data-root", tmp_path / "nowhere"], "no such folder"),
        (["table2", *out, "--shots", "4"], "belongs to tables with labelled pictures"),
        (["table4", *out, "--shots", "4"], "belongs to tables with labelled pictures"),
    ):
        code, _, error = call("reproduce", *arguments)
        assert (code, error.count("error:")) == (2, 1), arguments
        assert said in " ".join(error.split())
    assert not (tmp_path / "run").exists()


def test_a_figure_is_a_page_with_its_numbers(call, tmp_path):
    out = tmp_path / "figure"
    code, text, error = call("reproduce", "figure-interpolation", "--out", out, "--quiet", "--json")
    assert code == 0, error
    result = json.loads(text)
    assert {r["published"] for r in result["rows"]} == {None}
    assert result["rows"][0]["measured"] > 1
    assert all((out / path).is_file() for _, path in result["images"])
    assert (out / "table.html").read_text().count("data:image/png") == 2
    # Resumed, what is complete is read and not made again.
    strip = out / result["images"][0][1]
    before = strip.stat().st_mtime_ns
    code, text, _ = call("reproduce", "figure-interpolation", "--out", out, "--quiet", "--json", "--resume")
    assert code == 0
    assert json.loads(text)["rows"] == result["rows"]
    assert strip.stat().st_mtime_ns == before
    code, _, error = call("reproduce", "figure-interpolation", "--scale", "poster", "--out", tmp_path / "p", "--quiet")
    assert code == 1
    assert "--checkpoint" in error


def test_an_unknown_figure_is_no_table():
    with pytest.raises(InputError):
        list(run_reproduce(Request(name="figure-nothing"), Path("nowhere")))


def test_real_shift_stands_in_table_1_with_its_superclasses_and_only_pictures_that_no_study_chose_by(tmp_path):
    for domain in ("photo", "art_painting", "cartoon", "sketch"):
        for kind in ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"):
            (tmp_path / "pacs" / domain / kind).mkdir(parents=True)
            make_image(len(kind)).save(tmp_path / "pacs" / domain / kind / "1.jpg")
    blocks = {block.name: block for block in HOME["table1"](Request(name="table1", root=str(tmp_path))).blocks}
    pacs, shape = blocks["pacs"], blocks["shape-texture"]
    assert [column.why for column in pacs.columns] == [""] * 4
    assert (pacs.superclasses, pacs.pictures, shape.superclasses) == ("pacs", "untouched", "geirhos16")
    assert {column.why for column in shape.columns} == {"needs --data-root DIR with shape-texture"}
    asked = pacs.settings(Request(name="table1"), 5)
    assert (asked.superclasses, asked.nameable, asked.pictures) == ("pacs", True, "untouched")


def test_a_teacher_with_two_sets_of_methods_has_two_matrices():
    def row(method: str, data: str) -> dict[str, object]:
        blank = dict.fromkeys(("published", "published_dataset", "ci95", "note", "published_method"))
        return {**blank, "method": method, "network": "t", "teacher": "t", "dataset": data, "measured": 50.0}

    found = matrices([row("a", "x"), row("b", "x"), row("a", "y"), row("b", "y"), row("a", "z")])
    assert [(len(m["methods"]), [line["data"] for line in m["lines"]]) for m in found] == [(2, ["x", "y"]), (1, ["z"])]


def test_caltech101_stands_in_table_3_with_what_imagenet_has_of_it(tmp_path):
    for split in ("train", "test"):
        for kind in ("ant", "brain", "car_side", "Leopards"):
            (tmp_path / "caltech101" / split / kind).mkdir(parents=True)
            make_image(len(kind)).save(tmp_path / "caltech101" / split / kind / f"{split}.jpg")
    blocks = {block.name: block for block in HOME["table3"](Request(name="table3", root=str(tmp_path))).blocks}
    [column] = blocks["caltech101"].columns
    assert (column.title, column.why, blocks["caltech101"].means) == ("caltech101", "", ())
    asked = blocks["caltech101"].settings(Request(name="table3"), 5)
    assert (asked.superclasses, asked.nameable, asked.split) == ("caltech101", True, "test")
    assert asked.pictures == "untouched"  # machines of the objective study have learned from the other half
    opened = open_dataset(*asked.data)
    assert {Path(sample.id).name for sample in opened} == {"test.jpg"}
    assert set(studies_of(opened)) == {sample.id for sample in opened if half_of(sample.id) == SELECT}
    named = {plain_name(name) for name in read_superclasses("caltech101").names}
    assert {plain_name(n) in named for n in ("ant", "car_side", "Leopards")} == {True} and "brain" not in named
