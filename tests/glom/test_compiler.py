"""Libraries without torch's compiler: as fast as that, and the compiler as it is where it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.commands.test_cli import ROOT

WITHIN = """
import sys
from glom.teachers.base import T
import glom.backbones.mvit_tiny
from glom.compiler import without_compiler
names = {"torch._dynamo", "torch._dynamo.utils"}
assert not names & sys.modules.keys()
with without_compiler():
    with without_compiler():
        pass
    assert names <= sys.modules.keys()  # who put them there takes them away
    import torch._dynamo
    assert isinstance(sys.modules["torch._dynamo"].list_backends(), list)  # the real one, at once
import torch._dynamo.utils as real
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
assert asked("cpu") == real.is_compile_supported("cpu") and asked is not real.is_compile_supported
with without_compiler():  # nothing is put in the place of what is there
    assert sys.modules["torch._dynamo.utils"] is real
"""
LOADED = """
import os, sys, traceback
from glom.compiler import load_later
assert load_later() and not load_later()
stood_in = sys.modules["torch._dynamo"]
import torch
import timm
import open_clip
"""
STEP = """
seen = []
@torch.compiler.disable
def told(x):
    seen.append(torch.compiler.is_compiling())
    return x + 1

layer = torch.nn.Linear(2, 2)
optimiser = torch.optim.Adam(layer.parameters(), fused=True)
def step():
    before = layer.weight.clone()
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return not torch.equal(before, layer.weight)

assert step() and told(1) == 2
assert sys.modules["torch._dynamo"] is stood_in and "sympy" not in sys.modules
"""
ASKED = {
    "an attribute": "assert isinstance(stood_in.list_backends(), list)",
    "a module of its own": "import torch._dynamo.config as config; assert config.cache_size_limit > 0",
    "one that it does not load": "import torch._dynamo.backends.cudagraphs as one; assert one.cudagraphs",
    "a use": "pass",
}
AFTER = """
twice = torch.compile(lambda x: told(x) * 2, backend="eager")
assert twice(torch.ones(2)).tolist() == [4.0, 4.0] and seen == [False, False]
import torch._dynamo, torch._dynamo.config
assert sys.modules["torch._dynamo"] is torch._dynamo is not stood_in
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
assert not any(type(one).__module__ == "glom.compiler" for one in sys.meta_path)
assert step()
"""
RUN = """
import sys
import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code
unasked = {"sympy", "torch._dynamo.config", "scipy.stats", "transformers"}
assert "torch.optim" in sys.modules and not unasked & sys.modules.keys()
"""


def ran(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)


def test_torchvision_loads_without_the_compiler_and_asks_the_real_one():
    assert (done := ran(WITHIN)).returncode == 0, done.stderr


def test_a_stand_in_answers_until_the_compiler_is_asked_for():
    """By each way in, in a fork of a process that has loaded the libraries and not taken a step."""
    ways = {way: STEP + code + AFTER for way, code in ASKED.items()}
    forks = f"""
wrong = []
for way, code in {ways!r}.items():
    pid = os.fork()
    if not pid:
        try:
            exec(code, globals())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        wrong.append(way)
assert not wrong, wrong
"""
    assert (done := ran(LOADED + forks)).returncode == 0, done.stderr


def test_a_run_does_not_load_what_it_does_not_need(image_folder: Path, tmp_path: Path):
    """As long again as all else that a short run does."""
    words = ("ttt", "run", image_folder, "--limit", 1, "--iterations", 2, "--queries", 4, "--quiet")
    assert (done := ran(RUN, *words, "--out", tmp_path / "run")).returncode == 0, done.stderr
