"""Test-time training by its rules: the last iteration counts, everything is reset, failures stay alone."""

from __future__ import annotations

import gc
import json
import math
from dataclasses import replace
from weakref import ref

import pytest
import torch

from commands.bench import app as bench_commands
from glom.adaptation.case import Case
from glom.adaptation.machines import Machines
from glom.adaptation.objectives import OBJECTIVES, Targets, get_objective
from glom.adaptation.overfit import OverfitSettings, jittered_queries, overfit
from glom.adaptation.settings import TTTSettings, ttt_preset
from glom.adaptation.ttt import adapt, adapt_group, stack_size
from glom.apm import PRESETS as APM_PRESETS
from glom.apm import APMConfig, AsynchronousPerceptionMachine, preset
from glom.columns import sample_at
from glom.errors import InputError
from glom.teachers.heads import ZeroShotHead
from tests.conftest import in_process

FAST = TTTSettings(apm="apm-tiny", iterations=25, lr=3e-3, schedule="cosine", initialisation="default", queries=16)


def make_case(i: int = 0, width: int = 16, label: int | None = 1, size: int = 32) -> Case:
    g = torch.Generator().manual_seed(100 + i)
    picture = torch.randn(3, size, size, generator=g)
    token, grid = torch.randn(width, generator=g), torch.randn(4, 4, width, generator=g)
    return Case(f"s{i}", label, picture, token, grid)


def make_head(width: int = 16, classes: int = 5) -> ZeroShotHead:
    weights = torch.nn.functional.normalize(
        torch.randn(classes, width, generator=torch.Generator().manual_seed(9)), dim=1
    )
    return ZeroShotHead(tuple(f"c{i}" for i in range(classes)), weights, scale=20.0)


def test_overfits_to_the_teachers_answer():
    for i in range(3):
        result = adapt(make_case(i), replace(FAST, iterations=120), make_head())
        assert result.cosine > 0.995
        assert result.apm_class == result.teacher_class
        assert result.steps == 120


def test_the_published_setting_reaches_the_teachers_token_by_iteration_260(monkeypatch):
    """At a quarter of the published widths (4096, 2048, 1024), sixteen locations and a random token: a few seconds."""
    small = APMConfig(features=64, image_size=64, patch=8, cells=4, trunk=(1024, 512, 256))
    monkeypatch.setitem(APM_PRESETS, "quarter", small)
    result = adapt(make_case(width=64, size=64), ttt_preset("published", apm="quarter", iterations=260), make_head(64))
    assert result.cosine > 0.9999


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_falls(name):
    result = adapt(
        make_case(), replace(FAST, objective=name, queries=None, iterations=40), make_head(), keep_trace=True
    )
    losses = [s["loss"] for s in result.trace if s["loss"] is not None]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("count", [1, 3])
def test_machines_go_with_their_group(count, monkeypatch):
    """A stack holds half a GiB: nothing may wait for the collector of circles."""
    made, init = [], Machines.__init__
    monkeypatch.setattr(Machines, "__init__", lambda self, *given: made.append(ref(self)) or init(self, *given))
    cases = [make_case(i) for i in range(count)]
    adapt_group(cases, replace(FAST, iterations=2), make_head())  # what the first call of a process keeps is kept once
    gc.collect()
    gc.disable()
    try:
        adapt_group(cases, replace(FAST, iterations=2), make_head())
    finally:
        gc.enable()
    assert len(made) == 2 and made[1]() is None


def test_order_and_company_change_nothing():
    cases = [make_case(i) for i in range(3)]
    forward = {r.id: r.record() for r in adapt_group(cases, FAST, make_head())}
    torch.rand(17)
    backward = {r.id: r.record() for r in adapt_group(cases[::-1], FAST, make_head())}
    alone = {c.id: adapt(c, FAST, make_head()).record() for c in cases}
    assert forward == backward == alone


def test_another_seed_is_another_run():
    first = adapt(make_case(), FAST, make_head(), seed=0)
    second = adapt(make_case(), FAST, make_head(), seed=1)
    assert not torch.equal(first.token, second.token)


def test_the_last_iteration_is_read_and_the_oracle_is_any():
    case, head = make_case(label=0), make_head()
    result = adapt(case, FAST, head, keep_trace=True)
    classes = [s["class"] for s in result.trace]
    assert len(classes) == FAST.iterations + 1
    assert result.apm_class == classes[-1] == int(head(result.token).argmax())
    assert result.oracle == (0 in classes)
    missing = next(c for c in range(6) if c not in classes)
    assert adapt(replace(case, label=missing), FAST, head).oracle is False


