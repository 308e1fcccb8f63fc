"""Device code without a device: every model's step on tensors that say they are on CUDA gives the CPU's numbers, meets
no tensor of another device, and reads back what it says it reads."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from experiments.bench.host_reads import MORE, counted, draw, reads, row
from experiments.bench.standin import StandIn
from glom import execution
from glom.adaptation.settings import PRESETS, settings_for
from glom.apm import blank_apm, preset
from glom.columns import grid_queries
from glom.devices import moved, resolve_device, tf32
from glom.methods import METHODS, FewShot, Task, make_method
from glom.methods.prompts import PRESETS as PROMPTS
from glom.teachers.registry import load_teacher
from tests.conftest import make_image
from tests.glom.methods.small import CLASSES, Small

CUDA = torch.device("cuda:0")


def numbers(found: Any) -> Tensor:
    """Everything in lists, tensors and numbers, in one vector on the CPU."""
    if isinstance(found, list | tuple):
        return torch.cat([numbers(x) for x in found])
    return torch.as_tensor(found).detach().cpu().double().reshape(-1)


def test_the_device_demands_what_a_real_one_does():
    with StandIn() as device:
        x, host = draw(3, 4).to("cuda"), draw(3, 4)
        assert x.device == CUDA and x.is_cuda and resolve_device("auto") == CUDA and not host.is_cuda
        far, net = torch.tensor([0, 1]), nn.Linear(4, 2)
        for wrong in (lambda: x + host, lambda: x @ host.T, lambda: x[far], lambda: net(x)):
            with pytest.raises(RuntimeError, match="meets tensors on cuda:0 and on"):
                wrong()
        torch.testing.assert_close((x * torch.tensor(2.0)).cpu(), host * 2)
        assert device.reads == {"_to_copy": 1}
        waiting = [
            lambda: float(x[0, 0]), lambda: bool((x > 0).all()), lambda: x.tolist(), lambda: x[x > 0], x.nonzero,
            lambda: torch.unique(x), lambda: host.copy_(x), lambda: x[0, 0].item(),
        ]  # fmt: skip
        for read in waiting:
            before = device.reads.total()
            read()
            assert device.reads.total() == before + 1
        with pytest.raises((TypeError, RuntimeError)):
            x.numpy()
    assert not torch.empty(2).is_cuda and draw(2).tolist() == draw(2).tolist()


@pytest.mark.parametrize("name", list(reads()))
def test_every_step_is_the_cpus_and_reads_what_it_says(name: str):
    read = reads()[name]
    here = read.loop(torch.device("cpu"), MORE)
    there, more = counted(read.loop, MORE)
    torch.testing.assert_close(numbers(there), numbers(here), rtol=2e-4, atol=2e-5)
    told = row(name, read, more)
    assert told["in_loop"] == read.allowed and bool(read.allowed) == bool(read.why)


def test_a_loop_that_reads_is_caught():
    def loop(device: torch.device, steps: int) -> list[float]:
        x = draw(3).to(device)
        return [float(x.sum()) for _ in range(steps)]

    assert row("bad", next(iter(reads().values())).__class__(loop))["in_loop"] == 1


@pytest.mark.parametrize("how", ["plain", "folded", "streamed"])
def test_the_published_machine_goes_forward_on_torchs_fake_tensors(how: str):
    """At its full size, which costs nothing there; torch's rule for two devices instead of ours. See `standin`."""
    where = execution.locate(grid_queries(32, 32))
    with FakeTensorMode(allow_non_fake_inputs=False) as mode, torch.no_grad(), torch.device("cuda"):
        apm = blank_apm(preset("apm-ttt"))
        there = execution.Locations(where.kind, where.count, torch.empty(32), torch.empty(32))
        images = torch.empty(2, 3, 448, 448)
        found = execution.run(apm, images, there, ("token", "features"), how, chunk=300 if how == "streamed" else None)
        assert mode is not None
    assert found.token is not None and found.features is not None
    assert (found.token.device.type, tuple(found.token.shape)) == ("cuda", (2, 768))
    assert tuple(found.features.shape) == (2, 1024, 768)


def test_products_in_tf32_are_asked_for_and_given_back():
    held = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for wanted in (True, False):
        with tf32(wanted, CUDA):
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (wanted, wanted)
        with tf32(wanted, torch.device("cpu")):
            assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == held
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == held
    with StandIn():
        assert moved(torch.ones(2), CUDA).is_cuda


# Two teachers are two of these; the three other networks of the masked family differ in what of them learns.
METHODS_HERE = sorted(
    name for name, make in METHODS.items()
    if not make.needs_second and name not in ("fine-tune", "joint-train", "vit-probe")
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS_HERE)
def test_a_method_says_on_a_device_what_it_says_here(name: str, monkeypatch):
    """Of a picture, after it has learned where it learns."""
    for settings in PROMPTS.values():
        monkeypatch.setitem(settings, "glom-tiny", replace(settings["glom-tiny"], epochs=3))
    monkeypatch.setitem(PRESETS["fast"], "iterations", 2)
    monkeypatch.setitem(PRESETS["fast"], "graphs", False)
    monkeypatch.setattr("glom.methods.adapted.settings_for", partial(settings_for, apm="apm-tiny"))
    # Autocast knows of no device that stands in.
    monkeypatch.setattr("glom.devices.native_bf16", lambda device=None: False)

    def answers(device: torch.device) -> Tensor:
        small = not METHODS[name].needs_text and not name.startswith(("apm-grid", "apm-trained", "ttt-mae", "dmn"))
        teacher = Small() if small else load_teacher("glom-tiny", str(device))
        if small:
            teacher.device = device
            teacher._model.to(device)
            assert teacher._classifier is not None
            teacher.use_rows(teacher._model[-1], CLASSES)  # type: ignore[index,arg-type]
        classes = CLASSES if small else ("cat", "dog", "ship")
        task = Task(teacher, classes, device)
        method = make_method(name, task, True)
        if method.needs_shots:
            pictures = [make_image(i) for i in range(len(classes))]
            shots = FewShot(task.read(pictures), torch.arange(len(classes)).to(device), pictures)
            method.fit(shots)
        return method.predict(make_image(30), 0).detach().cpu()

    here = answers(torch.device("cpu"))
    with StandIn():
        there = answers(CUDA)
    torch.testing.assert_close(there, here, rtol=2e-3, atol=2e-3)


def test_the_command_prints_reads_a_step(call, monkeypatch):
    few = {name: read for name, read in reads().items() if name in ("overfitting", "test-time training, stop rule")}
    monkeypatch.setattr("experiments.bench.host_reads.reads", lambda: few)
    code, text, _ = call("bench", "host-reads", "--json", "--quiet")
    found = json.loads(text)
    assert code == 0 and found["most_unsaid"] == 0
    assert [(r["what"], r["in_loop"]) for r in found["rows"]] == [
        ("test-time training, stop rule", 1.0),
        ("overfitting", 0.0),
    ]
