"""`apm bench ff`: every figure there, from the same work on both sides."""

from __future__ import annotations

import json

import torch
import typer

import commands.bench_ff as bench_ff
from commands.common import guard
from experiments.bench.ff import FFBench, StepProducts, pictures, run_ff, straight_loop

FEW = {"widths": (32, 32), "batch": 10, "steps": 2, "rounds": 2, "large": 64, "trained": 3}
TINY = FFBench(**FEW)


def test_products_are_those_of_a_step():
    """1 x the first layer forward and backward, 3 x forward and 2 x backward of the others: counted by hand."""
    assert StepProducts([784, 1000, 1000], 100, torch.float32).flops == 100 * (2 * 2 * 784_000 + 5 * 2 * 1_000_000)


def test_every_figure_is_there():
    told: list[str] = []
    found = run_ff(TINY, told.append)
    for key, *_ in bench_ff.FIGURES:
        assert found[key] > 0 and found["spread"][key]["min"] <= found[key] <= found["spread"][key]["max"]
    assert set(found["epoch_seconds"]) == {k for k in found["seconds"] if k != "large product"}
    assert found["others"] >= 0 and found["asked"]["steps"] == 2 and told[-1] == "round 2 of 2"


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
