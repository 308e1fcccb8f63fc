"""torchvision without torch's compiler: as fast as that, and the compiler as it is where it is asked for."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from glom.teachers.base import T
import glom.backbones.mvit_tiny
from glom.transforms import without_compiler
names = {"torch._dynamo", "torch._dynamo.utils"}
assert not names & sys.modules.keys()
with without_compiler():
    import torch._dynamo
    assert isinstance(sys.modules["torch._dynamo"].list_backends(), list)  # the real one, at once
import torch._dynamo.utils as real
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
assert asked("cpu") == real.is_compile_supported("cpu") and asked is not real.is_compile_supported
with without_compiler():  # nothing is put in the place of what is there
    assert sys.modules["torch._dynamo.utils"] is real
"""


def test_torchvision_loads_without_the_compiler_and_asks_the_real_one():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