@pytest.mark.parametrize("queries", [None, 16])
@pytest.mark.parametrize("objective", ["token-mse", "token+grid+rgb"])
def test_stacked_samples_are_the_single_ones(queries, objective):
    cases = [make_case(i) for i in range(4)]
    settings = replace(FAST, queries=queries, objective=objective)
    together = adapt_group(cases, settings, make_head(), keep_trace=True)
    for case, found in zip(cases, together, strict=True):
        alone = adapt(case, settings, make_head(), keep_trace=True)
        assert found.apm_class == alone.apm_class
        assert [s["class"] for s in found.trace[-3:]] == [s["class"] for s in alone.trace[-3:]]
        torch.testing.assert_close(found.token, alone.token, atol=5e-3, rtol=5e-3)
        assert found.cosine == pytest.approx(alone.cosine, abs=1e-3)


def test_a_nan_in_a_stack_fails_alone():
    bad = replace(make_case(1), token=torch.full((16,), math.nan))
    cases = [make_case(0), bad, make_case(2)]
    results = adapt_group(cases, FAST, make_head())
    assert [bool(r.failed) for r in results] == [False, True, False]
    assert results[2].cosine == pytest.approx(adapt(make_case(2), FAST, make_head()).cosine, abs=1e-3)


def test_stacked_samples_stop_one_by_one():
    settings = replace(FAST, iterations=400, stop="cosine:0.95")
    results = adapt_group([make_case(i) for i in range(4)], settings, make_head())
    steps = [r.steps for r in results]
    assert max(steps) < 400
    assert len(set(steps)) > 1
    for i, result in enumerate(results):
        assert abs(adapt(make_case(i), settings, make_head()).steps - result.steps) <= 1


