"""Freed memory is kept for what is asked next, where the environment does not choose."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, glom
done = glom.keep_freed_memory()
b"1" * 64_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): b"1" * 64_000_000
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def ran(script: str = SCRIPT, **chosen: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    call = [sys.executable, "-c", script]
    return subprocess.run(call, env=clean | chosen, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_is_freed_is_used_again():
    done, faults = ran()
    assert done == "True"
    assert int(faults) < 64_000_000 // 4096, "fewer pages than one of ten arrays has"


@pytest.mark.parametrize("chosen", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.check=0"}])
def test_what_the_environment_chooses_stays(chosen: dict[str, str]):
    done, faults = ran(**chosen)
    assert done == "False"
    assert int(faults) > 64_000_000 // 4096


HELD = """
import glom
from glom.allocator import release_freed_memory
glom.keep_freed_memory()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
blocks = [b"1" * 2_000_000 for _ in range(100)]
last = blocks.pop()  # keeps the heap's end from going back
del blocks
kept = resident() - before
print(kept > 150_000_000, release_freed_memory(), resident() - before < 20_000_000, len(last))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_was_kept_goes_back_when_asked():
    assert ran(script=HELD) == ["True", "True", "True", "2000000"]
