"""`apm bench ff`: every figure there, from the same work on both sides."""

from __future__ import annotations

import json

import pytest
import torch
import typer

import commands.bench_ff as bench_ff
from commands.ending import guard
from experiments.bench.ff import FFBench, StepProducts, pictures, run_ff, straight_loop
from experiments.bench.ff_conv import FFConvBench, PlainLoop, memory, operations
from experiments.bench.going import Going
from glom.forward_forward import preset
from glom.forward_forward.conv import ConvLearner, drawn
from tests.helpers_results import drawn_again

FEW = {"widths": (32, 32), "batch": 10, "steps": 2, "rounds": 2, "large": 64, "trained": 3}
TINY = FFBench(**FEW)


def test_products_are_those_of_a_step():
    """1 x the first layer forward and backward, 3 x forward and 2 x backward of the others: counted by hand."""
    assert StepProducts([784, 1000, 1000], 100, torch.float32).flops == 100 * (2 * 2 * 784_000 + 5 * 2 * 1_000_000)


@pytest.mark.parametrize("native", [True, False])
def test_every_figure_is_there(monkeypatch, native):
    """Those of bf16 where the processor has such products."""
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    told = []
    found = run_ff(TINY, Going("ff", told.append))
    for key, *_ in bench_ff.FIGURES:
        assert (found[key] is None) == ("bf16" in key and not native)
        if found[key] is None:
            continue
        assert found[key] > 0 and found["spread"][key]["min"] <= found[key] <= found["spread"][key]["max"]
    assert set(found["epoch_seconds"]) == {k for k in found["seconds"] if k != "large product"}
    assert found["others"] >= 0 and found["asked"]["steps"] == 2
    rows = 27 if native else 21
    assert (told[-1].stage, told[-1].done, told[-1].total) == ("ff", rows, rows) and "round 2" in told[-1].message


def test_the_plain_loop_learns():
    """A baseline that does nothing would be no baseline: its goodness comes to tell right labels from wrong ones."""
    _, labels = pictures(200)
    x = torch.zeros(200, 784)
    x[torch.arange(200), 100 + labels] = 3.0
    torch.manual_seed(0)

    def batches():
        for _ in range(60):
            yield x, labels

    run = straight_loop([784, 40], batches)
    [layer] = next(c.cell_contents for c in run.__closure__ or () if isinstance(c.cell_contents, list))
    run()
    right, wrong = x.clone(), x.clone()
    right[torch.arange(200), labels] = 1
    wrong[torch.arange(200), (labels + 1) % 10] = 1
    high, low = (layer(v).pow(2).mean(1) for v in (right, wrong))
    assert (high > low).float().mean() > 0.9


def test_the_command(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(FFBench.PRESETS, "quick", FEW)
    root = typer.Typer()
    root.command("other")(lambda: None)
    root.command("ff")(bench_ff.ff)
    assert guard(root, ["ff", "--quick", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert error == "" and json.loads(out) == json.loads((tmp_path / "ff.json").read_text())
    assert json.loads(out)["bench"] == "ff" and "machine" in json.loads(out)
    assert guard(root, ["ff", "--quick"]) == 0
    out, _ = capsys.readouterr()
    assert "share of its products' rate" in out and "sample by sample" in out
    assert max(map(len, out.splitlines())) <= 100


CONV = {"widths": (10, 20), "batch": 4, "side": 8, "rounds": 2, "large": 64, "depths": (2, 4), "channels": 10}


def test_convolutions_are_counted_by_hand():
    net = drawn((3, 8, 8), 10, preset("conv", widths=(10, 20)), torch.device("cpu"))
    # 3 -> 10 in one group, 10 -> 20 in ten; forward and the weights' gradient.
    assert operations(net, 4, 8) == 2 * 2 * 4 * 64 * 9 * (3 * 10 + 20)


def test_memory_does_not_grow_with_layers_that_learn_alone():
    """Of two networks of twice the layers, the twin keeps twice the maps; forward-forward keeps one layer's."""
    settings = FFConvBench(**{**CONV, "batch": 16, "side": 16})
    few, many = memory(settings, 2), memory(settings, 6)
    assert many["forward_forward_mib"] < 1.15 * few["forward_forward_mib"]
    assert many["twin_mib"] > 1.8 * few["twin_mib"] and many["twin_mib"] > many["forward_forward_mib"]


def test_the_convolutional_plain_loop_is_the_same_step():
    """What is timed beside ours learns the same: equal weights after a step, but for rounding."""
    asked = preset("conv", widths=(10, 20), jitter=0)
    x, labels = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    own, plain = ConvLearner((3, 8, 8), 10, asked, torch.device("cpu")), PlainLoop((3, 8, 8), asked)
    own.learn(x, labels, 1.0, torch.Generator())
    plain.learn(x, labels, torch.Generator())
    for one, other in zip(own.layers, plain.net.layers, strict=True):
        torch.testing.assert_close(one.norm.running_var, other.norm.running_var)
        torch.testing.assert_close(one.conv.weight, other.conv.weight, rtol=0, atol=1e-3)


def test_the_convolutional_command(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(FFConvBench.PRESETS, "quick", CONV)
    root = typer.Typer()
    root.command("other")(lambda: None)
    root.command("ff-conv")(bench_ff.ff_conv)
    assert guard(root, ["ff-conv", "--quick", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    out, error = capsys.readouterr()
    found = json.loads(out)
    assert error == "" and found == json.loads((tmp_path / "ff-conv.json").read_text())
    assert all(found[key] > 0 for key, *_ in bench_ff.CONV_FIGURES) and len(found["memory"]) == 2
    assert (tmp_path / "ff-conv-memory.png").stat().st_size > 5_000
    drawn_again(tmp_path)
