"""The one training loop: killed anywhere it ends at the same bits; its file is whole, its own, and of this version."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from glom.errors import InputError, RunError
from glom.runs.artifacts import RunFolder
from glom.runs.seeds import fixed_seed
from glom.training import epochs as epochs_module
from glom.training.epochs import Epochs
from glom.training.loop import STATE, Diverged, Training

PICTURES = torch.randn(22, 6, generator=torch.Generator().manual_seed(1))


class Stopped(Exception):
    """As a kill: nothing after it runs."""


def training(path: Path | None, rate: float = 0.1, **more: object) -> Training:
    with fixed_seed(3):
        net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate)
    return Training(net, optimiser, lambda step: rate / (1 + step), 9, path, **more)  # type: ignore[arg-type]


def loss_of(one: Training, stop: int | None = None):
    def loss(step: int) -> Tensor:
        if step == stop:
            raise Stopped
        noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        return (one.model(noise) - noise).square().mean()

    return loss


def finished(one: Training) -> dict[str, Tensor]:
    one.restore()
    for _ in one.run(loss_of(one), lambda done: done % 2 == 0):
        pass
    return one.model.state_dict()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stop", [0, 1, 4, 8])
def test_killed_at_any_step_it_ends_at_the_same_bits(tmp_path, stop):
    whole = finished(training(None))
    one = training(tmp_path / STATE)
    with pytest.raises(Stopped):
        list(one.run(loss_of(one, stop), lambda done: done % 2 == 0))
    again = training(tmp_path / STATE)
    assert again.restore() == stop // 2 * 2
    assert same(finished(again), whole)


def test_parts_of_a_loss_are_the_loss(tmp_path):
    whole = finished(training(None))
    one = training(None)
    loss = loss_of(one)
    for _ in one.run(lambda step: iter([loss(step) / 4, 3 * loss(step) / 4, torch.zeros(())]), lambda done: False):
        pass
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [2, 5, 7, 10])
def test_an_epoch_goes_on_in_its_midst(tmp_path, monkeypatch, stop):
    """Three steps an epoch, a state after every second one: orders, noise and means are the uninterrupted ones."""
    monkeypatch.setattr(epochs_module, "KEEP", 2)
    monkeypatch.setattr(epochs_module, "TELL", 1)

    def run(out: Path, stop: int | None, resume: bool = False) -> list[dict]:
        epochs = Epochs(len(PICTURES), 7, lambda epoch: 10 + epoch)
        one = training(out / STATE, beside={"epochs": epochs})
        one.total = 12

        def loss(step: int) -> Tensor:
            x = PICTURES[epochs.pictures(step)]
            if step == stop:
                raise Stopped
            noise = torch.randn(x.shape, generator=epochs.generator)
            return torch.stack([(one.model(x + noise) - x).square().mean(), torch.tensor(3.0)])

        with RunFolder(out, "test", {}, resume) as folder:
            one.restore()
            return list(epochs.run(one, loss, folder, lambda epoch, means: {"id": f"{epoch}", **means}))

    told = run(tmp_path / "whole", None)
    assert [t.done for t in told] == list(range(1, 13)) and all(t.values["accuracy"] == 42.8571 for t in told)
    with pytest.raises(Stopped):
        run(tmp_path / "cut", stop)
    again = run(tmp_path / "cut", None, resume=True)
    assert again == told[int(again[0].done) - 1 :] and again[0].done > stop - 2
    assert (tmp_path / "cut" / "results.jsonl").read_bytes() == (tmp_path / "whole" / "results.jsonl").read_bytes()
    one, other = (torch.load(tmp_path / x / STATE, weights_only=True)["model"] for x in ("cut", "whole"))
    assert same(one, other)


def test_a_full_disk_is_one_line_and_the_last_whole_state_stays(tmp_path, monkeypatch):
    one = training(tmp_path / STATE)
    real = os.fsync

    def full(file: int) -> None:
        if one.done == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"the disk is full: .*state.pt") as caught:
        list(one.run(loss_of(one), lambda done: done % 2 == 0))
    assert "\n" not in str(caught.value) and [p.name for p in tmp_path.iterdir()] == [STATE]
    monkeypatch.undo()
    again = training(tmp_path / STATE)
    assert again.restore() == 2 and same(finished(again), finished(training(None)))


@pytest.mark.parametrize("what", ["loss", "gradient", "weights"])
def test_what_diverges_is_named_and_never_kept(tmp_path, what):
    one = training(tmp_path / STATE)

    def loss(step: int) -> Tensor:
        found = loss_of(one)(step)
        if step == 5 and what == "loss":
            return found * math.nan
        return (found * 0).sqrt() if step == 5 and what == "gradient" else found

    def check() -> None:
        if one.done == 5 and what == "weights":
            raise Diverged("the weights")

    one.check = check
    with pytest.raises(RunError, match=rf"the {what}.* diverged at step 6; the state of step 4 is kept"):
        list(one.run(loss, lambda done: done % 2 == 0))
    assert training(tmp_path / STATE).restore() == 4


def test_files_that_cannot_be_gone_on_with(tmp_path):
    one = training(tmp_path / STATE, match={"pictures": "a"})
    finished(one)
    with pytest.raises(InputError, match="trained with other pictures"):
        training(tmp_path / STATE, match={"pictures": "b"}).restore()
    other = training(tmp_path / STATE)
    other.model = nn.Linear(2, 2)
    with pytest.raises(InputError, match="does not fit this model"):
        other.restore()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-500])
    with pytest.raises(InputError, match=r"damaged .*; delete it to begin again"):
        one.restore()


@pytest.mark.parametrize(
    ("name", "model", "optimiser"),
    [("state.pt", "apm", "optimiser"), ("checkpoint.pt", "model", "optimizer"), ("training.pt", "model", "optimiser")],
)
def test_states_of_earlier_versions_are_gone_on_with(tmp_path, name, model, optimiser):
    one = training(None)
    steps = one.run(loss_of(one), lambda done: False)
    for _ in range(5):
        next(steps)
    torch.save({"step": 5, model: one.model.state_dict(), optimiser: one.optimiser.state_dict()}, tmp_path / name)
    again = training(tmp_path / STATE)
    assert again.restore() == 5 and same(finished(again), finished(training(None)))
    assert training(tmp_path / STATE).restore() == 9


@pytest.mark.parametrize(
    ("name", "state"),
    [("checkpoint.pt", {"epochs": 3, "net": {}}), (STATE, {"format": 2, "match": {}, "step": 3})],
)
def test_states_of_other_versions_are_refused_in_one_line(tmp_path, name, state):
    torch.save(state, tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is of another version") as caught:
        training(tmp_path / STATE).restore()
    assert "\n" not in str(caught.value)
