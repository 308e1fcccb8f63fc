"""Devices and precisions by name."""

from __future__ import annotations

import pytest
import torch

from glom.devices import chosen_precision, resolve_precision
from glom.forward_forward import preset
from glom.forward_forward.networks import learner_of
from glom.runs.notices import heard, listening

CPU = torch.device("cpu")


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_it_is_in_hardware(monkeypatch, native):
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    assert chosen_precision("auto", CPU) == ("bf16" if native else "fp32")
    assert [chosen_precision(name, CPU) for name in ("fp32", "tf32", "bf16")] == ["fp32", "tf32", "bf16"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda precision: chosen_precision(precision, CPU),
        lambda precision: resolve_precision(precision, CPU),
        lambda precision: learner_of((1, 4, 4), 3, preset("supervised", widths=(6, 6), precision=precision), CPU),
    ],
    ids=["chosen", "a teacher's", "a network's"],
)
def test_bf16_that_is_slow_here_is_told(monkeypatch, native, precision, ask):
    """Once, wherever it was asked for; nothing is refused."""
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: native)
    with listening(lambda text: None):
        ask(precision)
        ask(precision)
        assert len(heard()) == (precision == "bf16" and not native)
        assert all("fp32" in text and "CPU" in text for text in heard())
