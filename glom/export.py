"""A machine that leaves: one file that runs without this toolkit, for any number of pictures and locations.

    onnx    for onnxruntime and its many hosts
    pt2     `torch.export`'s program, for torch alone

Inputs `images` (B, 3, S, S), as `glom.columns.picture` makes them, and `queries` (N, 2) in [0, 1]^2, which are not
checked; outputs `features` (B, N, F), `token` (B, F) over these locations and, with a colour head, `rgb` (B, N, 3).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from glom.apm import AsynchronousPerceptionMachine
from glom.columns import IMAGENET_MEAN, IMAGENET_STD
from glom.errors import InputError, unknown
from glom.runs.events import Event, result_of

FORMATS = ("onnx", "pt2")
COUNTS = ((1, 1), (2, 49), (1, 5000))
"""Pictures and locations at which a file is held against the machine that it came from."""
NEEDS = ("onnx", "onnxscript", "onnxruntime")

Run = Callable[[Tensor, Tensor], list[Tensor]]


class Plain(nn.Module):
    """The machine's plain forward, its outputs as a tuple."""

    def __init__(self, apm: AsynchronousPerceptionMachine) -> None:
        super().__init__()
        self.apm = apm
        self.names = ("features", "token") if apm.rgb_head is None else ("features", "token", "rgb")

    def forward(self, images: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        found = self.apm.asked(images, queries, self.names)
        return tuple(getattr(found, name) for name in self.names)


def export(apm: AsynchronousPerceptionMachine, path: Path, kind: str) -> float:
    """Write `path` and run what was written.

    Args:
        kind: one of `FORMATS`.

    Returns:
        the largest absolute difference of any output from the machine's own, over `COUNTS`.

    Raises:
        InputError: an unknown format, packages that are missing, a file that is there already or cannot be written.
    """
    return result_of(exporting(apm, path, kind))


def exporting(apm: AsynchronousPerceptionMachine, path: Path, kind: str) -> Iterator[Event[float]]:
    """As `export`, with events on the way; the last one has the difference."""
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS)
    missing = [name for name in NEEDS if find_spec(name) is None] if kind == "onnx" else []
    if missing:
        raise InputError(f"onnx needs {' and '.join(missing)}: pip install 'glom-apm[export]'")
    if path.exists():
        raise InputError(f"{path} is there already; choose another `out`")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is no folder")
    net = Plain(apm.cpu().float().eval().requires_grad_(False))
    size = apm.config.image_size
    given = torch.zeros(2, 3, size, size), torch.zeros(7, 2)
    shapes = {"images": {0: torch.export.Dim("pictures", min=1)}, "queries": {0: torch.export.Dim("locations", min=1)}}
    steps = 2 + len(COUNTS)
    yield Event("exporting", 0, steps)
    with _inference():
        program = torch.export.export(net, given, dynamic_shapes=shapes)
    yield Event("exporting", 1, steps)
    with _inference():
        run = _write_onnx(apm, net, program, path) if kind == "onnx" else _write_program(program, path)
    worst = 0.0
    for done, counts in enumerate(COUNTS, 2):
        yield Event("exporting", done, steps)
        worst = max(worst, _difference(net, run, *counts))
    yield Event("exporting", steps, steps, result=worst)


@contextmanager
def _inference() -> Iterator[None]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        yield


def _write_program(program: torch.export.ExportedProgram, path: Path) -> Run:
    torch.export.save(program, path)
    read = torch.export.load(path).module()
    return lambda images, queries: list(read(images, queries))


def _write_onnx(
    apm: AsynchronousPerceptionMachine, net: Plain, program: torch.export.ExportedProgram, path: Path
) -> Run:
    made = torch.onnx.export(program, dynamo=True, output_names=list(net.names), verbose=False)
    assert made is not None
    about = {"config": asdict(apm.config), "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    made.model.metadata_props["glom-apm"] = json.dumps(about)
    made.save(path)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor, queries: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.numpy(), "queries": queries.numpy()})
        return [torch.from_numpy(x) for x in found]

    return run


@_inference()
def _difference(net: Plain, run: Run, pictures: int, locations: int) -> float:
    g = torch.Generator().manual_seed(locations)
    size = net.apm.config.image_size
    images = torch.randn(pictures, 3, size, size, generator=g)
    queries = torch.rand(locations, 2, generator=g)
    pairs = zip(net(images, queries), run(images, queries), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
