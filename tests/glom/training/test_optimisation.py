"""Numbers too small to be normal are zero within `flushed`, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from glom.forward_forward import preset
from glom.forward_forward.epochs import run_epoch
from glom.forward_forward.twin import Twin
from glom.runs.events import finished
from glom.training.optimisation import flushed

SMALL = 1e-39  # 1.2e-38 is the smallest normal one


def kept() -> bool:
    return bool((torch.full((100,), SMALL, dtype=torch.float32) * 1.0).sum() > 0)


@pytest.fixture
def able():
    """Skips where the processor cannot."""
    possible = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    if not possible:
        pytest.skip("this processor does not flush")
    yield
    torch.set_flush_denormal(False)


def test_within_it_they_are_zero_and_afterwards_as_before(able):
    assert kept()
    with flushed():
        assert not kept()
        with flushed():
            assert not kept()
        assert not kept()
    assert kept()
    with pytest.raises(ValueError), flushed():
        raise ValueError
    assert kept()
    torch.set_flush_denormal(True)
    for kind in (torch.float32, torch.float64):  # whose smallest is smaller
        before = torch.get_default_dtype()
        torch.set_default_dtype(kind)
        with flushed():
            pass
        torch.set_default_dtype(before)
        assert not kept()


def test_a_twin_s_memory_is_rid_of_them_and_its_weights_feel_nothing(able):
    settings = preset("supervised", "quick", widths=(32, 32), batch=10)
    images = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 4
    weights = []
    for value in (0.0, SMALL):
        twin = Twin((1, 6, 6), 4, settings, torch.device("cpu"))

        def step(x, y, g, twin=twin):
            return twin.learn(x, y, 1.0, g), None

        finished(run_epoch(twin, step, images, labels, settings, 0))
        memory = [twin.optimizer.state[p] for p in twin.parameters()]
        gone = [state["exp_avg"] == 0 for state in memory]
        assert any(map(torch.any, gone))
        for state, where in zip(memory, gone, strict=True):
            state["exp_avg"][where] = value
        assert any(bool((s["exp_avg"] != 0)[where].any()) for s, where in zip(memory, gone, strict=True)) == bool(value)
        finished(run_epoch(twin, step, images, labels, settings, 1))
        means = [s["exp_avg"].abs() for s in memory]
        assert not any(bool(((m != 0) & (m < torch.finfo(torch.float32).tiny)).any()) for m in means)
        weights.append([p.detach().clone() for p in twin.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
