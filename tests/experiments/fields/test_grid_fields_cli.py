"""`apm grid decode`, `overfit`, `interpolate`, `upsample` as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from commands import grid_fields
from commands.ending import guard
from experiments.fields.overfit import control, parse_condition
from experiments.fields.percepts import every
from experiments.fields.upsample import make_views
from glom.apm import APM, preset
from glom.backbones.video import squeezed
from glom.checkpoints import save_apm
from glom.errors import InputError
from probes.alike import ssim
from probes.explorer import read_run
from probes.finer import Fitting
from tests.conftest import make_image
from tests.experiments.islands.test_islands_cli import bsds
from tests.helpers_results import drawn_again

ROOT = Path(__file__).parents[3]
SMALL = ["--teacher", "glom-tiny", "--apm", "apm-tiny"]


@pytest.fixture
def call(capsys):
    group, root = typer.Typer(), typer.Typer()
    for name in ("decode", "overfit", "interpolate", "upsample"):
        group.command(name)(getattr(grid_fields, name))
    root.add_typer(group, name="grid")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = guard(root, ["grid", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "wide.png"]
    for i, (path, size) in enumerate(zip(paths, ((40, 40), (40, 40), (64, 40)), strict=True)):
        make_image(i, size).save(path)
    return paths


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    apm = APM(preset("apm-tiny", trunk=(32, 32), rgb=(16,), readout="mean", local_patch=3))
    return save_apm(tmp_path / "small.safetensors", apm, {"teacher": "glom-tiny"})


# -- decode ----------------------------------------------------------------------------------------------------------


def test_an_overfit_picture_decodes_well_at_its_grid_and_any_other(call, pictures, tmp_path):
    options = ["--overfit", "--iterations", 200, "--size", "24x24", "--quiet", "--json"]
    code, text, error = call("decode", pictures[0], "--out", tmp_path / "d", *options)
    assert code == 0, error
    result = json.loads(text)
    assert result["psnr"] > 30 and result["ssim"] > 0.9 and result["seconds"] > 0
    assert Image.open(tmp_path / "d" / "00-a.png").size == (24, 24)
    drawn_again(tmp_path / "d", "00-a.png")
    assert call("decode", pictures[0], "--out", tmp_path / "d", *options)[0] == 2  # never overwritten


def test_a_checkpoint_decodes_several_at_any_shape(call, pictures, checkpoint, tmp_path):
    code, text, error = call(
        "decode", *pictures, "-c", checkpoint, "--size", "5x19", "--out", tmp_path / "d", "--quiet", "--json"
    )
    assert code == 0, error
    result = json.loads(text)
    assert [r["image"] for r in result["images"]] == ["a.png", "b.png", "wide.png"] and "psnr" not in result
    assert Image.open(tmp_path / "d" / "02-wide.png").size == (19, 5)


def test_ssim_knows_equal_pictures_and_tiny_ones():
    a = np.random.default_rng(0).random((9, 8, 3)).astype(np.float32)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(1 - a, a) < 0.1
    assert ssim(a[:4], a[:4]) == pytest.approx(1)
    assert ssim(a[:2], a[:2]) is None


# -- overfit -----------------------------------------------------------------------------------------------------------


def test_one_picture_gives_curve_sheet_film_and_controls(call, pictures, tmp_path):
    truth = np.repeat(np.arange(40)[:, None] // 20, 40, 1).astype(np.uint16)
    np.savez(tmp_path / "truth.npz", segmentations=truth[None])
    options = ["--teacher", "glom-tiny", "--apm", "apm-tiny", "--iterations", 12, "--points", 6, "--grid", 12]
    out = tmp_path / "o"
    code, text, error = call(
        "overfit", pictures[0], "--truth", tmp_path / "truth.npz", "--film", "--out", out, *options, "--quiet", "--json"
    )
    assert code == 0, error
    result = json.loads(text)
    wanted = {"picture", "shuffled", "noise", "untrained", "position code", "colour + position"}
    assert set(result["islands"]) == wanted and result["islands"]["picture"]["same_as_picture"] == 1
    assert result["looks"][0]["iteration"] == 0 and result["looks"][-1]["iteration"] == 12
    assert result["looks"][-1]["cosine"] > result["looks"][0]["cosine"]
    assert all("ari" in found for found in result["islands"].values())
    assert Image.open(out / "film.gif").n_frames == len(result["looks"])
    for name in ("curve.png", "sheet.png"):
        assert (out / name).stat().st_size > 10_000
    [shown] = read_run(out)["pictures"]
    assert [s["name"] for s in shown["sources"]] == ["glom-tiny, token", "its patches shuffled", "noise"]
    axes = [s["axes"][0]["labels"] for s in shown["sources"]]
    assert axes[0] == [str(look["iteration"]) for look in result["looks"]] and axes[1] == axes[2] == ["12"]
    assert np.array_equal(shown["masks"][0], truth)
    drawn_again(out)
    code, text, _ = call("overfit", pictures[2], "--target", "grid", "--out", tmp_path / "p", *options, "--quiet")
    assert code == 0 and "position code" in text


def test_the_study_pairs_pictures_with_their_controls_and_resumes(call, tmp_path):
    data = bsds(tmp_path, 3)
    options = [
        "--targets",
        "token,token+grid+patch",
        "--teacher",
        "glom-tiny",
        "--apm",
        "apm-tiny",
        "--json",
        "--quiet",
    ]
    options += ["--iterations", 4, "--points", 4, "--grid", 8, "--partition", "kmeans:3", "--limit", 3]
    code, whole, error = call("overfit", data, "--out", tmp_path / "s", *options)
    assert code == 0, error
    result = json.loads(whole)
    assert result["n"] == 3
    token, grid, *baselines = result["rows"]
    assert (token["name"], grid["name"]) == ("token", "token+grid+patch")
    assert [r["name"] for r in baselines] == ["untrained", "position code", "colour + position"]
    for row in (token, grid):
        assert row["follows"] in ("picture", "partly", "position")
        low, high = row["minus_position_code"]["ci95"]
        assert low <= row["minus_position_code"]["mean"] <= high
    assert baselines[1]["other_pictures"]["mean"] == pytest.approx(1)  # position alone: the same in every picture
    assert baselines[2]["specific"]["mean"] > 0.05  # flat colours give themselves away
    lines = tmp_path / "s" / "results.jsonl"
    lines.write_text(lines.read_text().splitlines(keepends=True)[0])
    code, again, error = call("overfit", data, "--out", tmp_path / "s", "--resume", *options)
    assert code == 0 and json.loads(again) == result, error


def test_one_picture_alone_gives_no_verdict(call, tmp_path):
    options = ["--targets", "token", *SMALL, "--iterations", 2, "--points", 4, "--grid", 8, "--quiet"]
    code, text, error = call("overfit", bsds(tmp_path, 1), "--out", tmp_path / "s", *options)
    assert code == 0 and text.startswith("1 picture, 0 skipped") and "nan" not in text, error
    summary = (tmp_path / "s" / "result.json").read_text()
    assert "NaN" not in summary
    row = json.loads(summary)["rows"][0]
    assert row["specific"] == {"mean": None, "ci95": [None, None]} and row["follows"] is None


def test_a_teacher_of_one_size_is_enough_where_the_finer_grid_is_not_asked_for(call, pictures, tmp_path):
    options = ["--teacher", "timm:test_vit@random", "--apm", "apm-tiny", "--iterations", 2, "--points", 4, "--quiet"]
    code, _, error = call("overfit", pictures[0], "--grid", 8, "--out", tmp_path / "o", *options)
    assert code == 0, error


def test_names_are_shown_as_they_are(call, checkpoint, tmp_path):
    make_image(0, (40, 40)).save(tmp_path / "a[b].png")
    code, text, error = call(
        "decode", tmp_path / "a[b].png", "-c", checkpoint, "--size", "8x8", "--out", tmp_path / "d", "--quiet"
    )
    assert code == 0 and "a[b].png" in text, error


def test_pictures_of_one_name_are_told_apart(call, checkpoint, tmp_path):
    paths = [tmp_path / folder / "0.png" for folder in ("cat", "dog")]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        make_image(i, (40, 40)).save(path)
    options = ["--steps", 2, "--size", 4, "-c", checkpoint, "--out", tmp_path / "i", "--quiet"]
    code, text, error = call("interpolate", *paths, *options)
    assert code == 0 and "cat/0.png to dog/0.png" in text and str(tmp_path) not in text, error


def test_conditions_are_named_by_their_parts():
    assert parse_condition("patch+fine+token").name == "token+fine+patch"
    for text in ("tokn", "token+token", "grid+fine", "patch", ""):
        with pytest.raises(InputError):
            parse_condition(text)


def test_controls_keep_the_size_and_shuffling_the_colours():
    image = make_image(3, (64, 64))
    shuffled, noise = control(image, "shuffled", 0, "x"), control(image, "noise", 0, "x")
    assert shuffled.size == noise.size == (64, 64)
    one, other = (np.sort(np.asarray(x).reshape(-1, 3), axis=0) for x in (image, shuffled))
    assert np.array_equal(one, other) and not np.array_equal(np.asarray(image), np.asarray(shuffled))
    assert control(image, "shuffled", 0, "x").tobytes() == shuffled.tobytes() != control(image, "shuffled", 1).tobytes()


def test_looks_hold_both_ends():
    for iterations in (1, 7, 80):
        marks = list(every(iterations, 10))
        assert marks[0] == 0 and marks[-1] == iterations and marks == sorted(set(marks))


# -- interpolate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_the_way_between_two_pictures(call, pictures, checkpoint, tmp_path, path):
    out = tmp_path / path
    options = ["--path", path, "--steps", 5, "--size", 12, "-c", checkpoint, "--quiet", "--json"]
    code, text, error = call("interpolate", *pictures[:2], "--out", out, *options)
    assert code == 0, error
    result = json.loads(text)
    assert result["from_first"][0] == 0 == result["from_last"][-1]
    assert result["from_first"][-1] == pytest.approx(1) and result["length"] >= 1 - 1e-6
    assert len(result["classes"]) == 5 and result["lipschitz"] >= result["lipschitz_mean"] > 0
    assert Image.open(out / "colours.gif").n_frames >= 2
    assert (out / "strip.png").stat().st_size > 5000 and (out / "path.png").stat().st_size > 5000
    if path == "linear":
        drawn_again(out)


def test_pictures_of_different_sizes_only_when_asked(call, pictures, tmp_path):
    options = ["--overfit", "--iterations", 5, "--steps", 3, "--size", 8, "--quiet"]
    code, out, error = call("interpolate", pictures[0], pictures[2], "--out", tmp_path / "i", *options)
    assert (code, out) == (2, "") and "40x40 and 64x40" in error and "--resize" in error and error.count("\n") == 1
    assert not (tmp_path / "i").exists()
    code, _, error = call("interpolate", pictures[0], pictures[2], "--resize", "--out", tmp_path / "i", *options)
    assert code == 0 and "Lipschitz" in error, error


# -- upsample ----------------------------------------------------------------------------------------------------------


def test_upsampling_measures_machine_bilinear_and_average(call, pictures, tmp_path):
    options = ["--teacher", "glom-tiny", "--scale", "2,4", "--views", 3, "--iterations", 20, "--quiet", "--json"]
    code, text, error = call("upsample", *pictures[:2], "--out", tmp_path / "u", *options)
    assert code == 0, error
    result = json.loads(text)
    assert [(s["scale"], s["grid"]) for s in result["scales"]] == [(2, [16, 16]), (4, [32, 32])]
    for scale in result["scales"]:
        for key in ("cosine", "cosine_bilinear", "cosine_average"):
            assert -1 <= scale[key] <= 1
        for other in ("bilinear", "average"):
            gain, low, high = scale[f"minus_{other}"]
            assert gain == pytest.approx(scale["cosine"] - scale[f"cosine_{other}"]) and low <= gain <= high
    assert (tmp_path / "u" / "00-a.png").stat().st_size > 10_000
    drawn_again(tmp_path / "u")
    options[5] = 0
    record = tmp_path / "r.json"
    code, text, error = call("upsample", pictures[0], "--out", tmp_path / "v", *options, "--record", record)
    assert code == 0, error
    for scale in [*json.loads(text)["scales"], *json.loads(record.read_text())["scales"]]:
        # Without further views the average is of the teacher's one grid.
        assert scale["minus_average"] == pytest.approx(scale["minus_bilinear"], abs=1e-6)


def test_upsampling_shows_the_machine_beside_both_baselines(call, pictures, tmp_path):
    options = ["--teacher", "glom-tiny", "--scale", "2", "--views", 2, "--iterations", 5, "--quiet"]
    code, text, error = call("upsample", *pictures[:2], "--out", tmp_path / "u", *options)
    assert code == 0 and "over bilinear" in text and "over average" in text and "gain" not in text + error, error
    [scale] = json.loads((tmp_path / "u" / "result.json").read_text())["scales"]
    for other in ("bilinear", "average"):
        gain, low, high = scale[f"minus_{other}"]
        assert f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]" in " ".join(text.split())


def test_views_lie_where_their_boxes_say():
    from glom.teachers.grids import grid_teacher

    teacher, image = grid_teacher("glom-tiny", 0, "cpu"), make_image(2, (80, 60))
    views = make_views(teacher, image, Fitting(views=2), 0)
    assert len(views) == 3 and views[0].box == (0.0, 0.0, 1.0, 1.0)
    x0, y0, x1, y1 = views[1].box
    crop = image.crop((round(x0 * 80), round(y0 * 60), round(x1 * 80), round(y1 * 60)))
    torch.testing.assert_close(views[1].grid, teacher.grid(squeezed(teacher, crop)[None])[0], atol=1e-4, rtol=1e-3)


# -- wrong requests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["decode", "{a}", "--size", "8by8"], "an x between"),
        (["decode", "{a}", "--overfit", "--size", "9999x8"], "4096"),
        (["decode", "{a}", "--checkpoint", "nowhere/c.safetensors"], "c.safetensors"),
        (["decode", "{bad}", "--overfit"], "bad.png"),
        (["decode", "gone.png", "--overfit"], "gone.png"),
        (["decode", "{a}", "--overfit", "--checkpoint", "apm-cifar10"], "give one of them"),
        (["decode", "{a}", "--iterations", "9"], "--iterations does nothing in a trained machine; it is for --overfit"),
        (["decode", "{a}", "--channels", "2"], "--channels does nothing"),
        (["decode", "{a}", "--overfit", "--lr", "-1"], "--lr"),
        (["decode", "{a}", "--overfit", "--lr", "0"], "--lr"),
        (["decode", "{a}", "--overfit", "--channels", "99999"], "at most 12"),
        (["decode", "{a}", "--overfit", "--size", "²x8"], "--size takes 2 whole numbers"),
        (["decode", "{a}", "--record", "{bad}/x.json"], "is a file"),
        (["overfit", "{a}", "--lr", "0", "--teacher", "glom-tiny"], "--lr"),
        (["overfit", "{a}", "--grid", "99999", "--teacher", "glom-tiny"], "--grid"),
        (["overfit", "{a}", "--points", "99999", "--teacher", "glom-tiny"], "--points"),
        (["overfit", "{a}", "--target", "token+fine", "--teacher", "timm:test_vit@random"], "it reads 160 px"),
        (["overfit", "{a}", "--target", "tokn", "--teacher", "glom-tiny"], "token"),
        (["overfit", "{a}", "--truth", "gone.npz", "--teacher", "glom-tiny"], "gone.npz"),
        (["overfit", "{a}", "--truth", "{wide}", "--teacher", "glom-tiny"], "64x40"),
        (["overfit", "{a}", "--partition", "means:3", "--teacher", "glom-tiny"], "--partition"),
        (["overfit", "{folder}", "--film"], "--film"),
        (["overfit", "{a}", "--resume"], "--resume"),
        (["overfit", "{a}", "--target", "token,grid", "--teacher", "glom-tiny"], "target"),
        (["interpolate", "{a}", "{b}", "--path", "spheric", "--overfit"], "spherical"),
        (["interpolate", "{a}", "{b}", "--steps", "1", "--overfit"], "--steps"),
        (["interpolate", "{a}", "{b}", "--size", "100000"], "--size"),
        (["interpolate", "{a}", "{b}", "--steps", "1000000"], "--steps"),
        (["interpolate", "{a}", "{b}", "--overfit", "--checkpoint", "apm-cifar10"], "give one of them"),
        (["upsample", "{a}", "--scale", "²", "--teacher", "glom-tiny"], "--scale"),
        (["upsample", "{a}", "--scale", "two", "--teacher", "glom-tiny"], "--scale"),
        (["upsample", "{a}", "--scale", "1", "--teacher", "glom-tiny"], "--scale"),
        (["upsample", "{a}", "--scale", "128", "--teacher", "glom-tiny"], "too large"),
        (["upsample", "{a}", "--zoom", "2", "--teacher", "glom-tiny"], "--zoom"),
    ],
)
def test_wrong_requests_get_one_line(call, pictures, tmp_path, arguments, says):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "folder").mkdir()
    names = {"a": pictures[0], "b": pictures[1], "wide": pictures[2]}
    names |= {"bad": tmp_path / "bad.png", "folder": tmp_path / "folder"}
    code, out, error = call(*[a.format(**names) for a in arguments], "--out", tmp_path / "o", "--quiet")
    assert (code, out) == (2, ""), error
    assert says in error and error.count("\n") == 1
    assert "leave --size" not in error
    assert not (tmp_path / "o").exists()


def test_foreign_and_newer_checkpoints_are_refused(call, pictures, tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors", {"architecture": "vit"})
    save_file({"w": torch.zeros(2)}, tmp_path / "newer.safetensors", {"architecture": "apm", "version": "99"})
    for name, says in (("foreign", "another architecture"), ("newer", "format '99'")):
        code, _, error = call("decode", pictures[0], "-c", tmp_path / f"{name}.safetensors", "--out", tmp_path / name)
        assert code == 2 and says in error and error.count("\n") == 1


def test_as_a_process(pictures, tmp_path):
    command = [sys.executable, str(ROOT / "cli.py"), "grid", "decode", str(pictures[0]), "--overfit"]
    command += ["--iterations", "3", "--size", "8x8", "--out", str(tmp_path / "p"), "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=240)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {"psnr", "ssim", "seconds", "images"}
