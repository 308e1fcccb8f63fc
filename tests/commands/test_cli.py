"""The command line: as a process where that is the point, in this process where it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import busy, make_image, settle, start
from tests.helpers_images import png
from tests.helpers_results import drawn_again
from tests.probes.explorer.views import held

ROOT = Path(__file__).parents[2]
SMALL = ["--iterations", "6", "--queries", "8", "--quiet"]


def apm(*arguments: object, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run the program as a process."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **kwargs.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=240, **kwargs)


def lines(folder: Path) -> list[dict]:
    return [json.loads(x) for x in (folder / "results.jsonl").read_text().splitlines()]


# -- the main job ------------------------------------------------------------------------------------------------


def test_run_report_and_json_agree(call, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "run"
    names = tmp_path / "names.txt"
    names.write_text("cat\nship\n")
    done = apm("ttt", "run", image_folder, "--out", out, "--classes", names, "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    keys = "corruption corrupt scale n skipped failed iterations teacher_top1 teacher_ci95 apm_top1 apm_ci95 difference"
    assert set(result) >= {*keys.split(), "ci95", "mcnemar_p", "oracle_top1", "agreement"}
    assert set(result) >= {"seconds_per_sample", "asked", "warnings"}
    assert (result["n"], result["skipped"], result["failed"], result["iterations"]) == (6, 0, 0, 6)
    _, again, told = call("ttt", "report", out, "--json")
    assert json.loads(again) == result and "resampling" in told
    _, table, told = call("ttt", "report", out, "--quiet")
    assert "oracle" in table and told == ""
    assert max(map(len, table.splitlines())) <= 80
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert {"data_fingerprint", "teacher_fingerprint", "seed"} <= set(manifest["settings"])
    assert "torch" in manifest["versions"]
    assert "ttt run" in manifest["command"]


def test_shuffled_and_corrupted_runs_agree_sample_by_sample(call, image_folder, tmp_path):
    base = ["ttt", "run", image_folder, "--corruption", "gaussian_noise:2", "--stack", "1", *SMALL]
    assert call(*base, "--out", tmp_path / "a")[0] == 0
    assert call(*base, "--out", tmp_path / "b", "--shuffle")[0] == 0
    a, b = lines(tmp_path / "a"), lines(tmp_path / "b")
    assert a != b
    assert sorted(a, key=lambda r: r["index"]) == sorted(b, key=lambda r: r["index"])


def test_killed_and_resumed_is_uninterrupted(call, image_folder, tmp_path):
    options = ["--iterations", "60", "--queries", "8", "--stack", "1", "--quiet"]
    assert call("ttt", "run", image_folder, "--out", tmp_path / "whole", *options)[0] == 0
    out = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "cli.py"), "ttt", "run", str(image_folder), "--out", str(out), *options]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    results = out / "results.jsonl"
    deadline = time.monotonic() + 120
    while not (results.exists() and results.read_bytes().count(b"\n") >= 2):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert results.read_bytes().count(b"\n") < 6
    with results.open("a") as file:  # what a kill in the middle of a line would leave
        file.write('{"id": "ship/2.png", "ind')
    code, _, error = call("ttt", "run", image_folder, "--out", out, *options)
    assert code == 2 and "--resume" in error
    code, _, error = call("ttt", "run", image_folder, "--out", out, "--resume", *options)
    assert code == 0, error
    assert results.read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()


def test_interrupted_says_how_to_go_on(image_folder, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, str(ROOT / "cli.py"), "ttt", "run", str(image_folder), "--out", str(out)]
    command += ["--iterations", "300", "--stack", "1", "--quiet"]
    process = start(command)
    deadline = time.monotonic() + 120
    while not (out / "results.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--out {out}" in error
    assert "--resume" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("shard", ["samples", "columns"])
def test_two_processes_make_the_same_table(call, ranks, image_folder, tmp_path, shard):
    from glom.runs.artifacts import read_results

    for i in range(3, 10):  # more than one block of samples, so that both ranks have some
        make_image(50 + i).save(image_folder / "cat" / f"{i}.png")
        make_image(70 + i).save(image_folder / "ship" / f"{i}.png")
    base = ["ttt", "run", image_folder, *SMALL, "--stack", "1"]
    assert call(*base, "--out", tmp_path / "one")[0] == 0
    out = tmp_path / "two"
    whole = shard == "samples"  # those the command shares out by itself
    command = [*base, "--shard", shard, "--out", out, "--json"]
    done = apm(*command, "--jobs", "2") if whole else ranks(2, *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 20
    assert json.loads((out / "manifest.json").read_text())["status"] == "complete"
    one, two = read_results(tmp_path / "one"), read_results(out)
    for a, b in zip(one, two, strict=True):
        assert a["id"] == b["id"]
        assert a["apm"] == b["apm"]
        assert a["cosine"] == pytest.approx(b["cosine"], abs=1e-3)
    if whole:
        assert one == two
        # One process goes on where two stopped.
        (out / "results-1-of-2.jsonl").unlink()
        assert call(*base, "--out", out, "--resume")[0] == 0
        assert read_results(out) == one


def test_unreadable_pictures_are_recorded(call, image_folder, tmp_path):
    good = (image_folder / "cat" / "0.png").read_bytes()
    (image_folder / "cat" / "empty.png").write_bytes(b"")
    (image_folder / "cat" / "cut.png").write_bytes(good[: len(good) // 2])
    (image_folder / "ship" / "note.jpg").write_text("not a picture")
    make_image(size=(1, 1)).save(image_folder / "ship" / "point.png")
    code, out, err = call("ttt", "run", image_folder, "--out", tmp_path / "run", "--json", *SMALL)
    assert code == 0, err
    result = json.loads(out)
    assert (result["n"], result["skipped"]) == (7, 3)
    skipped = [r for r in lines(tmp_path / "run") if r["status"] == "skipped"]
    assert {Path(r["id"]).name for r in skipped} == {"empty.png", "cut.png", "note.jpg"}
    assert all(r["reason"] for r in skipped)
    code, _, err = call("ttt", "run", image_folder, "--out", tmp_path / "strict", "--strict", *SMALL)
    assert code == 2
    assert err.count("error:") == 1


def test_a_nan_fails_one_sample_alone(call, image_folder, tmp_path, monkeypatch):
    from glom.teachers.registry import load_teacher

    kind = type(load_teacher("glom-tiny"))
    honest = kind.token

    def poisoned(self, images):
        tokens = honest(self, images).clone()
        tokens[1:2] = float("nan")
        return tokens

    monkeypatch.setattr(kind, "token", poisoned)
    code, out, err = call("ttt", "run", image_folder, "--out", tmp_path / "run", "--json", *SMALL)
    assert code == 0, err
    assert (json.loads(out)["n"], json.loads(out)["failed"]) == (5, 1)
    failed = [r for r in lines(tmp_path / "run") if r["status"] == "failed"]
    assert "nan" in failed[0]["reason"]


def test_a_folder_without_labels_still_agrees_or_not(call, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    make_image(1).save(flat / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("cat\nship\n")
    code, out, err = call("ttt", "run", flat, "--classes", names, "--out", tmp_path / "run", "--json", *SMALL)
    assert code == 0, err
    result = json.loads(out)
    assert result["teacher_top1"] is None
    assert result["agreement"] in (0.0, 1.0)


# -- wrong requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ttt", "run", "{data}", "--teacher", "glom-tinny"], "glom-tiny"),
        (["ttt", "run", "{data}", "--teacher", "open_clip:ViT-B-33@openai"], "ViT-B-32"),
        (["ttt", "run", "{data}", "--teacher", "open_clip:ViT-B-32@openaii"], "openai"),
        (["ttt", "run", "{data}", "--corruption", "fogg:3"], "fog"),
        (["ttt", "run", "{data}", "--corruption", "fog:9"], "1"),
        (["ttt", "run", "{data}", "--device", "cuda:77"], "cuda"),
        (["ttt", "run", "{data}", "--objective", "token-mes"], "token-mse"),
        (["ttt", "run", "{data}", "--preset", "fats"], "fast"),
        (["ttt", "run", "{data}", "--apm", "apm-tin"], "apm-tiny"),
        (["ttt", "run", "{data}", "--templates", "simpel"], "simple"),
        (["ttt", "run", "{data}", "--limit", "-1"], "--limit must be at least 0"),
        (["ttt", "run", "nowhere/at/all"], "nowhere"),
        (["ttt", "run", "{empty}"], "empty"),
        (["ttt", "run", "{data}", "--classes", "{short}"], "2"),
        (["ttt", "trace", "{text}", "--classes", "{names}"], "text.txt"),
        (["ttt", "trace", "{bomb}", "--classes", "{names}"], "2,500,000,000"),
        (["fold", "missing.png"], "missing.png"),
        (["fold", "{picture}", "--grid", "8by8"], "--grid takes 2 whole numbers"),
    ],
)
def test_wrong_requests_get_one_line_and_exit_code_2(call, image_folder, tmp_path, arguments, words):
    paths = {n: tmp_path / n for n in ("empty", "short", "names", "text", "bomb")}
    paths["empty"].mkdir()
    paths["short"].write_text("only one\n")
    paths["names"].write_text("cat\nship\n")
    paths["text"] = tmp_path / "text.txt"
    paths["text"].write_text("hello")
    paths["bomb"] = tmp_path / "bomb.png"
    paths["bomb"].write_bytes(png(50_000, 50_000, 8, 2, bytes(1000)))
    paths["data"], paths["picture"] = image_folder, image_folder / "cat" / "0.png"
    code, out, err = call(*[a.format(**paths) for a in arguments], "--out", tmp_path / "out")
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.strip().splitlines()) == 1
    assert words in err


def test_unknown_options_and_commands_are_usage_errors():
    for arguments in (["ttt", "rum"], ["ttt", "run", ".", "--nonsense"], ["ttt", "run"]):
        done = apm(*arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_out_that_cannot_be_used(call, image_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    assert call("ttt", "run", image_folder, "--out", tmp_path / "file", *SMALL)[0] == 2
    assert call("ttt", "run", image_folder, "--out", tmp_path / "run", *SMALL)[0] == 0
    code, _, err = call("ttt", "run", image_folder, "--out", tmp_path / "run", "--resume", "--iterations", "7")
    assert code == 2
    assert "iterations: 6 -> 7" in err
    code, _, err = call("ttt", "report", tmp_path / "nothing")
    assert code == 2


def test_a_full_disk_is_a_failed_run(call, image_folder, tmp_path, monkeypatch):
    import errno

    from glom.runs.artifacts import LineFile

    honest, count = os.fsync, []

    def full(fd):
        count.append(fd)
        if len(count) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(fd)

    assert LineFile
    monkeypatch.setattr(os, "fsync", full)
    code, _, err = call("ttt", "run", image_folder, "--out", tmp_path / "run", "--stack", 2, *SMALL)
    assert code == 1, err
    assert "disk is full" in err
    monkeypatch.undo()
    assert 0 < len(lines(tmp_path / "run")) < 6
    assert call("ttt", "run", image_folder, "--out", tmp_path / "run", "--resume", "--stack", 2, *SMALL)[0] == 0
    assert len(lines(tmp_path / "run")) == 6


def test_debug_shows_where(call, tmp_path):
    _, _, plain = call("fold", "missing.png", "--out", tmp_path / "o")
    _, _, debug = call("fold", "missing.png", "--out", tmp_path / "o", "--debug")
    assert "Traceback" not in plain
    assert "Traceback" in debug


# -- the other commands ---------------------------------------------------------------------------------------------


def test_help_is_light():
    code = "import sys; sys.argv = ['apm', '--help']; import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('torch', 'numpy', 'PIL', 'commands.ttt') if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr.strip() == "[]"
    assert "ttt" in done.stdout


def test_every_command_of_the_first_page_exists():
    import typer

    from cli import COMMANDS, app

    group = typer.main.get_command(app)
    for name in COMMANDS:
        assert group.get_command(None, name).name == name
    assert group.get_command(None, "nonsense") is None


@pytest.mark.parametrize("command", [[], ["ttt"], ["ttt", "run"], ["fold"], ["demo"], ["teachers"], ["bench"]])
def test_every_help_fits_80_columns(command):
    done = apm(*command, "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_doctor_names_every_part(call):
    code, out, error = call("doctor", "--json")
    assert code == 0 and "4/4 disk" in error
    checks = {c["name"]: c for c in json.loads(out)["checks"]}
    assert checks["teacher glom-tiny"]["ok"]
    assert checks["import glom"]["ok"]
    assert checks["corruptions"]["ok"]


def test_names_are_listed(call):
    code, out, _ = call("teachers", "--json")
    assert code == 0
    assert "glom-tiny" in out
    code, out, _ = call("datasets", "--json")
    assert "cifar10-sample" in out
    assert len(json.loads(out)["corruptions"]) == 29


def test_fold_writes_its_pictures(call, image_folder, tmp_path):
    from PIL import Image

    out = tmp_path / "fold"
    picture = image_folder / "cat" / "1.png"
    code, text, err = call(
        "fold", picture, "--out", out, "--grid", "12x20", "--iterations", "30", "--save-grid", "--json", "--quiet"
    )
    assert code == 0, err
    result = json.loads(text)
    assert result["grid"] == [12, 20]
    assert result["psnr"] > 5
    assert Image.open(out / "features.png").size == (20, 12)
    assert Image.open(out / "colours.png").size == (20, 12)
    assert (out / "fold.png").stat().st_size > 10_000
    import numpy as np

    grids = np.load(out / "grids.npz")
    assert grids["features"].shape[:2] == (12, 20)


def test_trace_writes_every_iteration(call, image_folder, tmp_path):
    out = tmp_path / "trace"
    picture = image_folder / "ship" / "1.png"
    code, text, err = call("ttt", "trace", picture, "--classes-of", "cifar10-sample", "--out", out, "--iterations", "9")
    assert code == 0, err
    rows = (out / "trace.csv").read_text().splitlines()
    assert len(rows) == 1 + 9 + 1
    assert "the teacher says" in text
    assert (out / "trace.png").stat().st_size > 10_000


def test_zero_shot_score_lists_template_sets(call):
    code, out, err = call("teachers", "score", "glom-tiny", "cifar10-sample", "--templates", "seen,simple", "--json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [r["templates"] for r in rows] == ["seen", "simple"]
    assert all(r["n"] == 200 and r["top1"] > 80 for r in rows)


def test_demo_makes_its_report_and_a_browser_opens_it_at_once(tmp_path, request):
    out = tmp_path / "demo"
    done = apm(
        "demo", "--out", out, "--limit", "10", "--iterations", "8", "--photographs", "1", "--pictures", "1", "--quiet"
    )
    assert done.returncode == 0, done.stderr
    page = held(out / "report.html")
    assert page["pictures"][0]["name"] == "chelsea" and len(page["pictures"]) == 2
    assert len(page["pictures"][0]["sources"][0]["patches"]) == 2
    assert len(page["traces"]) == 1 and len(page["figures"]) == 2 and "CC0" in dict(page["facts"])["photographs"]
    first, behind, *_ = page["tables"]
    assert "oracle" in first["columns"][-1]["title"] and first["columns"][0]["values"][0] == "clean"
    assert set(behind["behind"]["conditions"]) == {"clean", "gaussian_noise-2", "snow-2"}
    assert "open " in done.stderr and "report.html in a browser" in done.stderr
    for name in ("accuracy.png", "traces.png"):
        assert (out / "figures" / name).stat().st_size > 10_000
    drawn_again(out)
    assert max(map(len, done.stdout.splitlines())) <= 80
    shown = request.getfixturevalue("opened")(out / "report.html")  # no error in its console, no request
    assert 0 < busy(shown) < 2
    shown.locator("canvas.hero").first.hover(position={"x": 5, "y": 5})
    settle(shown)
    assert "Row 1, column 1" in shown.locator(".pane figcaption").first.inner_text()
