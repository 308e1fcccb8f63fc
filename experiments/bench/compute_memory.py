"""Peak memory of one action in a process of its own, net of what importing the libraries costs.

One helper process imports everything once; every case then runs in a fresh fork of it. On Linux the peak is the
resident set's high-water mark, reset after the imports (`ru_maxrss` survives a fork, and would report the parent's);
elsewhere `ru_maxrss`. On CUDA it is `torch.cuda.max_memory_allocated`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.bench import compute_models as models
from glom import execution
from glom.columns import grid_queries
from glom.devices import resolve_device
from glom.errors import InputError, RunError

STEPS = 2  # the second step has the optimiser's state and the activations together
VIEWS = 64


def _adapt(parts: Sequence[nn.Parameter | Tensor], loss: Callable[[], Tensor]) -> None:
    optimiser = torch.optim.Adam(parts, fused=True)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()


def _swin(device: torch.device) -> None:
    model, x = models.swin(device), models.pictures(device)
    _adapt(list(model.parameters()), lambda: model(x).sum())


def _clip(device: torch.device) -> None:
    model: Any = models.clip(device)
    x, t = models.pictures(device), models.captions(device)
    _adapt(list(model.parameters()), lambda: model.encode_image(x).sum() + model.encode_text(t).sum())


def _clip_pass(device: torch.device) -> None:
    model: Any = models.clip(device)
    with torch.no_grad():
        model.encode_image(models.pictures(device))
        model.encode_text(models.captions(device))


def _tpt(device: torch.device) -> None:
    """64 views and one class: a thousand classes' activations do not fit beside them."""
    model = models.clip(device).requires_grad_(False)
    x, t = models.pictures(device, batch=VIEWS), models.captions(device)
    learned = torch.zeros(models.PROMPT, 512, device=device, requires_grad=True)
    _adapt([learned], lambda: models.tune_prompts(model, x, t, learned))


def _apm(device: torch.device, how: str) -> None:
    """The teacher's pass, then the student's steps with the teacher still there."""
    teacher: Any = models.clip(device).requires_grad_(False)
    with torch.no_grad():
        # The published student is twice as wide as this teacher's token: only sizes matter here.
        target = teacher.encode_image(models.pictures(device)).repeat(1, 2)
    apm = models.student(device)
    images, queries = models.pictures(device, 448), grid_queries(32, 32, device=device)

    def loss() -> Tensor:
        token = execution.run(apm, images, queries, ("token",), how).token
        assert token is not None
        return (token - target).square().mean()

    _adapt(list(apm.parameters()), loss)


def _clip_side(device: torch.device, side: int) -> None:
    with torch.no_grad():
        models.image_tower(device, side)(models.pictures(device, 16 * side))


def _apm_side(device: torch.device, side: int) -> None:
    apm, images = models.student(device), models.pictures(device, 448)
    with torch.no_grad():
        execution.run(apm, images, grid_queries(side, side, device=device), ("token",), "streamed", chunk=1024)


CASES: dict[str, Callable[[torch.device], None]] = {
    "swin": _swin,
    "tpt": _tpt,
    "clip": _clip,
    "clip pass": _clip_pass,
    "apm plain": lambda device: _apm(device, "plain"),
    "apm folded": lambda device: _apm(device, "folded"),
}
SIDED: dict[str, Callable[[torch.device, int], None]] = {"clip": _clip_side, "apm": _apm_side}


def case(name: str) -> Callable[[torch.device], None]:
    """What a name such as "swin" or "apm@56" (one pass over 56 x 56 columns) runs; `InputError` for another."""
    family, _, side = name.partition("@")
    if family in SIDED and side.isdigit() and int(side) > 0:
        return lambda device: SIDED[family](device, int(side))
    if name in CASES:
        return CASES[name]
    raise InputError(f"unknown memory case '{name}'; there are {', '.join(CASES)}, clip@SIDE and apm@SIDE")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def peak_bytes(action: Callable[[torch.device], None], device: torch.device) -> int:
    """Bytes that `action` adds at its peak to this process. Alters process-wide counters: run it in a fork."""
    if device.type == "cuda":
        torch.zeros(1, device=device)
        torch.cuda.reset_peak_memory_stats(device)
        action(device)
        return torch.cuda.max_memory_allocated(device)
    # The libraries' thread pools and work space belong to them, not to the model.
    torch.nn.functional.linear(torch.ones(64, 64), torch.ones(64, 64, requires_grad=True)).sum().backward()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
        before = _status("VmRSS")
        action(device)
        return _status("VmHWM") - before
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    action(device)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _serve(device_name: str, names: Sequence[str]) -> None:
    """Run every case in a fork and print one JSON line each. Nothing has computed before a fork: threads stay out."""
    import open_clip  # noqa: F401  (the helper pays the imports once, before it forks)
    import torchvision  # noqa: F401

    for name in names:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                device = resolve_device(device_name)
                print(json.dumps({"case": name, "bytes": peak_bytes(case(name), device)}), flush=True)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps({"case": name, "bytes": None}), flush=True)


def peak_memory(names: Sequence[str], device: str = "cpu") -> Iterator[tuple[str, int | None]]:
    """(case, peak bytes) for every named case, each in a fresh process; None where it failed, out of memory mostly.

    Raises:
        InputError: an unknown case.
        RunError: the helper process did not start or died.
    """
    for name in names:
        case(name)
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))}
    command = [sys.executable, "-m", "experiments.bench.compute_memory", device, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as helper:
        assert helper.stdout is not None
        try:
            for line in helper.stdout:
                if line.startswith("{"):
                    found = json.loads(line)
                    yield found["case"], found["bytes"]
        except BaseException:
            # Interrupted, or nobody reads on: leaving the block would wait for every case that is left.
            helper.terminate()
            raise
    if helper.returncode:
        raise RunError(f"the process that measures memory ended with code {helper.returncode}")


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