@pytest.mark.parametrize("apm", ["apm-tiny", "apm-small"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_closed_form_is_exact_without_a_step(apm, count, precision):
    settings = ttt_preset("exact", apm=apm, precision=precision)
    side = preset(apm).image_size
    cases = [replace(make_case(i), picture=torch.randn(3, side, side)) for i in range(count)]
    for result in adapt_group(cases, settings, make_head(), keep_trace=True):
        assert result.steps == 0 and [s["iteration"] for s in result.trace] == [0]
        assert result.cosine == result.trace[0]["cosine"] == pytest.approx(1, abs=1e-5)
        assert result.loss == pytest.approx(0, abs=1e-8)
        assert result.apm_class == result.teacher_class


def test_what_is_solved_for_starts_from_one_machine_of_the_run():
    """No step changes the trunk, so one is drawn for all pictures: only the last bias belongs to a picture."""
    settings, cases = ttt_preset("exact", apm="apm-tiny", precision="fp32"), [make_case(i) for i in range(3)]
    together = [r.apm.state_dict() for r in adapt_group(cases, settings, make_head(), keep_apm=True)]
    alone = [adapt(case, settings, make_head(), keep_apm=True).apm.state_dict() for case in reversed(cases)][::-1]
    other = adapt(cases[0], settings, make_head(), seed=1, keep_apm=True).apm.state_dict()
    bias = "attention.out_proj.bias"
    for name, value in together[0].items():
        assert all(torch.equal(value, one[name]) == (name != bias) for one in together[1:]), name
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=1e-5)
    assert not torch.equal(together[0]["trunk.0.weight"], other["trunk.0.weight"]), "another seed draws another"


def test_steps_after_a_solution_are_each_sample_s_own():
    settings = replace(
        FAST, initialisation="solve", iterations=3, objective="token+grid+rgb", optimiser="sgd", lr=0.1
    )  # the token's loss is 0 here, and Adam makes whole steps of its rounding
    cases = [make_case(i) for i in range(3)]
    together = [r.apm.state_dict() for r in adapt_group(cases, settings, make_head(), keep_apm=True)]
    for case, state in zip(cases, together, strict=True):
        alone = adapt(case, settings, make_head(), keep_apm=True).apm.state_dict()
        for name in state:
            torch.testing.assert_close(state[name], alone[name], atol=1e-5, rtol=1e-4)
    assert not torch.equal(together[0]["trunk.0.weight"], together[1]["trunk.0.weight"])


@pytest.mark.parametrize("initialisation", ["default", "solve"])
@pytest.mark.parametrize("objective", ["token-mse", "token+grid+rgb"])
@pytest.mark.parametrize("count", [1, 3])
def test_no_step_is_the_machine_as_it_was_drawn(count, objective, initialisation):
    """What is answered is what the machine that is kept says, and what it says before a first step that moves it."""
    settings = replace(FAST, iterations=0, objective=objective, initialisation=initialisation)
    cases = [make_case(i) for i in range(count)]
    still = adapt_group(cases, settings, make_head(), keep_apm=True)
    moved = adapt_group(cases, replace(settings, iterations=1, queries=None), make_head(), keep_trace=True)
    for case, found, after in zip(cases, still, moved, strict=True):
        with torch.no_grad():
            token = found.apm(case.picture[None], outputs=("token",)).token[0]
        torch.testing.assert_close(found.token, token, atol=1e-5, rtol=1e-5)
        assert found.cosine == pytest.approx(after.trace[0]["cosine"], abs=1e-5)
        assert found.loss == pytest.approx(after.loss, abs=1e-6, rel=1e-4)


def test_a_nan_among_machines_that_take_no_step_fails_alone():
    bad = replace(make_case(1), token=torch.full((16,), math.nan))
    results = adapt_group([make_case(0), bad, make_case(2)], ttt_preset("exact", apm="apm-tiny"), make_head())
    assert [bool(r.failed) for r in results] == [False, True, False]
    assert "after iteration 0" in results[1].failed


def test_the_stack_suits_the_machine():
    assert stack_size(replace(FAST, stack=7), "cpu") == 7
    assert stack_size(ttt_preset("published"), "cpu") == 1
    assert stack_size(FAST, "cpu") > 1


def test_without_a_label_nothing_is_right_or_wrong():
    record = adapt(make_case(label=None), FAST, make_head()).record()
    assert record["correct"] is None
    assert record["oracle"] is None


def test_early_stopping_stops_at_the_cosine():
    result = adapt(make_case(), replace(FAST, iterations=400, stop="cosine:0.9"), make_head(), keep_trace=True)
    assert result.steps < 400
    assert all(s["cosine"] < 0.9 for s in result.trace[:-2])


def test_a_loss_that_turns_nan_fails_alone():
    bad = replace(make_case(1), token=torch.full((16,), math.nan))
    results = [adapt(case, FAST, make_head()) for case in (make_case(0), bad, make_case(2))]
    assert [r.failed != "" for r in results] == [False, True, False]
    assert results[1].record()["status"] == "failed"
    assert "nan at iteration 1" in results[1].record()["reason"]
    assert results[2].record() == adapt(make_case(2), FAST, make_head()).record()


def test_diverging_rates_are_caught():
    result = adapt(make_case(), replace(FAST, optimiser="sgd", lr=1e30), make_head())
    assert "iteration" in result.failed


@pytest.mark.parametrize("execution", ["plain", "folded", "streamed"])
def test_execution_changes_no_prediction(execution):
    wanted = adapt(make_case(), replace(FAST, execution="plain"), make_head())
    found = adapt(make_case(), replace(FAST, execution=execution), make_head())
    assert found.apm_class == wanted.apm_class
    torch.testing.assert_close(found.token, wanted.token, atol=2e-3, rtol=2e-3)


def test_published_preset_is_the_released_codes():
    p = ttt_preset("published")
    assert (p.optimiser, p.lr, p.schedule, p.decay, p.decay_every) == ("adam", 1e-4, "step", 0.1, 200)
    assert (p.iterations, p.initialisation, p.queries, p.apm, p.objective) == (
        1200,
        "published",
        None,
        "apm-ttt",
        "token-mse",
    )
    assert [p.rate(s) for s in (0, 199, 200, 1199)] == pytest.approx([1e-4, 1e-4, 1e-5, 1e-9])
    assert preset(p.apm).readout == "attention"


@pytest.mark.parametrize("native", [True, False])
def test_presets_suit_the_trunk_and_the_machine(monkeypatch, native):
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    wide, narrow = ttt_preset("fast", apm="apm-ttt"), ttt_preset("fast", apm="apm-tiny")
    assert (wide.lr, wide.iterations, wide.precision) == (4e-4, 40, "bf16" if native else "fp32")
    assert (narrow.lr, narrow.precision) == (1e-3, "fp32")
    asked = ttt_preset("fast", apm="apm-ttt", lr=2e-4, precision="fp32")
    assert (asked.lr, asked.precision) == (2e-4, "fp32")
    assert ttt_preset("exact").precision == ttt_preset("exact", apm="apm-tiny").precision == wide.precision
    assert ttt_preset("exact", precision="fp32").precision == ttt_preset("published").precision == "fp32"


def test_schedules_end_where_they_should():
    assert ttt_preset("fast", schedule="linear", iterations=10, lr=1.0).rate(5) == pytest.approx(0.5)
    assert ttt_preset("fast", schedule="cosine", iterations=10, lr=1.0).rate(5) == pytest.approx(0.5)
    assert ttt_preset("fast", schedule="constant", iterations=10, lr=1.0).rate(9) == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": "token-mes"}, "did you mean token-mse"),
        ({"optimiser": "adamm"}, "did you mean adam"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"execution": "foldde"}, "did you mean folded"),
        ({"iterations": -1}, "at least 0"),
        ({"lr": -1.0}, "above 0"),
        ({"stop": "cosine:2"}, "0 < X <= 1"),
        ({"queries": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_named(change, words):
    with pytest.raises(InputError, match=words):
        replace(FAST, **change)


def test_unknown_preset_is_named():
    with pytest.raises(InputError, match="did you mean published"):
        ttt_preset("publishd")


def test_a_grid_of_another_width_is_refused():
    case = replace(make_case(), grid=torch.randn(4, 4, 7))
    with pytest.raises(InputError, match="both alike"):
        adapt(case, replace(FAST, objective="token+grid"), make_head())


def test_sampling_a_grid_at_its_centres_gives_it_back():
    from glom.columns import grid_queries

    grid = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(sample_at(grid, grid_queries(5, 3)).reshape(grid.shape), grid, atol=1e-5, rtol=1e-5)


def test_targets_select_samples():
    targets = Targets(torch.arange(3.0)[:, None], torch.zeros(3, 2, 2, 1))
    chosen = targets.select(torch.tensor([2, 0]))
    assert chosen.token.flatten().tolist() == [2.0, 0.0]
    assert chosen.grid is not None
    assert len(chosen.grid) == 2


def test_rgb_objective_asks_for_colours_alone():
    assert set(get_objective("token+rgb").outputs) == {"token", "rgb"}
    assert FAST.config(16).rgb is None
    assert replace(FAST, objective="token+rgb").config(16).rgb is not None


def test_overfitting_a_picture_lowers_every_term():
    case = make_case()
    apm = AsynchronousPerceptionMachine(preset("apm-tiny", features=16, readout="mean"))
    generator = torch.Generator().manual_seed(0)
    steps = list(overfit(apm, case.picture, case.token, case.grid, OverfitSettings(iterations=60, points=8), generator))
    assert len(steps) == 60
    assert steps[-1].values["loss"] < 0.8 * steps[0].values["loss"]


def test_jittered_queries_stay_in_their_cells():
    queries = jittered_queries(4, torch.Generator().manual_seed(0)).reshape(4, 4, 2)
    assert ((queries * 4).floor()[..., 0] == torch.arange(4.0)).all()
    assert ((queries * 4).floor()[..., 1] == torch.arange(4.0)[:, None]).all()


def test_drawn_locations_cover_rows_and_columns_evenly():
    """A Latin hypercube: whole rounds ask every row and every column alike, whatever the seed; all points equally."""
    from glom.adaptation.ttt import _draw
    from glom.columns import grid_queries

    side = 6
    everywhere = grid_queries(side, side)
    for count in (1, 4, 6, 12, 15, 35):
        generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
        drawn = _draw(everywhere, count, generators)
        assert drawn.shape == (4, count, 2)
        assert not torch.equal(drawn[0], drawn[1]) or count == 1
        for axis in (0, 1):
            for sample in drawn[..., axis]:
                times = torch.unique(sample, return_counts=True)[1]
                assert int(times.max()) <= -(-count // side)
                assert len(times) == min(count, side)
    assert _draw(everywhere, 36, generators) is everywhere
    assert _draw(everywhere, None, generators) is everywhere
    many = _draw(everywhere, side, [torch.Generator().manual_seed(seed) for seed in range(3000)])
    flat = (many * side).floor().long()
    share = torch.bincount((flat[..., 1] * side + flat[..., 0]).flatten(), minlength=side * side) / many[..., 0].numel()
    assert float((share * side * side - 1).abs().max()) < 0.25


def test_a_recorded_run_can_be_of_clean_pictures_alone_and_stop_early(image_folder, tmp_path, capsys):
    record = tmp_path / "record.json"
    asked = ("--teacher", "glom-tiny", "--corruptions", "", "--stop", "cosine:0.9", "--limit", "2", "-q")
    bench = in_process(capsys, bench_commands, "bench")
    code, _, err = bench("ttt", image_folder, *asked, "--out", tmp_path / "out", "--record", record)
    assert code == 0, err
    found = json.loads(record.read_text())
    assert [row["name"] for row in found["rows"]] == ["clean"]
    assert (
        found["settings"]["stop"] == "cosine:0.9" and found["rows"][0]["iterations"] < found["settings"]["iterations"]
    )
