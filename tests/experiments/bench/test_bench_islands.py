"""`apm bench islands`: what it says is what was timed, and a score's record holds the whole run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from commands.bench import app
from experiments.bench import islands as bench
from experiments.bench.going import Going
from experiments.bench.islands import (
    IslandsSettings,
    compare_hooks,
    compare_tsne,
    costing,
    photograph,
    real_grid,
    run_islands,
)
from glom.errors import InputError
from probes.reduction import embed, trustworthiness
from tests.conftest import in_process, make_image
from tests.experiments.islands.test_islands_cli import bsds

FEW = {"size": 48, "hooked": "mvit-v2-tiny@random", "hook_frames": 2, "hook_size": 48, "hook_rounds": 2}
FEW |= {"hook_warmup": 0}
SMALL = IslandsSettings(**FEW)


@pytest.fixture
def call(capsys, monkeypatch):
    """Run `apm bench ...` in this process: (exit code, standard output, standard error)."""
    monkeypatch.setitem(IslandsSettings.PRESETS, "full", FEW)
    monkeypatch.setitem(IslandsSettings.PRESETS, "quick", FEW | {"tsne_rounds": 1})
    return in_process(capsys, app, "bench")


def test_the_defaults_are_what_is_asked_for():
    """The grid of the issue, 56 x 56 x 96, from a photograph and the shipped network; MViTv2-S at its own size."""
    settings = IslandsSettings(layer=1)
    grid = real_grid(photograph(settings.image), settings)
    assert grid.shape == (56, 56, 96) and np.isfinite(grid).all() and grid.std() > 0.1
    assert (settings.hooked, settings.hook_frames, settings.hook_size) == ("torchvision:mvit_v2_s@random", 0, 0)
    assert settings.neighbours == 12


def test_every_figure_and_where_it_comes_from():
    told: list[str] = []
    result = run_islands(SMALL, Going(show=lambda event: told.append(event.message)))
    seconds, between = result["seconds"], result["spread"]
    for key in ("tsne_speedup", "hook_overhead"):
        assert between[key]["min"] <= result[key] == between[key]["median"] <= between[key]["max"]
    assert seconds["tsne_fast"]["n"] == 2 and seconds["forward"]["n"] == seconds["forward_and_grids"]["n"] == 2
    assert 0.5 < result["trustworthiness"] <= 1 and 0.5 < result["trustworthiness_sklearn"] <= 1
    assert result["tsne_grid"] == [12, 12, 96]
    assert [g[:3] for g in result["hooked_grids"]] == [[1, 24, 24]] + [[1, 12, 12]] * 3 + [[1, 6, 6]] * 2
    assert any("t-SNE" in t for t in told) and any("hooks" in t for t in told)
    assert IslandsSettings(**result["asked"]) == SMALL


def test_both_embeddings_are_judged_against_the_same_points(monkeypatch):
    grid = real_grid(make_image(1, (60, 40)), SMALL)
    points = grid.reshape(-1, 96)
    result = compare_tsne(grid, replace(SMALL, tsne_rounds=1))
    assert result["trustworthiness"] == pytest.approx(trustworthiness(points, embed(points, "tsne"), 12), abs=1e-5)
    exact = trustworthiness(points, embed(points, "tsne", exact=True), 12)
    assert result["trustworthiness_sklearn"] == pytest.approx(exact, abs=1e-5)
    ticks = iter([0, 2, 2, 12])  # 2 s of ours, 10 s of scikit-learn's
    monkeypatch.setattr("experiments.bench.timing.clock", lambda *_: next(ticks))
    monkeypatch.setattr(bench, "embed", lambda *a: np.zeros((144, 3), np.float32))
    assert compare_tsne(grid, replace(SMALL, tsne_rounds=1))["tsne_speedup"] == 5


def test_the_bare_pass_is_bare_and_the_other_reads_every_block(monkeypatch):
    passes: list[int] = []

    def load(name: str, device: str):
        from glom.backbones.video import load_backbone

        backbone = load_backbone(name, device)
        last = backbone.layers[-1][1]
        last.register_forward_pre_hook(lambda m, i: passes.append(len(m._forward_hooks)))
        return backbone

    monkeypatch.setattr(bench, "load_backbone", load)
    result = compare_hooks(make_image(1), SMALL)
    assert passes == [0, 1, 0, 1]  # in turn; a hook on the last block in every second one
    assert len(result["grids"]) == 6


def test_requests_that_cannot_be_met():
    with pytest.raises(InputError, match="too few"):
        compare_tsne(np.zeros((4, 4, 8), np.float32), SMALL)
    with pytest.raises(InputError, match=r"hook_rounds. must be at least 1"):
        compare_hooks(make_image(1), replace(SMALL, hook_rounds=0))
    with pytest.raises(InputError, match="layers 0 to 5"):
        real_grid(make_image(1), replace(SMALL, layer=7))
    with pytest.raises(InputError):
        photograph("nowhere.jpg")


def test_the_command(call, tmp_path):
    code, text, error = call("islands", "--out", tmp_path / "new", "--json")
    value = json.loads(text)
    assert code == 0 and "saved:" in error
    assert {"tsne_speedup", "trustworthiness", "trustworthiness_sklearn", "hook_overhead"} <= set(value)
    assert json.loads((tmp_path / "new" / "islands.json").read_text()) == value
    assert value["machine"]["threads"] == torch.get_num_threads() and value["settings"]["size"] == 48
    code, text, error = call("islands", "--quick", "--quiet")
    assert code == 0 and error == "" and ">= 4" in text and "<= 1.1" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_score_is_recorded_whole(call, tmp_path):
    record = tmp_path / "records" / "islands-mine.json"
    arguments = ["islands-score", bsds(tmp_path), "--out", tmp_path / "run", "--backbone", "glom-tiny", "--size", 32]
    code, text, _ = call(*arguments, "--limit", 2, "--record", record, "--json", "--quiet")
    summary, value = json.loads(text), json.loads(record.read_text())
    assert code == 0 and value["bench"] == "islands-mine" and value["n"] == 2
    assert value["settings"]["backbone"] == "glom-tiny" and value["settings"]["limit"] == 2
    assert len(value["layers"]) == len(summary["layers"]) == 4
    for own, kept in zip(summary["layers"], value["layers"], strict=True):
        assert kept["covering"] == pytest.approx(own["covering"], abs=1e-5)
    assert str(Path(tmp_path)) not in record.read_text()  # no path of this machine
    code, _, error = call(*arguments, "--limit", 2)
    assert code == 2 and "--resume" in error
    code, text, _ = call(*arguments, "--limit", 2, "--resume")
    assert code == 0 and "people" in text


def test_opentsne_is_timed_where_it_is_installed(monkeypatch):
    """A stand-in under its name: what is asked of it, and what is said without it."""
    asked: list[dict[str, object]] = []

    class TSNE:
        def __init__(self, width: int, **options: object) -> None:
            asked.append({"width": width, **options})

        def fit(self, points: np.ndarray) -> np.ndarray:
            return points[:, :3]

    grid = real_grid(make_image(1, (60, 40)), SMALL)
    once = replace(SMALL, tsne_rounds=1)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    without = compare_tsne(grid, once)
    assert without["tsne_speedup_opentsne"] is None and without["trustworthiness_opentsne"] is None
    module = type(sys)("openTSNE")
    module.TSNE = TSNE
    monkeypatch.setitem(sys.modules, "openTSNE", module)
    monkeypatch.setattr(bench, "find_spec", lambda name: name == "openTSNE")
    found = compare_tsne(grid, once)
    assert found["tsne_speedup_opentsne"] > 0 and asked[0]["width"] == 3 and asked[0]["perplexity"] == 15
    points = grid.reshape(-1, 96)
    assert found["trustworthiness_opentsne"] == pytest.approx(
        trustworthiness(points, embed(points, "pca"), 12), abs=1e-5
    )


def test_what_a_run_costs_is_measured():
    found, cost = costing(lambda: sum(range(3_000_000)))
    assert found == 4_499_998_500_000 and cost["seconds"] >= 0 and 0 <= cost["processor_seconds"] <= 60
