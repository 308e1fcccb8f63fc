"""Every setting of a forward-forward training changes what is learned, or is refused where it would not."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from glom.errors import InputError
from glom.forward_forward.networks import learner_of, twin_of
from glom.forward_forward.samples import drop
from glom.forward_forward.settings import MODES, OF_MODES, FFSettings, own, preset

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 8, 8), 3
# Other values than any preset's.
OTHER: dict[str, Any] = {
    "lr": 0.02, "momentum": 0.5, "decay": 0.1, "goodness": "mean", "sign": "min", "threshold": 2.0,
    "temperature": 3.0, "peer": 0.5, "negatives": "uniform", "jitter": 1, "readout_lr": 0.5, "readout_decay": 0.1,
    "objective": "symba", "cumulative": True, "flip": True, "input_dropout": 0.5, "blur": 0, "field": 3,
    "iterations": 6, "damping": 0.6, "read": (1, 1), "precision": "bf16", "seed": 1, "widths": (6, 9, 3),
}  # fmt: skip
# What the loop around the steps does.
OF_THE_LOOP = {"mode", "epochs", "batch", "readout_epochs", "holdout", "baseline", "baseline_epochs", "baseline_lr"}
SEEN = {"jitter": 1, "flip": True, "input_dropout": 0.5}


def asked(mode: str, **given: Any) -> FFSettings:
    return preset(mode, "quick", **{"widths": (3, 3) if mode == "local" else (6, 9), "jitter": 0, **given})


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.rand(30, *SHAPE, generator=g), torch.arange(30) % CLASSES


def learned(settings: FFSettings, twin: bool = False) -> list[torch.Tensor]:
    """What a network, or its twin, answers after two steps."""
    x, labels = pictures()
    network = (twin_of if twin else learner_of)(SHAPE, CLASSES, settings, CPU)
    g = torch.Generator().manual_seed(1)
    for _ in range(2):
        network.learn(x if twin else x.to(network.dtype), labels, 1.0, g)
    if twin:
        with torch.no_grad():
            return [network(x)]
    return [network.goodness(x).float(), *(scores.float() for scores in network.readouts(x).values())]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_all_settings_are_known_here():
    assert OTHER.keys() | OF_THE_LOOP == {field.name for field in fields(FFSettings)}
    assert OF_MODES.keys() <= OTHER.keys() | OF_THE_LOOP


@pytest.mark.parametrize("mode", MODES)
def test_a_setting_acts_or_is_refused(mode):
    plain = learned(asked(mode))
    assert equal(plain, learned(asked(mode)))
    for name, value in OTHER.items():
        if mode in OF_MODES.get(name, MODES):
            assert not equal(plain, learned(asked(mode, **{name: value}))), name
        else:
            with pytest.raises(InputError, match=f"`{name}` does nothing in {mode} mode"):
                asked(mode, **{name: value})
            asked(mode, **{name: getattr(FFSettings, name)})  # what a settings file of a run says again


@pytest.mark.parametrize("mode", MODES)
def test_the_twin_is_shown_pictures_in_the_same_way(mode):
    plain = learned(asked(mode), twin=True)
    for name, value in SEEN.items():
        assert not equal(plain, learned(asked(mode, **{name: value}), twin=True)), name


def test_settings_of_another_mode_in_an_old_folder_are_passed_over():
    saved = {"mode": "conv", "peer": 0.5, "widths": (10,), "objective": "symba"}
    assert own(saved) == {"mode": "conv", "widths": (10,), "objective": "symba"}


def test_dropped_pixels_are_missing_in_all_channels_and_the_rest_makes_up_for_them():
    x = torch.rand(400, 3, 9, 7, generator=torch.Generator().manual_seed(0)) + 1
    found = drop(x, 0.25, torch.Generator().manual_seed(1))
    kept = found != 0
    assert torch.equal(kept.any(1), kept.all(1))
    torch.testing.assert_close(found[kept], (x / 0.75)[kept])
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(found.mean((0, 2, 3)), x.mean((0, 2, 3)), rtol=0.02, atol=0)
    assert torch.equal(found, drop(x, 0.25, torch.Generator().manual_seed(1)))
    assert not torch.equal(found, drop(x, 0.25, torch.Generator().manual_seed(2)))
    assert drop(x.bfloat16(), 0.25, torch.Generator()).dtype == torch.bfloat16
