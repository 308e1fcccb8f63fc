"""The benchmarks measure what they say: the published loop is the plain forward, the counted work is the work done."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench import execution as bench_execution
from experiments.bench import memory as bench_memory
from experiments.bench import scaling as bench_scaling
from experiments.bench.apart import Apart
from experiments.bench.going import Going
from experiments.bench.published import published_apm, published_forward, published_optimiser, published_step
from experiments.bench.report import figures, load, markdown
from experiments.bench.timing import Products, beyond, flops, interleave, line, products, ratios, record, save, spread
from glom import execution
from glom.allocator import keep_freed_memory
from glom.apm import AsynchronousPerceptionMachine, preset
from glom.errors import InputError, RunError
from glom.runs.artifacts import read_lines
from glom.runs.events import Event

TINY = preset("apm-tiny")


def image_and_target() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, 32, 32, generator=g).double(), torch.randn(1, 128, generator=g).double()


def test_published_loop_is_the_plain_forward() -> None:
    """Eight copies in chunks have one plain copy's token, colours and, averaged by the loss, its gradients."""
    image, target = image_and_target()
    apm = published_apm(TINY).double()
    plain = apm(image, outputs=("rgb", "token"))
    F.mse_loss(plain.token, target).backward()
    expected = {name: p.grad.clone() for name, p in apm.named_parameters() if p.grad is not None}
    token, colours = published_forward(apm, image)
    assert token.shape == (8, 128)
    assert colours is not None
    torch.testing.assert_close(token, plain.token.expand(8, -1), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(colours, plain.rgb.expand(8, -1, -1), rtol=1e-12, atol=1e-14)
    optimiser = published_optimiser(apm, lr=0.0)
    loss = published_step(apm, optimiser, image, target)
    assert loss == pytest.approx(float(F.mse_loss(plain.token, target).detach()))
    for name, p in apm.named_parameters():
        if name in expected:
            assert p.grad is not None
            torch.testing.assert_close(p.grad, expected[name], rtol=1e-9, atol=1e-14)


def test_published_settings() -> None:
    apm = published_apm(TINY)
    (group,) = published_optimiser(apm).param_groups
    assert (group["foreach"], group["fused"], group["lr"]) == (False, False, 1e-4)
    drawn = torch.cat([p.detach().flatten() for p in apm.parameters()])
    assert float(drawn.std()) == pytest.approx(0.01, rel=0.01)


def test_arithmetic_of_a_step() -> None:
    """By hand, apm-ttt on 1,024 columns: 128.05 GFLOP plain, 110.87 with a fold that is not trained, 64.99 folded."""
    config = preset("apm-ttt")
    inner = 1024 * (4096 * 2048 + 2048 * 1024)
    plain = 6 * (1024 * 2048 * 4096 + inner + 1024 * 1024 * 768 + 1024 * 768 * 1536 + 2 * 768 * 768)
    folded = 6 * inner + 6 * 1024 * 4096 + 4 * 64 * 512 * 4096
    assert flops(products(config, 1024, folded=False)) == plain == 128_050_790_400
    assert flops(products(config, 1024, folded=True)) == folded == 64_986_546_176
    assert plain - 2 * 1024 * 2048 * 4096 == 110_870_921_216


@pytest.mark.parametrize("how", ["plain", "folded"])
def test_arithmetic_is_what_runs(how: str) -> None:
    """PyTorch's own count of a step agrees but for what is small: the fold, the scores, the pooled vectors."""
    config = preset("apm-small", rgb=None)
    apm = AsynchronousPerceptionMachine(config)
    image = torch.zeros(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        token = execution.run(apm, image, None, ("token",), how).token
        assert token is not None
        token.sum().backward()
    counted = flops(products(config, 256, folded=how == "folded"))
    assert counted <= counter.get_total_flops() <= 1.05 * counted


def test_products_are_square_grids() -> None:
    with pytest.raises(InputError, match="square grid"):
        products(TINY, 12, folded=True)
    work = Products(products(TINY, 64, folded=True), torch.float32)
    work()
    assert work.flops == flops(products(TINY, 64, folded=True))
    twice = Products([(4, 4, 4, 2)], torch.float32, samples=2)
    twice()
    assert twice.flops == 2 * 2 * 64 * 2


def test_interleave_takes_turns() -> None:
    order: list[str] = []
    seconds = interleave({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    with pytest.raises(InputError, match="at least one round"):
        interleave({}, rounds=0)


def test_ratios_and_spread() -> None:
    assert ratios([4.0, 9.0], [2.0, 3.0]) == [2.0, 3.0]
    assert spread([2.0, 3.0]) == {"min": 2.0, "median": 2.5, "max": 3.0, "n": 2}
    with pytest.raises(InputError, match="nothing was measured"):
        spread([])


def make_adder(first: int) -> Callable[[int], int]:
    return lambda second: first + second


def make_failure() -> Callable[[], None]:
    def fail() -> None:
        raise ValueError("no")

    return fail


def test_apart() -> None:
    with Apart(make_adder, 1) as adder:
        assert [adder.ask(2), adder.ask(3)] == [3, 4]
    with Apart(make_failure) as failure, pytest.raises(RunError, match="ValueError: no"):
        failure.ask()


TINY_EXECUTION = bench_execution.ExecutionSettings(
    apm="apm-tiny",
    features=128,
    rounds=1,
    warmup=0,
    published_rounds=1,
    stacks=(1, 2),
    small=(("apm-tiny", 64),),
    small_stacks=(1, 2),
    adapt_rounds=1,
    teacher="",
)


@pytest.mark.parametrize("native", [True, False])
def test_execution_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """What is of bf16 is there where the processor multiplies so in hardware, and left out where that takes minutes."""
    monkeypatch.setattr(bench_execution, "keep_freed_memory", lambda: False)
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    told: list[Event[Any]] = []
    result = bench_execution.run_execution(TINY_EXECUTION, Going("execution", told.append))
    wanted = {"folded_over_published", "folded_over_best_plain", "matmul_share"}
    assert all(result[key] > 0 for key in wanted)
    assert all((result[key] is not None) == native for key in bench_execution.OF_BF16)
    assert told[-1].done == told[-1].total == max(event.total for event in told) == told[0].total
    assert result["max_output_difference"] < 1e-5
    assert result["max_gradient_difference"] < 1e-5
    assert result["differences"]["float64"]["max_output_difference"] < 1e-12
    assert {"min", "median", "max", "n"} == set(result["spread"]["matmul_share"])
    names = [row["name"] for row in result["rows"] if row["apm"] == "apm-tiny"]
    assert {"as published", "plain, best", "folded", "streamed", "stacked, S = 2"} <= set(names)
    assert ("folded, bf16" in names) == native
    assert [c["precision"] for c in result["adaptation"]["cases"]] == ["fp32", "bf16"][: 1 + native]
    value = check_saved("execution", result, tmp_path)
    table = markdown({"execution": value})
    assert "| one iteration, best plain / folded, fp32 |" in table
    assert "Machine: processor" in table


def test_memory_record(tmp_path: Path) -> None:
    settings = bench_memory.MemorySettings(
        apm="apm-tiny", features=128, sides=(3, 20), folded_sides=(3,), plain_sides=(3, 20), threads=1
    )
    result = bench_memory.run_memory(settings)
    assert result["ratio_224_over_7"] > 0
    assert result["activation_ratio"] > 0
    # What grows with the columns in plain execution is seen by the measurement.
    assert result["growth"]["plain"]["activations"] > result["activation_ratio"]
    assert [row["columns"] for row in result["rows"]] == [9, 400, 9, 9, 400]
    check_saved("memory", result, tmp_path)


def test_scaling_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scaling, "keep_freed_memory", lambda: False)
    settings = bench_scaling.ScalingSettings(
        apm="apm-tiny",
        features=128,
        sides=(8,),
        rounds=1,
        warmup=0,
        samples_rounds=1,
        iterations=1,
        fast_iterations=1,
        growth_sides=(4, 8, 12),
        growth_rounds=1,
    )
    result = bench_scaling.run_scaling(settings)
    assert result["columns_speedup"] > 0
    assert result["samples_speedup"] > 0
    assert result["columns_speedup_at"] == 64
    assert result["two_processes"]["max_gradient_difference"] < 1e-6
    assert set(result["growth"]["fit_seconds_per_column"]) == {"folded", "streamed"}
    check_saved("scaling", result, tmp_path)


def test_a_look_ends_in_time_and_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs away leaves one round of each, some sizes out, and says so."""
    events: list[Event[Any]] = []
    going = Going("look", events.append, 60, tmp_path / "a" / "rows.jsonl")
    going.expect(20)
    now = time.monotonic()
    monkeypatch.setattr("experiments.bench.going.time.monotonic", lambda: now + 59)
    steady = interleave({"a": lambda: 1, "b": lambda: 2}, 3, warmup=2, tell=going, about="x")
    assert {name: len(taken) for name, taken in steady.items()} == {"a": 3, "b": 3}
    monkeypatch.setattr("experiments.bench.going.time.monotonic", lambda: now + 61)
    seconds = interleave({"a": lambda: 1, "b": lambda: 2}, 3, warmup=2, tell=going, about="x")
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 1, "b": 1}
    assert going.left_out == ["x: round 1 of 3 and on"]
    assert any("x: a: " in event.message and "0:00 left" in event.message for event in events)
    assert [(event.stage, event.done, event.total) for event in events[1:3]] == [("look", 0, 20), ("look", 1, 20)]
    assert (events[-1].done, events[-1].total) == (12, 12)  # four rounds of both are not to come any more
    rows = read_lines(tmp_path / "a" / "rows.jsonl")
    assert len(rows) == 2 * 5 + 2 and rows[0]["row"] == "x: a" and rows[0]["round"] == -1
    affordable, took = bench_memory.affordable, bench_memory.Took(100, 2.0, 0.5)
    assert took.at(20) == 2.0 + 3 * 0.5 * 3
    assert (affordable("streamed", 224, took, going), affordable("folded", 7, None, going)) == (0, 7)
    assert affordable("streamed", 224, took, bench_execution.SILENT) == 224


def test_a_few_published_chunks_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_execution, "keep_freed_memory", lambda: False)
    settings = replace(TINY_EXECUTION, published_chunks=2, adapt_steps=2, small=())
    result = bench_execution.run_execution(settings)
    names = [row["name"] for row in result["rows"]]
    assert "as published, from 2 and 6 of 32 chunks" in names
    assert "extrapolated" in result["notes"]["published"] and result["fast_over_published_per_image"] > 0
    apm, image = published_apm(TINY), torch.zeros(1, 3, 32, 32)
    _, colours = published_forward(apm, image, chunks=2)
    assert colours is not None and colours.shape[:2] == (8, 4)  # 2 chunks of 16 rows: 4 locations of 8 copies
    assert beyond((1, 2.0), (3, 1.0), 10) == 2.0  # never below what was measured
    for quick in (s.of("quick") for s in (bench_execution.ExecutionSettings, bench_memory.MemorySettings)):
        assert 0 < quick.seconds <= 150


def check_saved(bench: str, result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A record is complete, goes through JSON, and its figures are found again."""
    value = record(bench, result["asked"], result)
    save(folder, value)
    again = load(folder)[bench]
    assert again == json.loads(json.dumps(value))
    assert {"bench", "settings", "machine", "versions"} <= set(again)
    assert figures({bench: again})
    return again


def test_line() -> None:
    fit = line([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    assert fit == {"slope": 2.0, "intercept": 1.0, "r2": 1.0}


def test_keeping_memory_changes_no_result() -> None:
    with Apart(make_token, False) as as_it_comes, Apart(make_token, True) as kept:
        assert as_it_comes.ask() == kept.ask()


def make_token(keep: bool) -> Callable[[], list[float]]:
    if keep:
        keep_freed_memory()
    apm = published_apm(replace(TINY, rgb=None))

    def run() -> list[float]:
        token = execution.run(apm, torch.zeros(1, 3, 32, 32)).token
        assert token is not None
        return token[0].tolist()

    return run


def test_a_look_at_all_shares_its_time_out(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands import bench

    asked: dict[str, int] = {}

    def noted(name: str, settings: Any) -> dict[str, Any]:
        asked[name] = settings.seconds
        return {"bench": name, "machine": {"cores": 2}, "left_out": []}

    monkeypatch.setattr(bench, "measure", lambda name, settings, *_: noted(name, settings))
    monkeypatch.setattr(bench, "measure_ff", lambda settings, *_: noted("ff", settings))
    monkeypatch.setattr(bench, "measure_islands", lambda settings, *_: noted("islands", settings))
    monkeypatch.setattr(bench, "save_compute", lambda *_: None)
    monkeypatch.setattr(bench.time, "monotonic", lambda: 1000.0)
    assert call("bench", "all", "--quick", "--out", tmp_path, "--json", "--quiet")[0] == 0
    assert asked == {"execution": 24, "memory": 30, "scaling": 40, "ff": 60, "islands": 120}
    assert call("bench", "all", "--out", tmp_path, "--json", "--quiet")[0] == 0
    assert set(asked.values()) == {0}
