"""`apm explore`: pictures, runs whole, half written, cut and old, on a page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from glom.runs.artifacts import RunFolder
from probes.explorer import page, read_run, store
from tests.conftest import make_image
from tests.helpers_results import cut_anywhere
from tests.probes.explorer.views import held, view

ROOT = Path(__file__).parents[3]
SMALL = ("--backbone", "glom-tiny", "--size", "32", "--layers", "first,last", "--quiet")


def benchmark(folder: Path, count: int = 6) -> Path:
    """Two methods on two conditions of six pictures."""
    for condition in ("clean", "fog-3"):
        for method in ("zero-shot", "apm"):
            with RunFolder(folder / condition / method, "benchmark", {"method": method, "data": "nowhere"}) as run:
                for i in range(count):
                    answer = i % 2 if method == "apm" else 0
                    run.append({"id": f"{i}.png", "index": i, "label": i % 2, "status": "ok", "class": answer})
                run.finish()
    return folder


def test_pictures_faulty_ones_among_them(call, tmp_path):
    make_image(1, (48, 32)).save(tmp_path / "a & <b>.jpg")
    labels = np.zeros((1, 32, 48), np.int64)
    labels[:, 8:20, 10:30] = 1
    np.savez(tmp_path / "a & <b>.npz", segmentations=labels)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "sub" / "p.html"
    given = [tmp_path / n for n in ("a & <b>.jpg", "bad.png", "gone.png")]
    code, text, error = call("explore", *given, "--out", out, "--against", "timm:test_vit@random", "--json", *SMALL)
    result = json.loads(text)
    assert code == 0 and error.count("skipped:") == 2 and len(result["skipped"]) == 2
    assert result["pages"] == [str(out)] and result["pictures"] == 1 and result["worst"] <= 0.02
    [picture] = held(out)["pictures"]
    assert [s["name"] for s in picture["sources"]] == ["glom-tiny", "timm:test_vit@random"]
    assert len(picture["sources"][0]["stages"]) == 2 and picture["masks"][0].max() == 1
    assert call("explore", given[0], "--out", out, "--json", *SMALL)[0] == 0  # an older page is replaced
    (tmp_path / "mine.html").write_text("my own page")
    for options, says in (
        ([given[0], "--out", tmp_path / "mine.html"], "no page of this kind"),
        ([given[0], "--out", tmp_path / "p.png"], "does not end in .html"),
        ([tmp_path / "gone.png"], "none of the 1 pictures"),
        ([tmp_path, "--out", out], "holds no run"),
    ):
        code, text, error = call("explore", *options, *SMALL)
        assert code == 2 and says in error.replace("\n", " "), error


def test_patches_computed_beforehand(call, tmp_path):
    make_image(1, (48, 32)).save(tmp_path / "a.png")
    out, names = tmp_path / "p.html", tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    given = ["explore", tmp_path / "a.png", *SMALL, "--out", out, "--json"]
    base = [*given, "--against", "timm:test_vit@random", "--classes", names]
    patch = f"0 0.5,0.5 zero; 1 all {tmp_path / 'a.png'};"
    code, text, error = call(*base, "--patch", patch)
    assert code == 0 and json.loads(text)["worst"] <= 0.02, error
    [picture] = held(out)["pictures"]
    first, second = picture["sources"]
    assert [p["name"] for p in first["patches"]] == ["layer 0, 0.5,0.5: zero", "layer 1, all: a.png"]
    assert [(p["first"], len(p["stages"])) for p in first["patches"]] == [(0, 2), (1, 1)] and "patches" not in second
    assert {said["name"] for said in first["said"]} == {"cat", "dog"}
    same, changed = first["stages"][1]["codes"], first["patches"][0]["stages"][1]["codes"]
    assert same.shape != changed.shape or (same != changed).any()
    for wrong, says in (
        ("0 zero", "takes LAYER REGION VALUE"),
        ("77 all zero", "no layer 77"),
        ("0 all nothing", "unknown value"),
        ("0 left zero", "--region takes"),
        (";".join(["0 all zero"] * 9), "at most 8"),
    ):
        code, _, error = call(*given, "--patch", wrong)
        assert code == 2 and says in error.replace("\n", " "), error


def test_a_run_half_written_cut_damaged_and_newer_is_shown_up_to_there(tmp_path):
    folder = benchmark(tmp_path / "bench")
    whole = read_run(folder)
    [table] = whole["tables"]
    rows = {(m, c): v for m, c, v in zip(*(table["columns"][i]["values"] for i in (0, 1, 3)), strict=True)}
    assert rows["apm", "clean"] == 100 and rows["zero-shot", "fog-3"] == 50 and whole["notes"] == []
    assert table["behind"]["conditions"]["clean"]["answers"]["apm"].tolist() == [0, 1] * 3
    lines = folder / "clean" / "apm" / "results.jsonl"
    text = lines.read_text()
    lines.write_text(text[:-20])
    assert "apm/results.jsonl is cut at line 6: shown up to there" in read_run(folder)["notes"]
    parts = text.splitlines(keepends=True)
    lines.write_text("".join([*parts[:3], "{nothing}\n", *parts[3:]]))
    damaged = read_run(folder)
    assert "apm/results.jsonl is damaged at line 4: shown up to there" in damaged["notes"]
    assert sorted(damaged["tables"][0]["behind"]["conditions"]["clean"]["answers"]["apm"].tolist()) == [-1] * 3 + [
        0,
        0,
        1,
    ]
    (folder / "result.json").write_text('{"rows": [')
    manifest = folder / "fog-3" / "apm" / "manifest.json"
    old = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**old, "format": 99, "status": "running"}))
    (folder / "fog-3" / "zero-shot" / "manifest.json").write_text("{")
    notes = " ".join(read_run(folder)["notes"])
    for words in (
        "another version",
        "cannot be read as JSON",
        "what is shown is from the lines",
        "1 of 4 runs are not complete",
    ):
        assert words in notes, words


def test_a_run_of_an_older_version_is_shown_under_its_former_names(tmp_path):
    (tmp_path / "manifest.json").write_text('{"kind": "folding", "settings": {"seed": 1}}')
    (tmp_path / "summary.json").write_text('{"n": 3, "rows": [{"axis": "base", "error": [0.2, 0.1, 0.3]}]}')
    found = read_run(tmp_path)
    assert [t["name"] for t in found["tables"]] == ["what it found", "rows"] and found["notes"] == []
    assert found["tables"][1]["columns"][1]["ranges"] == [[0.1, 0.3]]
    for wrong in ('{"rows": 7}', "[1]", '{"rows": [{"axis"', '{"rows": [7, {"a": null}]}'):
        (tmp_path / "summary.json").write_text(wrong)
        assert "<title>" in page(read_run(tmp_path)), wrong


def test_pictures_of_one_name_are_told_apart(call, tmp_path):
    for number, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        make_image(number, (48, 32)).save(tmp_path / folder / "1.png")
    given = [tmp_path / folder / "1.png" for folder in "ab"]
    assert call("explore", *given, "--out", tmp_path / "p.html", *SMALL)[0] == 0
    assert [p["name"] for p in held(tmp_path / "p.html")["pictures"]] == ["a/1.png", "b/1.png"]


def test_what_a_run_keeps_to_be_seen_and_what_is_cut_of_it(tmp_path):
    with RunFolder(tmp_path / "run", "islands-show", {}) as run:
        kept = view()
        store(kept, run.path)
    found = read_run(tmp_path / "run")
    assert (
        len(found["pictures"]) == 2 and found["title"] == kept["title"] and "not complete" in " ".join(found["notes"])
    )
    (run.path / "view.bin").write_bytes((run.path / "view.bin").read_bytes()[:-99])
    found = read_run(tmp_path / "run")
    assert "view.bin: it is cut or damaged" in found["notes"][0] and "nothing to draw" in found["notes"][-1]


def test_islands_by_training_step_as_far_as_they_were_kept(tmp_path):
    with RunFolder(tmp_path / "run", "islands-emerge", {}) as run:
        for step in (0, 5, 10):
            (run.path / "film").mkdir(exist_ok=True)
            grids = [np.random.default_rng(step + i).normal(size=(6, 6, 8)).astype(np.float16) for i in range(2)]
            np.savez(run.path / "film" / f"step-{step:06d}.npz", *grids)
            run.append(
                {"id": f"step {step}", "index": step, "step": step, "accuracy": 0.5, "layers": {"a": {}, "b": {}}}
            )
    last = run.path / "film" / "step-000010.npz"
    last.write_bytes(last.read_bytes()[:-200])
    found = read_run(run.path)
    [source] = found["pictures"][0]["sources"]
    assert [a["labels"] for a in source["axes"]] == [["a", "b"], ["step 0", "step 5"]]
    assert len(source["stages"]) == 4 and "step-000010.npz cannot be read" in found["notes"][0]
    assert found["tables"][0]["columns"][1]["values"] == [0, 5, 10]


def test_traces_lines_and_figures_of_runs_that_keep_no_view(call, tmp_path, image_folder):
    picture, run = image_folder / "ship" / "1.png", tmp_path / "trace"
    given = ("ttt", "trace", picture, "--classes-of", "cifar10-sample", "--out", run, "--iterations", "4")
    assert call(*given)[0] == 0
    found = read_run(run)
    [trace] = found["traces"]
    assert len(trace["steps"]) == 5 and trace["image"][:2] == b"\xff\xd8" and found["figures"][0]["name"] == "trace.png"
    cut_anywhere(run)
    picture.unlink()
    assert "not where it was" in " ".join(read_run(run)["notes"])


def test_as_a_process(tmp_path):
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "x.png")
    given = [tmp_path / "x.png", "--out", tmp_path / "x.html", *SMALL]
    command = [sys.executable, str(ROOT / "cli.py"), "explore", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (
        done.returncode == 0
        and "x.ht" in done.stdout
        and (tmp_path / "x.html").is_file()
        and "in a browser" in done.stderr
    ), done.stderr
