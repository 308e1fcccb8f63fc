"""The computational table: arithmetic against the counter, published values, readings, and the command's JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from commands.bench_compute import _print, compute
from experiments.bench import compute_models as models
from experiments.bench.compute import SIDES, ComputeSettings, time_curves
from experiments.bench.compute import run as run_compute
from experiments.bench.compute_arithmetic import (
    apm_columns,
    apm_folded,
    apm_parameters,
    apm_plain,
    clip_image,
    clip_text,
    swin_b,
)
from experiments.bench.compute_memory import case, peak_memory
from experiments.bench.compute_readings import (
    CLOSE,
    Reading,
    nearest,
    parameter_readings,
    passes,
    student_scopes,
    total_readings,
)
from experiments.published import TABLES, published_table
from glom.apm import APMConfig, preset
from glom.errors import InputError

SMALL = APMConfig(features=16, image_size=16, patch=4, cells=4, trunk=(24, 12, 8), heads=4, rgb=None)


def test_clip_by_hand():
    # Twelve layers over 197 tokens of 768, 196 patches of 768 pixels, one projection.
    layer = 12 * 197 * 768**2 + 2 * 197 * 197 * 768
    assert clip_image().forward() == 12 * layer + 196 * 768 * 768 + 768 * 512
    assert clip_image().parameters == 86_192_640
    assert clip_image().parameters + clip_text().parameters == 149_620_737


def test_attention_grows_quadratically_and_the_apm_linearly():
    def attention(side: int) -> int:
        return sum(p.madds for p in clip_image(side).products if p.name in ("scores", "mix"))

    tokens = [7 * 7 + 1, 14 * 14 + 1]
    assert attention(14) * tokens[0] ** 2 == attention(7) * tokens[1] ** 2
    plain = [apm_plain(SMALL, side).forward() for side in (1, 2, 4)]
    assert (plain[2] - plain[1]) == 4 * (plain[1] - plain[0])


def test_swin_b_equals_the_counter():
    counted, cost = models.count_swin(), swin_b()
    assert (counted.forward, counted.step) == (cost.forward(), cost.step())
    assert cost.parameters == models.parameters(models.swin("meta")) == 87_768_224


@pytest.mark.parametrize(("image", "text"), [(True, False), (False, True), (True, True)])
def test_clip_equals_the_counter(image: bool, text: bool):
    counted = models.count_clip(image, text)
    parts = [part for part, wanted in ((clip_image(), image), (clip_text(), text)) if wanted]
    assert counted.forward == sum(part.forward() for part in parts)
    assert counted.step == sum(part.step() for part in parts)
    assert counted.kept > 0


@pytest.mark.parametrize(("model", "side", "patch"), [("ViT-B-16", 14, 16), ("ViT-B-32", 7, 32)])
def test_clip_parameters_equal_the_modules(model: str, side: int, patch: int):
    wanted = clip_image(side, patch).parameters + clip_text().parameters
    assert models.parameters(models.clip("meta", model)) == wanted


def test_prompt_tuning_equals_the_counter():
    wanted = clip_image(batch=3).forward() + clip_text(2, frozen=True).step()
    assert models.count_tpt(views=3, classes=2) == wanted


@pytest.mark.parametrize(
    "config", [SMALL, preset("apm-tiny", rgb=None), APMConfig(**{**vars(SMALL), "readout": "mean"})]
)
@pytest.mark.parametrize("side", [1, 3, 5])
def test_apm_equals_the_counter(config: APMConfig, side: int):
    for how, cost in (("plain", apm_plain(config, side)), ("folded", apm_folded(config, side))):
        counted = models.count_apm(side, how, config)
        assert counted.forward == cost.forward(counted_only=True), how
        assert counted.step == cost.step(counted_only=True), how


@pytest.mark.parametrize("name", ["apm-ttt", "apm-full", "apm-tiny"])
def test_apm_parameters_equal_the_modules(name: str):
    assert apm_parameters(preset(name)) == models.parameters(models.student("meta", preset(name)))


def test_folding_needs_fewer_multiplications():
    plain, folded = apm_plain(models.STUDENT, 32), apm_folded(models.STUDENT, 32)
    assert folded.forward() < plain.forward()
    assert folded.parameters == plain.parameters == models.parameters(models.student("meta"))


def test_a_vector_product_is_not_counted_but_is_a_cost():
    folded = apm_folded(SMALL, 4)
    assert folded.forward() - folded.forward(counted_only=True) == SMALL.features**2


def test_counting_restores_the_fast_path():
    before = torch.backends.mha.get_fastpath_enabled()
    assert models.counted_madds(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 30
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_published_tables_load():
    assert [len(published_table(n)) for n in TABLES] == [12, 6, 6, 7]
    four = published_table(4)
    assert [r["t"] for r in four] == ["1-20", "1-20", "1-20", "1", "1", "2", "1-20"]
    assert four[-1]["gflops_ideal"] == 210.5
    assert four[-1]["memory_ideal_gb"] == "1.8 + 0.6"
    assert four[0]["note"] is None
    assert published_table(2)[-1]["Average"] == 50.3
    with pytest.raises(InputError, match="no published table 5"):
        published_table(5)


def test_nearest_reading_says_how_long_the_list_was():
    found = nearest(10.0, [Reading("far", 20.0), Reading("near", 10.1), Reading("as near", 9.9)])
    assert (found.reading, found.searched, found.close) == ("near", 3, 2)
    assert found.off_percent == pytest.approx(1.0)


def test_readings_that_explain_the_table():
    clip = (clip_image() + clip_text()).forward() / 1e9
    assert clip == pytest.approx(20.5, abs=0.05)
    assert 20 * swin_b().forward() / 1e9 == pytest.approx(308, rel=0.005)
    students = nearest(174.2, parameter_readings("apm"))
    assert students.reading.startswith("the printed 149.2 + student, F = 1024, colour head")
    assert nearest(151.3, parameter_readings("tpt")).reading == "image + text of CLIP ViT-B/32"
    step = nearest(10, passes(student_scopes()))
    assert step.reading == "512 columns, trunk + head, F = 768, forward, multiply-adds"
    total = nearest(210.5, total_readings(step))
    assert (total.reading, total.value) == ("the printed 20.5 + 19 times the printed 10", 210.5)
    kept = [r for r in total_readings(step) if r.name.startswith("teacher in multiply-adds + 19 students")]
    assert abs(nearest(210.5, kept).off_percent) < CLOSE


def test_the_students_pass_is_what_the_release_counts():
    by_hand = 512 * (2048 * 4096 + 4096 * 2048 + 2048 * 1024 + 1024 * 768)
    assert models.count_release() == apm_columns(models.COUNTED, 512).forward() == by_hand
    assert by_hand / 1e9 == pytest.approx(10.07, abs=0.005)


def test_memory_of_a_fresh_process():
    found = dict(peak_memory(["apm@3", "apm@2"]))
    weights = 4 * models.parameters(models.student("meta"))
    for peak in found.values():
        assert peak is not None
        assert 0.9 * weights < peak < 2 * weights


@pytest.mark.parametrize("name", ["nothing", "clip@", "clip@0", "apm@x"])
def test_unknown_memory_cases_are_refused(name: str):
    with pytest.raises(InputError, match="unknown memory case"):
        case(name)


def test_times_beyond_the_measured_are_arithmetic():
    gflops = {"clip": [float(4**i) for i in range(6)], "apm_folded": [float(i + 1) for i in range(6)]}
    seconds = {("clip", 7): [1.0, 1.0, 5.0], ("clip", 14): [2.0], ("apm", 7): [0.5]}
    found = time_curves(seconds, gflops)
    assert [p["measured"] for p in found["clip"]] == [True, True] + [False] * 4
    assert [p["ratio"] for p in found["clip"][:3]] == [0.5, 1.0, 4.0]
    assert found["apm"][1]["ratio"] == pytest.approx(0.5)


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, dict]:
    """One small run of the command, whose second is gone when it has counted: its folder and its JSON."""
    small = {"seconds": 1, "rounds": 2, "clip_sides": (14,), "apm_sides": (14, 28), "memory": False}
    out = tmp_path_factory.mktemp("compute") / "run"
    app = typer.Typer()
    app.command()(compute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ComputeSettings.PRESETS, "quick", small)
        done = CliRunner().invoke(app, ["--quick", "--json", "--device", "cpu", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, json.loads(done.stdout)


def test_command_writes_a_folder_once(ran):
    out, result = ran
    assert json.loads((out / "result.json").read_text())["rows"] == result["rows"]
    assert (out / "compute.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError):
        next(run_compute(ComputeSettings(memory=False), out))


def test_command_json(ran):
    _, result = ran
    for row, published in zip(result["rows"], published_table(4), strict=True):
        assert (row["model"], row["t"]) == (published["model"], published["t"])
        assert row["gflops"] == pytest.approx(2 * row["first_principles"]["gmadds"], rel=1e-4)
        assert row["params_m"] == pytest.approx(row["first_principles"]["params_m"])
        assert row["memory_gb"] > 0
        assert row["published"]["gflops_ideal"] == published["gflops_ideal"]
        assert set(row["nearest"]) == {
            "params_m",
            "gflops_ideal",
            "gflops_measured",
            "memory_ideal_gb",
            "memory_measured_gb",
        }
    assert result["figure"]["sides"] == list(SIDES)
    assert result["left_out"] == ["time, apm 28 x 28"]
    time = result["figure"]["time"]
    assert [p["side"] for name in ("clip", "apm") for p in time[name] if p["measured"]] == [14, 14]


def test_the_rows_of_the_machine_are_the_published_student(ran):
    rows = ran[1]["rows"]
    for found in rows[-3:]:
        assert found["params_m"] == pytest.approx(found["published"]["params_m"], rel=0.005)
        assert found["gmadds"] == pytest.approx(found["published"]["gflops_ideal"], rel=0.01)
    fired = rows[-1]["test_time"]
    assert fired["columns"] == 1024 and fired["gmadds_folded"] < fired["gmadds_plain"]
    assert fired["gmadds_plain"] > 1.9 * rows[-1]["gmadds"]


def test_command_table_fits_80_columns(ran, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _print(ran[1]["rows"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("publ." in line for line in lines)
